"""An index on disk: vectors.safetensors, chunks.jsonl, documents.jsonl, words/ and, with their digests, index.json.

The word statistics in words/ are written by bm25s: arrays of NumPy, read without pickle, and JSON.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybrid.errors import ArtefactError, writing
from hybrid.retrieval.bm25 import Bm25
from hybrid.retrieval.chunk import ChunkerSettings
from hybrid.retrieval.embed import Vectors
from hybrid.types import Chunk, Document

VERSION = 2
_META = "index.json"
_VECTORS = "vectors.safetensors"
_CHUNKS = "chunks.jsonl"
_DOCUMENTS = "documents.jsonl"
_WORDS = "words"


class Meta(NamedTuple):
    """What built an index: the embedder's name, the chunker's settings, and the hash of each document by id."""

    embedder: str
    chunker: ChunkerSettings
    documents: Mapping[str, str]


class Stored(NamedTuple):
    """The parts of an index."""

    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    vectors: Vectors
    bm25: Bm25
    meta: Meta


def save_index(folder: Path, stored: Stored) -> None:
    """Write the files of an index into `folder`, index.json last.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    with writing(folder):
        _save(folder, stored)


def _save(folder: Path, stored: Stored) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": np.ascontiguousarray(stored.vectors)}, folder / _VECTORS)
    _write_lines(folder / _CHUNKS, (asdict(chunk) for chunk in stored.chunks))
    _write_lines(folder / _DOCUMENTS, ({**asdict(item), "metadata": dict(item.metadata)} for item in stored.documents))
    stored.bm25.save(folder / _WORDS)
    files = [folder / _VECTORS, folder / _CHUNKS, folder / _DOCUMENTS, *sorted((folder / _WORDS).glob("*"))]
    meta = {
        "version": VERSION,
        "embedder": stored.meta.embedder,
        "dimension": stored.vectors.shape[1],
        "chunker": stored.meta.chunker._asdict(),
        "files": {file.relative_to(folder).as_posix(): _digest(file) for file in files},
        "documents": dict(stored.meta.documents),
    }
    (folder / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_index(folder: Path) -> Stored:
    """Read the files of an index.

    Raises:
        ArtefactError: A file is missing, damaged or of another version; the message names it.
    """
    meta, digests = _read_meta(folder / _META)
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            raise ArtefactError(f"{file} is missing; run `hybrid index --force`")
        if _digest(file) != digest:
            raise ArtefactError(f"{file} is damaged: it is not the file that was saved; run `hybrid index --force`")
    from safetensors.numpy import load_file

    return Stored(
        documents=tuple(Document(**record) for record in _read_lines(folder / _DOCUMENTS)),
        chunks=tuple(Chunk(**record) for record in _read_lines(folder / _CHUNKS)),
        vectors=load_file(folder / _VECTORS)["vectors"],
        bm25=Bm25.load(folder / _WORDS),
        meta=meta,
    )


def _read_meta(file: Path) -> tuple[Meta, dict[str, str]]:
    """Read index.json: what built the index, and the digests of the other files by name."""
    if not file.is_file():
        raise ArtefactError(f"{file} is missing; run `hybrid index`")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']}, while this Hybrid reads {VERSION}")
        chunker = ChunkerSettings(**record["chunker"])
        digests = {name: str(record["files"][name]) for name in (_VECTORS, _CHUNKS, _DOCUMENTS, *record["files"])}
        return Meta(record["embedder"], chunker, dict(record["documents"])), digests
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{file} is damaged or of another version: {error}; run `hybrid index --force`") from None


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def _read_lines(file: Path) -> Iterable[dict[str, Any]]:
    # A file opened as text breaks lines at \n alone, unlike splitlines.
    with file.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)
