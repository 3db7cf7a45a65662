"""Projects put together: from their reports on the disk to one report, by the API and by the command."""

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.errors import ArtefactError, EvaluationError
from hybrid.merge import merge
from tests.conftest import Command

Make = Callable[..., Project]


@pytest.fixture
def part(tmp_path: Path, finished_project: Project) -> Make:
    """Makes a project whose report has some of the questions of the finished one, and another seed."""

    def make(name: str, questions: slice = slice(None), seed: int = 0) -> Project:
        if not (tmp_path / "toy").exists():
            shutil.copytree(finished_project.folder.parent / "toy", tmp_path / "toy")
        shutil.copytree(finished_project.folder, tmp_path / name)
        project = Project.open(tmp_path / name)
        data = project.report().data
        _write(project, {**data, "questions": data["questions"][questions], "seed": seed})
        return project

    return make


def _write(project: Project, data: dict[str, Any]) -> None:
    (project.path("compare") / "report.json").write_text(json.dumps(data), encoding="utf-8")


def _scores(data: dict[str, Any], names: Sequence[str]) -> list[float]:
    return [arm["scores"][name]["value"] for arm in data["arms"] for name in names]


def test_parts_become_one_report(part: Make, tmp_path: Path, finished_project: Project) -> None:
    whole = finished_project.report().data
    report = merge([part("first", slice(5)), part("second", slice(5, None))], tmp_path / "merged")
    assert report.data["title"] == "first, second: which way answers best?"
    assert [question["id"] for question in report.data["questions"]] == [q["id"] for q in whole["questions"]]
    names = ("f1", "rouge_l", "similarity", "seconds")
    assert _scores(report.data, names) == pytest.approx(_scores(whole, names))
    assert report.data["corpus"] == whole["corpus"]
    assert report.data["seeds"] is None
    assert [part["name"] for part in report.data["comparisons"]] == ["first", "second"]
    count = len(whole["questions"]) - 5
    note = f"Put together from 2 comparisons: first (5 questions, seed 0), second ({count} questions, seed 0)."
    assert note in report.data["notes"]
    for key in ("tokens_in", "seconds_p50", "training_seconds"):
        assert [cost[key] for cost in report.data["costs"]] == pytest.approx([cost[key] for cost in whole["costs"]])
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    assert "Difference to rag in each comparison" in page
    assert report.folder == tmp_path / "merged"
    assert (report.folder / "report.csv").exists()


def test_seeds_are_a_factor(part: Make, tmp_path: Path) -> None:
    projects = [part(f"seed{seed}", seed=seed) for seed in (0, 1)]
    second = projects[1].report().data
    for question in second["questions"]:  # a seed that turns the answers of two arms round
        said = question["replies"]
        said["rag"], said["hybrid"] = said["hybrid"], said["rag"]
    _write(projects[1], second)
    data = merge(projects, tmp_path / "merged").data
    effect = data["seeds"]["hybrid"][data["metric"]]
    assert effect["mean"] == pytest.approx(0)
    assert effect["per_seed"][0] == pytest.approx(-effect["per_seed"][1])
    assert "A question counts once for every seed with which it was asked." in data["decision"]["warnings"]
    assert any("over questions and seeds: +0.000" in note for note in data["notes"])


def test_a_lead_that_seeds_could_turn_round_is_told(part: Make, tmp_path: Path) -> None:
    """With one seed hybrid answers every question, with two none."""
    projects = [part(f"seed{seed}", seed=seed) for seed in (0, 1, 2)]
    for project, answers in zip(projects, (True, False, False), strict=True):
        data = project.report().data
        question = next(question for question in data["questions"] if question["answerable"])
        questions = [
            {**copy.deepcopy(question), "id": f"q{n}", "answers": [f"apple{n}"], "gold": []} for n in range(20)
        ]
        for n, question in enumerate(questions):
            question["replies"]["rag"].update(text=f"pear{n}", abstained=False, error="")
            question["replies"]["hybrid"].update(text=f"apple{n}" if answers else f"pear{n}", abstained=False, error="")
        _write(project, {**data, "questions": questions})
    decision = merge(projects, tmp_path / "merged").data["decision"]
    assert decision["choice"] == "hybrid"
    assert any("the lead of hybrid over rag may be luck of these 3" in warning for warning in decision["warnings"])


def test_what_does_not_go_together_is_refused(part: Make, tmp_path: Path, finished_project: Project) -> None:
    first = part("first")
    with pytest.raises(EvaluationError, match="named twice"):
        merge([first, Project.open(tmp_path / "first")], tmp_path / "merged")
    with pytest.raises(EvaluationError, match="first and project both ask question"):
        merge([first, finished_project], tmp_path / "merged")
    bare = Project.create(tmp_path / "bare", tmp_path / "toy" / "docs")
    with pytest.raises(ArtefactError, match="bare has no report yet; run: hybrid compare"):
        merge([first, bare], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_other_documents_under_the_same_names_are_refused(part: Make, tmp_path: Path) -> None:
    first, second = part("first", slice(5)), part("second", slice(5, None))
    page = sorted((tmp_path / "toy" / "docs").iterdir())[0]
    text = page.read_text(encoding="utf-8")
    page.write_text(text.swapcase(), encoding="utf-8")
    second.index()
    with pytest.raises(EvaluationError, match="second has another passage"):
        merge([first, second], tmp_path / "merged")


def test_the_command(part: Make, tmp_path: Path, hybrid_command: Command) -> None:
    projects = [part("first", slice(5)).folder, part("second", slice(5, None)).folder]
    done = hybrid_command("merge", *projects, "--into", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "merged" / "report.html") in done.stdout
    told = hybrid_command("merge", *projects, "--into", tmp_path / "merged", "--json")
    assert len(json.loads(told.stdout)["comparisons"]) == 2
    wrong = hybrid_command("merge", projects[0], "--into", tmp_path / "merged")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "hybrid: at least two comparisons are put together, got first\n",
    )
