"""How sure a mean or a difference is: bootstrap intervals and a sign-flip test, seeded, in bounded memory."""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Values of one block of resamples: 8 MB as float64 or index.
_BLOCK = 1 << 20


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
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Mean of a - b with a percentile bootstrap interval (Efron 1979) and the p-value of a sign-flip test.

    The test flips the sign of each difference at random: under the null hypothesis that the two sides are
    exchangeable, p = (flips whose mean is at least as far from 0 as the observed one, + 1) / (resamples + 1).
    Fewer than two pairs show nothing: the interval is the difference itself and p is 1.

    Args:
        a: One value per pair.
        b: The values to compare with, in the same order.
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
    differences = left - right
    interval = mean_interval(differences, resamples=resamples, seed=seed, confidence=confidence)
    return Difference(_mean(differences), *interval, _sign_flip_p(differences, resamples, seed))


def mean_interval(
    values: Sequence[float] | Array, *, resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean; the mean itself for fewer than two values.

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
    if data.size < 2:
        return Interval(_mean(data), _mean(data))
    rng = np.random.default_rng([seed, 0])
    means = [
        data[rng.integers(0, data.size, size=(rows, data.size))].mean(axis=1) for rows in _blocks(resamples, data.size)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))


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


def detectable_difference(
    differences: Sequence[float] | Array, *, level: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest mean paired difference that as many pairs would show at `level` with probability `power`.

    By the normal approximation, ``(z(1 - level / 2) + z(power)) * sd / sqrt(n)``; None for fewer than two pairs.
    """
    data = _finite(differences, "differences")
    if data.size < 2:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
    return float(z * data.std(ddof=1) / math.sqrt(data.size))


def _sign_flip_p(differences: Array, resamples: int, seed: int) -> float:
    if differences.size < 2:
        return 1.0
    # Rounding must not make a flip that only reorders the sum look smaller than the observed one.
    threshold = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    rng = np.random.default_rng([seed, 1])
    extreme = 0
    for rows in _blocks(resamples, differences.size):
        signs = 2.0 * rng.integers(0, 2, size=(rows, differences.size), dtype=np.int8) - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= threshold))
    return (extreme + 1) / (resamples + 1)


def _blocks(resamples: int, width: int) -> Iterator[int]:
    rows = max(1, _BLOCK // width)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _finite(values: Sequence[float] | Array, name: str) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got {data.ndim} dimensions")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(data)).sum())} values that are not finite")
    return data


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else 0.0
