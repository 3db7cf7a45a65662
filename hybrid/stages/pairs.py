"""Index to training pairs, and the pairs in the formats of other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from hybrid.artefacts import check_files, is_forced, read_manifest
from hybrid.config import PairsConfig
from hybrid.errors import ArtefactError, LockedError
from hybrid.pairs.build import Answers, build_pairs
from hybrid.pairs.fill import POOL
from hybrid.pairs.formats.export import export_all, export_pairs
from hybrid.pairs.formats.load import load_examples
from hybrid.pairs.gates.funnel import funnel_table
from hybrid.pairs.gates.verify import answers_file, make_answerer
from hybrid.pairs.history import BASIS, affected_pairs, document_hashes, read_last, write_basis
from hybrid.pairs.review.marks import Verdict, change_marks, read_marks, write_marks
from hybrid.pairs.review.page import PAGE, PairsView, html_page
from hybrid.pairs.teacher import Figures
from hybrid.pairs.teachers import describe_figures, drafts_file, make_teacher, plan_drafts
from hybrid.retrieval.index import Index, document_hash
from hybrid.retrieval.load import load_documents
from hybrid.stages import Counts
from hybrid.stages.parts import project_embedder, project_retriever, published_pairs
from hybrid.types import Chunk, Pair, document_of

if TYPE_CHECKING:
    from hybrid.project import Project

_MARKING_SECONDS = 10  # a mark takes milliseconds


def make_pairs(project: Project, work: Path) -> Counts:
    """Builds the pairs and exports them."""
    config = project.config
    index = Index.load(project.path("index"))
    marks = read_marks(project.marks)
    drafts = drafts_file(config, project.folder, project.store)
    teacher = make_teacher(config, project.folder, work / "replies.jsonl", drafts)
    if config.pairs.teacher != "syntax" and not project.own_pairs:
        sys.stderr.write(f"{plan_drafts(config, project.folder, drafts, index.chunks)}\n")
    sys.stderr.write(_plan_answering(config.pairs))
    inputs = project.stage_inputs("pairs")
    embedder = project_embedder(project)
    journal = answers_file(config, project.folder, project.store)
    answerer = make_answerer(
        config,
        project.folder,
        lambda: teacher.figures().usage.get("teacher cost", 0.0),
        proven=journal.is_file(),
    )
    try:
        pairs = build_pairs(
            index=index,
            searcher=project_retriever(project, index, embedder),
            embedder=embedder,
            evaluation=load_examples(project.questions) if project.questions else [],
            teacher=teacher,
            own=load_examples(project.own_pairs) if project.own_pairs else [],
            drafts=drafts,
            config=config.pairs,
            prompt=config.prompt,
            seed=config.seed,
            last=None if is_forced(work) else read_last(project.path("pairs"), index, inputs),
            marks=marks,
            answers=Answers(answerer, journal) if answerer else None,
        )
    finally:  # a run that fails or is interrupted has cost something too
        sys.stderr.write(describe_figures(teacher.figures()))
    sys.stderr.write(_describe_answering(pairs.counts))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    parts = {"train": pairs.train, "dev": pairs.dev}
    for name, part in parts.items():
        export_pairs(work / "result", name, part, chunks, config.prompt)
    write_basis(work / "result", index, pairs.candidates)
    counts = {**pairs.counts, **({"marks": marks.figures()} if marks.by_id else {})}
    sys.stderr.write(funnel_table(counts) + "\n" + "".join(f"{line}\n" for line in pairs.leaks.lines()))
    page = html_page(PairsView(parts, chunks, counts, marks), project.folder.name)
    (work / "result" / PAGE).write_text(page, encoding="utf-8")
    return counts


def _plan_answering(config: PairsConfig) -> str:
    """A line about the calls that answering again may take; empty if nobody does."""
    if config.verify == "off":
        return ""
    calls = 2 * POOL * config.total
    return f"answering again by the {config.verify}: up to {calls:,} further calls (pairs.verify, pairs.total)\n"


def _describe_answering(counts: Mapping[str, Any]) -> str:
    """A line about what answering again took and dropped; empty if nobody did."""
    gate = "not answered from its oracle"
    usage = {name: value for name, value in counts.items() if name.startswith("verification ")}
    return describe_figures(Figures(usage, {gate: counts.get(f"dropped: {gate}", 0)}))


def affected(project: Project) -> str:
    """How much of the published pairs an edit of the documents touches, in brackets; empty if that is not known."""
    documents = load_documents(project.documents).documents
    found = affected_pairs(project.path("pairs"), {document.id: document_hash(document) for document in documents})
    return f" ({found})" if found and found.documents else ""


def read_parts(project: Project) -> dict[str, list[Pair]]:
    """The published pairs by the name of their part."""
    return {name: published_pairs(project, name) for name in ("train", "dev")}


def mark_pairs(project: Project, ids: Iterable[str], verdict: Verdict | None, reason: str) -> None:
    """Changes the marks of published pairs."""
    parts = read_parts(project)
    try:
        with FileLock(project.store / "marks.lock", timeout=_MARKING_SECONDS):
            marks = change_marks(read_marks(project.marks), chain(*parts.values()), ids, verdict, reason)
            write_marks(project.marks, marks)
    except Timeout as error:
        raise LockedError(f"another command writes {project.marks}; run this one again") from error


def published_page(project: Project, token: str = "") -> str:
    """The page about the published pairs, with the marks as they are now."""
    parts = read_parts(project)
    view = PairsView(
        parts, shown_chunks(project, parts), read_manifest(project.path("pairs")) or {}, read_marks(project.marks)
    )
    return html_page(view, project.folder.name, token)


def export_examples(project: Project, output: Path, kinds: Sequence[str]) -> dict[str, int]:
    """Writes the published pairs in formats of other tools."""
    parts = read_parts(project)
    made = read_manifest(project.path("pairs")) or {}
    return export_all(output, kinds, parts, shown_chunks(project, parts), project.config.prompt, made)


def shown_chunks(project: Project, parts: Mapping[str, Sequence[Pair]]) -> dict[str, Chunk]:
    """All chunks by id, once it is known that the documents of the pairs are those of this index.

    Raises:
        ArtefactError: They are not, or the pairs are damaged.
    """
    check_files(project.path("pairs"), [BASIS], f"run: hybrid pairs --project {project.folder} --force")
    index = Index.load(project.path("index"))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    used = {chunk for part in parts.values() for pair in part for chunk in (*pair.context, *pair.oracles)}
    # An edit that keeps the length of a text keeps the ids of its chunks.
    before = document_hashes(project.path("pairs"))
    edited = {
        document for document in map(document_of, used) if before.get(document) != index.meta.documents.get(document)
    }
    if edited or not used <= chunks.keys():
        raise ArtefactError(f"the pairs are older than the index; run: hybrid pairs --project {project.folder}")
    return chunks
