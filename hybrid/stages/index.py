"""Documents to index."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.artefacts import read_manifest
from hybrid.errors import ArtefactError
from hybrid.retrieval.chunk import Chunker
from hybrid.retrieval.index import Index
from hybrid.retrieval.load import load_documents
from hybrid.stages import Counts
from hybrid.stages.parts import project_embedder

if TYPE_CHECKING:
    from hybrid.project import Project


def build_index(project: Project, work: Path) -> Counts:
    """Builds the index, taking over from the published one what did not change."""
    loaded = load_documents(project.documents)
    config = project.config.index
    chunker = Chunker(project.embedder, config.chunk_tokens, config.overlap_tokens)
    embedder = project_embedder(project)
    try:
        old = Index.load(project.path("index")) if read_manifest(project.path("index")) else None
    except ArtefactError as error:
        sys.stderr.write(f"the old index is not used: {error}\n")
        old = None
    counts: Counts = {}
    if old is None:
        index = Index.build(loaded.documents, chunker, embedder)
    else:
        update = old.update(loaded.documents, chunker, embedder)
        index = update.index
        counts = {name: len(getattr(update, name)) for name in ("added", "changed", "deleted", "unchanged")}
    index.save(work / "result")
    for skipped in loaded.skipped:
        sys.stderr.write(f"skipped {skipped.path}: {skipped.reason}\n")
    return {
        "documents": len(index.documents),
        "chunks": len(index.chunks),
        **counts,
        "embedded": embedder.computed,
        "files skipped": [f"{skipped.path}: {skipped.reason}" for skipped in loaded.skipped],
    }
