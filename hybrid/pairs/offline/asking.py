"""What can be asked about a clause: "Fuel is stored in six tanks" -> "Where is fuel stored?"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.pairs.align import Span
from hybrid.pairs.offline.askable import Topic, answers_well, points_outside, put
from hybrid.pairs.offline.clauses import Clause, as_question
from hybrid.pairs.offline.constituents import OBJECTS, Part, how_long, is_place, object_of, part_of, when, who_or_what
from hybrid.pairs.teacher import Draft, DraftKind

if TYPE_CHECKING:
    from spacy.tokens import Token

# "What does it take?" asks nothing: these verbs mean what they mean by their object.
_LIGHT = frozenset(
    "take have make give get put keep play do be go let come bring set leave see find know think say mean become seem "
    "appear want need tell show allow enable cause help try begin start continue stop feel hold run turn note include "
    "carry form serve represent face provide offer".split()
)
# Verbs and prepositions that ask for each other, as in "What is it connected to?".
_GOVERNED = frozenset(
    """connect to|connect with|attach to|join to|link to|know as|make of|make from|compose of|use as|use for|fill with|
    cover with|cover by|power by|feed by|protect by|protect from|treat as|treat with|equip with|fit with|base on|
    derive from|name after|replace by|replace with|follow by|cause by|divide into|convert into|limit to|set to|set at|
    rate at|design for|consist of|depend on|lead to|belong to|refer to|rely on|suffer from|die of|mark with|heat by|
    wash with|clean with|seal with|lock with|measure with|measure by|store as|serve as|classify as|describe as|
    call after|surround by|own by|transform into|turn into|rinse with|flush with|drive by|separate by|separate from|
    act as|keep at|restrict to|translate into|compare with|regard as|associate with|result in|run on""".replace(
        "\n", ""
    ).split("|")
)
_GOVERNED = frozenset(" ".join(pair.split()) for pair in _GOVERNED)
# With these, "to" opens what is ordered, needed or said, and no purpose.
_BOUND = frozenset(
    "need require expect allow order ask tell say know set design intend force make call find believe see permit have "
    "enable instruct advise invite force schedule plan suppose think consider report claim prove choose appoint".split()
)
_TOWARDS = frozenset("go move take bring carry send transfer fly return travel deliver".split())
_TAKEN_UP = {"it", "its", "they", "their", "them"}
_WITH_AFTER = {"look", "name", "come", "go", "take", "follow", "see", "ask", "call", "run", "be"}
_NOUN_UNITS = re.compile(r"^(?:[a-z-]{4,}s)$")
_CONTENT = {"NOUN", "PROPN", "ADJ", "NUM", "VERB"}
_FEWEST_CONTENT = 2
_LONGEST_QUESTION = 18
_SHORTEST_WAY, _LONGEST_WAY = 3, 16  # words
_DIMENSIONS = frozenset("long wide high tall deep thick old heavy far large big".split())

# What a question has to say, see `stands_alone`: more where it asks "What" than where it asks for a time or a place.
_SIMPLE, _OPEN, _POLAR = 1.5, 2.0, 1.5


class Asked(NamedTuple):
    """A question before it is judged: its words, its answer and the tokens it takes over."""

    words: Sequence[str]
    answer: tuple[int, int]
    used: Sequence[Token]
    kind: DraftKind
    needed: float


def clause_drafts(clause: Clause, text: str, quote: Span, topic: Topic, longest: int) -> Iterator[Draft]:
    """Yields the questions about a clause that stand alone, proved by the span `quote` of `text`.

    Args:
        clause: The clause.
        text: What was parsed.
        quote: Span of the sentence.
        topic: The title.
        longest: Most words of an answer.
    """
    for asked in _asked(clause, text):
        bare = as_question(asked.words)
        start, end = asked.answer
        said = text[start:end]
        question = put(bare, asked.used, topic, asked.needed) if 4 <= len(bare.split()) <= _LONGEST_QUESTION else None
        if question is None or _repeats(bare) or re.match(r"When\b.*\b[12]\d{3}\b", bare):
            continue
        if start == end:
            yield Draft(question, quote[0], quote[0], *quote, asked.kind)
        elif said.lower() not in question.lower() and 0 < len(said.split()) <= longest:
            yield Draft(question, start, end, *quote, asked.kind)


def _repeats(question: str) -> bool:
    """True if three words in a row occur twice: a part was taken over twice."""
    words = question.rstrip("?").lower().split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(runs) > len(set(runs))


def _asked(clause: Clause, text: str) -> Iterator[Asked]:
    yield from _polar(clause, text)
    if clause.negated or any(token.lower_ == "only" for token in clause.tokens()):
        return
    yield from _subject(clause, text)
    for part in clause.parts:
        if part.head.dep_ in OBJECTS:
            yield from _object(clause, part, text)
        elif part.head.dep_ == "agent":
            yield from _agent(clause, part, text)
        elif part.head.dep_ == "prep":
            yield from _adverbial(clause, part, text)
        elif part.head.dep_ in {"npadvmod", "advmod"}:
            yield from _frequency(clause, part, text)
        elif part.head.dep_ == "acomp":
            yield from _dimension(clause, part, text)
        elif part.head.dep_ in {"advcl", "xcomp"}:
            yield from _reason(clause, part, text)


def _polar(clause: Clause, text: str) -> Iterator[Asked]:
    words = [*clause.inverted(text), *clause.rest(text)]
    unsure = any(token.lower_ in {"may", "might", "could", "seem", "seems"} for token in (*clause.front, clause.verb))
    unsure |= any(token.lower_ == "only" for token in clause.subject.tokens())
    if _uneven(clause) or unsure or (clause.verb.tag_ == "VBG" and not clause.passive):
        return
    if clause.parts and not (clause.negated and re.search(r"\b(?:only|unless|until|but|any|yet)\b", " ".join(words))):
        yield Asked(words, (0, 0), clause.tokens(), "denied" if clause.negated else "yes", _POLAR)


def _uneven(clause: Clause) -> bool:
    """True for "alarms are a generator trip", where most of an enumeration was missed, and for "types are photos"."""
    named = [part.head for part in clause.parts if part.head.dep_ == "attr"]
    if any(sum(token.pos_ in _CONTENT for token in noun.subtree) < _FEWEST_CONTENT for noun in named):
        return True
    return any((noun.tag_ in {"NNS", "NNPS"}) != (clause.subject.head.tag_ in {"NNS", "NNPS"}) for noun in named)


def _subject(clause: Clause, text: str) -> Iterator[Asked]:
    head, tokens = clause.subject.head, clause.subject.tokens()
    used = [token for token in clause.tokens() if token not in set(tokens)]
    number = _counted(head, tokens)
    if number:
        noun = text[number[1] : clause.subject.end]
        words = ["How many", noun, *clause.predicate(singular=False), *clause.rest(text)]
        counted = [token for token in tokens if token.idx >= number[1]]
        yield Asked(words, (number[0], head.idx + len(head.text)), [*used, *counted], "number", _SIMPLE)
        return
    word = who_or_what(head) or ("What" if clause.passive and head.pos_ == "NOUN" else None)
    if word and clause.verb.lemma_ not in {"be", "include"} and answers_well(tokens):
        words = [word, *clause.predicate(), *clause.rest(text)]
        yield Asked(words, _span(clause.subject), used, "fact", _OPEN if word == "What" else _SIMPLE)


def _object(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    head, verb = part.head, clause.verb
    used = clause.tokens(part)
    words = [*clause.inverted(text), *clause.rest(text, part)]
    number = _counted(head, part.tokens())
    if part.tokens()[0].lower_ in {"every", "each"}:
        return
    if verb.lemma_ in {"weigh", "cost"} and any(token.like_num for token in part.tokens()):
        yield Asked(["How much", *words], _span(part), used, "number", 1.0)
    elif verb.lemma_ in {"last", "take"} and how_long(part):
        yield Asked(["How long", *words], _span(part), used, "number", _SIMPLE)
    elif number and head.dep_ == "dobj":
        end = head.idx + len(head.text)
        words = [
            f"How many {text[number[1] : end]}",
            *clause.inverted(text),
            text[end : part.end],
            *clause.rest(text, part),
        ]
        counted = [token for token in part.tokens() if token.idx >= number[1]]
        yield Asked(words, (number[0], end), [*used, *counted], "number", 1.0)
    elif clause.past and len(clause.parts) == 1:
        return  # "What did the defence halt?": of many things that happened, which?
    elif head.dep_ == "dobj" and verb.lemma_ not in _LIGHT and not any(p.head.dep_ == "dative" for p in clause.parts):
        word = who_or_what(head) or "What"
        goes_on = text[part.end : part.end + 2].strip()[:1].isupper()
        if (
            answers_well(part.tokens())
            and not goes_on
            and not any(p.head.dep_ in {"xcomp", "ccomp", "oprd"} for p in clause.parts)
        ):
            yield Asked([word, *words], _span(part), used, "fact", _OPEN)
    elif head.dep_ == "attr" and _identifies(clause, part):
        yield Asked([who_or_what(head) or "What", *words], _span(part), used, "fact", _SIMPLE)


def _identifies(clause: Clause, part: Part) -> bool:
    """True for "the capital of Kenya is Nairobi"."""
    subject = clause.subject.head
    unique = subject.pos_ == "NOUN" and any(c.lower_ == "the" for c in subject.lefts)
    described = any(c.dep_ == "prep" and c.lower_ == "of" for c in subject.rights)
    return len(clause.parts) == 1 and unique and described and answers_well(part.tokens())


def _counted(head: Token, tokens: Sequence[Token]) -> tuple[int, int] | None:
    """Where the answer "about six" of "about six tanks" begins and where the noun phrase goes on behind the number."""
    numbers = [child for child in head.lefts if child.dep_ == "nummod" and child.i < head.i]
    if len(numbers) != 1 or not _NOUN_UNITS.match(head.text) or head.tag_ != "NNS":
        return None
    number = numbers[0]
    before = [t for t in tokens if t.i < number.i]
    after = [t for t in tokens if number.i < t.i <= head.i]
    if not all(t in set(number.subtree) for t in before) or any(t.pos_ not in {"NOUN", "ADJ"} for t in after):
        return None
    return tokens[0].idx, after[0].idx


def _agent(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    agent = object_of(part.head)
    word = who_or_what(agent) if agent is not None else None
    if agent is not None and word and answers_well((answer := part_of(agent)).tokens()):
        words = [word, *clause.inverted(text), *clause.rest(text, part), "by"]
        if _may_end_in_preposition(clause, part):
            yield Asked(words, _span(answer), clause.tokens(part), "fact", _SIMPLE)


def _adverbial(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    preposition, target = part.head.lower_, object_of(part.head)
    words, used = [*clause.inverted(text), *clause.rest(text, part)], clause.tokens(part)
    if opening := _whole_phrase(clause, part):
        yield Asked([opening, *words], _span(part), used, "fact", _SIMPLE if opening == "When" else _OPEN)
    if target is None or any(child.dep_ == "conj" for child in part.head.children):
        return
    inner = Part(target, target.left_edge.idx, part_of(target).end)
    if preposition in {"in", "on", "at", "since", "until"} and when(inner, text, past=clause.past):
        opening = {"since": "Since when", "until": "Until when"}.get(preposition, "When")
        yield Asked([opening, *words], _span(inner), used, "fact", _SIMPLE)
    elif preposition == "for" and how_long(inner):
        yield Asked(["How long", *words], _span(inner), used, "number", _SIMPLE)
    elif is_place(target) and answers_well(inner.tokens()):
        yield from _place(clause, part, inner, words)
    elif f"{clause.verb.lemma_} {preposition}" in _GOVERNED and part.head.i > clause.verb.i:
        if _may_end_in_preposition(clause, part) and answers_well(inner.tokens()):
            word = "What" if preposition == "as" else who_or_what(target) or "What"
            yield Asked([word, *words, preposition], _span(inner), used, "fact", _SIMPLE)


def _whole_phrase(clause: Clause, part: Part) -> str:
    """How to ask for a phrase with its preposition: "by opening the vents", "because of frost", "after every trip"."""
    preposition, behind = part.head.lower_, part.head.i > clause.verb.i
    gerund = any(child.dep_ == "pcomp" and child.tag_ == "VBG" for child in part.head.children)
    if preposition == "by" and gerund and behind and len(part.tokens()) >= _SHORTEST_WAY:
        return "How"
    target = object_of(part.head)
    if part.head.text == "because" and target is not None:
        return "Why"
    timed = preposition in {"before", "after"} and clause.verb.lemma_ not in _WITH_AFTER
    return "When" if target is not None and timed and behind and answers_well(part.tokens()[1:]) else ""


def _may_end_in_preposition(clause: Clause, part: Part) -> bool:
    """True if no other adverbial comes between the verb and its preposition: "What is it connected to?"."""
    return all(other is part or other.head.dep_ in {*OBJECTS, "prt", "advmod"} for other in clause.parts)


def _place(clause: Clause, part: Part, inner: Part, words: Sequence[str]) -> Iterator[Asked]:
    preposition = part.head.lower_
    used = clause.tokens(part)
    if preposition in {"in", "at", "on"}:
        yield Asked(["Where", *words], _span(inner), used, "fact", _SIMPLE)
    elif preposition in {"inside", "behind", "beside", "near", "outside", "under", "above", "below", "beneath"}:
        yield Asked(["Where", *words], _span(part), used, "fact", _SIMPLE)
    elif preposition == "to" and clause.verb.lemma_ in _TOWARDS:
        yield Asked(["Where", *words], _span(inner), used, "fact", _SIMPLE)


def _frequency(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    said = text[part.start : part.end].lower()
    often = re.match(r"(?:every|each|once|twice|(?:two|three|four|\d+) times)\b.*\w", said) and " " in said
    if often or said in {"daily", "weekly", "monthly", "annually", "yearly", "hourly"}:
        if not re.search(r"\b(?:time|case|one|of)\b", said):
            words = ["How often", *clause.inverted(text), *clause.rest(text, part)]
            yield Asked(words, _span(part), clause.tokens(part), "fact", _SIMPLE)


def _dimension(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    """Asks "How long" for "11 metres long"."""
    size = next((c for c in part.head.lefts if c.dep_ == "npadvmod"), None)
    if size is not None and part.head.lower_ in _DIMENSIONS and any(t.like_num for t in size.subtree):
        answer = (size.left_edge.idx, size.right_edge.idx + len(size.right_edge.text))
        words = [f"How {part.head.lower_}", *clause.inverted(text), *clause.rest(text, part)]
        yield Asked(words, answer, clause.tokens(part), "number", 1.0)


def _reason(clause: Clause, part: Part, text: str) -> Iterator[Asked]:
    first = part.head.left_edge
    words = [*clause.inverted(text), *clause.rest(text, part)]
    if first.head != part.head or not _SHORTEST_WAY <= len(text[part.start : part.end].split()) <= _LONGEST_WAY:
        return
    if first.lower_ == "because":
        yield Asked(["Why", *words], _span(part), clause.tokens(part), "fact", _OPEN)
    elif first.lower_ in {"when", "before", "after", "until", "once"} and not clause.past and _names(part):
        opening = "Until when" if first.lower_ == "until" else "When"
        yield Asked([opening, *words], _span(part), clause.tokens(part), "fact", _SIMPLE)
    elif first.lower_ == "to" and clause.passive and part.head.i > clause.verb.i and part.head is clause.parts[-1].head:
        if clause.verb.lemma_ == "use":
            yield Asked(["What", *words, "for"], _span(part), clause.tokens(part), "fact", _SIMPLE)
        elif clause.verb.lemma_ not in _BOUND:
            yield Asked(["Why", *words], _span(part), clause.tokens(part), "fact", _OPEN)


def _names(part: Part) -> bool:
    """True if a time clause says all by itself, but for what the question names."""
    return not any(points_outside(token) and token.lower_ not in _TAKEN_UP for token in part.tokens())


def _span(part: Part) -> tuple[int, int]:
    return part.start, part.end
