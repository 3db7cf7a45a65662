"""Figures of a pair set for its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hybrid.pairs.contexts.plan import context_figures
from hybrid.types import Chunk, Pair

_RANKS = {"1": range(1, 2), "2": range(2, 3), "3-5": range(3, 6), "6-10": range(6, 11), "over 10": range(11, 2**31)}


def summary(
    train: Sequence[Pair],
    dev: Sequence[Pair],
    retrieved: Mapping[str, Sequence[str]],
    chunks: Mapping[str, Chunk],
    k: int,
) -> dict[str, float]:
    """Sizes, kinds and sorts of the pairs, and how the contexts of the training pairs are shared.

    Args:
        train: Pairs to train on.
        dev: Pairs kept from training.
        retrieved: Chunk ids by pair id, best first.
        chunks: All chunks by id.
        k: Chunks that a question is shown in serving.
    """
    figures = context_figures(train, retrieved, chunks, k=k)
    kinds = {f"train {kind}": sum(pair.kind == kind for pair in train) for kind in ("grounded", "multi", "absent")}
    asks = Counter(pair.asks for pair in train if pair.asks)
    places = {f"oracle at place {place}": count for place, count in enumerate(figures.oracle_places, 1)}
    return {
        "train": len(train),
        **kinds,
        "dev": len(dev),
        **{f"train asks {sort}": asks[sort] for sort in sorted(asks)},
        "contexts": figures.contexts,
        "questions per context": round(figures.questions, 2),
        "most questions of a context": figures.largest,
        "chunks per context": round(figures.chunks, 2),
        "work saved (words)": round(figures.work_saved, 2),
        "own distractors kept": round(figures.own_kept, 3),
        "distractors that are own": round(figures.own_share, 3),
        "mean oracle rank": round(figures.oracle_rank, 2),
        **rank_shares(train),
        **places,
    }


def rank_shares(pairs: Sequence[Pair]) -> dict[str, float]:
    """Shares of the pairs with an oracle by the rank that their own retrieval gave it when they were made.

    >>> found = [Pair(str(rank), "?", "a", (), ("d#0-1",), rank=rank) for rank in (1, 1, 4, 0)]
    >>> {name: share for name, share in rank_shares(found).items() if share}
    {'oracle rank 1': 0.5, 'oracle rank 3-5': 0.25, 'oracle not retrieved': 0.25}
    """
    ranks = [pair.rank for pair in pairs if pair.oracles]
    counts = {f"oracle rank {name}": sum(rank in span for rank in ranks) for name, span in _RANKS.items()}
    counts["oracle not retrieved"] = ranks.count(0)
    return {name: round(count / max(1, len(ranks)), 3) for name, count in counts.items()}
