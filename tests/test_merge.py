"""Projects put together: from their reports on the disk to one report, by the API and by the command."""

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.errors import ArtefactError, ConfigError, EvaluationError
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
    assert [part["name"] for part in report.data["comparisons"]] == ["first", "second"]
    count = len(whole["questions"]) - 5
    told = f"each with adapters of its own: first (5 questions, seed 0), second ({count} questions, seed 0)."
    assert any(told in note for note in report.data["notes"])
    for key in ("tokens_in", "seconds_p50", "training_seconds"):
        assert [cost[key] for cost in report.data["costs"]] == pytest.approx([cost[key] for cost in whole["costs"]])
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    assert "Difference to rag in each comparison" in page
    assert report.folder == tmp_path / "merged"
    assert (report.folder / "report.csv").exists()


def _answer(project: Project, right: Sequence[int]) -> None:
    """Rewrites a report: of 20 questions rag answers none, and hybrid those named."""
    data = project.report().data
    question = next(question for question in data["questions"] if question["answerable"])
    questions = [{**copy.deepcopy(question), "id": f"q{n}", "answers": [f"apple{n}"], "gold": []} for n in range(20)]
    for n, question in enumerate(questions):
        for arm, reply in question["replies"].items():
            text = f"apple{n}" if arm == "hybrid" and n in right else f"pear{n}"
            reply.update(text=text, abstained=False, error="", f1=float(text.startswith("apple")))
    _write(project, {**data, "questions": questions})


