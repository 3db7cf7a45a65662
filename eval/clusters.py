"""Which questions belong together: those about one document are not independent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybrid.types import Question


class ClusterCount(NamedTuple):
    """How many clusters the questions form, and how many questions the largest holds."""

    clusters: int
    largest: int


def clusters(questions: Sequence[Question], groups: Mapping[str, str] | None = None) -> list[int]:
    """Numbers the cluster of every question, from 0 in the order of the questions.

    Two questions share a cluster if they name a common gold document, directly or through other questions; a question
    without gold stands alone.

    Args:
        questions: The questions.
        groups: A label per question id to go by instead; a question without one stands alone.

    >>> clusters([Question("1", "?", gold=("a",)), Question("2", "?", gold=("b", "a")), Question("3", "?")])
    [0, 0, 1]
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for question in questions:
        for label in _labels(question, groups):
            parent[root(("label", label))] = root(("question", question.id))
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(root(("question", question.id)), len(numbers)) for question in questions]


def count_clusters(numbers: Sequence[int]) -> ClusterCount:
    """Counts them.

    >>> count_clusters([0, 0, 1])
    ClusterCount(clusters=2, largest=2)
    """
    sizes = Counter(numbers)
    return ClusterCount(len(sizes), max(sizes.values(), default=0))


def _labels(question: Question, groups: Mapping[str, str] | None) -> Sequence[str]:
    if groups is None:
        return question.gold
    return [groups[question.id]] if question.id in groups else []
