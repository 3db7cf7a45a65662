"""Blind ratings of a project: from its report to a sheet, and back with the key."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.blind import describe, judge_blind_sheet, write_blind_sheet
from hybrid.errors import ArtefactError, EvaluationError

TEXTS = {"rag": "about {} hours", "tuned": "{} hours", "base": "no idea"}


def _arm(name: str, f1: float, contains: float) -> dict[str, Any]:
    return {"name": name, "scores": {"f1": {"value": f1}, "contains": {"value": contains}}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has compared three arms on eight questions."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The impeller is replaced every 200 hours.", encoding="utf-8")
    made = Project.create(tmp_path / "project", documents=str(tmp_path / "docs"))
    made.path("compare").mkdir(parents=True)
    report = {
        "baseline": "rag",
        "metric": "f1",
        "arms": [_arm("base", 0.1, 0.4), _arm("rag", 0.9, 0.9), _arm("tuned", 0.5, 0.3)],
        "questions": [
            {
                "id": f"q{i}",
                "question": f"How often, {i}?",
                "answers": [f"{i} hours"],
                "answerable": True,
                "replies": {name: {"text": text.format(i)} for name, text in TEXTS.items()},
            }
            for i in range(8)
        ],
    }
    (made.path("compare") / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return made


def prefer(folder: Path, name: str, word: str) -> Path:
    """A rater who always prefers the answer without the word."""
    with (folder / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["rating"] = "B" if word in row["answer_a"] else "A"
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / f"{name}.csv"


def test_the_best_arm_goes_out_with_the_baseline_and_comes_back(project: Project) -> None:
    folder = write_blind_sheet(project, 6)
    assert folder == project.folder / "blind"
    assert sorted(file.name for file in folder.iterdir()) == ["answers.csv", "rate.html"]
    assert not any("key" in file.name for file in folder.iterdir())
    result = judge_blind_sheet(project, [prefer(folder, "ada", "about"), prefer(folder, "bob", "about")])
    (found,) = result.preferences
    assert (found.first, found.second, found.wins, found.losses, found.n) == ("tuned", "rag", 6, 0, 6)
    assert describe(result).split("\n") == [
        "tuned against rag: 6 wins (61% to 100%), 0 ties, 0 losses (0% to 39%) on 6 questions; sign test p = 0.031, "
        "questions taken for independent",
        f"ada and bob agree on 100% of 6 items, Cohen's kappa {result.agreements[0].kappa:.2f}",
    ]


def _default_pair(project: Project, change: Callable[[dict[str, Any]], object]) -> tuple[str, str]:
    """The pair that goes out by default after a change of the report."""
    file = project.path("compare") / "report.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")
    found = judge_blind_sheet(project, [prefer(write_blind_sheet(project, 4), "ada", "about")]).preferences[0]
    return found.first, found.second


def test_the_best_arm_is_the_best_by_the_metric_of_the_comparison(project: Project) -> None:
    assert _default_pair(project, lambda data: data.update(metric="contains")) == ("base", "rag")


def test_an_arm_without_the_metric_is_not_the_best(project: Project) -> None:
    def change(data: dict[str, Any]) -> None:
        del data["arms"][2]["scores"]["f1"]

    assert _default_pair(project, change) == ("base", "rag")


def test_an_arm_that_nobody_can_build_goes_out_only_if_it_is_named(project: Project) -> None:
    mine = "compare.arms=[base, rag, tuned, {name: mine, adapter: there, context: oracle}]"

    def change(data: dict[str, Any]) -> None:
        data["arms"] += [_arm("rag_oracle", 1.0, 1.0), _arm("mine", 1.0, 1.0)]
        for question in data["questions"]:
            question["replies"] |= {name: {"text": "gold"} for name in ("rag_oracle", "mine")}

    opened = Project.open(project.folder, [mine])
    assert _default_pair(opened, change) == ("tuned", "rag")
    for file in (project.folder / "blind").iterdir():
        file.unlink()
    folder = write_blind_sheet(opened, 4, [("rag_oracle", "rag")])
    assert judge_blind_sheet(opened, [prefer(folder, "ada", "about")]).preferences[0].first == "rag_oracle"


def test_pairs_can_be_named(project: Project) -> None:
    folder = write_blind_sheet(project, 8, [("base", "tuned"), ("base", "rag")])
    first, second = judge_blind_sheet(project, [prefer(folder, "ada", "idea")]).preferences
    assert (first.second, first.losses, second.second, second.losses) == ("tuned", 8, "rag", 8)


def test_an_older_sheet_can_still_be_read(project: Project) -> None:
    folder = write_blind_sheet(project, 4)
    rated = prefer(folder, "ada", "about")
    (folder / "answers.csv").unlink()
    (folder / "rate.html").unlink()
    write_blind_sheet(project, 8)
    assert judge_blind_sheet(project, [rated]).preferences[0].n == 4


def test_a_sheet_that_a_spreadsheet_rewrote_is_read_with_a_warning(project: Project) -> None:
    rated = prefer(write_blind_sheet(project, 4), "ada", "about")
    text = rated.read_text(encoding="utf-8")
    rated.write_text(text.replace("about 3 hours", "03. Mrz").replace("about 5 hours", "05. Mai"), encoding="utf-8")
    changed = sum(f"about {n} hours" in text for n in (3, 5))
    assert changed
    result = judge_blind_sheet(project, [rated, prefer(project.folder / "blind", "bob", "about")])
    assert result.preferences[0].wins == 4
    assert result.rewritten == (changed, 0)
    lines = describe(result).split("\n")
    assert f"ada: the texts of {changed} items are not those of the sheet" in lines[-1]
    assert "rate.html" in lines[-1]
    assert not any(line.startswith("bob: ") for line in lines)


def test_what_is_missing_is_named(project: Project, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="at least one file of ratings"):
        judge_blind_sheet(project, [])
    rated = prefer(write_blind_sheet(project, 4), "ada", "about")
    for sheet in ("0000", "../../key"):
        text = rated.read_text(encoding="utf-8")
        other = tmp_path / "other.csv"
        other.write_text(text.replace(text.strip().rsplit(",", 1)[1], sheet), encoding="utf-8")
        with pytest.raises(EvaluationError, match="keeps no key"):
            judge_blind_sheet(project, [other])
    (tmp_path / "empty.csv").write_text("item,rating,sheet\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match="holds no ratings"):
        judge_blind_sheet(project, [tmp_path / "empty.csv"])


def test_a_comparison_needs_the_baseline_and_another_arm(project: Project) -> None:
    file = project.path("compare") / "report.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["arms"].append(_arm("rag_oracle", 1.0, 1.0))
    for question in data["questions"]:
        question["replies"]["rag_oracle"] = {"text": "gold"}
    for arms in (["rag"], ["base", "tuned"], ["rag", "rag_oracle"]):
        file.write_text(json.dumps({**data, "arms": [a for a in data["arms"] if a["name"] in arms]}), encoding="utf-8")
        with pytest.raises(EvaluationError, match="an arm that can be built with 'rag'; the comparison has"):
            write_blind_sheet(project, 4)
    file.unlink()
    with pytest.raises(ArtefactError, match="no report yet"):
        write_blind_sheet(project, 4)
