"""Questions over two chunks: comparisons, two questions in one, and passages that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from random import Random
from typing import NamedTuple

from hybrid.pairs.candidates import Candidate, words

DISAGREEMENT = "The documents disagree: {answers}."
_LONGEST_ANSWER = 12  # words, of each half of a question in two halves
_LONGEST_HALF = 13
_MOST_SAID = 8  # answers to one question that may contradict each other
_SPECIFIC = 2  # words that mean something, in a question without a name
_TOPIC = re.compile(r"About [^:]+: ")
_AMOUNT = re.compile(
    r"(?:the |about |approximately )?(?P<number>[−-]?\d[\d,]*(?:\.\d+)?|[a-z]+)(?P<unit>(?:[ -]?[^\d\s,;][^\d,;]*)?)"
)
_NUMBERS = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
} | {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100}
_MORE = {
    "long": "longer",
    "wide": "wider",
    "high": "higher",
    "tall": "taller",
    "deep": "deeper",
    "thick": "thicker",
    "old": "older",
    "heavy": "heavier",
}
# What the number of which is no amount: "Which has the greater code?".
_NO_AMOUNT = re.compile(
    r"\b(?:code|year|date|number|channel|id|name|version|model|page|address|phone|time|contents|use)s?\b"
)
_QUESTION = frozenset(
    "what who whom whose which where when why how is are was were do does did can may must should will would has have "
    "had i me my a an the of for in on at to by with from as and or many much often long".split()
)
_OPENING = re.compile(r"(?:What|Who|Where|When|Why|How)\b")


class _Amount(NamedTuple):
    value: float
    unit: str


class _Comparable(NamedTuple):
    """A number fact: its question with a gap for the subject, as a comparison begins, and the subject."""

    opening: str
    subject: str


def combined_candidates(candidates: Sequence[Candidate], limit: int, rng: Random) -> list[Candidate]:
    """Makes questions that need two chunks, each from two candidates; no candidate is used twice.

    Comparisons come first: two amounts of the same sort and unit of two subjects ("Which is longer, A or B?"). The rest
    are two questions of one document in one ("How ..., and where ...?").

    Args:
        candidates: What to combine: one side of the split, as what is combined is about both documents.
        limit: Most that are made.
        rng: Source of randomness.
    """
    shuffled = rng.sample(list(candidates), len(candidates))
    found: list[Candidate] = []
    used: set[str] = set()
    for combined, parts in _both_sorts(shuffled, rng):
        if len(found) >= limit:
            break
        if not used & set(parts):
            found.append(combined)
            used.update(parts)
    return found


def _both_sorts(candidates: Sequence[Candidate], rng: Random) -> Iterator[tuple[Candidate, tuple[str, str]]]:
    for one, other in _pairs(_groups((_key(c), c) for c in candidates)):
        if combined := _comparison(one, other, rng):
            yield combined, (one.id, other.id)
    halves = [c for c in candidates if _is_half(c)]
    pairs = list(_pairs(_groups((_lead(c.question) + c.documents[0], c) for c in halves)))
    # People ask twice in one breath about the same thing, if they do.
    for one, other in sorted(pairs, key=lambda pair: -len(_meant(pair[0]) & _meant(pair[1]))):
        yield _compound(one, other), (one.id, other.id)


def _meant(candidate: Candidate) -> frozenset[str]:
    """The words of a question that mean something."""
    return frozenset(words(candidate.question.removeprefix(_lead(candidate.question)))) - _QUESTION


def _groups(keyed: Iterable[tuple[str, Candidate]]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for key, candidate in keyed:
        if key:
            groups.setdefault(key, []).append(candidate)
    return groups


def _pairs(groups: dict[str, list[Candidate]]) -> Iterator[tuple[Candidate, Candidate]]:
    """Pairs from different chunks, of each candidate with the next few of its group: all pairs would be too many."""
    for group in groups.values():
        for place, one in enumerate(group):
            for other in group[place + 1 : place + 9]:
                if not set(one.oracles) & set(other.oracles) and words(one.question) != words(other.question):
                    yield one, other


def _lead(question: str) -> str:
    match = _TOPIC.match(question)
    return match.group() if match else ""


def _key(candidate: Candidate) -> str:
    """What has to be equal for two amounts to be compared; empty if the candidate is no amount of a subject."""
    amount, comparable = amount_of(candidate.answer), _comparable(candidate.question)
    if amount is None or comparable is None or len(candidate.oracles) != 1:
        return ""
    return f"{_lead(candidate.question)}|{comparable.opening}|{amount.unit}"


def amount_of(answer: str) -> _Amount | None:
    """Reads an answer that is one number with or without a unit; a range or a list is none.

    >>> amount_of("4,800 litres")
    _Amount(value=4800.0, unit='litres')
    >>> amount_of("32-35 °C") is None
    True
    """
    match = _AMOUNT.fullmatch(answer.strip(" ."))
    if match is None:
        return None
    number = match["number"].replace(",", "").replace("−", "-")
    if number.isalpha():
        value = _NUMBERS.get(number)
        return None if value is None else _Amount(float(value), match["unit"].strip(" -").lower())
    return _Amount(float(number), match["unit"].strip(" -").lower())


def _comparable(question: str) -> _Comparable | None:
    said = question.removeprefix(_lead(question)).rstrip("?")
    said = said[:1].upper() + said[1:]
    if match := re.fullmatch(r"What is the ([\w -]+?) (?:of|for) (.+)", said):
        return None if _NO_AMOUNT.search(match[1]) else _Comparable(f"has the greater {match[1]}", match[2])
    if match := re.fullmatch(rf"How ({'|'.join(_MORE)}) (is|was) (.+)", said):
        return _Comparable(f"{match[2]} {_MORE[match[1]]}", match[3])
    if match := re.fullmatch(r"How much does (.+) (weigh|cost)", said):
        return _Comparable("is heavier" if match[2] == "weigh" else "costs more", match[1])
    if match := re.fullmatch(r"How long does (.+) (take|last)", said):
        return _Comparable(f"{match[2]}s longer", match[1])
    if match := re.fullmatch(r"How many ([\w-]+) does (.+) (have|hold|carry|contain|own|burn|need)", said):
        verb = {"have": "has", "carry": "carries"}.get(match[3], match[3] + "s")
        return _Comparable(f"{verb} more {match[1]}", match[2])
    return None


def _comparison(one: Candidate, other: Candidate, rng: Random) -> Candidate | None:
    first, second = _comparable(one.question), _comparable(other.question)
    amounts = amount_of(one.answer), amount_of(other.answer)
    if not (first and second and amounts[0] and amounts[1]) or amounts[0].value == amounts[1].value:
        return None
    if set(words(first.subject)) <= set(words(second.subject)) or set(words(second.subject)) <= set(
        words(first.subject)
    ):
        return None
    subjects = [first.subject, second.subject]
    answer = subjects[amounts[1].value > amounts[0].value]
    rng.shuffle(subjects)
    lead = _lead(one.question)
    which = "which" if lead else "Which"
    return _joined(one, other, f"{lead}{which} {first.opening}, {subjects[0]} or {subjects[1]}?", answer, "comparison")


def _is_half(candidate: Candidate) -> bool:
    question = candidate.question.removeprefix(_lead(candidate.question))
    return (
        candidate.asks in {"fact", "number"}
        and len(candidate.oracles) == 1
        and len(candidate.answer.split()) <= _LONGEST_ANSWER
        and len(question.split()) <= _LONGEST_HALF
        and ";" not in candidate.answer
        and bool(_OPENING.match(question[:1].upper() + question[1:]))
    )


def _compound(one: Candidate, other: Candidate) -> Candidate:
    second = other.question.removeprefix(_lead(other.question))
    question = f"{one.question.rstrip('?')}, and {second[0].lower()}{second[1:]}"
    return _joined(one, other, question, f"{one.answer}; {other.answer}", "compound")


def _joined(one: Candidate, other: Candidate, question: str, answer: str, asks: str) -> Candidate:
    return Candidate(
        f"{asks}({one.id} | {other.id})",
        question,
        answer,
        tuple(dict.fromkeys((*one.oracles, *other.oracles))),
        tuple(dict.fromkeys((*one.documents, *other.documents))),
        tuple(dict.fromkeys((*one.quotes, *other.quotes))),
        one.source,
        asks=asks,
    )


class Conflicts(NamedTuple):
    """Contradictions between documents.

    Attributes:
        candidates: One for each question that two documents answer differently.
        replaced: Ids of the candidates that it stands for: each alone would teach one answer as the truth.
        ambiguous: Questions with different answers that were left out, because they are too general to be about the
            same thing, or because answers in words can all be right.
    """

    candidates: list[Candidate]
    replaced: frozenset[str]
    ambiguous: int


def conflicting_candidates(candidates: Sequence[Candidate], sentence: str = DISAGREEMENT) -> Conflicts:
    """Finds questions to which two documents give different amounts, or one yes and one no.

    Args:
        candidates: All that were drafted, before duplicates are dropped.
        sentence: The target answer; `{answers}` stands for both, joined by a semicolon.

    >>> conflicting_candidates([]).candidates
    []
    """
    found: list[Candidate] = []
    replaced: set[str] = set()
    ambiguous = 0
    for group in _groups((_same_question(c), c) for c in candidates if len(c.oracles) == 1).values():
        # Each answer of a document once; with many, it is a form that every document fills in, not a contradiction.
        said = list({(c.documents, " ".join(words(c.answer))): c for c in reversed(group)}.values())[::-1]
        differing = [
            (a, b) for a, b in combinations(said[:_MOST_SAID], 2) if a.documents != b.documents and _differ(a, b)
        ]
        if not differing:
            continue
        if len(said) > _MOST_SAID:
            ambiguous += 1
            continue
        clear = [pair for pair in differing if _is_specific(pair[0].question) and _contradict(*pair)]
        if not clear:
            ambiguous += 1
            continue
        one, other = clear[0]
        answer = sentence.format(answers=f"{one.answer}; {other.answer}")
        joined = _joined(one, other, one.question, answer, one.asks)
        found.append(_as_conflict(joined))
        replaced.update(candidate.id for candidate in group)
    return Conflicts(found, frozenset(replaced), ambiguous)


def _as_conflict(candidate: Candidate) -> Candidate:
    return replace(candidate, id=f"conflict{candidate.id.removeprefix(candidate.asks)}", conflict=True)


def _same_question(candidate: Candidate) -> str:
    return " ".join(word for word in words(candidate.question) if word not in {"the", "a", "an"})


def _differ(one: Candidate, other: Candidate) -> bool:
    return words(one.answer) != words(other.answer)


def _contradict(one: Candidate, other: Candidate) -> bool:
    answers = {one.answer.lower(), other.answer.lower()}
    if answers == {"yes", "no"}:
        return True
    first, second = amount_of(one.answer), amount_of(other.answer)
    return first is not None and second is not None and first.unit == second.unit and first.value != second.value


def _is_specific(question: str) -> bool:
    """True if a question names what it is about: a proper noun, or at least two words that mean something."""
    asked = question.removeprefix(_lead(question)).rstrip("?").split()[1:]
    named = any(word[0].isupper() and word.lower() not in _QUESTION for word in asked)
    return named or len({w for w in words(" ".join(asked)) if w not in _QUESTION and not w.isdigit()}) >= _SPECIFIC
