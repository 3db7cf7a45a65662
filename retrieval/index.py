"""The index: documents, their chunks, one vector a chunk, and exact search by vectors and by words."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import DocumentError
from hybrid.retrieval.bm25 import Bm25
from hybrid.retrieval.chunk import Chunker
from hybrid.retrieval.embed import Embedder, Vectors
from hybrid.retrieval.fuse import Nearest
from hybrid.retrieval.store import Meta, Stored, load_index, save_index
from hybrid.types import Chunk, Document

Positions = npt.NDArray[np.int64]

# Of a cosine of float32 vectors, in whatever order it is summed.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class IndexUpdate:
    """An updated index, and the ids of the documents by what became of them, each ordered."""

    index: "Index"
    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: tuple[str, ...]


class Index:
    """Chunks ordered by document id and place, with their vectors. Built by `build`, `update` or `load`.

    Attributes:
        documents: The documents by id, in order.
        chunks: All chunks.
        vectors: float32 `[len(chunks), d]`, of length 1.
        bm25: Search by words, of `passage_text` of every chunk.
        meta: What built the index.
    """

    def __init__(
        self, documents: Mapping[str, Document], chunks: Sequence[Chunk], vectors: Vectors, bm25: Bm25, meta: Meta
    ) -> None:
        self.documents = documents
        self.chunks = tuple(chunks)
        self.vectors = vectors
        self.bm25 = bm25
        self.meta = meta

    @classmethod
    def build(cls, documents: Iterable[Document], chunker: Chunker, embedder: Embedder) -> "Index":
        """Chunk and embed documents.

        Raises:
            DocumentError: No document has text, or two share an id.
        """
        return _assemble(None, _by_id(documents), chunker, embedder)

    def update(self, documents: Iterable[Document], chunker: Chunker, embedder: Embedder) -> IndexUpdate:
        """Build the index of `documents`, taking over chunks and vectors of those that did not change.

        The result is that of `build`. Another embedder or chunker changes every document.

        Raises:
            DocumentError: No document has text, or two share an id.
        """
        new = _by_id(documents)
        same = _reusable(self, new, chunker, embedder)
        return IndexUpdate(
            _assemble(self, new, chunker, embedder),
            added=tuple(key for key in new if key not in self.documents),
            changed=tuple(key for key in new if key in self.documents and key not in same),
            deleted=tuple(key for key in self.documents if key not in new),
            unchanged=tuple(key for key in new if key in same),
        )

    def save(self, folder: Path) -> None:
        """Write the index into `folder`, which is made if need be; replacing an old one whole is the caller's part."""
        save_index(folder, Stored(tuple(self.documents.values()), self.chunks, self.vectors, self.bm25, self.meta))

    @classmethod
    def load(cls, folder: Path) -> "Index":
        """Read an index that `save` wrote.

        Raises:
            ArtefactError: A file is missing, damaged or of another version.
        """
        stored = load_index(folder)
        return cls(_by_id(stored.documents), stored.chunks, stored.vectors, stored.bm25, stored.meta)

    def chunk(self, key: str) -> Chunk:
        """Find the chunk with the id `key`.

        Raises:
            KeyError: There is none.
        """
        return self.chunks[self.position(key)]

    def position(self, key: str) -> int:
        """Find the place in `chunks` of the chunk with the id `key`.

        Raises:
            KeyError: There is none.
        """
        if key not in self._positions:
            raise KeyError(f"no chunk {key!r} in the index")
        return self._positions[key]

    def nearest(self, vectors: Vectors, k: int) -> list[Nearest]:
        """Find the `k` chunks, or all if there are fewer, with the highest cosine for each row of `vectors` `[n, d]`.

        Chunks with equal scores come in the order of the index.
        """
        return [self._exact(row, ids, k) for row, ids in zip(vectors, self._candidates(vectors, k), strict=True)]

    def _candidates(self, vectors: Vectors, k: int) -> Iterable[Positions]:
        """Yield for each row a superset of the `k` best that cuts through no group of equal scores in their reach."""
        if not len(vectors):
            return
        order, starts = self._copies
        size = len(starts) - 1
        wanted = min(size, k + 16)
        scores, places = self._faiss.search(vectors, wanted)
        for row, (found, ids) in enumerate(zip(scores, places, strict=True)):
            more = wanted
            while more < size and found[k - 1] - found[-1] < _ROUNDING:
                more = min(size, 4 * more)
                found, ids = (result[0] for result in self._faiss.search(vectors[row : row + 1], more))
            # Of equal vectors, whatever their number, only the first k can be among the k best.
            yield np.concatenate([order[starts[i] : min(starts[i] + k, starts[i + 1])] for i in ids])

    def _exact(self, vector: Vectors, candidates: Positions, k: int) -> Nearest:
        positions = np.sort(candidates)
        scores = self.cosines(vector, positions)
        best = np.argsort(-scores, kind="stable")[:k]
        return Nearest(tuple(map(int, positions[best])), tuple(map(float, scores[best])))

    def cosines(self, vector: Vectors, positions: Sequence[int] | Positions) -> npt.NDArray[np.float64]:
        """Return the cosine of a vector `[d]` and each of the chunks at `positions`."""
        # FAISS rounds differently with the size of a batch; in double precision row by row equal vectors score equal.
        chosen = self.vectors[np.asarray(positions, dtype=np.int64)].astype(np.float64)
        return np.asarray((chosen * vector.astype(np.float64)).sum(axis=1))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {chunk.id: position for position, chunk in enumerate(self.chunks)}

    @cached_property
    def _faiss(self) -> Any:  # noqa: ANN401 - faiss is not typed
        import faiss

        order, starts = self._copies
        first = order[starts[:-1]]
        index = faiss.IndexFlatIP(self.vectors.shape[1])
        index.add(self.vectors if len(first) == len(self.vectors) else self.vectors[first])
        return index

    @cached_property
    def _copies(self) -> tuple[Positions, Positions]:
        """All positions, those of equal vectors together and in order, and where those of each vector start and end."""
        seen: dict[bytes, int] = {}
        vector_of = [seen.setdefault(hashlib.sha256(row).digest(), len(seen)) for row in self.vectors]
        order = np.argsort(vector_of, kind="stable")
        return order, np.searchsorted(np.sort(vector_of), np.arange(len(seen) + 1))


