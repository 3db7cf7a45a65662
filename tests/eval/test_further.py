"""Measures beside the scores: means over the replies that have them, weights, and their way through a comparison."""

import numpy as np
import pytest

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.further import further_measure, reply_values
from hybrid.types import Question

QUESTIONS = [Question(str(n), "?", ("a",)) for n in range(4)]


def run(name: str) -> ArmRun:
    return ArmRun(name, name, tuple(Reply(q.id, "a", False, (), (), 0.1) for q in QUESTIONS))


def test_a_mean_is_over_the_replies_that_have_a_value() -> None:
    grounded = further_measure(
        "grounded", {"rag": [1.0, 0.5, None, 0.0], "hybrid": [1.0, 1.0, 0.5, None], "base": [None] * 4}
    )
    found = compare(QUESTIONS, [run("rag"), run("hybrid"), run("base")], k=1, further=[grounded])
    rag, hybrid, base = found.summaries
    assert rag.scores["grounded"].value == pytest.approx(0.5)
    assert rag.scores["grounded"].n == hybrid.scores["grounded"].n == 3
    assert hybrid.versus["grounded"].difference == pytest.approx(2.5 / 3 - 0.5)
    low, high = hybrid.versus["grounded"].low, hybrid.versus["grounded"].high
    assert low <= 2.5 / 3 - 0.5 <= high
    assert "grounded" not in base.scores
    assert "grounded" not in base.versus
    assert reply_values(found.further["hybrid"][0]) == [1.0, 1.0, 0.5, None]


def test_weights_make_a_mean_over_tokens() -> None:
    nats = further_measure("nats", {"rag": [1.0, 3.0, None, 2.0]}, {"rag": [1.0, 3.0, 7.0, 0.0]})
    value = compare(QUESTIONS, [run("rag")], k=1, further=[nats]).summaries[0].scores["nats"]
    assert value.value == pytest.approx((1 + 9) / 4)
    assert value.n == 2


def test_a_measure_that_nobody_has_is_none() -> None:
    nothing = further_measure("nothing", {"rag": [None] * 4})
    assert "nothing" not in compare(QUESTIONS, [run("rag")], k=1, further=[nothing]).summaries[0].scores


@pytest.mark.parametrize("values", [{"a": [1.0], "b": [1.0, 2.0]}, {"a": [float("nan")]}, {"a": [np.inf]}])
def test_what_is_no_measure_is_refused(values: dict[str, list[float | None]]) -> None:
    with pytest.raises(EvaluationError, match="grounded: "):
        further_measure("grounded", values)
