"""Questions to hits."""

from collections.abc import Sequence
from typing import Protocol

from hybrid.errors import ArtefactError
from hybrid.retrieval.embed import Embedder, Vectors
from hybrid.retrieval.fuse import Nearest, Ranking, fuse
from hybrid.retrieval.index import Index, passage_text
from hybrid.retrieval.rerank import Read, Reranker, reorder
from hybrid.types import Hit, Search

# Chunks that vectors and words each propose to be fused; the rest comes behind, by its vectors.
_PROPOSED = 100
# A best match by words counts fully if it has this share of the most that the question allows.
_GOOD_MATCH = 0.1


class Searcher(Protocol):
    """Finds chunks."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Return up to `k` hits for each question, best first."""

    def neighbours(self, chunk_ids: Sequence[str], k: int) -> list[list[Hit]]:
        """Return up to `k` other chunks for each chunk, most similar first."""


class Retriever:
    """Searches an index.

    Args:
        index: Where to search.
        embedder: The one that built the index.
        by: What decides: `dense` the cosine of question and chunk, `bm25` the words they share, `fused` both alike
            (`fuse`). Chunks that share no word with a question come last for `bm25`, by their cosine.
        reranker: Reads the best of these with the question and orders them anew.
        depth: How many it reads.

    Raises:
        ArtefactError: Another embedder built the index.
    """

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        by: Search = "fused",
        reranker: Reranker | None = None,
        depth: int = 30,
    ) -> None:
        if embedder.name != index.meta.embedder:
            raise ArtefactError(
                f"the index was built by the embedder {index.meta.embedder!r}, not by {embedder.name!r}; "
                "run `hybrid index` again"
            )
        self.index = index
        self.embedder = embedder
        self.by = by
        self.reranker = reranker
        self.depth = depth if reranker else 0

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Find the `k` best chunks, or all if there are fewer, for each question; equal scores keep the index's order.

        Raises:
            ValueError: `k` is below 1, or a question is empty.
        """
        _check_k(k)
        if not questions:
            return []
        depth = max(k, self.depth) if self.by == "dense" else max(k, self.depth, _PROPOSED)
        vectors = self.embedder.embed_questions(questions)
        dense = self.index.nearest(vectors, depth)
        ranked = [self._ranked(question, found) for question, found in zip(questions, dense, strict=True)]
        if self.reranker:
            ranked = self._reranked(self.reranker, questions, ranked)
        return [self._hits(found, vector, k) for found, vector in zip(ranked, vectors, strict=True)]

    def neighbours(self, chunk_ids: Sequence[str], k: int) -> list[list[Hit]]:
        """Find the `k` chunks most similar to each of the given ones, which is not among its own neighbours.

        Raises:
            ValueError: `k` is below 1.
            KeyError: A chunk is not in the index.
        """
        _check_k(k)
        positions = [self.index.position(key) for key in chunk_ids]
        vectors = self.index.vectors[positions]
        found = self.index.nearest(vectors, k + 1)
        return [
            self._hits(_without(nearest, own), vector, k)
            for nearest, own, vector in zip(found, positions, vectors, strict=True)
        ]

    def _ranked(self, question: str, dense: Nearest) -> Nearest:
        if self.by == "dense":
            return dense
        words = self.index.bm25.search(question, _PROPOSED)
        first = words if self.by == "bm25" else self._fused(question, dense, words)
        named = set(first.positions)
        others = [position for position in dense.positions if position not in named]
        return Nearest((*first.positions, *others), (*first.scores, *[0.0] * len(others)))

    def _fused(self, question: str, dense: Nearest, words: Nearest) -> Nearest:
        proposed = Nearest(dense.positions[:_PROPOSED], dense.scores[:_PROPOSED])
        rankings = [Ranking(proposed, proposed.scores[-1], proposed.scores[0])]
        if words.scores:
            # Of many matches the last is worth nothing, so that it does not matter where their list is cut.
            low = words.scores[-1] if len(words.scores) == _PROPOSED else 0.0
            good = _GOOD_MATCH * self.index.bm25.most(question)
            rankings.append(Ranking(words, low, max(words.scores[0], good)))
        return fuse(rankings)

    def _reranked(self, reranker: Reranker, questions: Sequence[str], ranked: Sequence[Nearest]) -> list[Nearest]:
        pairs = [
            Read(question, passage_text(self.index.chunks[position]))
            for question, found in zip(questions, ranked, strict=True)
            for position in found.positions[: self.depth]
        ]
        logits = iter(reranker.score(pairs).tolist())
        return [reorder(found, [next(logits) for _ in found.positions[: self.depth]]) for found in ranked]

    def _hits(self, nearest: Nearest, vector: Vectors, k: int) -> list[Hit]:
        positions = nearest.positions[:k]
        ranked = zip(positions, nearest.scores[:k], self.index.cosines(vector, positions).tolist(), strict=True)
        return [Hit(self.index.chunks[place], score, rank, near) for rank, (place, score, near) in enumerate(ranked, 1)]


def _without(nearest: Nearest, position: int) -> Nearest:
    pairs = [pair for pair in zip(*nearest, strict=True) if pair[0] != position]
    return Nearest(tuple(place for place, _ in pairs), tuple(score for _, score in pairs))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
