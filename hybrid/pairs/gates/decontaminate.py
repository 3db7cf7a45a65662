"""Finds candidates that ask what a comparison question asks: a model trained on them would be tested on what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import QuestionVectors, SharedRuns, Subjects, near_vectors


class Contaminated(NamedTuple):
    """Ids of the candidates that should go.

    Attributes:
        in_words: They share a run of words with a comparison question.
        in_meaning: Their vectors are near to that of a comparison question, though no run of words is shared.
    """

    in_words: frozenset[str]
    in_meaning: frozenset[str]


def find_contaminated(
    candidates: Sequence[Candidate], questions: Sequence[str], vectors: QuestionVectors, *, run: int, in_meaning: float
) -> Contaminated:
    """Finds candidates that are too near to one of `questions`.

    A candidate is never too near to a question that asks about another number or name ("tank 3", "tank 4"). Its answer
    is not looked at: a question with a wrong answer gives the subject away as well.

    Args:
        candidates: Candidates with ids of their own.
        questions: The comparison questions; or, to clean the pairs kept from training, the questions trained on.
        vectors: Gives the vectors of both.
        run: Words of a run that must not be shared; 0 shares what it likes.
        in_meaning: Cosine from which on two questions are too near; above 1 none is.
    """
    if not candidates or not questions:
        return Contaminated(frozenset(), frozenset())
    subjects, shared = Subjects(questions), SharedRuns(questions if run else (), run)
    left = vectors([candidate.question for candidate in candidates])
    by_words, by_meaning = set(), set()
    for candidate, near in zip(candidates, near_vectors(left, vectors(questions), in_meaning), strict=True):
        alike = subjects.find(candidate.question)
        if shared.find(candidate.question, alike):
            by_words.add(candidate.id)
        elif alike.among(near.tolist()):
            by_meaning.add(candidate.id)
    return Contaminated(frozenset(by_words), frozenset(by_meaning))
