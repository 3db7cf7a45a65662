import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from hybrid.eval.statistics import (
    Difference,
    design_effect,
    detectable_difference,
    holm,
    mean_interval,
    paired_bootstrap,
    standard_error,
)

values = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def sample(n: int = 60) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(3)
    b = rng.random(n)
    return (b + rng.normal(0.06, 0.2, n)).tolist(), b.tolist()


def test_interval_agrees_with_scipy() -> None:
    a, b = sample()
    ours = paired_bootstrap(a, b, seed=1)
    reference = stats.bootstrap(
        (np.subtract(a, b),), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.004)


def test_p_agrees_with_scipy() -> None:
    a, b = sample()
    reference = stats.permutation_test(
        (np.asarray(a), np.asarray(b)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    assert paired_bootstrap(a, b).p == pytest.approx(reference.pvalue, abs=0.01)


def test_p_agrees_with_all_flips() -> None:
    a, b = [1, 1, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1, 0]
    differences = np.subtract(a, b)
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=8)]
    assert paired_bootstrap(a, b).p == np.mean(np.asarray(flips) >= abs(differences.sum()))


def test_same_seed_same_result() -> None:
    a, b = sample()
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)


def test_interval_of_skewed_values_agrees_with_scipy() -> None:
    skewed = np.random.default_rng(5).exponential(size=25) ** 2
    ours = mean_interval(skewed, seed=2)
    reference = [
        stats.bootstrap(
            (skewed,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(0)
        ).confidence_interval
        for method in ("BCa", "percentile")
    ]
    assert ours == pytest.approx(tuple(reference[0]), abs=0.04)
    assert ours.high - reference[1].high > 0.08  # the correction for skewness is there


def test_clusters_agree_with_scipys_bootstrap_of_their_sums() -> None:
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 6, 20)
    groups = np.repeat(np.arange(20), sizes)
    data = rng.random(20)[groups] + 0.1 * rng.random(groups.size)
    sums = np.bincount(groups, data)
    reference = stats.bootstrap(
        (sums, sizes),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert mean_interval(data, groups=groups.tolist()) == pytest.approx(tuple(reference), abs=0.01)


@settings(max_examples=20, deadline=None)
@given(values)
def test_groups_of_one_change_nothing(data: list[float]) -> None:
    alone = list(range(len(data)))
    zeros = [0.0] * len(data)
    assert mean_interval(data, resamples=200, groups=alone) == mean_interval(data, resamples=200)
    assert paired_bootstrap(data, zeros, resamples=200, groups=alone) == paired_bootstrap(data, zeros, resamples=200)
    assert standard_error(data, groups=alone) == standard_error(data)


def test_repeating_every_question_adds_no_evidence() -> None:
    a, b = sample(12)
    once = paired_bootstrap(a, b, resamples=500)
    repeated = paired_bootstrap(a * 4, b * 4, groups=list(range(12)) * 4, resamples=500)
    assert repeated == pytest.approx(once)
    naive = paired_bootstrap(a * 4, b * 4, resamples=500)
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_p_of_clusters_is_that_of_all_flips_of_their_sums() -> None:
    a, b = sample(30)
    groups = [row // 5 for row in range(30)]
    sums = np.bincount(groups, np.subtract(a, b))
    flips = [abs(np.dot(signs, sums)) for signs in itertools.product([-1, 1], repeat=6)]
    assert paired_bootstrap(a, b, groups=groups).p == np.mean(np.asarray(flips) >= abs(sums.sum()) - 1e-12)


def test_clustered_interval_covers_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(0)
    groups = [row // 8 for row in range(240)]
    covered = {True: 0, False: 0}
    for trial in range(80):
        data = rng.normal(size=30)[groups] + 0.3 * rng.normal(size=240)
        for clustered in covered:
            low, high = mean_interval(data, groups=groups if clustered else None, resamples=400, seed=trial)
            covered[clustered] += low <= 0 <= high
    assert covered[True] / 80 > 0.88
    assert covered[False] / 80 < 0.7


def test_standard_error_and_design_effect_agree_with_statsmodels() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 15, 90)
    data = rng.random(15)[groups] + rng.random(90)
    model = OLS(data, np.ones(90))
    robust = model.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0]
    assert standard_error(data, groups=groups.tolist()) == pytest.approx(robust)
    assert standard_error(data) == pytest.approx(model.fit().bse[0])
    assert design_effect(data, groups.tolist()) == pytest.approx((robust / model.fit().bse[0]) ** 2)


def test_design_effect_without_variance_or_groups() -> None:
    assert design_effect([1, 1, 1], [1, 2, 3]) is None
    assert design_effect([1, 0, 1], [1, 1, 1]) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), max_size=12), st.data())
