"""Several rankings of the same passages made one."""

from collections.abc import Sequence
from typing import NamedTuple


class Nearest(NamedTuple):
    """Positions of chunks and their scores, best first."""

    positions: tuple[int, ...]
    scores: tuple[float, ...]


class Ranking(NamedTuple):
    """A ranking to be fused.

    Attributes:
        nearest: The best passages.
        low: The score that is worth nothing.
        high: The score that is worth everything.
    """

    nearest: Nearest
    low: float
    high: float


def fuse(rankings: Sequence[Ranking]) -> Nearest:
    """Ranks the passages that any ranking names by the mean of their relative scores, from 0 to 1.

    A passage that a ranking does not name has 0 there. Weighing scores keeps more of what rankings know than weighing
    ranks does (Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval").

    >>> dense, words = Nearest((7, 4, 9), (0.8, 0.5, 0.2)), Nearest((4, 1), (12.0, 3.0))
    >>> fuse([Ranking(dense, 0.2, 0.8), Ranking(words, 0.0, 12.0)])
    Nearest(positions=(4, 7, 1, 9), scores=(0.75, 0.5, 0.125, 0.0))
    """
    totals: dict[int, float] = {}
    for nearest, low, high in rankings:
        span = max(high - low, 1e-12)
        for position, score in zip(*nearest, strict=True):
            relative = min(1.0, max(0.0, (score - low) / span))
            totals[position] = totals.get(position, 0.0) + relative / len(rankings)
    best = sorted(totals, key=lambda position: (-totals[position], position))
    return Nearest(tuple(best), tuple(totals[position] for position in best))
