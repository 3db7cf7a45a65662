"""Runs a stage in a work folder of its own and publishes what it made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.artefacts import fingerprint, installed_versions, open_work, publish, read_manifest, write_manifest
from hybrid.external import Ask
from hybrid.retrieval.index import Index
from hybrid.stages import Counts
from hybrid.stages.compare import compare_arms
from hybrid.stages.index import build_index
from hybrid.stages.pairs import make_pairs
from hybrid.stages.parts import published_pairs
from hybrid.stages.tune import training_material, tune_adapter

if TYPE_CHECKING:
    from hybrid.project import Project


class StageResult(NamedTuple):
    """What became of a stage: `skipped` if it was fresh, with its manifest."""

    stage: str
    skipped: bool
    manifest: dict[str, Any]


def run_stage(
    project: Project,
    stage: str,
    inputs: Mapping[str, Any],
    *,
    force: bool = False,
    functions: Mapping[str, Ask] | None = None,
) -> StageResult:
    """Makes the artefact of a stage, unless the published one was made from the same inputs and nothing failed.

    Args:
        project: The project.
        stage: `index`, `pairs`, `tune/ARM` or `compare`.
        inputs: What the artefact depends on, by name.
        force: Makes it again although it is fresh, and takes over nothing that the stage has made before.
        functions: Further arms of the comparison, which is then made again, as a function has no fingerprint.
    """
    mark = fingerprint(**inputs)
    found = read_manifest(project.path(stage))
    digests = {name: fingerprint(value=value) for name, value in inputs.items()}
    if found and not (force or functions or failed_answers(found)):
        if found["fingerprint"] == mark:
            return StageResult(stage, True, found)
        if _trained_on_the_same(project, found, digests):
            manifest = {**found, "fingerprint": mark, "inputs": digests}
            write_manifest(project.path(stage), manifest)
            return StageResult(stage, True, manifest)
    work = project.store / "work" / stage
    open_work(work, f"forced {mark}" if force else mark)
    result = work / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    started = time.perf_counter()
    counts = _builder(stage, functions)(project, work)
    manifest = {
        "stage": stage,
        "fingerprint": mark,
        "inputs": digests,
        "versions": installed_versions(),
        **counts,
        "seconds": round(time.perf_counter() - started, 1),
    }
    publish(result, project.path(stage), manifest)
    shutil.rmtree(work, ignore_errors=True)
    return StageResult(stage, False, manifest)


def _trained_on_the_same(project: Project, found: Mapping[str, Any], digests: Mapping[str, str]) -> bool:
    """Whether an adapter's pairs were made again and came out as they were: then it need not be trained again."""
    if "material" not in found or {**found["inputs"], "pairs": ""} != {**digests, "pairs": ""}:
        return False
    pairs, chunks = published_pairs(project, "train"), Index.load(project.path("index")).chunks
    return bool(found["material"] == training_material(pairs, chunks, project.config.prompt))


def failed_answers(manifest: Mapping[str, Any]) -> int:
    """How many answers of a comparison the next run asks for again; 0 for the other stages."""
    return int(manifest.get("failed answers", 0))


def _builder(stage: str, functions: Mapping[str, Ask] | None) -> Callable[[Project, Path], Counts]:
    builders: dict[str, Callable[[Project, Path], Counts]] = {
        "index": build_index,
        "pairs": make_pairs,
        "compare": partial(compare_arms, functions=functions),
    }
    return builders.get(stage) or partial(tune_adapter, arm=stage.removeprefix("tune/"))
