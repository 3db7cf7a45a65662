import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrid.eval.statistics import Difference, detectable_difference, holm, mean_interval, paired_bootstrap

values = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def sample(n: int = 60) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(3)
    b = rng.random(n)
    return (b + rng.normal(0.06, 0.2, n)).tolist(), b.tolist()


def test_interval_agrees_with_scipy() -> None:
    a, b = sample()
    ours = paired_bootstrap(a, b, seed=1)
    reference = stats.bootstrap(
        (np.subtract(a, b),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
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
    exact = np.mean(np.asarray(flips) >= abs(differences.sum()))
    assert paired_bootstrap(a, b).p == pytest.approx(exact, abs=0.015)


def test_same_seed_same_result() -> None:
    a, b = sample()
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)


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
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
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


def test_holm_keeps_the_chance_of_any_false_alarm_below_the_level() -> None:
    rng = np.random.default_rng(0)
    alarms = [min(holm(rng.random(3).tolist())) < 0.05 for _ in range(4000)]
    assert 0.035 < np.mean(alarms) < 0.06


def test_a_detectable_difference_is_detected_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    limit = detectable_difference(rng.normal(0, 0.3, 5000)) or 0.0
    at_60 = limit * (5000 / 60) ** 0.5
    found = [stats.ttest_1samp(rng.normal(at_60, 0.3, 60), 0).pvalue < 0.05 for _ in range(3000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("differences", [[], [0.5]])
def test_fewer_than_two_pairs_have_no_detectable_difference(differences: list[float]) -> None:
    assert detectable_difference(differences) is None
