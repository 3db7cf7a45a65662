"""Forgetting: perplexity before and after, its interval, and the texts that it is measured on."""

import math

import numpy as np
import pytest

from hybrid.errors import EvaluationError
from hybrid.eval.forgetting import forgetting, general_texts
from hybrid.eval.text_metrics import perplexity


def test_change_is_the_ratio_of_the_perplexities() -> None:
    before, after = [[-1.0, -2.0, -3.0], [-0.5]], [[-1.5, -2.0, -3.5], [-0.25]]
    found = forgetting(before, after)
    assert found.before == pytest.approx(perplexity(before))
    assert found.after == pytest.approx(perplexity(after))
    assert found.change == pytest.approx(found.after / found.before - 1)
    assert found.low <= found.change <= found.high
    assert forgetting(before, after) == found


def test_no_change() -> None:
    found = forgetting([[-1.0, -2.0], []], [[-1.0, -2.0], []])
    assert (found.change, found.low, found.high) == (0.0, 0.0, 0.0)


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        before = [list(-rng.exponential(2.0, 30)) for _ in range(25)]
        after = [list(np.minimum(0.0, np.array(text) - 0.1 + rng.normal(0, 0.05))) for text in before]
        found = forgetting(before, after, resamples=400, seed=trial)
        covered += found.low <= math.expm1(0.1) <= found.high
    assert covered >= 51


def test_what_cannot_be_compared() -> None:
    for after in ([[-1.0]], [[-1.0, -1.0], [-1.0]]):
        with pytest.raises(EvaluationError, match="same tokens of the same texts"):
            forgetting([[-1.0, -1.0]], after)
    with pytest.raises(EvaluationError, match="not finite"):
        forgetting([[-1.0]], [[-math.inf]])
    with pytest.raises(EvaluationError, match="is not the logarithm"):
        forgetting([[-1.0]], [[math.nan]])
    with pytest.raises(EvaluationError, match="at least one token"):
        forgetting([[]], [[]])


def test_general_texts_are_whole_paragraphs() -> None:
    texts = general_texts()
    assert len(texts) >= 10
    assert all(40 < len(text.split()) < 200 and text.endswith(".") and "#" not in text for text in texts)
    assert not any("\n" in text or "  " in text for text in texts)
    assert len(set(texts)) == len(texts)
