"""Blind ratings of a project: from its report to a sheet, and back with the key."""

import csv
import json
from pathlib import Path

import pytest

from hybrid import Project
from hybrid.blind import describe, judge_blind_sheet, write_blind_sheet
from hybrid.errors import ArtefactError, EvaluationError

TEXTS = {"rag": "about {} hours", "tuned": "{} hours", "base": "no idea"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has compared three arms on eight questions."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("The impeller is replaced every 200 hours.", encoding="utf-8")
    made = Project.create(tmp_path / "project", documents=str(tmp_path / "docs"))
    made.path("compare").mkdir(parents=True)
    report = {
        "baseline": "rag",
        "arms": [{"name": name, "f1": f1} for name, f1 in (("base", 0.1), ("rag", 0.9), ("tuned", 0.5))],
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
        "tuned against rag: 6 wins (61% to 100%), 0 ties, 0 losses (0% to 39%) on 6 questions; sign test p = 0.031",
        f"ada and bob agree on 100% of 6 items, Cohen's kappa {result.agreements[0].kappa:.2f}",
    ]


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
    for arms in (["rag"], ["base", "tuned"]):
        file.write_text(json.dumps({**data, "arms": [a for a in data["arms"] if a["name"] in arms]}), encoding="utf-8")
        with pytest.raises(EvaluationError, match="compares an arm with 'rag'; the comparison has"):
            write_blind_sheet(project, 4)
    file.unlink()
    with pytest.raises(ArtefactError, match="no report yet"):
        write_blind_sheet(project, 4)
