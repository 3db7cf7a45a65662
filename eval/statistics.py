"""How sure a mean or a difference is: BCa bootstrap, permutation test, power, and Holm's correction.

Questions about one document are not independent: every function takes `groups`, one label per value, and then draws,
swaps and counts whole groups.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrid.eval.resampling import Array, bca_interval, bootstrap_totals, group_sums, left_out, ratios, swap_p

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A mean paired difference, its confidence interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    *,
    groups: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Mean of a - b with a BCa bootstrap interval (Efron 1987) and the p-value of a sign-flip test.

    The test flips the sign of each difference (of each group's sum) at random: under the null hypothesis that the two
    sides are exchangeable, p = (flips whose mean is at least as far from 0 as the observed one, + 1) / (resamples + 1),
    or the exact share where all flips are fewer than `resamples`. Fewer than two pairs or groups show nothing: the
    interval is the difference itself and p is 1.

    Args:
        a: One value per pair.
        b: The values to compare with, in the same order.
        groups: One label per pair; pairs of one group are drawn together.
        resamples: Number of bootstrap samples, and of sign flips.
        seed: The same seed gives the same result.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: The lengths differ, a value is not finite, or a setting is out of range.

    >>> paired_bootstrap([1, 0, 1], [1, 0, 1])
    Difference(difference=0.0, low=0.0, high=0.0, p=1.0)
    """
    left, right = _finite(a, "a"), _finite(b, "b")
    if left.shape != right.shape:
        raise ValueError(f"a and b must pair up, got {left.size} and {right.size} values")
    low, high = mean_interval(left - right, groups=groups, resamples=resamples, seed=seed, confidence=confidence)
    sides = [group_sums(side[:, None], groups) for side in (left, right)]
    sizes = group_sums(np.ones((left.size, 1)), groups)
    p = float(swap_p((sides[0], sizes), (sides[1], sizes), resamples=resamples, seed=seed)[0]) if left.size else 1.0
    return Difference(_mean(left - right), low, high, p)


def mean_interval(
    values: Sequence[float] | Array,
    *,
    groups: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """BCa bootstrap interval of the mean; the mean itself for fewer than two values or groups.

    Raises:
        ValueError: A value is not finite, or a setting is out of range.

    >>> mean_interval([0.5, 0.5, 0.5])
    Interval(low=0.5, high=0.5)
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    data = _finite(values, "values")
    sums = group_sums(np.column_stack([data, np.ones(data.size)]), groups)
    if len(sums) < 2:
        return Interval(_mean(data), _mean(data))
    drawn, without = bootstrap_totals(sums, resamples=resamples, seed=seed), left_out(sums)
    return Interval(
        *bca_interval(_mean(data), ratios(drawn[:, 0], drawn[:, 1]), ratios(without[:, 0], without[:, 1]), confidence)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of several tests so that the chance of any false alarm stays below the level (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def standard_error(values: Sequence[float] | Array, *, groups: Sequence[int] | None = None) -> float | None:
    """Standard error of the mean; with groups, the cluster-robust one (Liang and Zeger 1986) times sqrt(G / (G - 1)).

    None for fewer than two values or groups.
    """
    variance = _mean_variance(_finite(values, "values"), groups)
    return None if variance is None else math.sqrt(variance)


def design_effect(values: Sequence[float] | Array, groups: Sequence[int]) -> float | None:
    """How many times larger the variance of the mean is than for independent values (Kish 1965).

    1 means that grouping costs nothing; n values are worth n / design effect independent ones. None where all values
    are equal, or with fewer than two groups.

    >>> design_effect([0, 0, 1, 1], [1, 1, 2, 2])
    3.0
    """
    data = _finite(values, "values")
    alone, together = _mean_variance(data, None), _mean_variance(data, groups)
    return together / alone if alone and together is not None else None


def can_show(groups: int, tests: int = 1, level: float = 0.05) -> bool:
    """Whether so many groups can show any difference at `level` in the best of `tests`, by Holm's adjustment.

    The least p-value of a test that swaps the sides of whole groups is 2 / 2 ** groups.

    >>> can_show(5), can_show(6), can_show(7, tests=3), can_show(6, tests=3)
    (False, True, True, False)
    """
    return 2 * tests / 2.0**groups < level


def detectable_difference(
    differences: Sequence[float] | Array,
    *,
    groups: Sequence[int] | None = None,
    tests: int = 1,
    level: float = 0.05,
    power: float = 0.8,
) -> float | None:
    """The smallest mean paired difference that as many pairs would show at `level` with probability `power`.

    It is ``(t(1 - level / (2 tests)) + t(power)) * standard error`` with the quantiles of the t distribution for the
    number of groups: the best of several arms must pass Holm's first step.

    Args:
        differences: One value per pair.
        groups: One label per pair; pairs of one group are taken for dependent.
        tests: How many arms are tested.
        level: Of the test.
        power: Wanted probability.

    Returns:
        The difference; None where so few groups could show none, whatever its size.
    """
    error = standard_error(differences, groups=groups)
    count = len(differences) if groups is None else len(set(groups))
    if error is None or not can_show(count, tests, level):
        return None
    from scipy.stats import t

    return float(t.isf(level / tests / 2, count - 1) + t.ppf(power, count - 1)) * error


def _mean_variance(data: Array, groups: Sequence[int] | None) -> float | None:
    residuals = group_sums((data - _mean(data))[:, None], groups)
    count = len(residuals)
    return float((residuals**2).sum()) * count / (count - 1) / data.size**2 if count > 1 else None


def _finite(values: Sequence[float] | Array, name: str) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got {data.ndim} dimensions")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(data)).sum())} values that are not finite")
    return data


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0
