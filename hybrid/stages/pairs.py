"""Index to training pairs, and the pairs in the formats of other tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.artefacts import read_manifest
from hybrid.errors import ArtefactError
from hybrid.pairs.build import build_pairs
from hybrid.pairs.export import export_all, export_pairs, read_pairs
from hybrid.pairs.formats import load_examples
from hybrid.pairs.teachers import describe_figures, make_teacher
from hybrid.retrieval.index import Index
from hybrid.retrieval.retriever import Retriever
from hybrid.stages import Counts
from hybrid.stages.parts import project_embedder

if TYPE_CHECKING:
    from hybrid.project import Project


def make_pairs(project: Project, work: Path) -> Counts:
    """Builds the pairs and exports them."""
    config = project.config
    index = Index.load(project.path("index"))
    teacher = make_teacher(config, project.folder, work / "replies.jsonl")
    try:
        pairs = build_pairs(
            documents=list(index.documents.values()),
            chunks=index.chunks,
            searcher=Retriever(index, project_embedder(project)),
            evaluation=load_examples(project.questions) if project.questions else [],
            teacher=teacher,
            own=load_examples(project.own_pairs) if project.own_pairs else [],
            journal=work / "drafts.jsonl",
            config=config.pairs,
            prompt=config.prompt,
            seed=config.seed,
        )
    finally:  # a run that fails or is interrupted has cost something too
        sys.stderr.write(describe_figures(teacher.figures()))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    for name, part in (("train", pairs.train), ("dev", pairs.dev)):
        export_pairs(work / "result", name, part, chunks, config.prompt)
    return pairs.counts


def export_examples(project: Project, output: Path, kinds: Sequence[str]) -> dict[str, int]:
    """Writes the published pairs in formats of other tools."""
    way_out = f"run: hybrid pairs --project {project.folder}"
    made = read_manifest(project.path("pairs"))
    if made is None:
        raise ArtefactError(f"{project.folder} has no pairs; {way_out}")
    index = Index.load(project.path("index"))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    parts = {name: read_pairs(project.path("pairs") / f"{name}.jsonl") for name in ("train", "dev")}
    used = {chunk for part in parts.values() for pair in part for chunk in (*pair.context, *pair.oracles)}
    if not used <= chunks.keys():
        raise ArtefactError(f"the pairs are older than the index; {way_out}")
    return export_all(output, kinds, parts, chunks, project.config.prompt, made)
