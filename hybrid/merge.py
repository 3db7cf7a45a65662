"""Comparisons of several projects as one: other parts of the questions, or the same questions with other seeds.

merge([Project.open("fold0"), Project.open("fold1")], Path("merged")).verdict
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hybrid import advice
from hybrid.arms import count_tests, known_controls, select_arms
from hybrid.cautions import power_note
from hybrid.costs import ArmCost, arm_cost
from hybrid.dependence import dependence_notes, grouped_by, passage_groups
from hybrid.errors import ConfigError, EvaluationError
from hybrid.eval.comparison import ArmRun, compare
from hybrid.eval.merge import check_fit, is_repeated, merge_parts, read_questions
from hybrid.eval.report import write_report
from hybrid.eval.seed_report import comparison_part, seed_data, write_seeds
from hybrid.project import Project, Report
from hybrid.retrieval.index import Index
from hybrid.stages.findings import nearness_note, questions_fact
from hybrid.stages.measuring import corpus_scores
from hybrid.types import Chunk, Question

Reports = Mapping[str, Mapping[str, Any]]


def merge(projects: Sequence[Project], folder: Path) -> Report:
    """Puts the last comparisons of several projects together.

    Projects that asked different questions give one report of all questions (report.html and its like). Where questions
    were asked with several seeds, the seed is a factor: seeds.html and its like tell the differences over questions and
    seeds. The weights of the verdict on parts are those of the first project; that on seeds has none.

    Args:
        projects: Projects that asked other questions, such as the folds of a benchmark, or the same with other seeds.
        folder: Where the report is written.

    Raises:
        ArtefactError: A project has no report or no index.
        ConfigError: The report cannot be written there.
        EvaluationError: The comparisons do not go together; see `check_fit`.
    """
    if len({project.folder.resolve() for project in projects}) < len(projects):
        raise EvaluationError("a project is named twice; each comparison counts once")
    inside = any(folder.resolve().is_relative_to(project.store.resolve()) for project in projects)
    if inside or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"the report cannot be written to {folder}; name a folder of its own")
    names = _names([project.folder.resolve() for project in projects])
    reports = {name: project.report().data for name, project in zip(names, projects, strict=True)}
    check_fit(reports)
    chunks = _chunks(projects)
    asked = {question.id: question for report in reports.values() for question in read_questions(report)}
    unbuildable = known_controls(projects[0].config.compare.arms)
    arms = (arm["name"] for arm in next(iter(reports.values()))["arms"])
    groups = passage_groups(list(asked.values()), chunks, count_tests(arms, unbuildable))
    notes = [*_notes(projects, reports), *dependence_notes(list(asked.values()), groups)]
    facts = _facts(reports, list(asked.values()))
    title = f"{', '.join(names)}: which way answers best?"
    if is_repeated(reports):
        data = seed_data(reports, title=title, facts=facts, notes=notes, groups=groups, controls=unbuildable)
        write_seeds(data, folder)
        return Report(json.loads(json.dumps(data)), folder)
    _write_parts(projects[0], reports, chunks, groups, folder, title=title, facts=facts, notes=notes)
    return Report(json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def _write_parts(
    project: Project,
    reports: Reports,
    chunks: Sequence[Chunk],
    groups: Mapping[str, str] | None,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Compares the arms on the questions of all reports, by the settings of a project, and writes the report."""
    merged, config = merge_parts(reports), project.config
    first = next(iter(reports.values()))
    comparison = compare(
        merged.questions,
        merged.runs,
        baseline=first["baseline"],
        metric=first["metric"],
        k=first["k"],
        seed=first["seed"],
        groups=groups,
        grouped_by=grouped_by(groups),
        further=merged.further,
        controls=known_controls(config.compare.arms),
    )
    arms = {arm.name: arm for arm in select_arms(config.compare.arms)}
    costs = {run.name: _cost(run, reports) for run in comparison.runs}
    documents = {chunk.document for chunk in chunks}
    decision = advice.decide(comparison, config.compare.weights, costs, arms, documents)
    further = filter(None, (power_note(comparison), nearness_note(comparison)))
    write_report(
        comparison,
        folder,
        title=title,
        facts=facts,
        verdict=decision.text,
        notes=[*notes, *further],
        costs=[dataclasses.asdict(cost) for cost in costs.values()],
        decision=dataclasses.asdict(decision),
        passages={chunk.id: chunk.text for chunk in chunks},
        parts={
            "corpus": corpus_scores(merged.questions, {run.name: run.replies for run in merged.runs}),
            "comparisons": [comparison_part(name, report) for name, report in reports.items()],
        },
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of folders, with as many of those above as tell them apart."""
    depth = max(len(folder.parts) for folder in folders)
    ways = (["/".join(folder.parts[-parts:]) for folder in folders] for parts in range(1, depth + 1))
    return next(names for names in ways if len(set(names)) == len(names))


def _chunks(projects: Sequence[Project]) -> list[Chunk]:
    found: dict[str, Chunk] = {}
    for project in projects:
        for chunk in Index.load(project.path("index")).chunks:
            if found.setdefault(chunk.id, chunk).text != chunk.text:
                raise EvaluationError(
                    f"{project.folder} has another passage {chunk.id!r} than the project before it; comparisons on "
                    "other documents cannot be put together"
                )
    return list(found.values())


def _cost(run: ArmRun, reports: Reports) -> ArmCost:
    """Tokens and time of all replies, the most memory, the mean time of a training, and the mean price by question."""
    known = [cost for report in reports.values() for cost in report["costs"] if cost["arm"] == run.name]
    memory, training = (
        [cost[name] for cost in known if cost[name] is not None] for name in ("peak_memory_mb", "training_seconds")
    )
    cost = arm_cost(
        run.name,
        run.replies,
        memory_mb=max(memory, default=None),
        training_seconds=fmean(training) if training else None,
        price_hour=0.0,
        endpoint=None,
    )
    prices = [cost["price"] for cost in known]
    if None in prices:
        return cost
    counts = [len(report["questions"]) for report in reports.values()]
    return dataclasses.replace(cost, price=fmean(prices, counts))


def _facts(reports: Reports, questions: Sequence[Question]) -> dict[str, str]:
    """The facts of all reports; where they differ, one after another."""
    names = dict.fromkeys(name for report in reports.values() for name in report["facts"])
    told = ((name, dict.fromkeys(str(report["facts"].get(name, "–")) for report in reports.values())) for name in names)
    return {**{name: "; ".join(values) for name, values in told}, "Questions": questions_fact(questions)}


def _notes(projects: Sequence[Project], reports: Reports) -> list[str]:
    """What was put together, what differs, and the notes of each comparison; those that all share are told once."""
    parts = ", ".join(
        f"{name} ({len(report['questions'])} questions, seed {report['seed']})" for name, report in reports.items()
    )
    notes = [
        f"Put together from {len(reports)} comparisons, each with adapters of its own: {parts}. What these learned "
        "from may overlap, which intervals do not know."
    ]
    notes += [
        f"{name}: its comparison is out of date ({status.reason}); its answers are those of then."
        for name, project in zip(reports, projects, strict=True)
        for status in project.status()
        if status.stage == "compare" and status.state != "fresh"
    ]
    if differing := _differing(projects):
        notes.append(f"The hybrid.yaml of these projects differ in {', '.join(differing)}.")
    common = [
        note for note in next(iter(reports.values()))["notes"] if all(note in r["notes"] for r in reports.values())
    ]
    own = (f"{name}: {note}" for name, report in reports.items() for note in report["notes"] if note not in common)
    return [*notes, *common, *own]


def _differing(projects: Sequence[Project]) -> list[str]:
    """Settings that decide answers and are not the same in all projects."""
    found: list[dict[str, str]] = []
    for project in projects:
        config = project.config
        sections = {name: getattr(config, name) for name in ("index", "prompt", "pairs", "tune", "serve")}
        settings = (
            (f"{name}.{field.name}", str(getattr(section, field.name)))
            for name, section in sections.items()
            for field in dataclasses.fields(section)
        )
        longest = str(config.compare.max_new_tokens)
        found.append({**dict(settings), "compare.max_new_tokens": longest, "reranker": str(config.reranker)})
    return [name for name in found[0] if name != "pairs.file" and len({own[name] for own in found}) > 1]
