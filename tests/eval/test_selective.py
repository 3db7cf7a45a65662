"""Selective answering: curve and AUROC against scikit-learn, and what counts as an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.selective import coverage_curve, selective
from hybrid.types import Question

CONFIDENCES = st.floats(0, 1).map(lambda value: round(value, 2))


@given(st.lists(st.tuples(CONFIDENCES, st.sampled_from([0.0, 0.4, 1.0])), min_size=1, max_size=30), st.integers(0, 9))
def test_every_point_is_what_a_threshold_leaves(answers: list[tuple[float, float]], refused: int) -> None:
    confidences, scores = map(np.array, zip(*answers, strict=True))
    curve = list(coverage_curve(confidences.tolist(), scores.tolist(), len(answers) + refused))
    assert [point.confidence for point in curve] == sorted(set(confidences.tolist()), reverse=True)
    for point in curve:
        left = scores[confidences >= point.confidence]
        assert point.coverage == pytest.approx(len(left) / (len(answers) + refused))
        assert point.precision == pytest.approx(left.mean())


def reply(question: str, text: str, confidence: float | None, *, abstained: bool = False, error: str = "") -> Reply:
    return Reply(question, text, abstained, (), (), 1.0, error=error, confidence=confidence)


def test_questions_without_the_metric_are_left_out() -> None:
    questions = [Question(str(n), "Is it?", ("yes",)) for n in range(2)]
    questions += [Question(f"s{n}", "What?", ("a span",)) for n in range(8)]
    said = [reply("0", "yes", 0.9), reply("1", "no", 0.4), *(reply(f"s{n}", "a span", 0.8) for n in range(8))]
    comparison = compare(questions, [ArmRun("rag", "", tuple(said))], k=1, metric="accuracy")
    (found,) = selective(comparison)
    assert found.auroc == 1.0
    assert found.curve == ((0.9, 0.5, 1.0), (0.4, 1.0, 0.5))
    assert comparison.summaries[0].value("answered_precision") == 0.5


def test_arms() -> None:
    golds = ["red", "blue", "green", "white", "black"]
    questions = [Question(str(n), "Which colour?", (gold,)) for n, gold in enumerate(golds)]
    questions.append(Question("x", "Why?", (), answerable=False))
    said = [("red", 0.9), ("blue", 0.4), ("wrong", 0.5), ("wrong", 0.2)]
    sure = [reply(str(n), text, confidence) for n, (text, confidence) in enumerate(said)]
    sure += [reply("4", "", 0.99, abstained=True), reply("x", "made up", 0.3)]
    silent = [reply(question.id, "red", None) for question in questions]
    failed = [reply(question.id, "", None, error="timeout") for question in questions]
    right = [reply(str(n), gold, 0.5) for n, gold in enumerate(golds)] + [reply("x", "", 0.5, abstained=True)]
    runs = {"rag": sure, "silent": silent, "failed": failed, "right": right}
    found = selective(compare(questions, [ArmRun(name, "", tuple(own)) for name, own in runs.items()], k=1))
    assert [own.arm for own in found] == ["rag", "right"], "an arm without confidences has no curve"
    labels, confidences = [1, 1, 0, 0, 0], [0.9, 0.4, 0.5, 0.2, 0.3]
    assert found[0].auroc == pytest.approx(roc_auc_score(labels, confidences))
    assert found[0].curve[-1].coverage == pytest.approx(5 / 6)
    assert found[0].curve[-1].precision == pytest.approx(2 / 5)
    assert found[1].auroc is None
    assert found[1].curve == ((0.5, 5 / 6, 1.0),)
