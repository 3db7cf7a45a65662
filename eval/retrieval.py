"""Scores of one ranking of document ids, best first, against the gold ids, all in 0..1.

A document that is named several times, as when several of its chunks are retrieved, counts once, at its first place.
Without a gold id there is nothing to find: the score is 0, and callers leave such questions out of a mean.
"""

import math
from collections.abc import Collection, Sequence


def recall_at_k(retrieved: Sequence[str], gold: Collection[str], k: int) -> float:
    """Share of the gold ids among the first k distinct retrieved ids.

    Raises:
        ValueError: k is below 1.

    >>> recall_at_k(["a", "b", "c"], {"b", "d"}, k=2)
    0.5
    """
    wanted = set(gold)
    return len(wanted.intersection(_top(retrieved, k))) / len(wanted) if wanted else 0.0


def reciprocal_rank(retrieved: Sequence[str], gold: Collection[str]) -> float:
    """1 / rank of the first gold id, or 0 if none is retrieved.

    >>> reciprocal_rank(["a", "b", "c"], {"b", "c"})
    0.5
    """
    wanted = set(gold)
    return next((1 / rank for rank, id_ in enumerate(dict.fromkeys(retrieved), start=1) if id_ in wanted), 0.0)


def ndcg_at_k(retrieved: Sequence[str], gold: Collection[str], k: int) -> float:
    """Discounted gain of the first k ids over that of the best ranking (Järvelin and Kekäläinen 2002).

    A gold id at rank r gains 1 / log2(r + 1), any other id nothing.

    Raises:
        ValueError: k is below 1.

    >>> ndcg_at_k(["a", "b"], {"a"}, k=2)
    1.0
    """
    wanted = set(gold)
    gain = sum(_discount(rank) for rank, id_ in enumerate(_top(retrieved, k), start=1) if id_ in wanted)
    best = sum(_discount(rank) for rank in range(1, min(k, len(wanted)) + 1))
    return gain / best if wanted else 0.0


def _top(retrieved: Sequence[str], k: int) -> list[str]:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return list(dict.fromkeys(retrieved))[:k]


def _discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)
