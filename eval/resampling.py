"""Bootstrap and permutation of ratios of sums, many columns at once, seeded, in bounded memory.

Whatever a comparison reports is a ratio of two sums over questions: a mean (values over ones), the precision of
refusals (right refusals over refusals), their F1 (twice the right refusals over refusals plus unanswerable questions).
Each quantity is a column of `numerators` and of `denominators`. The rows are what is drawn: single questions, or sums
over the questions of a cluster, which then stay together.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_NORMAL = NormalDist()
# Values of one block of resamples: 8 MB as float64 or index.
_BLOCK = 1 << 20
# Below this share of the sum of sizes, a difference between two sums is rounding.
_ROUNDING = 1e-12


def group_sums(values: Array, groups: Sequence[int] | None) -> Array:
    """Sums the rows of each group, groups in the order of their first row; without groups every row is its own.

    >>> group_sums(np.array([[1.0], [2.0], [4.0]]), [7, 3, 7])
    array([[5.],
           [2.]])
    """
    if groups is None:
        return values
    if len(groups) != len(values):
        raise ValueError(f"groups must name one group per row, got {len(groups)} for {len(values)} rows")
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(codes), *values.shape[1:]))
    np.add.at(sums, [codes[group] for group in groups], values)
    return sums


def ratios(numerators: Array, denominators: Array) -> Array:
    """Divides, giving NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominators == 0, np.nan, numerators / denominators)


def bootstrap_totals(columns: Array, *, resamples: int, seed: int) -> Array:
    """Sums of every column over as many rows drawn with replacement; one row of the result per resample.

    All columns see the same draws, so that differences between columns are paired.
    """
    n = len(columns)
    rng = np.random.default_rng([seed, 0])
    totals = []
    for rows in _blocks(resamples, n):
        draws = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        totals.append(np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64) @ columns)
    return np.concatenate(totals)


def left_out(columns: Array) -> Array:
    """Sums of every column without one row, for each row: what a jackknife of ratios divides."""
    return np.asarray(columns.sum(axis=0) - columns)


def bca_interval(observed: float, resampled: Array, jackknife: Array, confidence: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987, as in Efron and Tibshirani 1993, chapter 14).

    It is widened, if need be, to hold the observed value; resamples without a value (0 / 0) are left out.

    Args:
        observed: The statistic of the data.
        resampled: The statistic of each resample.
        jackknife: The statistic without each row.
        confidence: Coverage, in (0, 1).
    """
    drawn = resampled[np.isfinite(resampled)]
    if not drawn.size:
        return observed, observed
    slack = _ROUNDING * max(1.0, abs(observed))
    below = np.count_nonzero(drawn < observed - slack) + 0.5 * np.count_nonzero(np.abs(drawn - observed) <= slack)
    # Half a resample keeps the quantile finite where all lie on one side.
    bias = _NORMAL.inv_cdf(min(max(below, 0.5), drawn.size - 0.5) / drawn.size) if drawn.size > 1 else 0.0
    acceleration = _acceleration(jackknife[np.isfinite(jackknife)])
    bounds = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + _NORMAL.inv_cdf(tail)
        bounds.append(_NORMAL.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-9)))
    low, high = np.quantile(drawn, bounds)
    return min(float(low), observed), max(float(high), observed)


def swap_p(sums: tuple[Array, Array], others: tuple[Array, Array], *, resamples: int, seed: int) -> Array:
    """Two-sided p-value, per column, of the difference between two sides' ratios, swapping the sides row by row.

    Under the null hypothesis the two sides of a row (a question, or a cluster of questions) are exchangeable. For
    means this is the sign-flip test of the paired differences. Rows whose sides are equal change nothing: where at most
    `log2(resamples)` rows differ, all swaps are tried and p is exact; else
    p = (swaps with a difference at least as large as the observed one, + 1) / (resamples + 1).

    Args:
        sums: Numerators and denominators of one side, row by row.
        others: Those of the other side.
        resamples: Number of random swaps.
        seed: The same seed gives the same result.
    """
    halves = [(mine + theirs) / 2 for mine, theirs in zip(sums, others, strict=True)]
    leads = [(mine - theirs) / 2 for mine, theirs in zip(sums, others, strict=True)]
    for lead, half in zip(leads, halves, strict=True):
        lead[abs(lead) <= _ROUNDING * abs(half)] = 0
    differ = (leads[0] != 0) | (leads[1] != 0)
    p = np.ones(sums[0].shape[1])
    many = []
    for column in range(p.size):
        rows = np.flatnonzero(differ[:, column])
        if len(rows) <= math.log2(resamples):
            signs = _signs((np.arange(2 ** len(rows))[:, None] >> np.arange(len(rows))) & 1)
            p[column] = _extremes(signs, rows, halves, leads, [column])[0] / len(signs)
        else:
            many.append(column)
    if many:
        # All rows, so that the p-value of a column does not depend on which others are tested with it.
        rows = np.arange(len(differ))
        rng = np.random.default_rng([seed, 1])
        extreme = np.zeros(len(many))
        for count in _blocks(resamples, len(rows)):
            signs = _signs(rng.integers(0, 2, size=(count, len(rows)), dtype=np.int8))
            extreme += _extremes(signs, rows, halves, leads, many)
        p[many] = (extreme + 1) / (resamples + 1)
    return p


def _extremes(
    signs: Array, rows: npt.NDArray[np.intp], halves: Sequence[Array], leads: Sequence[Array], columns: Sequence[int]
) -> Array:
    """How many of the swaps leave a difference at least as large as the observed one, per column."""
    half = [part[:, columns].sum(axis=0) for part in halves]
    lead = [signs @ part[rows][:, columns] for part in leads]
    seen = [part[:, columns].sum(axis=0) for part in leads]

    def gap(numerator: Array, denominator: Array) -> Array:
        mine = ratios(half[0] + numerator, half[1] + denominator)
        return np.asarray(mine - ratios(half[0] - numerator, half[1] - denominator))

    observed, swapped = np.abs(gap(seen[0], seen[1])), np.abs(gap(lead[0], lead[1]))
    # Rounding must not make a swap that only reorders the sum look smaller than the observed difference, and a swap
    # that leaves one side without a value is no evidence against the null hypothesis.
    scale = np.maximum(ratios(np.abs(leads[0][:, columns]).sum(axis=0), half[1]), np.abs(observed))
    return np.asarray((np.isnan(swapped) | (swapped >= observed - _ROUNDING * scale)).sum(axis=0), dtype=np.float64)


def _signs(bits: npt.NDArray[np.signedinteger]) -> Array:
    return np.where(bits == 0, -1.0, 1.0)


def _acceleration(jackknife: Array) -> float:
    if not jackknife.size:
        return 0.0
    lead = jackknife.mean() - jackknife
    spread = float((lead**2).sum())
    scale = 6 * spread**1.5  # which may be 0 where the spread is all but
    return float((lead**3).sum()) / scale if scale > 0 else 0.0


def _blocks(resamples: int, width: int) -> Iterator[int]:
    rows = max(1, _BLOCK // max(1, width))
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)
