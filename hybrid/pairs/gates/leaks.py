"""What the finished training pairs share with the questions that judge the model, measured apart from the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybrid.pairs.candidates import words
from hybrid.pairs.gates.alike import Alike, QuestionVectors, SharedRuns, Subjects, Vectors
from hybrid.types import Chunk, Pair, Question, Quote

_WORST = 5
_QUOTE = 4  # words; shorter quotes are equal by chance


class Likeness(NamedTuple):
    """The question of training that is nearest to a question that judges.

    Attributes:
        trained: Id of the pair.
        question: Its question.
        judged: Id of the other.
        asked: Its question.
        cosine: Of their vectors.
        shares_run: Whether they share a run of words too.
        is_leak: Whether the model is asked what it was trained on.
    """

    trained: str
    question: str
    judged: str
    asked: str
    cosine: float
    shares_run: bool
    is_leak: bool


class Leaks(NamedTuple):
    """What training shares with one set of questions.

    Attributes:
        against: Name of the set.
        questions: How many questions it has.
        documents: Documents that both are about.
        documents_leak: Whether sharing documents is a leak, or only a fact.
        passages: Questions proved by a passage that proves one of training too, in the same place or in a copy.
        shared_runs: Questions that share a run of words with one of training.
        similar: Questions whose vectors are near to one of training.
        cosine: The highest cosine.
        worst: The nearest questions, the worst first.
    """

    against: str
    questions: int
    documents: tuple[str, ...]
    documents_leak: bool
    passages: int
    shared_runs: int
    similar: int
    cosine: float
    worst: tuple[Likeness, ...]

    @property
    def clean(self) -> bool:
        """True if nothing is shared that makes the questions easier than new ones."""
        return not (self.passages or self.shared_runs or self.similar or (self.documents_leak and self.documents))


class LeakReport(NamedTuple):
    """What the training pairs share with the pairs kept from training, and with the comparison questions."""

    dev: Leaks
    comparison: Leaks

    @property
    def clean(self) -> bool:
        """True if neither leaks."""
        return self.dev.clean and self.comparison.clean

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        parts = {leaks.against: _values(leaks) for leaks in self}
        return {"clean": self.clean, **parts}

    def lines(self) -> list[str]:
        """The report for a terminal: a line for each set, and its nearest questions where it leaks."""
        return [line for leaks in self for line in _lines(leaks)]


def find_leaks(
    train: Sequence[Pair],
    dev: Sequence[Pair],
    evaluation: Sequence[Question],
    chunks: Mapping[str, Chunk],
    vectors: QuestionVectors,
    *,
    run: int,
    in_meaning: float,
    own: bool,
) -> LeakReport:
    """Compares the finished pairs with each other and with the comparison questions, all with all.

    That training and comparison are about the same documents is as it should be where a teacher wrote the questions: an
    assistant is asked about the documents it was made from. It is a leak with the user's own questions, and between
    training and the pairs kept from it. Two questions that ask for different numbers or names never count as alike.

    Args:
        train: Pairs to train on.
        dev: Pairs kept from training.
        evaluation: The comparison questions.
        chunks: All chunks by id.
        vectors: Gives the vectors of questions.
        run: Words of a run that must not be shared; 0 shares what it likes.
        in_meaning: Cosine from which on two questions are alike; above 1 none are.
        own: Whether the pairs come from the user's own questions.
    """
    trained = [_from_pair(pair, chunks) for pair in train]
    kept_apart = [_from_pair(pair, chunks) for pair in dev]
    judged = [_Asked(q.id, q.question, frozenset(q.gold), (), frozenset()) for q in evaluation]
    return LeakReport(
        _leaks("dev", trained, kept_apart, vectors, run, in_meaning, documents_leak=True),
        _leaks("comparison", trained, judged, vectors, run, in_meaning, documents_leak=own),
    )


class _Asked(NamedTuple):
    """A question, its documents, and the passages that prove its answer, by place and by their words."""

    id: str
    question: str
    documents: frozenset[str]
    quotes: tuple[Quote, ...]
    passages: frozenset[tuple[str, ...]]


def _from_pair(pair: Pair, chunks: Mapping[str, Chunk]) -> _Asked:
    # Oracles elsewhere were not what the question was written from, but distractors that happen to answer it.
    own = {quote.document for quote in pair.quotes}
    oracles = [chunks[oracle] for oracle in pair.oracles if not own or chunks[oracle].document in own]
    said = [tuple(words(text)) for text in (*(q.text for q in pair.quotes), *(chunk.text for chunk in oracles))]
    documents = own | {chunk.document for chunk in oracles}
    passages = frozenset(passage for passage in said if len(passage) >= _QUOTE)
    return _Asked(pair.id, pair.question, frozenset(documents), pair.quotes, passages)


def _leaks(
    against: str,
    trained: Sequence[_Asked],
    judged: Sequence[_Asked],
    vectors: QuestionVectors,
    run: int,
    limit: float,
    *,
    documents_leak: bool,
) -> Leaks:
    if not trained or not judged:
        return Leaks(against, len(judged), (), documents_leak, 0, 0, 0, 0.0, ())
    questions = [asked.question for asked in trained]
    subjects, runs = Subjects(questions), SharedRuns(questions if run else (), run)
    matrix = vectors(questions)
    nearest = []
    for asked, vector in zip(judged, vectors([a.question for a in judged]), strict=True):
        alike = subjects.find(asked.question)
        shares_run = bool(runs.find(asked.question, alike))
        nearest.append(_nearest(trained, matrix, asked, vector, limit, alike, shares_run=shares_run))
    nearest.sort(key=lambda likeness: (not likeness.is_leak, -likeness.cosine, likeness.judged))
    here = frozenset[str]().union(*(asked.documents for asked in trained))
    there = frozenset[str]().union(*(asked.documents for asked in judged))
    return Leaks(
        against,
        len(judged),
        tuple(sorted(here & there)),
        documents_leak,
        _same_passages(trained, judged),
        sum(likeness.shares_run for likeness in nearest),
        sum(likeness.is_leak and likeness.cosine >= limit for likeness in nearest),
        max(likeness.cosine for likeness in nearest),
        tuple(nearest[:_WORST]),
    )


def _nearest(
    trained: Sequence[_Asked],
    matrix: Vectors,
    asked: _Asked,
    vector: Vectors,
    limit: float,
    alike: Alike,
    *,
    shares_run: bool,
) -> Likeness:
    """The nearest question of training; one that asks for something else only if no other is as near as `limit`."""
    cosines = matrix @ vector
    near = alike.among(np.flatnonzero(cosines >= limit).tolist())
    place = max(near, key=lambda place: (cosines[place], -place), default=int(np.argmax(cosines)))
    cosine = round(float(matrix[place] @ vector), 4)
    found = trained[place]
    return Likeness(found.id, found.question, asked.id, asked.question, cosine, shares_run, bool(near) or shares_run)


def _same_passages(trained: Sequence[_Asked], judged: Sequence[_Asked]) -> int:
    passages = frozenset[tuple[str, ...]]().union(*(asked.passages for asked in trained))
    spans: dict[str, list[Quote]] = {}
    for quote in (quote for asked in trained for quote in asked.quotes):
        spans.setdefault(quote.document, []).append(quote)
    return sum(
        not passages.isdisjoint(asked.passages)
        or any(q.start < t.end and t.start < q.end for q in asked.quotes for t in spans.get(q.document, ()))
        for asked in judged
    )


def _values(leaks: Leaks) -> dict[str, Any]:
    worst = [likeness._asdict() for likeness in leaks.worst]
    return {"clean": leaks.clean, **leaks._asdict(), "documents": list(leaks.documents), "worst": worst}


def _lines(leaks: Leaks) -> list[str]:
    if not leaks.questions:
        return [f"training and {leaks.against}: no questions to compare"]
    documents = f"{len(leaks.documents)} shared documents" + ("" if leaks.documents_leak else " (as intended)")
    found = [
        f"training and {leaks.against}: {'clean' if leaks.clean else 'LEAKS'} ({documents}, {leaks.passages} shared"
        f" passages, {leaks.shared_runs} shared runs of words, {leaks.similar} questions alike, nearest"
        f" {leaks.cosine:.2f})"
    ]
    if leaks.documents_leak and leaks.documents:
        found.append(f"  shared: {', '.join(leaks.documents[:_WORST])}")
    found += [f"  {w.cosine:.2f}  trained {w.question!r}, asked {w.asked!r}" for w in leaks.worst if w.is_leak]
    return found