def passage_text(chunk: Chunk) -> str:
    """Text that is searched for a chunk: its title, unless the chunk shows it, and its text.

    >>> passage_text(Chunk("a#0-9", "a", 0, 9, "Every day", title="Oiling"))
    'Oiling Every day'
    """
    return chunk.text if chunk.title in chunk.text else f"{chunk.title} {chunk.text}"


def document_hash(document: Document) -> str:
    """Hexadecimal SHA-256 of all that chunks and vectors of a document depend on."""
    return hashlib.sha256(f"{document.title}\0{document.text}".encode()).hexdigest()


def _by_id(documents: Iterable[Document]) -> dict[str, Document]:
    ordered = sorted(documents, key=lambda document: document.id)
    for first, second in pairwise(ordered):
        if first.id == second.id:
            raise DocumentError(f"two documents have the id {first.id!r}")
    return {document.id: document for document in ordered}


def _reusable(index: Index | None, documents: Mapping[str, Document], chunker: Chunker, embedder: Embedder) -> set[str]:
    if index is None or (index.meta.embedder, index.meta.chunker) != (embedder.name, chunker.settings):
        return set()
    hashes = index.meta.documents
    return {key for key, document in documents.items() if hashes.get(key) == document_hash(document)}


def _assemble(old: Index | None, documents: Mapping[str, Document], chunker: Chunker, embedder: Embedder) -> Index:
    reusable = _reusable(old, documents, chunker, embedder)
    kept: dict[str, list[int]] = {key: [] for key in reusable}
    if old is not None:
        for position, chunk in enumerate(old.chunks):
            if chunk.document in reusable:
                kept[chunk.document].append(position)
    chunks: list[Chunk] = []
    sources: list[int] = []
    for key, document in documents.items():
        if old is not None and key in reusable:
            chunks += [old.chunks[position] for position in kept[key]]
            sources += kept[key]
        else:
            fresh = chunker.chunk(document)
            chunks += fresh
            sources += [-1] * len(fresh)
    if not chunks:
        raise DocumentError(f"nothing to index: none of {len(documents)} documents has text")
    vectors, bm25 = _vectors(old, chunks, sources, embedder), Bm25.build([passage_text(chunk) for chunk in chunks])
    return Index(documents, chunks, vectors, bm25, _meta(documents, chunker, embedder))


def _vectors(old: Index | None, chunks: Sequence[Chunk], sources: Sequence[int], embedder: Embedder) -> Vectors:
    """Vectors of `chunks`: from the place in the old index that `sources` names, or computed where it is -1."""
    origin = np.asarray(sources)
    texts = [passage_text(chunk) for chunk, source in zip(chunks, sources, strict=True) if source < 0]
    if not texts and old is not None:
        kept: Vectors = old.vectors[origin]
        return kept
    computed = embedder.embed_passages(texts)
    vectors = np.empty((len(chunks), computed.shape[1]), dtype=np.float32)
    vectors[origin < 0] = computed
    if old is not None:
        vectors[origin >= 0] = old.vectors[origin[origin >= 0]]
    return vectors


def _meta(documents: Mapping[str, Document], chunker: Chunker, embedder: Embedder) -> Meta:
    hashes = {key: document_hash(document) for key, document in documents.items()}
    return Meta(embedder.name, chunker.settings, hashes)
