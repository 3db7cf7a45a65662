"""The measures of an arm and their differences to the baseline, against plain computations of each."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from hybrid.eval.answers import AnswerScore
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.measures import BINARY
from hybrid.eval.shares import mcnemar, wilson_interval
from hybrid.eval.statistics import (
    design_effect,
    detectable_difference,
    holm,
    mean_interval,
    paired_bootstrap,
    standard_error,
)
from hybrid.types import Question

WORDS = ("alpha beta gamma", "alpha", "beta gamma delta", "omega", "alpha beta gamma delta epsilon")


def comparison(n: int = 60, *, shared: bool = False, labels: bool = False, arms: int = 3) -> Comparison:
    """Arms that answer at random; every third question is unanswerable."""
    rng = np.random.default_rng(7)
    gold = ("yes",) if labels else ("alpha beta gamma",)
    questions = [
        Question(str(i), "?", gold if i % 3 else (), (f"d{i // 4 if shared else i}",) if i % 3 else (), bool(i % 3))
        for i in range(n)
    ]
    runs = []
    for name in ("rag", "hybrid", "tuned")[:arms]:
        texts = [("yes" if rng.random() < 0.5 else "no") if labels else WORDS[rng.integers(5)] for _ in questions]
        replies = tuple(
            Reply(q.id, text, bool(rng.random() < 0.3), (f"d{rng.integers(9)}",), (), float(rng.random()))
            for q, text in zip(questions, texts, strict=True)
        )
        runs.append(ArmRun(name, "", replies))
    return compare(questions, runs, k=1, seed=5)


def column(data: Comparison, arm: str, name: str) -> tuple[list[float], list[int]]:
    """The values of a score, and the clusters of their questions."""
    pairs = [(score._asdict()[name], group) for score, group in zip(data.scores[arm], data.groups, strict=True)]
    return [value for value, _ in pairs if value is not None], [group for value, group in pairs if value is not None]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["em", "f1", "rouge_l", "contains", "rouge_1", "bleu", "chrf", "words"])
def test_scores_agree_with_the_statistics_of_their_values(name: str, shared: bool) -> None:
    data = comparison(shared=shared)
    base, groups = column(data, "rag", name)
    for summary in data.summaries:
        mine, _ = column(data, summary.name, name)
        estimate = summary.scores[name]
        assert estimate.value == pytest.approx(np.mean(mine))
        assert estimate.n == 40
        if name not in BINARY:
            assert estimate[1:3] == pytest.approx(mean_interval(mine, groups=groups, seed=5))
        elif not shared:
            assert estimate[1:3] == pytest.approx(wilson_interval(sum(mine), 40))
        if summary.name == "rag":
            continue
        versus = summary.versus[name]
        assert versus[:4] == pytest.approx(paired_bootstrap(mine, base, groups=groups, seed=5))
        lead = np.subtract(mine, base)
        assert versus.detectable == pytest.approx(detectable_difference(lead, groups=groups, tests=2))
        assert versus.design_effect == pytest.approx(design_effect(lead, groups) or 0)
        assert versus.mcnemar == (mcnemar(mine, base) if name in BINARY else None)


def test_every_metric_has_its_own_correction_for_the_number_of_arms() -> None:
    data = comparison()
    arms = data.summaries[1:]
    assert set(arms[0].versus) >= set(AnswerScore._fields) - {"accuracy"}
    for name in arms[0].versus:
        assert [arm.versus[name].p_holm for arm in arms] == holm([arm.versus[name].p for arm in arms])


def test_an_arm_does_not_change_the_numbers_of_others() -> None:
    three, two = comparison().summaries[1], comparison(arms=2).summaries[1]
    assert three.scores["f1"] == pytest.approx(two.scores["f1"])
    assert three.versus["f1"].p == two.versus["f1"].p


def test_labels_are_tested_by_accuracy() -> None:
    data = comparison(labels=True)
    mine, _ = column(data, "hybrid", "accuracy")
    base, _ = column(data, "rag", "accuracy")
    assert data.summaries[1].scores["accuracy"][:3] == pytest.approx((np.mean(mine), *wilson_interval(sum(mine), 40)))
    assert data.summaries[1].versus["accuracy"].mcnemar == mcnemar(mine, base)


def test_refusals_agree_with_scikit_learn() -> None:
    data = comparison()
    unanswerable = [not question.answerable for question in data.questions]
    for run, summary in zip(data.runs, data.summaries, strict=True):
        refused = [reply.abstained for reply in run.replies]
        precision, recall, f1, _ = precision_recall_fscore_support(unanswerable, refused, average="binary")
        names = ("refusal_precision", "refused_unanswerable", "refusal_f1")
        assert [summary.value(name) for name in names] == pytest.approx([precision, recall, f1])
        assert summary.value("coverage") == pytest.approx(1 - np.mean(refused))
        f1s = [score.f1 or 0.0 for score in data.scores[run.name]]
        answered = [value for value, declined in zip(f1s, refused, strict=True) if not declined]
        assert summary.value("answered_precision") == pytest.approx(np.mean(answered))
        low, high = summary.scores["refusal_f1"][1:3]
        assert low < f1 < high


def test_without_unanswerable_questions_there_is_nothing_to_detect() -> None:
    questions = [Question("a", "?", ("x",)), Question("b", "?", ("x",))]
    run = ArmRun("rag", "", tuple(Reply(q.id, "", True, (), (), 0.1) for q in questions))
    scores = compare(questions, [run], k=1).summaries[0].scores
    assert not scores.keys() & {"refusal_precision", "refusal_f1", "refused_unanswerable"}
    assert scores["over_refused"].value == 1.0


def test_refusal_f1_is_compared_with_an_interval_and_a_p_value() -> None:
    questions = [Question(str(i), "?", ("x",) if i % 2 else (), (), bool(i % 2)) for i in range(40)]
    runs = [
        ArmRun(name, "", tuple(Reply(q.id, "y", int(q.id) % every == 0, (), (), 0.1) for q in questions))
        for name, every in (("rag", 5), ("hybrid", 2))
    ]
    versus = compare(questions, runs, k=1).summaries[1].versus["refusal_f1"]
    assert versus.difference == pytest.approx(1 - 2 * 4 / (8 + 20))
    assert 0 < versus.low < versus.difference < versus.high
    assert versus.p < 0.01


def test_the_error_of_a_ratio_by_its_influence_is_that_of_its_resamples() -> None:
    data = comparison(300, arms=2)
    versus = data.summaries[1].versus["answered_precision"]
    groups = len(set(data.groups))
    error = (versus.high - versus.low) / (2 * stats.t.isf(0.025, groups - 1))
    both = stats.t.isf(0.025, groups - 1) + stats.t.isf(0.2, groups - 1)
    assert versus.detectable == pytest.approx(both * error, rel=0.05)
    mine, base = column(data, "hybrid", "f1")[0], column(data, "rag", "f1")[0]
    both = stats.t.isf(0.025, len(mine) - 1) + stats.t.isf(0.2, len(mine) - 1)
    assert data.summaries[1].versus["f1"].detectable == pytest.approx(
        both * (standard_error(np.subtract(mine, base)) or 0), rel=1e-5
    )


def test_latency_has_percentiles_and_a_tested_difference() -> None:
    data = comparison()
    seconds = [reply.seconds for reply in data.runs[1].replies]
    summary = data.summaries[1]
    assert (summary.seconds_p50, summary.seconds_p95) == pytest.approx(tuple(np.quantile(seconds, [0.5, 0.95])))
    theirs = [reply.seconds for reply in data.runs[0].replies]
    assert summary.versus["seconds"][:4] == pytest.approx(paired_bootstrap(seconds, theirs, groups=data.groups, seed=5))


def test_shared_documents_widen_the_intervals() -> None:
    """Every document is asked about four times with the same result: 15 clusters, not 60 questions."""
    questions = [Question(str(i), "?", ("x",), (f"d{i // 4}",)) for i in range(60)]
    runs = [
        ArmRun(
            name, "", tuple(Reply(q.id, "x" if int(q.id) // 4 < right else "y", False, (), (), 0.1) for q in questions)
        )
        for name, right in (("rag", 5), ("hybrid", 10))
    ]
    clustered = compare(questions, runs, k=1).summaries[1]
    alone = compare(questions, runs, k=1, groups={}).summaries[1]
    assert clustered.versus["em"].design_effect == pytest.approx(4 * 59 / 60 * 15 / 14)
    assert alone.versus["em"].design_effect == pytest.approx(1.0)
    assert clustered.versus["em"].p == pytest.approx(2 / 2**5)
    assert alone.versus["em"].p < 0.001
    widths = [arm.scores["em"].high - arm.scores["em"].low for arm in (clustered, alone)]
    assert widths[0] > 1.6 * widths[1]