def test_the_interval_holds_the_mean_and_lies_within_the_values(data: list[float], draw: st.DataObject) -> None:
    groups = draw.draw(st.none() | st.lists(st.integers(0, 3), min_size=len(data), max_size=len(data)))
    low, high = mean_interval(data, groups=groups, resamples=100)
    mean = np.mean(data) if data else 0.0
    assert low - 1e-9 <= mean <= high + 1e-9
    assert min(data, default=0) - 1e-9 <= low
    assert high <= max(data, default=0) + 1e-9


@settings(max_examples=30, deadline=None)
@given(values)
def test_identical_sides(a: list[float]) -> None:
    assert paired_bootstrap(a, a, resamples=200) == Difference(0.0, 0.0, 0.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_swapping_the_sides_mirrors_the_result(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = paired_bootstrap(a, b, resamples=200), paired_bootstrap(b, a, resamples=200)
    assert there.difference == pytest.approx(-back.difference)
    # Quantiles between two resamples are not mirrored to the last digit by the correction for bias.
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.02)
    assert there.p == back.p
    assert 0 < there.p <= 1
    assert -1 <= there.low <= there.high <= 1


@pytest.mark.parametrize(("a", "b", "difference"), [([], [], 0.0), ([0.75], [0.25], 0.5)])
def test_too_few_pairs_show_nothing(a: list[float], b: list[float], difference: float) -> None:
    assert paired_bootstrap(a, b) == Difference(difference, difference, difference, 1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="a holds 1 values that are not finite"):
        paired_bootstrap([0.0, bad], [0.0, 1.0])
    with pytest.raises(ValueError, match="b holds 1"):
        paired_bootstrap([0.0, 1.0], [bad, 1.0])


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_bootstrap([0.0, 1.0], [0.0])
    with pytest.raises(ValueError, match="resamples"):
        paired_bootstrap([0.0, 1.0], [0.0, 1.0], resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap([0.0, 1.0], [0.0, 1.0], confidence=95)
    with pytest.raises(ValueError, match="one-dimensional"):
        mean_interval(np.zeros((2, 2)))


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.random(40), resamples=400, seed=trial) for trial in range(300)]
    assert 0.90 <= np.mean([low <= 0.5 <= high for low, high in intervals]) <= 0.98


def test_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(0)
    p = [paired_bootstrap(rng.random(30), rng.random(30), resamples=300, seed=trial).p for trial in range(300)]
    assert np.mean(np.asarray(p) < 0.1) == pytest.approx(0.1, abs=0.05)


def test_memory_is_bounded() -> None:
    a = np.random.default_rng(0).random(50_000)
    tracemalloc.start()
    paired_bootstrap(a, np.zeros_like(a), resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All resamples at once would take 80 MB for the indices alone.
    assert peak < 48e6


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_follows_its_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    ranks = stats.rankdata(p_values, method="ordinal").astype(int)
    for rank, wanted in zip(ranks, adjusted, strict=True):
        steps = [(len(p_values) - r + 1) * p for r, p in zip(ranks, p_values, strict=True) if r <= rank]
        assert wanted == pytest.approx(min(1.0, max(steps)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_keeps_the_chance_of_any_false_alarm_below_the_level() -> None:
    rng = np.random.default_rng(0)
    alarms = [min(holm(rng.random(3).tolist())) < 0.05 for _ in range(4000)]
    assert 0.035 < np.mean(alarms) < 0.06


@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("n", [9, 60])
def test_a_detectable_difference_is_detected_as_often_as_promised(n: int, tests: int) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.3, n)
    noise *= 0.3 / noise.std(ddof=1)
    limit = detectable_difference(noise, tests=tests) or 0.0
    found = stats.ttest_1samp(rng.normal(limit, 0.3, (6000, n)), 0, axis=1).pvalue < 0.05 / tests
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_few_groups_can_detect_nothing() -> None:
    lead, groups = [0.9, 1.0] * 15, [n // 5 for n in range(30)]
    assert detectable_difference(lead, groups=groups) is not None
    assert detectable_difference(lead, groups=groups, tests=2) is None
    assert detectable_difference(lead[:25], groups=groups[:25]) is None


def test_rounding_is_no_difference() -> None:
    assert paired_bootstrap([0.1 + 0.2] * 20, [0.3] * 20).p == 1.0


@pytest.mark.parametrize("differences", [[], [0.5]])
def test_fewer_than_two_pairs_have_no_detectable_difference(differences: list[float]) -> None:
    assert detectable_difference(differences) is None
