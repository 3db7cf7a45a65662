"""Several rankings of the same passages made one."""

from collections.abc import Sequence
from typing import NamedTuple


class Nearest(NamedTuple):
    """Positions of chunks and their scores, best first."""

    positions: tuple[int, ...]
    scores: tuple[float, ...]


def fuse(rankings: Sequence[Nearest], k: int) -> Nearest:
    """Finds the `k` passages with the highest mean of relative scores.

    A ranking gives its best passage 1, its last one 0 and the others what lies between in proportion to their scores;
    a passage that it does not name has 0. Rankings whose scores say nothing, all being equal, give everything 1.
    Weighing scores keeps more of what rankings know than weighing ranks does (Bruch, Gai and Ingber 2023).

    >>> fuse([Nearest((7, 4, 9), (0.8, 0.5, 0.2)), Nearest((4, 1), (12.0, 3.0))], 2)
    Nearest(positions=(4, 7), scores=(0.75, 0.5))
    """
    totals: dict[int, float] = {}
    for ranking in rankings:
        for position, score in zip(ranking.positions, _relative(ranking.scores), strict=True):
            totals[position] = totals.get(position, 0.0) + score / len(rankings)
    best = sorted(totals, key=lambda position: (-totals[position], position))[:k]
    return Nearest(tuple(best), tuple(totals[position] for position in best))


def _relative(scores: Sequence[float]) -> list[float]:
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
