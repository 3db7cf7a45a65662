"""The project folder: its configuration, its stages and what is fresh, stale or missing.

The stages are index -> pairs -> tune -> compare. Each artefact carries the fingerprint of everything it was made from;
a stage whose fingerprint did not change is skipped, an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hybrid.arms import ARMS, select_arms
from hybrid.artefacts import (
    fingerprint,
    fingerprint_files,
    installed_versions,
    locked,
    open_work,
    publish,
    read_manifest,
)
from hybrid.config import Config, TeacherConfig, config_from_dict, config_to_yaml, load_config
from hybrid.errors import ArtefactError, ConfigError, DocumentError, QuestionError
from hybrid.models import resolve_model
from hybrid.pairs.formats import fingerprint_examples, load_examples
from hybrid.pairs.teachers import teacher_identity
from hybrid.stages import Counts
from hybrid.stages.compare import compare_arms
from hybrid.stages.index import build_index
from hybrid.stages.pairs import export_examples, make_pairs
from hybrid.stages.serve import load_assistant
from hybrid.stages.tune import export_model, tune_adapter

if TYPE_CHECKING:
    from hybrid.assistant import Assistant

CONFIG = "hybrid.yaml"
_STAGES = ("index", "pairs", "tune", "compare")


class StageResult(NamedTuple):
    """What became of a stage: `skipped` if it was fresh, with its manifest."""

    stage: str
    skipped: bool
    manifest: dict[str, Any]


class StageStatus(NamedTuple):
    """Whether an artefact is fresh, stale or missing, and why."""

    stage: str
    state: Literal["fresh", "stale", "missing", "begun"]
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """A finished comparison.

    Attributes:
        data: The contents of report.json.
        folder: Where report.html, report.md and report.json are.
    """

    data: dict[str, Any]
    folder: Path

    @property
    def verdict(self) -> str:
        """The conclusion in words."""
        return str(self.data["verdict"])


class Project:
    """A project folder. Make one with `create` or `open`."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config

    @classmethod
    def create(
        cls,
        folder: str | Path,
        documents: str | Path,
        questions: str | Path | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Project:
        """Makes a project folder with its hybrid.yaml.

        Args:
            folder: The new project folder.
            documents: Folder, file or BEIR corpus to answer from.
            questions: Question file for the comparison.
            **settings: Other keys of hybrid.yaml, such as `model="owner/name"` or `pairs={"total": 2000}`.

        Raises:
            ConfigError: There is a project already, or a setting is unknown.
            DocumentError: The documents do not exist.
            QuestionError: The question file does not exist or is malformed.
        """
        folder = Path(folder).resolve()
        if (folder / CONFIG).exists():
            raise ConfigError(f"{folder} is a project already; edit {folder / CONFIG}, or choose another folder")
        if not Path(documents).exists():
            raise DocumentError(f"documents {documents} do not exist")
        if questions is not None:
            load_examples(Path(questions), answered=True)
        values = {
            "documents": _stored(documents, folder),
            "questions": questions and _stored(questions, folder),
            **settings,
        }
        for key in ("model", "embedder"):
            if key in settings and Path(settings[key]).is_dir():
                values[key] = str(Path(settings[key]).resolve())  # models stay where they are when a project moves
        config = config_from_dict(values, "settings")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(config_to_yaml(config), encoding="utf-8")
        return cls(folder, config)

    @classmethod
    def open(cls, folder: str | Path = ".", overrides: Sequence[str] = ()) -> Project:
        """Opens a project; `overrides` are `key=value` settings for this object only."""
        folder = Path(folder).resolve()
        return cls(folder, load_config(folder / CONFIG, overrides))

    # --- places -------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Path:
        """Folder of all artefacts."""
        return self.folder / ".hybrid"

    def path(self, stage: str) -> Path:
        """Folder of a published artefact: `index`, `pairs`, `tune/ARM` or `compare`."""
        place = {"index": "index", "pairs": "pairs", "compare": "runs/compare"}
        return self.store / (place[stage] if stage in place else stage.replace("tune/", "adapters/"))

    @cached_property
    def documents(self) -> Path:
        """The documents' folder or file.

        Raises:
            DocumentError: It does not exist.
        """
        path = self.folder / self.config.documents
        if not path.exists():
            raise DocumentError(f"documents {path} do not exist; set `documents` in {self.folder / CONFIG}")
        return path

    @cached_property
    def questions(self) -> Path | None:
        """The questions of the comparison, a file or BEIR folder, if they are set."""
        return self._file(self.config.questions, "questions")

    @cached_property
    def own_pairs(self) -> Path | None:
        """The examples that pairs are made from instead of a teacher, a file or BEIR folder, if they are set."""
        return self._file(self.config.pairs.file, "pairs.file")

    def _file(self, name: str | None, key: str) -> Path | None:
        if name is None:
            return None
        path = self.folder / name
        if not path.exists():
            raise QuestionError(f"question file {path} does not exist; set `{key}` in {self.folder / CONFIG}")
        return path

    @cached_property
    def model(self) -> Path:
        """Local files of the language model."""
        return resolve_model(self.config.model, self.folder)

    @cached_property
    def embedder(self) -> Path:
        """Local files of the embedding model."""
        return resolve_model(self.config.embedder, self.folder)

    # --- fingerprints -------------------------------------------------------------------------------------------------

    @cached_property
    def stage_names(self) -> list[str]:
        """The stages in order; one `tune/ARM` for every adapter that the compared arms use."""
        adapters = [arm.adapter for arm in select_arms(self.config.compare.arms) if arm.adapter]
        compare = ["compare"] if self.config.questions else []
        return ["index", "pairs", *(f"tune/{adapter}" for adapter in dict.fromkeys(adapters)), *compare]

    def stage_inputs(self, stage: str) -> dict[str, Any]:
        """What the artefact of a stage depends on, by name, as hashes and settings."""
        return self._inputs[stage]

    @cached_property
    def _inputs(self) -> dict[str, dict[str, Any]]:
        from hybrid.retrieval.embed import fingerprint_folder

        config = self.config
        questions = fingerprint_examples(self.questions) if self.questions else None
        own = fingerprint_examples(self.own_pairs) if self.own_pairs else None
        model = fingerprint_folder(self.model)
        inputs: dict[str, dict[str, Any]] = {
            "index": {
                "documents": fingerprint_files(self.documents),
                "index settings": config.index,
                "embedder": fingerprint_folder(self.embedder),
            },
        }
        inputs["pairs"] = {
            "index": fingerprint(**inputs["index"]),
            "pairs settings": replace(config.pairs, file=None, teacher_model=TeacherConfig()),
            "teacher": teacher_identity(config, self.folder),
            "own questions": own,
            "questions": questions,
            "prompt settings": config.prompt,
            "seed": config.seed,
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
            "compare settings": config.compare,
            "model": model,
            "seed": config.seed,
        }
        for name in self.stage_names:
            if name.startswith("tune/"):
                inputs[name] = {**tune, "arm": name}
                compare[name] = fingerprint(**inputs[name])
        inputs["compare"] = compare
        return inputs

    def status(self) -> list[StageStatus]:
        """Tells for every stage whether its artefact is fresh, stale or missing, and why."""
        self._refresh()
        states = []
        for stage in self.stage_names:
            inputs = self.stage_inputs(stage)
            manifest = read_manifest(self.path(stage))
            if manifest is None:
                begun = (self.store / "work" / stage).is_dir()
                reason = "interrupted; run it again to go on" if begun else "never run"
                states.append(StageStatus(stage, "begun" if begun else "missing", reason))
            elif manifest["fingerprint"] == fingerprint(**inputs):
                states.append(StageStatus(stage, "fresh", ""))
            else:
                changed = [
                    name for name, value in inputs.items() if manifest["inputs"].get(name) != fingerprint(value=value)
                ]
                states.append(StageStatus(stage, "stale", "changed: " + ", ".join(changed)))
        return states

    # --- stages -------------------------------------------------------------------------------------------------------

    def index(self, *, force: bool = False) -> StageResult:
        """Reads, chunks and embeds the documents; unchanged ones are taken over."""
        return self._run_to("index", ["index"] if force else [])[-1]

    def pairs(self, *, force: bool = False) -> StageResult:
        """Makes the training pairs, after the stages before that are not fresh."""
        return self._run_to("pairs", ["pairs"] if force else [])[-1]

    def tune(self, *, force: bool = False) -> list[StageResult]:
        """Trains one adapter for every compared arm that needs one, after the stages before that are not fresh."""
        results = self._run_to("tune", ["tune"] if force else [])
        return [result for result in results if result.stage.startswith("tune/")]

    def compare(self, *, force: bool = False) -> StageResult:
        """Answers the questions with every arm and writes the report, after the stages before that are not fresh.

        Raises:
            QuestionError: The project has no question file.
        """
        if self.questions is None:
            raise QuestionError(f"nothing to compare on: set `questions` in {self.folder / CONFIG} to a question file")
        return self._run_to("compare", ["compare"] if force else [])[-1]

    def run(self, *, force: bool = False) -> list[StageResult]:
        """Runs all stages that are not fresh; without a question file it ends after training."""
        return self._run_to("compare", _STAGES if force else [])

    def _run_to(self, last: str, force: Sequence[str]) -> list[StageResult]:
        """Runs the stages up to `last`: those that are not fresh, and those in `force` anyway."""
        self._refresh()
        wanted = _STAGES[: _STAGES.index(last) + 1]
        inputs = self._inputs  # before the lock: a mistake in the settings leaves no trace
        with locked(self.store):
            return [
                self._stage(stage, inputs[stage], _group(stage) in force)
                for stage in self.stage_names
                if _group(stage) in wanted
            ]

    def _refresh(self) -> None:
        """Forgets the fingerprints: files may have changed since this object computed them."""
        self.__dict__.pop("_inputs", None)

    def _stage(self, stage: str, inputs: dict[str, Any], force: bool) -> StageResult:
        mark = fingerprint(**inputs)
        found = read_manifest(self.path(stage))
        if found and found["fingerprint"] == mark and not force:
            return StageResult(stage, True, found)
        work = self.store / "work" / stage
        open_work(work, f"forced {mark}" if force else mark)
        result = work / "result"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        started = time.perf_counter()
        counts = _builder(stage)(self, work)
        manifest = {
            "stage": stage,
            "fingerprint": mark,
            "inputs": {name: fingerprint(value=value) for name, value in inputs.items()},
            "versions": installed_versions(),
            **counts,
            "seconds": round(time.perf_counter() - started, 1),
        }
        publish(result, self.path(stage), manifest)
        shutil.rmtree(work, ignore_errors=True)
        return StageResult(stage, False, manifest)

    # --- results ------------------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """The report of the last comparison.

        Raises:
            ArtefactError: There is none.
        """
        folder, at = self.path("compare"), f"--project {self.folder}"
        try:
            return Report(json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)
        except FileNotFoundError as error:
            raise ArtefactError(f"{self.folder} has no report yet; run: hybrid compare {at}") from error
        except ValueError as error:
            raise ArtefactError(f"{folder / 'report.json'} is damaged; run: hybrid compare --force {at}") from error

    def assistant(self, arm: str | None = None) -> Assistant:
        """Loads the assistant of an arm; by default `hybrid` if it has been tuned, else `rag`.

        Raises:
            ConfigError: The arm is unknown.
            ArtefactError: The project has no index, or the arm's adapter has not been trained.
        """
        if arm is None:
            arm = "hybrid" if read_manifest(self.path("tune/hybrid")) else "rag"
        if arm not in ARMS:
            raise ConfigError(f"unknown arm {arm!r}; known are {', '.join(ARMS)}")
        return load_assistant(self, ARMS[arm])

    def export(self, output: str | Path, arm: str = "hybrid") -> Path:
        """Writes the tuned model of an arm, merged with its base, as a folder that transformers loads.

        Raises:
            ConfigError: The folder exists already.
            ArtefactError: The adapter has not been trained.
        """
        return export_model(self, _new(output), arm)

    def export_pairs(self, output: str | Path, *formats: str) -> dict[str, int]:
        """Writes the training pairs in `hybrid.pairs.export.FORMATS`, or in those named.

        Returns:
            How many pairs a format cannot hold, such as answers that are no span of a passage in SQuAD.

        Raises:
            ConfigError: The folder exists already.
            ArtefactError: The pairs are missing, or older than the index.
        """
        return export_examples(self, _new(output), formats)


def _new(folder: str | Path) -> Path:
    if Path(folder).exists():
        raise ConfigError(f"{folder} exists already; choose a new folder")
    return Path(folder)


def _group(stage: str) -> str:
    return stage.partition("/")[0]


def _builder(stage: str) -> Callable[[Project, Path], Counts]:
    builders = {"index": build_index, "pairs": make_pairs, "compare": compare_arms}
    return builders.get(stage) or partial(tune_adapter, arm=stage.removeprefix("tune/"))


def _stored(path: str | Path, folder: Path) -> str:
    """A path as hybrid.yaml keeps it: relative to the project, so that the two can move together."""
    return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix()
