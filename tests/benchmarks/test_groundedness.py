"""benchmarks/groundedness.py: groups of claims, samples, and a run on three tiny sets."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("groundedness")


@pytest.fixture
def data(tmp_path: Path, script: ModuleType) -> Path:
    (tmp_path / "ground").mkdir()
    rows = [
        {"source": "The pump is new.", "claim": "The pump is new.", "label": 1},
        {"source": "The pump is old.", "claim": "The pump is new.", "label": 0},
        {"source": "The pump is old.", "claim": "It is old.", "label": 1},
        {"source": "The tank is full.", "claim": "A valve leaks.", "label": 0},
    ]
    for name in script.SETS:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "ground" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_claims_that_share_a_source_or_a_claim_are_a_group(script: ModuleType, data: Path) -> None:
    claims = script.read_claims(data / "ground" / "scifact_train.jsonl")
    groups = [claim.group for claim in claims]
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert [claim.label for claim in claims] == [True, False, True, False]


def test_samples(script: ModuleType, data: Path) -> None:
    claims = script.read_claims(data / "ground" / "scifact_train.jsonl")
    assert script.sampled(claims, 0, 0) == script.sampled(claims, 9, 0) == claims
    assert len(script.sampled(claims, 2, 0)) == 2
    assert script.sampled(claims, 2, 0) == script.sampled(claims, 2, 0)


def test_every_set_has_a_row_per_method(script: ModuleType, data: Path) -> None:
    options = argparse.Namespace(data=data, methods="lexical,idf,facts", nli=None, sample=0, seed=0)
    result = script.run(options)
    assert {"command", "date", "machine", "versions", "seed", "models", "rows"} <= set(result)
    assert str(data) not in json.dumps(result)
    assert [(row["set"], row["method"]) for row in result["rows"]] == [
        (name, method) for name in script.SETS for method in ("lexical", "idf", "facts")
    ]
    # "The pump is new." shares three words of four with the old pump, as "It is old." does two of three.
    assert {row["auroc"] for row in result["rows"] if row["method"] == "lexical"} == {0.75}
    assert all(0 <= row["low"] <= row["auroc"] <= row["high"] <= 1 for row in result["rows"])
