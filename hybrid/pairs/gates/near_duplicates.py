"""Finds questions that ask again what an earlier one asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hybrid.eval.answers import normalise, token_f1
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import QuestionVectors, Subjects, ask_differently, near_vectors
from hybrid.pairs.gates.minhash import shingles, similar_sets
from hybrid.types import Quote

_DECISIONS = {"yes", "no", "maybe"}
_SAME_ANSWER = 0.8  # token F1 of two answers that say the same, such as with and without a unit's full stop or "about"
_RUN = 2  # words: in a question of ten, one other word leaves 69 % of the runs


class Repeats(NamedTuple):
    """Ids of the candidates that should go.

    Attributes:
        reworded: Said in nearly the words of an earlier candidate.
        surplus: Another wording of an earlier question, of which enough wordings are kept already.
    """

    reworded: frozenset[str]
    surplus: frozenset[str]


def find_repeats(
    candidates: Sequence[Candidate], vectors: QuestionVectors, *, in_words: float, in_meaning: float, paraphrases: int
) -> Repeats:
    """Finds near-duplicates; the first of them is kept.

    Two candidates ask the same if their questions are near in words or in meaning, neither holds a number or name that
    the other lacks while lacking one of it ("tank 3", "tank 4"), and their answers agree. Of a yes or no, which agrees
    by chance, the proofs must overlap too.

    Args:
        candidates: Candidates with ids of their own, in the order of preference.
        vectors: Gives the vectors of the questions.
        in_words: Jaccard similarity of the pairs of neighbouring words from which on two questions are the same.
        in_meaning: Cosine from which on two questions are wordings of one; 1 takes only equal vectors.
        paraphrases: Most wordings of a question that are kept, the first included.
    """
    if not candidates:
        return Repeats(frozenset(), frozenset())
    same_words: dict[int, list[int]] = {}
    questions = [candidate.question for candidate in candidates]
    subjects, sets = Subjects(questions), [shingles(question, _RUN) for question in questions]
    for first, second, _ in similar_sets(sets, in_words, among=lambda place: subjects.find(questions[place]).among):
        if _are_answered_alike(candidates[first], candidates[second]):
            same_words.setdefault(second, []).append(first)
    reworded: set[int] = set()
    for second in sorted(same_words):
        if not reworded.issuperset(same_words[second]):
            reworded.add(second)
    others = [candidate for place, candidate in enumerate(candidates) if place not in reworded]
    surplus = _surplus(others, vectors, in_meaning, paraphrases)
    return Repeats(frozenset(candidates[place].id for place in reworded), frozenset(surplus))


def _surplus(candidates: Sequence[Candidate], vectors: QuestionVectors, limit: float, most: int) -> set[str]:
    """Ids of the candidates whose question has `most` kept wordings before it."""
    questions = [candidate.question for candidate in candidates]
    subjects, matrix = Subjects(questions), vectors(questions)
    earlier: dict[int, list[int]] = {}
    for second, near in enumerate(near_vectors(matrix, matrix, limit)):
        for first in sorted(subjects.find(questions[second]).among(near[near < second].tolist())):
            if _are_answered_alike(candidates[first], candidates[second]):
                earlier.setdefault(second, []).append(first)
    question = list(range(len(candidates)))  # the first wording of each one's question
    kept = [1] * len(candidates)
    surplus: set[int] = set()
    for second in sorted(earlier):
        first = next((place for place in earlier[second] if place not in surplus), second)
        question[second] = question[first]
        if first != second and kept[question[second]] >= most:
            surplus.add(second)
        elif first != second:
            kept[question[second]] += 1
    return {candidates[place].id for place in surplus}


def _are_answered_alike(one: Candidate, other: Candidate) -> bool:
    if not answers_agree(one.answer, other.answer):
        return False
    return normalise(one.answer) not in _DECISIONS or _proofs_overlap(one.quotes, other.quotes)


def answers_agree(one: str, other: str) -> bool:
    """True if two answers say the same, apart from a word or two.

    >>> answers_agree("the first Monday", "First Monday."), answers_agree("10 bar at 20 °C", "10 bar at 30 °C")
    (True, False)
    """
    return not ask_differently(one, other) and (
        normalise(one) == normalise(other) or token_f1(one, [other]) >= _SAME_ANSWER
    )


def _proofs_overlap(one: Sequence[Quote], other: Sequence[Quote]) -> bool:
    return any(
        a.text == b.text or (a.document == b.document and a.start < b.end and b.start < a.end)
        for a in one
        for b in other
    )