@pytest.mark.parametrize("right", [[range(0, 20), range(0, 18), range(1, 20)], [range(0, 20), (), ()]])
def test_the_verdict_is_about_other_seeds(part: Make, tmp_path: Path, right: Sequence[Sequence[int]]) -> None:
    projects = [part(f"seed{seed}", seed=seed) for seed in range(3)]
    for project, answered in zip(projects, right, strict=True):
        _answer(project, answered)
    report = merge(projects, tmp_path / "merged")
    effect = report.data["effects"]["hybrid"]["f1"]
    assert effect["per_seed"] == pytest.approx([len(answered) / 20 for answered in right])
    assert (report.data["questions"], report.data["asked"], report.data["seeds"]) == (20, 20, [0, 1, 2])
    agrees = all(right)
    assert (effect["low"] > 0) is agrees
    assert report.verdict.startswith("hybrid is ahead of rag over 3 seeds" if agrees else "Not enough evidence over 3")
    page, sheet = ((tmp_path / "merged" / f"seeds.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    for text in (page, sheet):
        assert report.verdict.split("\n\n")[0] in text
    assert "Difference to rag in each comparison" in page
    assert "Difference to rag over seeds" in page
    assert not (tmp_path / "merged" / "report.html").exists()


def test_two_seeds_are_said_to_be_few(part: Make, tmp_path: Path) -> None:
    projects = [part(f"seed{seed}", seed=seed) for seed in range(3)]
    for project, answered in zip(projects, (range(20), range(16), range(18)), strict=True):
        _answer(project, answered)
    two, three = (merge(projects[:count], tmp_path / str(count)) for count in (2, 3))
    assert two.verdict.startswith("Not enough evidence over 2 seeds")
    assert "Two seeds tell little about others" in two.verdict
    assert three.verdict.startswith("hybrid is ahead of rag")
    assert "tell little" not in three.verdict


def test_controls_do_not_count_in_the_verdict_over_seeds(part: Make, tmp_path: Path) -> None:
    projects = [part(f"seed{seed}", seed=seed) for seed in range(3)]
    for project in projects:
        _answer(project, range(12))
        data = project.report().data
        named = [arm for arm in data["arms"] if arm["name"] in {"rag", "hybrid"}]
        oracle = {**named[1], "name": "rag_oracle"}
        for question in data["questions"]:
            question["replies"]["rag_oracle"] = question["replies"]["hybrid"]
        _write(project, {**data, "arms": [*named, oracle]})
    report = merge(projects, tmp_path / "merged")
    effects = {arm: own["f1"] for arm, own in report.data["effects"].items()}
    assert effects["hybrid"]["p_holm"] == pytest.approx(2 * effects["hybrid"]["p"])
    assert report.verdict.startswith("hybrid is ahead of rag")
    assert "adjusted" not in report.verdict, "one arm could be chosen"


def test_seeds_without_the_deciding_metric_are_refused(part: Make, tmp_path: Path) -> None:
    projects = [part(f"seed{seed}", seed=seed) for seed in range(2)]
    for project in projects:
        data = project.report().data
        _write(
            project, {**data, "questions": [question for question in data["questions"] if not question["answerable"]]}
        )
    with pytest.raises(EvaluationError, match="no question that all seeds were asked has the deciding metric"):
        merge(projects, tmp_path / "merged")


def test_a_comparison_that_is_out_of_date_is_named(part: Make, tmp_path: Path) -> None:
    projects = [part("first", slice(5)), part("second", slice(5, None))]
    stale = Project.open(projects[1].folder, ["compare.max_new_tokens=7"])
    notes = merge([projects[0], stale], tmp_path / "merged").data["notes"]
    assert [note for note in notes if "out of date" in note] == [
        "second: its comparison is out of date (changed: compare settings); its answers are those of then."
    ]


def test_folds_of_several_seeds_are_folds_within_each_seed(part: Make, tmp_path: Path) -> None:
    projects = [
        part(f"seed{seed}-{name}", questions, seed)
        for seed in (0, 1)
        for name, questions in (("first", slice(4)), ("second", slice(4, None)))
    ]
    data = merge(projects, tmp_path / "merged").data
    metric = data["metric"]
    whole = part("whole").report().data
    scores = {arm["name"]: arm["versus"].get(metric) for arm in whole["arms"]}
    assert (data["seeds"], data["questions"]) == ([0, 1], sum(q["answerable"] for q in whole["questions"]))
    assert data["effects"]["hybrid"][metric]["mean"] == pytest.approx(scores["hybrid"]["difference"])


def test_notes_of_every_comparison_are_kept(part: Make, tmp_path: Path) -> None:
    first, second = part("first", slice(5)), part("second", slice(5, None))
    for project, own in ((first, "a note of the first"), (second, "another note")):
        _write(project, {**project.report().data, "notes": ["a common note", own]})
    text = (second.folder / "hybrid.yaml").read_text(encoding="utf-8")
    (second.folder / "hybrid.yaml").write_text(
        text.replace(" rank: ", " rank: 1").replace("reranker: null", f"reranker: {first.config.embedder}"),
        encoding="utf-8",
    )
    notes = merge([first, Project.open(second.folder)], tmp_path / "merged").data["notes"]
    assert [note for note in notes if note.endswith("note")] == ["a common note", "second: another note"]
    assert "first: a note of the first" in notes
    assert "The hybrid.yaml of these projects differ in tune.rank, reranker." in notes


def test_prices_are_those_of_the_reports(part: Make, tmp_path: Path) -> None:
    projects = [part("first", slice(2)), part("second", slice(2, None))]
    for project, price in zip(projects, (1.0, 3.0), strict=True):
        data = project.report().data
        _write(project, {**data, "costs": [{**cost, "price": price} for cost in data["costs"]]})
    for order in (projects, projects[::-1]):
        assert {cost["price"] for cost in merge(order, tmp_path / "merged").data["costs"]} == {2.5}


def test_what_does_not_go_together_is_refused(part: Make, tmp_path: Path, finished_project: Project) -> None:
    first = part("first")
    with pytest.raises(EvaluationError, match="named twice"):
        merge([first, Project.open(tmp_path / "first")], tmp_path / "merged")
    with pytest.raises(EvaluationError, match="first and project both ask question"):
        merge([first, finished_project], tmp_path / "merged")
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", first.path("compare"), first.store / "new"):
        with pytest.raises(ConfigError, match="cannot be written to"):
            merge([first, finished_project], target)
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
    seeds = [part(f"seed{seed}", seed=seed).folder for seed in (3, 4)]
    done = hybrid_command("merge", *seeds, "--into", tmp_path / "seeds")
    assert done.returncode == 0, done.stderr
    assert "over 2 seeds" in done.stdout
    assert str(tmp_path / "seeds" / "seeds.html") in done.stdout
    wrong = hybrid_command("merge", projects[0], "--into", tmp_path / "merged")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "hybrid: at least two comparisons are put together, got first\n",
    )
