"""The project folder: its configuration, its stages and what is fresh, stale or missing.

The stages are index -> pairs -> tune -> compare. Each artefact carries the fingerprint of everything it was made from;
a stage whose fingerprint did not change is skipped, an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hybrid.arms import ARMS, select_arms
from hybrid.artefacts import (
    fingerprint,
    locked,
    read_manifest,
)
from hybrid.config import Config, config_from_dict, config_to_yaml, load_config
from hybrid.errors import ArtefactError, ConfigError, DocumentError, QuestionError
from hybrid.external import Ask
from hybrid.models import resolve_model
from hybrid.pairs.formats.load import load_examples
from hybrid.pairs.review.marks import FILE, Verdict
from hybrid.stages.compare import check_keys
from hybrid.stages.export import export_gguf, export_model
from hybrid.stages.inputs import stage_inputs
from hybrid.stages.pairs import affected, export_examples, mark_pairs, read_parts
from hybrid.stages.run import StageResult, failed_answers, run_stage
from hybrid.stages.serve import load_assistant

if TYPE_CHECKING:
    from hybrid.assistant import Assistant
    from hybrid.tuning.settings import GgufWeights
    from hybrid.types import Pair

CONFIG = "hybrid.yaml"
_STAGES = ("index", "pairs", "tune", "compare")


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
        for key in ("model", "embedder", "reranker"):
            if isinstance(settings.get(key), str | Path) and Path(settings[key]).is_dir():
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

    @property
    def marks(self) -> Path:
        """Where readers' marks on pairs are kept, if there are any."""
        return self.folder / FILE

    @cached_property
    def model(self) -> Path:
        """Local files of the language model."""
        return resolve_model(self.config.model, self.folder)

    @cached_property
    def embedder(self) -> Path:
        """Local files of the embedding model."""
        return resolve_model(self.config.embedder, self.folder)

    @cached_property
    def reranker(self) -> Path | None:
        """Local files of the reranker, if there is one."""
        return resolve_model(self.config.reranker, self.folder) if self.config.reranker else None

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
        return stage_inputs(self)

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
            elif self._is_fresh(stage, manifest):
                failed = failed_answers(manifest)
                reason = f"{failed} answers failed; run it again to ask for them" if failed else ""
                states.append(StageStatus(stage, "stale" if failed else "fresh", reason))
            else:
                now = {name: fingerprint(value=value) for name, value in inputs.items()}
                before = manifest["inputs"]
                changed = [name for name in {**now, **before} if now.get(name) != before.get(name)]
                touched = affected(self) if stage == "pairs" and changed == ["index"] else ""
                states.append(StageStatus(stage, "stale", f"changed: {', '.join(changed)}{touched}"))
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

    def compare(self, *, force: bool = False, extra_arms: Mapping[str, Ask] | None = None) -> StageResult:
        """Answers the questions with every arm and writes the report, after the stages before that are not fresh.

        Args:
            force: Asks everything anew although it is fresh; else answers that are known are taken over.
            extra_arms: Python functions to compare as further arms, by name. Each gets a question and what was
                retrieved for it, and returns the answer. They are asked everything anew, as a function has no
                fingerprint.

        Raises:
            QuestionError: The project has no question file.
        """
        if self.questions is None:
            raise QuestionError(f"nothing to compare on: set `questions` in {self.folder / CONFIG} to a question file")
        return self._run_to("compare", ["compare"] if force else [], extra_arms or {})[-1]

    def run(self, *, force: bool = False) -> list[StageResult]:
        """Runs all stages that are not fresh; without a question file it ends after training."""
        return self._run_to("compare", _STAGES if force else [])

    def _run_to(self, last: str, force: Sequence[str], functions: Mapping[str, Ask] | None = None) -> list[StageResult]:
        """Runs the stages up to `last`: those that are not fresh, and those in `force` anyway."""
        self._refresh()
        wanted = _STAGES[: _STAGES.index(last) + 1]
        inputs = self._inputs  # before the lock: a mistake in the settings leaves no trace
        if functions:
            inputs = {**inputs, "compare": {**inputs["compare"], "functions": sorted(functions)}}
        work = [stage for stage in self.stage_names if _group(stage) in wanted]
        if "compare" in work and any(
            _group(stage) in force or not self._is_fresh(stage, read_manifest(self.path(stage))) for stage in work[:-1]
        ):
            check_keys(self.config.compare, self.store)
        with locked(self.store):
            return [
                run_stage(
                    self,
                    stage,
                    inputs[stage],
                    force=_group(stage) in force,
                    functions=functions if stage == "compare" else None,
                )
                for stage in work
            ]

    def _is_fresh(self, stage: str, manifest: Mapping[str, Any] | None) -> bool:
        return manifest is not None and manifest["fingerprint"] == fingerprint(**self.stage_inputs(stage))

    def _refresh(self) -> None:
        """Forgets the fingerprints: files may have changed since this object computed them."""
        self.__dict__.pop("_inputs", None)

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
            raise ArtefactError(
                f"{folder / 'report.json'} is damaged; delete {folder} (answers are kept elsewhere), "
                f"then run: hybrid compare {at}"
            ) from error

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

    def export(self, output: str | Path, arm: str = "hybrid", gguf: GgufWeights | None = None) -> Path:
        """Writes the tuned model of an arm, merged with its base, as a folder that transformers loads.

        Args:
            output: The new folder, or the new file.
            arm: Whose adapter, `hybrid` or `tuned`.
            gguf: Writes one GGUF file with weights of this type instead, once llama.cpp answers by it like the model.

        Raises:
            ConfigError: The folder or file exists already.
            ArtefactError: The adapter has not been trained.
            ModelError: The model cannot be written as GGUF, or answers otherwise there.
        """
        return export_gguf(self, _new(output), arm, gguf) if gguf else export_model(self, _new(output), arm)

    def training_pairs(self, part: str = "train") -> list[Pair]:
        """The pairs of the last run: those to train on (`train`), or those kept from training (`dev`).

        Raises:
            ConfigError: There is no such part.
            ArtefactError: The project has no pairs.
        """
        parts = read_parts(self)
        if part not in parts:
            raise ConfigError(f"unknown part {part!r} of the pairs; known are {', '.join(parts)}")
        return parts[part]

    def mark_pairs(self, ids: Iterable[str], mark: Verdict | None = "bad", reason: str = "") -> None:
        """Notes in marks.jsonl what a reader thinks of pairs; the next run drops the bad ones.

        Args:
            ids: Ids of pairs, or of marks whose pair is gone; or the short ids that `hybrid pairs show` prints.
            mark: `bad`, `good`, or None to take the mark away.
            reason: Why; empty keeps the reason of a pair that is marked so already.

        Raises:
            ConfigError: There is no such pair, or the marks are malformed; nothing is marked then.
            ArtefactError: The project has no pairs.
        """
        mark_pairs(self, ids, mark, reason)

    def export_pairs(self, output: str | Path, *formats: str) -> dict[str, int]:
        """Writes the training pairs in `hybrid.pairs.formats.export.FORMATS`, or in those named.

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


def _stored(path: str | Path, folder: Path) -> str:
    """A path as hybrid.yaml keeps it: relative to the project, so that the two can move together.

    A link stays one: what it leads to may change.
    """
    whole = Path(os.path.abspath(path))
    return Path(os.path.relpath(whole.parent.resolve() / whole.name, folder)).as_posix()
