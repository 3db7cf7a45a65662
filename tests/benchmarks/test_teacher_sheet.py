"""benchmarks/teacher_sheet.py: the funnel's shares, the reader's verdicts, and what of a set is published."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from sklearn.metrics import cohen_kappa_score


@pytest.fixture(scope="module")
def script(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("teacher_sheet")


def test_a_limit_on_the_number_of_pairs_is_no_gate(script: ModuleType) -> None:
    manifest = {
        "candidates": 100,
        "dropped: duplicate": 20,
        "dropped: not drawn": 40,
        "dropped: oracle not retrieved": 10,
    }
    found = script.funnel({**manifest, "train": 27, "dev": 3})
    assert found["share_kept"] == 0.3
    assert found["share_passed"] == 0.6  # 80 of 100, then 30 of 40


def test_only_texts_of_the_handbook_are_published(script: ModuleType) -> None:
    row = {"number": 1, "id": "d#0-5", "asks": "fact", "question": "Who?", "answer": "Ada", "quotes": ["Ada"]}
    same = {1: "trivial"}
    ours, theirs = (
        script.published({**row, "set": name}, same, same, "trivial") for name in ("handbook", "emanual_tv")
    )
    assert (ours["question"], ours["answer"], ours["judgement"], ours["class"]) == ("Who?", "Ada", "wrong", "trivial")
    assert not {"Who?", "Ada"} & set(theirs.values())


def test_a_verdict_that_is_missing_or_unknown_stops_the_count(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "verdict1.tsv"
    path.write_text("1\tright\n", encoding="utf-8")
    assert script.read_verdicts(path, [{"number": 1}]) == {1: "right"}
    with pytest.raises(SystemExit, match="no verdict on number 2"):
        script.read_verdicts(path, [{"number": 1}, {"number": 2}])
    path.write_text("1\tgood\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="'good' is no verdict"):
        script.read_verdicts(path, [{"number": 1}])


def test_agreement_of_the_passes_is_cohens_kappa(script: ModuleType) -> None:
    first, second = (
        "right right right trivial trivial".split(),
        ["right", "right", "trivial", "trivial", "answer wrong"],
    )
    rows = [{"first_pass": a, "second_pass": b} for a, b in zip(first, second, strict=True)]
    found = script.agreement(rows)
    expected = cohen_kappa_score([a == "right" for a in first], [b == "right" for b in second])
    assert found["kappa"] == pytest.approx(expected, abs=1e-3)
    assert (found["right_or_wrong"], found["class"]) == (0.8, 0.6)
