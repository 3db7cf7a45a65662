"""benchmarks/results_page.py: the tables of docs/results.md are those of the results."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("results_page")


@pytest.fixture
def result() -> dict[str, Any]:
    f1 = {"difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.0001, "p_holm": 0.0002}
    return {
        "command": "python benchmarks/real_data.py squad",
        "date": "2026-01-01",
        "commit": "0123456789",
        "machine": "a machine",
        "seconds": 4000,
        "peak_memory_mb": 5000,
        "versions": {"torch": "2.13.0"},
        "stage_seconds": {"index": 1.2, "pairs": 3.4},
        "split": {"train": 3006, "test": 1551},
        "facts": {
            "Questions": "150, of which 0 are not answered by the documents",
            "Documents": "856 documents",
            "Search": "fused",
            "Context": "2 chunks",
            "Training pairs": "10 on 3 contexts",
            "Seed": "0",
            "Model": "m",
            "Embedding model": "e",
        },
        "arms": [
            {"name": "rag", "seconds": 1.0, "scores": {"f1": {"value": 0.1}}, "versus": {}},
            {
                "name": "hybrid",
                "seconds": 0.5,
                "scores": {"f1": {"value": 0.35}, "em": {"value": 0.2}},
                "versus": {"f1": f1},
            },
        ],
    }


def test_a_table_is_replaced_and_the_prose_kept(script: ModuleType, tmp_path: Path, result: dict[str, Any]) -> None:
    (tmp_path / "set.json").write_text(json.dumps(result))
    page = "# Title\n\n<!-- set: f1, em -->\nold\n<!-- end -->\n\nProse.\n"
    made = script.render(page, tmp_path)
    assert "old" not in made
    assert made.startswith("# Title\n\n<!-- set: f1, em -->\n    python benchmarks/real_data.py squad\n")
    assert made.endswith("<!-- end -->\n\nProse.\n")
    assert "| `rag` | 0.100 | – | 1.00 | baseline |" in made
    assert "| `hybrid` | 0.350 | 20% | 0.50 | +0.250 (+0.100 to +0.400), p < .001 |" in made
    assert script.render(made, tmp_path) == made


def test_folds_are_told_one_by_one(script: ModuleType, result: dict[str, Any]) -> None:
    assert "\n\n[Figures](../benchmarks/results/set.json)" in script.describe("set", result)
    assert "3,006 questions to learn from, 1,551 put aside, of which 150 were asked" in script.describe("set", result)
    folds = {**result, "split": {"train": [3006, 2900], "test": [1551, 1600]}}
    assert "3,006 and 2,900 questions to learn from, 1,551 and 1,600 put aside" in script.describe("set", folds)


def test_over_seeds_there_are_differences_alone(script: ModuleType, tmp_path: Path, result: dict[str, Any]) -> None:
    f1 = {"mean": 0.3, "low": 0.2, "high": 0.4, "p_holm": 0.012, "per_seed": [0.25, 0.35]}
    em = {"mean": -0.1, "low": -0.2, "high": 0.0, "p_holm": 0.0001, "per_seed": [-0.1, -0.1]}
    seeds = {**result, "baseline": "rag", "effects": {"hybrid": {"f1": f1, "em": em}}}
    (tmp_path / "set.json").write_text(json.dumps(seeds))
    made = script.render("<!-- set: f1, em -->\n<!-- end -->", tmp_path).splitlines()
    assert made[-4] == "| arm | Token F1 against rag | Exact match against rag | Token F1, seed by seed |"
    assert made[-2] == (
        "| `hybrid` | +0.300 (+0.200 to +0.400), p = 0.012 | -0.100 (-0.200 to +0.000), p < .001 | +0.250, +0.350 |"
    )


def test_a_result_that_is_not_there(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        script.render("<!-- none: f1 -->\n<!-- end -->", tmp_path)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("<!-- set: f1 -->\nProse.\n\n<!-- set: em -->\n<!-- end -->", ValueError),
        ("<!-- set: f2 -->\n<!-- end -->", KeyError),
    ],
)
def test_a_mark_that_is_wrong(
    script: ModuleType, tmp_path: Path, result: dict[str, Any], page: str, error: type[Exception]
) -> None:
    (tmp_path / "set.json").write_text(json.dumps(result))
    with pytest.raises(error):
        script.render(page, tmp_path)


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert script.render(page) == page
    assert "<!-- end -->" in page
