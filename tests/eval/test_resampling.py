import itertools

import numpy as np
import pytest
from scipy import stats

from hybrid.eval.resampling import bca_interval, bootstrap_totals, group_sums, left_out, ratios, swap_p


def f1(rng: np.random.Generator, n: int, skill: float) -> np.ndarray:
    """Twice the hits, and predictions plus positives, of a detector: the columns of an F1."""
    positive = np.arange(n) % 2
    said = np.where(rng.random(n) < skill, positive, rng.integers(0, 2, n))
    return np.column_stack([2.0 * said * positive, said + positive])


def test_interval_of_a_ratio_agrees_with_scipy() -> None:
    columns = f1(np.random.default_rng(1), 60, 0.5)
    drawn, without = bootstrap_totals(columns, resamples=10_000, seed=0), left_out(columns)
    observed = columns[:, 0].sum() / columns[:, 1].sum()
    ours = bca_interval(observed, ratios(*drawn.T), ratios(*without.T), 0.95)
    reference = stats.bootstrap(
        tuple(columns.T),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        n_resamples=10_000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours == pytest.approx(tuple(reference), abs=0.01)


@pytest.mark.parametrize("n", [8, 40])
def test_p_of_a_difference_of_f1_agrees_with_swapping_labels(n: int) -> None:
    rng = np.random.default_rng(4)
    mine, theirs = f1(rng, n, 0.8), f1(rng, n, 0.1)

    def gap(swap: np.ndarray) -> float:
        a, b = np.where(swap[:, None], theirs, mine).sum(axis=0), np.where(swap[:, None], mine, theirs).sum(axis=0)
        return float(abs(a[0] / a[1] - b[0] / b[1]))

    swaps = itertools.product([False, True], repeat=n) if n < 10 else rng.integers(0, 2, (5000, n), dtype=bool)
    seen = gap(np.zeros(n, dtype=bool))
    wanted = np.mean([gap(np.asarray(swap)) >= seen - 1e-12 for swap in swaps])
    sides = [(side[:, :1], side[:, 1:]) for side in (mine, theirs)]
    p = swap_p(sides[0], sides[1], resamples=10_000, seed=0)[0]
    assert p == pytest.approx(wanted, abs=1e-12 if n < 10 else 0.02)


def test_a_p_value_does_not_depend_on_the_columns_beside_it() -> None:
    rng = np.random.default_rng(0)
    a, b, ones = rng.random((50, 3)), rng.random((50, 3)), np.ones((50, 3))
    b[10:, 1] = a[10:, 1]
    together = swap_p((a, ones), (b, ones), resamples=1000, seed=3)
    alone = [swap_p((a[:, [c]], ones[:, [c]]), (b[:, [c]], ones[:, [c]]), resamples=1000, seed=3)[0] for c in range(3)]
    assert together.tolist() == pytest.approx(alone)


def test_swaps_without_a_value_are_no_evidence() -> None:
    ones, zeros = np.ones((2, 1)), np.zeros((2, 1))
    # Each side refuses one question: swapping one of them leaves a side that refuses nothing.
    mine = (np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]]))
    theirs = (np.array([[0.0], [0.0]]), np.array([[0.0], [1.0]]))
    assert swap_p(mine, theirs, resamples=100, seed=0)[0] == 1.0
    assert swap_p((ones, ones), (zeros, ones), resamples=100, seed=0)[0] == 0.5


def test_draws_keep_groups_together_and_sum_to_the_number_of_rows() -> None:
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    sums = group_sums(values, [5, 9, 5])
    assert sums.tolist() == [[5, 50], [2, 20]]
    totals = bootstrap_totals(sums, resamples=500, seed=0)
    assert set(map(tuple, totals.tolist())) == {(10, 100), (7, 70), (4, 40)}
    with pytest.raises(ValueError, match="2 for 3 rows"):
        group_sums(values, [1, 2])


def test_blocks_of_resamples_make_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(0).random((7, 2))
    whole = bootstrap_totals(columns, resamples=100, seed=1)
    assert whole.shape == (100, 2)
    monkeypatch.setattr("hybrid.eval.resampling._BLOCK", 21)
    assert bootstrap_totals(columns, resamples=100, seed=1) == pytest.approx(whole)


def test_no_resample_has_a_value() -> None:
    assert bca_interval(0.5, np.array([np.nan, np.nan]), np.array([np.nan]), 0.95) == (0.5, 0.5)
