"""Candidates for training pairs, and the gates each has to pass.

A candidate is a question with its answer, the chunks that support it and the quotes that prove it, before a context is
chosen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from hybrid.pairs.oracles import find_support
from hybrid.pairs.teacher import Draft
from hybrid.types import Chunk, Question, Quote

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"(?<![\w.,:/-])\d[\d.,:]*\d(?![\w:/-])|(?<![\w.,:/-])\d(?![\w.,:/-])")
_POINTING = re.compile(
    r"\b(?:this|these|that|those|following|above|below|latter|former|such)\s+"
    r"(?:page|section|table|passage|chapter|list|figure|document|paragraph|text|article|step|item)s?\b"
    r"|\bprevious (?:page|section|chapter|paragraph)\b"
    r"|\b(?:mentioned|described|stated|listed|shown|discussed) (?:here|above|below)\b"
    r"|\baccording to the (?:author|text|passage|excerpt|paragraph|context|section|document)\b",
    re.I,
)
# Nobody knows who or what is meant; "it" before "to" or "that" stands for what follows ("Is it safe to dive?").
_PRONOUN = re.compile(r"\b(?:it|he|she|they|him|them)\b(?!.*\b(?:to|that|if|when)\b)", re.I)
_NAMED = re.compile(r"\s[A-Z]|\d")
_SHORT = 6  # words; a longer question may say itself whom its pronoun means


_ASKS = {"yes": "yes_no", "affirmed": "yes_no", "denied": "yes_no", "table": "fact", "sentence": "fact"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question and answer with their support.

    Attributes:
        id: Unique; made from the place of the answer or the id of the user's question.
        question: The question.
        answer: The target answer.
        oracles: Ids of supporting chunks; empty if the documents do not answer the question.
        documents: Ids of the documents that the pair is about, for splits.
        quotes: Proving spans of documents.
        source: The teacher or the question file.
        asks: What sort of question it is; empty if nobody said.
        conflict: Whether its oracles contradict each other, and its answer says so.
    """

    id: str
    question: str
    answer: str
    oracles: tuple[str, ...]
    documents: tuple[str, ...]
    quotes: tuple[Quote, ...]
    source: str
    asks: str = ""
    conflict: bool = False


def words(text: str) -> list[str]:
    """Lower-case words of a text, for comparisons."""
    return _WORD.findall(text.lower())


def candidate_from_draft(draft: Draft, chunk: Chunk, teacher: str, rng: Random) -> Candidate:
    """Turns a teacher's draft into a candidate; half of the yes/no drafts with a number are made false by it."""
    question, answer = draft.question, chunk.text[draft.start : draft.end]
    if draft.kind == "yes":
        question, answer = _polar(question, chunk.text, rng)
    answer = {"affirmed": "yes", "denied": "no"}.get(draft.kind, answer)
    quote = Quote(
        chunk.document,
        chunk.start + draft.quote_start,
        chunk.start + draft.quote_end,
        chunk.text[draft.quote_start : draft.quote_end],
    )
    place = f"{chunk.document}#{chunk.start + draft.start}-{chunk.start + draft.end}"
    return Candidate(
        f"{place}/{draft.kind}/{question}",
        question,
        answer,
        (chunk.id,),
        (chunk.document,),
        (quote,),
        teacher,
        asks=_ASKS.get(draft.kind, draft.kind),
    )


def _polar(question: str, text: str, rng: Random) -> tuple[str, str]:
    numbers = [match for match in _NUMBER.finditer(question) if _is_amount(question, match)]
    if not numbers or rng.random() < 0.5:
        return question, "yes"
    true = rng.choice(numbers)
    shape = _shape(true.group())
    known = {match.group() for match in _NUMBER.finditer(question)}
    others = sorted({n for n in _NUMBER.findall(text) if _shape(n) == shape} - known) or [_other_number(true.group())]
    return question[: true.start()] + rng.choice(others) + question[true.end() :], "no"


def _is_amount(question: str, number: re.Match[str]) -> bool:
    """False for a number that is part of a name ("room 2") or a bound, which a larger one may also satisfy."""
    before = question[: number.start()]
    named = re.search(
        r"\b(?:[A-Z]\w*|room|class|channel|grade|stage|type|form|no\.|number|page|phase|category) ?$", before
    )
    bound = re.search(
        r"(?:than|least|most|to|over|under|above|below|about|within|between|and|or|[<>≤≥~]) ?[−-]?$", before
    )
    return not named and not bound


def _shape(number: str) -> str:
    """The form of a number, such as a year or a clock time: only what looks alike is mistaken for each other."""
    return re.sub(r"\d+", lambda match: "9" * min(len(match.group()), 4) if len(match.group()) > 2 else "9", number)


