"""Which parts of the documents the pairs are about: a draw that leaves none out, and what it reached.

Chunks of one subject lie near to each other in the index, wherever they stand; k-means over their vectors finds the
subjects. Candidates are drawn in turns over these clusters, within a cluster over documents, within a document over
chunks and within a chunk over the sorts of questions.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from hybrid.pairs.candidates import Candidate
from hybrid.retrieval.embed import Vectors
from hybrid.types import Chunk, Pair, document_of

_ROUNDS = 10
_NAMED = 5  # documents without pairs that are named


def cluster_chunks(chunks: Sequence[Chunk], vectors: Vectors, seed: int) -> dict[str, int]:
    """Puts chunks into about sqrt(n / 2) clusters by their vectors, with spherical k-means.

    Args:
        chunks: The chunks of an index.
        vectors: Their vectors `[n, d]` of length 1.
        seed: Seed of the first centres.

    Returns:
        The number of the cluster by chunk id.
    """
    import faiss

    wanted = max(1, round(math.sqrt(len(chunks) / 2)))
    if wanted == 1:
        return dict.fromkeys((chunk.id for chunk in chunks), 0)
    kmeans = faiss.Kmeans(
        vectors.shape[1], wanted, niter=_ROUNDS, seed=seed % 2**31, spherical=True, min_points_per_centroid=1
    )
    kmeans.train(vectors)
    nearest = kmeans.index.search(vectors, 1)[1][:, 0]
    return {chunk.id: int(number) for chunk, number in zip(chunks, nearest, strict=True)}


def order_in_turns(
    found: Iterable[Candidate],
    clusters: Mapping[str, int],
    rng: Random,
    *,
    taken: Iterable[Candidate] = (),
    per_chunk: int = 0,
) -> list[Candidate]:
    """Orders candidates so that, wherever the order is cut, no part of the documents dominates or is missed.

    One of each cluster comes first, then one of each document that is still without, then turns over clusters,
    documents, chunks and sorts of questions. What was `taken` before counts as drawn. The draw depends on the ids of
    the candidates, not on their order.

    Args:
        found: What to draw from; ids are unique.
        clusters: The cluster by chunk id.
        rng: Decides between equals.
        taken: What the pairs hold already.
        per_chunk: Most candidates of one chunk, those taken included; 0 sets no limit.
    """
    order = sorted(found, key=lambda candidate: candidate.id)
    lots = {candidate.id: (rng.random(), rng.random()) for candidate in order}
    paths = {candidate.id: _path(candidate, clusters) for candidate in order}
    before = list(taken)
    turns: dict[str, int] = {}
    order.sort(key=lambda candidate: lots[candidate.id])
    for depth in (4, 3, 2, 1):
        counts = Counter(_path(candidate, clusters)[:depth] for candidate in before)
        for candidate in order:
            part = paths[candidate.id][:depth]
            turns[candidate.id] = counts[part]
            counts[part] += 1
        if depth == 3 and per_chunk:
            order = [candidate for candidate in order if turns[candidate.id] < per_chunk]
        # At first by another lot: else the sort of which a chunk has most would come first.
        order.sort(key=lambda c: (turns[c.id], lots[c.id][1] if depth == 4 else 0.0))
    reached = set(map(oracle_document, before))
    return _documents_first(order, turns, reached)


def put_off(
    order: Iterable[Candidate],
    is_rare: Callable[[Candidate], bool],
    share: float,
    *,
    taken: Sequence[Candidate] = (),
) -> list[Candidate]:
    """Moves rare candidates back until, wherever the order is cut, they are at most `share` of it and of `taken`.

    Those that there is no place for come last.
    """
    placed, waiting = list[Candidate](), deque[Candidate]()
    count, rare = len(taken), sum(map(is_rare, taken))
    for candidate in order:
        (waiting if is_rare(candidate) else placed).append(candidate)
        while waiting and rare + 1 <= share * (count + len(placed) + 1):
            placed.append(waiting.popleft())
            rare += 1
    return [*placed, *waiting]


def _path(candidate: Candidate, clusters: Mapping[str, int]) -> tuple[int, str, str, str]:
    """Cluster, document, chunk and sort of a candidate; one that nothing supports is a chunk of its own."""
    chunk = candidate.oracles[0] if candidate.oracles else candidate.id
    return clusters.get(chunk, -1), oracle_document(candidate), chunk, candidate.asks


def oracle_document(pair: Pair | Candidate) -> str:
    """The document that a pair or candidate is about; empty if nothing supports it."""
    return document_of(pair.oracles[0]) if pair.oracles else ""


def _documents_first(order: Sequence[Candidate], turns: Mapping[str, int], reached: set[str]) -> list[Candidate]:
    """Moves one candidate of every document that is not `reached` behind those that open a cluster."""
    first = [candidate for candidate in order if turns[candidate.id] == 0]
    reached = reached | set(map(oracle_document, first))
    second: list[Candidate] = []
    rest: list[Candidate] = []
    for candidate in order[len(first) :]:
        document = oracle_document(candidate)
        (rest if document in reached else second).append(candidate)
        reached.add(document)
    return [*first, *second, *rest]


def coverage(pairs: Iterable[Pair], chunks: Sequence[Chunk], clusters: Mapping[str, int]) -> dict[str, Any]:
    """Shares of the chunks, documents and clusters that at least one pair is about, and documents without any."""
    asked = {oracle for pair in pairs for oracle in pair.oracles}
    reached = [chunk for chunk in chunks if chunk.id in asked]
    documents = dict.fromkeys(chunk.document for chunk in chunks)
    missed = sorted(documents.keys() - {chunk.document for chunk in reached})
    known = {clusters[chunk.id] for chunk in chunks}
    return {
        "chunks with pairs": round(len(reached) / len(chunks), 3),
        "documents with pairs": round(1 - len(missed) / len(documents), 3),
        "clusters": len(known),
        "clusters with pairs": round(len({clusters[chunk.id] for chunk in reached}) / len(known), 3),
        "documents without pairs": len(missed),
        "documents without pairs, such as": missed[:_NAMED],
    }
