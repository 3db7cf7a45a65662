"""benchmarks/label_probe.py: how the set is read, and that a label that can be read off is found."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("label_probe")


def test_questions_are_read_with_their_abstracts(script: ModuleType, tmp_path: Path) -> None:
    document = {"_id": "7", "title": "", "text": "One line\u2028and another."}
    asked = {"id": "7", "question": "Does it?", "gold": ["7"], "long_answer": "It does.", "final": "yes"}
    for name, row in (("corpus", document), ("qa", asked)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert script.read(tmp_path) == [("Does it?", "One line\u2028and another.", "It does.", "yes")]


def test_accuracy_is_of_questions_not_learned_from(script: ModuleType) -> None:
    labels = ["yes", "no"] * 40
    told = np.array([[float(label == "yes")] for label in labels])
    noise = np.random.default_rng(0).normal(size=(80, 60))
    assert script.accuracy(told, labels, splits=3) == 1.0
    assert script.accuracy(noise, labels, splits=10) < 0.65, "60 numbers tell 40 labels by heart"
