"""Comparisons of several projects as one: other parts of the questions, or the same questions with other seeds.

merge([Project.open("fold0"), Project.open("fold1")], Path("merged")).verdict
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from hybrid import advice
from hybrid.arms import Arm, select_arms
from hybrid.costs import ArmCost, arm_cost
from hybrid.dependence import dependence_notes, grouped_by, passage_groups
from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, compare
from hybrid.eval.merge import Merged, merge_reports, read_questions
from hybrid.eval.report import write_report
from hybrid.eval.seeds import SeedEffect
from hybrid.project import Project, Report
from hybrid.retrieval.index import Index
from hybrid.stages.findings import nearness_note, questions_fact
from hybrid.stages.measuring import corpus_scores
from hybrid.types import Chunk, Question


def merge(projects: Sequence[Project], folder: Path) -> Report:
    """Puts the last comparisons of several projects together and writes one report of all.

    Every question of every comparison counts once per seed. What decides beside the answers, such as the weights of the
    verdict, is taken from the first project.

    Args:
        projects: Projects that asked other questions, such as the folds of a benchmark, or the same with other seeds.
        folder: Where the report is written.

    Raises:
        ArtefactError: A project has no report or no index.
        EvaluationError: The comparisons do not go together; see `merge_reports`.
    """
    if len({project.folder.resolve() for project in projects}) < len(projects):
        raise EvaluationError("a project is named twice; each comparison counts once")
    names = _names(projects)
    reports = {name: project.report().data for name, project in zip(names, projects, strict=True)}
    chunks = _chunks(projects)
    passages = {chunk.id: chunk.text for chunk in chunks}
    questions = list(
        {question.id: question for report in reports.values() for question in read_questions(report)}.values()
    )
    groups = passage_groups(questions, chunks)
    merged = merge_reports(reports, groups)
    config = projects[0].config
    comparison = compare(
        merged.questions,
        merged.runs,
        baseline=merged.baseline,
        metric=merged.metric,
        k=merged.k,
        seed=config.seed,
        groups=merged.groups,
        grouped_by=grouped_by(groups),
        further=merged.further,
    )
    arms = {arm.name: arm for arm in select_arms(config.compare.arms)}
    costs = {run.name: _cost(run, reports, arms.get(run.name), config.compare.price_hour) for run in comparison.runs}
    decision = advice.decide(comparison, config.compare.weights, costs, arms)
    decision = replace(decision, warnings=(*decision.warnings, *_cautions(merged, decision.choice)))
    power = advice.power_note(comparison)
    further = filter(None, (power, nearness_note(comparison)))
    notes = [*_notes(merged, reports), *further, *dependence_notes(questions, groups)]
    write_report(
        comparison,
        folder,
        title=f"{', '.join(names)}: which way answers best?",
        facts=_facts(reports, questions),
        verdict=decision.text,
        notes=notes,
        costs=[asdict(cost) for cost in costs.values()],
        decision=asdict(decision),
        passages=passages,
        parts={
            "corpus": corpus_scores(merged.questions, {run.name: run.replies for run in merged.runs}),
            "comparisons": [_part(name, report) for name, report in reports.items()],
            "seeds": _seeds(merged),
        },
    )
    return Report(json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def _names(projects: Sequence[Project]) -> list[str]:
    """The names of the folders, or their paths where two have one name."""
    names = [project.folder.name for project in projects]
    return names if len(set(names)) == len(names) else [str(project.folder) for project in projects]


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


def _cost(run: ArmRun, reports: Mapping[str, Mapping[str, Any]], arm: Arm | None, price_hour: float) -> ArmCost:
    """Tokens and time of all replies, the most memory, and the mean time of a training."""
    known = [cost for report in reports.values() for cost in report["costs"] if cost["arm"] == run.name]
    memory, training = (
        [cost[name] for cost in known if cost[name] is not None] for name in ("peak_memory_mb", "training_seconds")
    )
    return arm_cost(
        run.name,
        run.replies,
        memory_mb=max(memory, default=None),
        training_seconds=fmean(training) if training else None,
        price_hour=price_hour,
        endpoint=arm.other if arm and arm.other and arm.outside else None,
    )


def _facts(reports: Mapping[str, Mapping[str, Any]], questions: Sequence[Question]) -> dict[str, str]:
    """The facts of all reports; where they differ, one after another."""
    names = dict.fromkeys(name for report in reports.values() for name in report["facts"])
    told = ((name, dict.fromkeys(str(report["facts"].get(name, "–")) for report in reports.values())) for name in names)
    return {**{name: "; ".join(values) for name, values in told}, "Questions": questions_fact(questions)}


def _part(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """What one comparison found by its deciding metric."""
    found = {arm["name"]: arm["versus"].get(report["metric"]) for arm in report["arms"]}
    return {
        "name": name,
        "seed": report["seed"],
        "questions": len(report["questions"]),
        "versus": {arm: {key: own[key] for key in ("difference", "low", "high")} for arm, own in found.items() if own},
    }


def _seeds(merged: Merged) -> dict[str, dict[str, Any]] | None:
    if merged.seeds is None:
        return None
    return {arm: {name: effect._asdict() for name, effect in own.items()} for arm, own in merged.seeds.items()}


def _effect(merged: Merged, arm: str) -> SeedEffect | None:
    return (merged.seeds or {}).get(arm, {}).get(merged.metric)


def _cautions(merged: Merged, choice: str | None) -> list[str]:
    """What a reader of the verdict must know about seeds."""
    if merged.seeds is None:
        return []
    cautions = ["A question counts once for every seed with which it was asked."]
    effect = _effect(merged, choice) if choice else None
    if effect and effect.low <= 0:
        cautions.append(
            f"Seeds differ so much that the lead of {choice} over {merged.baseline} may be luck of these "
            f"{len(effect.per_seed)}: over questions and seeds it is {_told(effect)}."
        )
    return cautions


def _notes(merged: Merged, reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    parts = ", ".join(
        f"{name} ({len(report['questions'])} questions, seed {report['seed']})" for name, report in reports.items()
    )
    notes = [f"Put together from {len(reports)} comparisons: {parts}."]
    if merged.seeds is None:
        notes.append(
            "Each comparison has adapters of its own. What these learned from may overlap, which intervals do not know."
        )
    for arm in merged.seeds or {}:
        if effect := _effect(merged, arm):
            seeds = ", ".join(f"{value:+.3f}" for value in effect.per_seed)
            notes.append(
                f"{arm}, {merged.metric} above {merged.baseline}, over questions and seeds: {_told(effect)}; by seed "
                f"{seeds}, standard deviation {effect.spread:.3f}."
            )
    return notes


def _told(effect: SeedEffect) -> str:
    return f"{effect.mean:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"