def _other_number(number: str) -> str:
    """Another number of the same form; the last digit, which is no sign of a clock or a calendar, moves by three."""
    last = next(i for i in reversed(range(len(number))) if number[i].isdigit())
    return number[:last] + str((int(number[last]) + 3) % 10) + number[last + 1 :]


def candidates_from_question(
    question: Question, chunks_of: Mapping[str, Sequence[Chunk]], retrieved: Sequence[Chunk], refusal: str, source: str
) -> Candidate | None:
    """Finds the chunk that supports a user's question, in its gold documents or, without gold, by retrieval.

    Args:
        question: The question with its gold answers.
        chunks_of: Chunks by document id.
        retrieved: What the retriever returns for the question, best first.
        refusal: Target answer of an unanswerable question.
        source: Name of the question file.

    Returns:
        The candidate, or None if the question has no answer or no chunk supports it. It is about all its gold
        documents, so that none of them is split from it.
    """
    documents = tuple(question.gold)
    if not question.answerable:
        return Candidate(question.id, question.question, refusal, (), documents, (), source, question.kind)
    gold = [chunk for document in question.gold for chunk in chunks_of.get(document, ())]
    support = find_support(question, gold, retrieved)
    if support is None:
        return None
    answer, chunk, start, end = support
    documents = tuple(dict.fromkeys((chunk.document, *documents)))
    quote = Quote(chunk.document, chunk.start + start, chunk.start + end, chunk.text[start:end])
    return Candidate(question.id, question.question, answer, (chunk.id,), documents, (quote,), source, question.kind)


class Funnel:
    """Applies gates in order and counts what each drops."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def keep(self, name: str, candidates: Iterable[Candidate], passes: Callable[[Candidate], bool]) -> list[Candidate]:
        """Returns the candidates that pass; counts the others under `name`."""
        before = list(candidates)
        kept = [candidate for candidate in before if passes(candidate)]
        self.counts[name] = self.counts.get(name, 0) + len(before) - len(kept)
        return kept


def is_self_contained(candidate: Candidate) -> bool:
    """False for questions that need their passage: they point at it ("this section"), or at what it is about.

    >>> asked = "How heavy is it?", "How long does it take to thaw?", "What is listed above?", "Did Ada say she fell?"
    >>> [is_self_contained(Candidate("", question, "", (), (), (), "")) for question in asked]
    [False, True, False, True]
    """
    question = candidate.question
    if _POINTING.search(question):
        return False
    return len(question.split()) > _SHORT or bool(_NAMED.search(question)) or not _PRONOUN.search(question)


def quotes_hold(candidate: Candidate, texts: Mapping[str, str]) -> bool:
    """True if every quote is, character for character, at its span of its document."""
    return all(texts.get(q.document, "")[q.start : q.end] == q.text and q.text.strip() for q in candidate.quotes)


def without_duplicates() -> Callable[[Candidate], bool]:
    """A gate that lets the first of several questions with the same words through."""
    seen: set[tuple[str, ...]] = set()

    def passes(candidate: Candidate) -> bool:
        key = tuple(words(candidate.question))
        known = key in seen
        seen.add(key)
        return not known

    return passes


def unlike_evaluation(questions: Sequence[Question], limit: float) -> Callable[[Candidate], bool]:
    """A gate against leakage: drops candidates as close in words to a comparison question as `limit` (Jaccard)."""
    evaluation = [frozenset(words(question.question)) for question in questions]
    spread = Counter(word for bag in evaluation for word in bag)
    # In one order of all words, the rarest first, the first word that two sets share has all the others they share
    # behind it in both; how many words are behind it is therefore a bound on their similarity.
    by_word: dict[str, dict[tuple[int, int], list[int]]] = {}
    for number, bag in enumerate(evaluation):
        for word, left in _rarest_first(bag, spread):
            if left / len(bag) >= limit:
                by_word.setdefault(word, {}).setdefault((left, len(bag)), []).append(number)

    def passes(candidate: Candidate) -> bool:
        bag = frozenset(words(candidate.question))
        return not any(
            _jaccard(len(bag & evaluation[number]), len(bag), size) >= limit
            for word, left in _rarest_first(bag, spread)
            for (behind, size), numbers in by_word.get(word, {}).items()
            if _jaccard(min(left, behind), len(bag), size) >= limit
            for number in numbers
        )

    return passes


def _rarest_first(bag: Collection[str], spread: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The words of a set from the rarest on, and how many there are from each on."""
    ordered = sorted(bag, key=lambda word: (spread.get(word, 0), word))
    return zip(ordered, range(len(ordered), 0, -1), strict=True)


def _jaccard(shared: int, one: int, other: int) -> float:
    return shared / (one + other - shared)
