from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.report import report_data
from hybrid.eval.seeds import merge_seeds, seed_effect
from hybrid.types import Question


def test_effect_of_seeds_that_disagree() -> None:
    effect = seed_effect([[0.3, 0.1], [-0.1, -0.3], [0.3, 0.3]])
    assert effect.mean == pytest.approx(0.1)
    assert effect.per_seed == pytest.approx((0.2, -0.2, 0.3))
    assert effect.spread == pytest.approx(np.std([0.2, -0.2, 0.3], ddof=1))
    assert (effect.agree, effect.questions) == (2, 2)
    assert effect.low < 0 < effect.high


def test_seeds_alone_and_questions_alone_are_the_t_tests_of_scipy() -> None:
    rng = np.random.default_rng(0)
    seeds, questions = 0.1 + 0.3 * rng.normal(size=(4, 1)), 0.1 + 0.3 * rng.normal(size=(1, 25))
    for values, table in ((seeds, seeds.repeat(30, axis=1)), (questions, questions.repeat(3, axis=0))):
        expected = ttest_1samp(values.ravel(), 0.0)
        effect = seed_effect(table)
        assert effect.p == pytest.approx(expected.pvalue)
        assert (effect.low, effect.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize(("seeds", "spread", "noise"), [(2, 0.1, 0.1), (3, 0.1, 0.3), (5, 0.1, 0.1), (3, 0.0, 0.5)])
def test_the_interval_covers_the_truth_with_few_seeds(seeds: int, spread: float, noise: float) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        data = 0.2 + spread * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(1, 40))
        effect = seed_effect(data + 0.1 * rng.normal(size=(seeds, 40)))
        covered += effect.low <= 0.2 <= effect.high
    assert covered >= 0.92 * 400, "95 %, less what 400 draws may miss"


def test_where_nothing_can_be_known() -> None:
    alike = seed_effect([[0.5, 0.5], [0.5, 0.5]])
    assert (alike.low, alike.high, alike.p) == (0.5, 0.5, 1.0)
    one_group = seed_effect([[0.5, 0.4], [0.1, 0.2]], groups=[0, 0])
    assert (one_group.low, one_group.high, one_group.p) == (one_group.mean, one_group.mean, 1.0)


def test_seeds_widen_the_interval_and_so_do_clusters() -> None:
    rng = np.random.default_rng(1)
    questions = 0.2 * rng.normal(size=40)
    same = seed_effect([questions, questions])
    apart = seed_effect([questions - 0.3, questions + 0.3])
    grouped = seed_effect([np.sort(questions)] * 2, groups=[row // 4 for row in range(40)])
    assert apart.high - apart.low > 3 * (same.high - same.low)
    assert grouped.high - grouped.low > 1.5 * (same.high - same.low)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(st.floats(-1, 1), min_size=n, max_size=n), min_size=1)))
def test_mean_lies_in_the_interval_and_order_of_seeds_does_not_matter(table: list[list[float]]) -> None:
    effect = seed_effect(table)
    assert effect.low <= effect.mean <= effect.high
    assert seed_effect(table[::-1]).mean == pytest.approx(effect.mean)


@pytest.mark.parametrize("bad", [[], [[]], [[float("nan")]], [1.0]])
def test_a_table_of_numbers_is_needed(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="table of seeds by questions"):
        seed_effect(bad)


def report(seed: int, right: int, *, n: int = 12, baseline: str = "rag", skip: int = 0) -> dict[str, Any]:
    questions = [Question(str(row), "?", ("yes sir",), (f"d{row // 2}",)) for row in range(skip, n)]
    runs = [
        ArmRun(
            name,
            "",
            tuple(Reply(q.id, "yes sir" if int(q.id) < count else "no", False, (), (), 0.1) for q in questions),
        )
        for name, count in (("rag", 3), ("hybrid", right))
    ]
    return report_data(compare(questions, runs, k=1, seed=seed, baseline=baseline), facts={}, verdict="", notes=())


def test_reports_are_joined_by_question() -> None:
    effects = merge_seeds([report(2, 9), report(0, 6), report(1, 12)])
    assert list(effects) == ["hybrid"]
    assert effects["hybrid"]["em"].per_seed == (3 / 12, 9 / 12, 6 / 12)
    assert effects["hybrid"]["f1"].agree == 3
    assert "accuracy" not in effects["hybrid"]
    alone = seed_effect([[0.0] * 3 + [1.0] * 3 + [0.0] * 6] * 2, groups=[row // 2 for row in range(12)])
    assert merge_seeds([report(0, 6), report(1, 6)])["hybrid"]["em"] == alone


def test_questions_are_grouped_as_the_caller_says() -> None:
    reports = [report(0, 6), report(1, 6)]
    wide, narrow = (
        merge_seeds(reports, labels)["hybrid"]["em"] for labels in (None, {str(n): str(n) for n in range(12)})
    )
    assert wide.mean == narrow.mean
    assert wide.high - wide.low > narrow.high - narrow.low > 0


def test_only_common_questions_count() -> None:
    assert merge_seeds([report(0, 9), report(1, 9, skip=6)])["hybrid"]["em"].questions == 6


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ([report(0, 5)], r"at least two reports.*\[0\]"),
        ([report(1, 5), report(1, 6)], r"its own seed; got seeds \[1, 1\]"),
        ([report(0, 5), report(1, 5, baseline="hybrid")], "different baselines.*hybrid, rag"),
        ([report(0, 5, n=4), report(1, 5, skip=4)], "no question in common"),
    ],
)
def test_reports_that_do_not_fit_are_refused(reports: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        merge_seeds(reports)
