"""What the artefact of every stage depends on: the source of fingerprints, and of what `hybrid status` names."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hybrid.artefacts import fingerprint, fingerprint_files
from hybrid.config import TeacherConfig
from hybrid.judge import identity
from hybrid.pairs.formats.load import fingerprint_examples
from hybrid.pairs.gates.verify import answerer_identity
from hybrid.pairs.review.marks import read_marks
from hybrid.pairs.teachers import teacher_identity
from hybrid.retrieval.embed import fingerprint_folder
from hybrid.retrieval.load import TYPES
from hybrid.retrieval.store import VERSION
from hybrid.stages.measuring import reading_models
from hybrid.stages.serve import other_arms

if TYPE_CHECKING:
    from hybrid.project import Project


def stage_inputs(project: Project) -> dict[str, dict[str, Any]]:
    """The inputs of every stage, as hashes and settings."""
    config = project.config
    questions = fingerprint_examples(project.questions) if project.questions else None
    own = fingerprint_examples(project.own_pairs) if project.own_pairs else None
    model = fingerprint_folder(project.model)
    chunking = asdict(config.index)
    depth = chunking.pop("rerank")
    index = {
        "documents": fingerprint_files(project.documents, TYPES),
        "index settings": chunking,
        "embedder": fingerprint_folder(project.embedder),
    }
    inputs: dict[str, dict[str, Any]] = {"index": {**index, "format": VERSION}}
    inputs["pairs"] = {
        "index": fingerprint(**index),  # whatever its format: it finds the same
        "pairs settings": replace(config.pairs, file=None, teacher_model=TeacherConfig()),
        "teacher": teacher_identity(config, project.folder),
        **({"reranker": [fingerprint_folder(project.reranker), depth]} if project.reranker else {}),
        "own questions": own,
        "questions": questions,
        "marks": read_marks(project.marks).identity(),
        "prompt settings": config.prompt,
        "seed": config.seed,
        **({"answers again": answers} if (answers := answerer_identity(config, project.folder)) else {}),
    }
    tune = {
        "pairs": fingerprint(**inputs["pairs"]),
        "tune settings": config.tune,
        "model": model,
        "seed": config.seed,
    }
    compare = {
        "pairs": tune["pairs"],
        "questions": questions,
        "compare settings": replace(config.compare, judge=identity(config.compare.judge)),
        **({"serve settings": config.serve} if config.serve.min_cosine else {}),
        "model": model,
        "seed": config.seed,
    }
    for name in project.stage_names:
        if name.startswith("tune/"):
            inputs[name] = {**tune, "arm": name}
            compare[name] = fingerprint(**inputs[name])
    if others := other_arms(project):
        compare["other arms"] = others
    if readers := reading_models(project):
        compare["models that judge"] = readers
    inputs["compare"] = compare
    return inputs
