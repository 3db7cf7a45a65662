"""The scores of every arm with their intervals, and their differences to a baseline with tests."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hybrid.eval.measures import Measure
from hybrid.eval.resampling import Array, bca_interval, bootstrap_totals, group_sums, left_out, ratios, swap_p
from hybrid.eval.shares import McNemar, mcnemar, share_interval
from hybrid.eval.statistics import RESAMPLES, design_effect, detectable_difference, holm

if TYPE_CHECKING:
    from hybrid.eval.comparison import ArmRun

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A measure of one arm with its 95 % interval, and the number of questions it is about."""

    value: float
    low: float
    high: float
    n: int


class Versus(NamedTuple):
    """The paired difference of one measure to the baseline.

    Attributes:
        difference: Arm minus baseline.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided p-value of the permutation test that swaps the arms, cluster by cluster.
        p_holm: The same, adjusted for the number of arms.
        detectable: Smallest true difference that as many questions would show 4 times of 5, adjusted for the number of
            arms; None where so few groups of questions can show none.
        design_effect: How many times the clusters enlarge the variance; None where nothing varies.
        mcnemar: The test for 0-or-1 measures; it takes the questions for independent.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float | None
    design_effect: float | None
    mcnemar: McNemar | None = None


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """The scores of one arm. An answerable question that failed or was refused scores 0.

    Attributes:
        name: The arm.
        description: What it is made of.
        n: Number of questions, answerable or not.
        scores: Every measure that the arm has, by name; see `hybrid.eval.measures`.
        versus: The difference of every measure that arm and baseline have; empty for the baseline itself, or if it did
            not run.
        failed: Ids of the questions without a reply, or with one that failed.
        seconds_p50: Median seconds of an answer, over the replies without error.
        seconds_p95: 95th percentile of the same.
    """

    name: str
    description: str
    n: int
    scores: Mapping[str, Estimate]
    versus: Mapping[str, Versus] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    seconds_p50: float = 0.0
    seconds_p95: float = 0.0

    @property
    def vs_rag(self) -> Versus | None:
        """The difference in F1 to the baseline."""
        return self.versus.get("f1")

    @property
    def errors(self) -> int:
        """Number of questions without a reply, or with one that failed."""
        return len(self.failed)

    def value(self, measure: str) -> float | None:
        """A measure without its interval; None if the arm does not have it."""
        estimate = self.scores.get(measure)
        return estimate.value if estimate else None


class _Side(NamedTuple):
    """The measures of one arm: per question, summed per cluster, observed, resampled, and without each cluster."""

    numerators: Array
    denominators: Array
    sums: tuple[Array, Array]
    observed: Array
    drawn: Array
    without: Array


def summarise(
    runs: "Sequence[ArmRun]",
    measured: Sequence[Sequence[Measure]],
    groups: Sequence[int],
    *,
    baseline: str,
    seed: int,
    controls: Collection[str] = (),
) -> tuple[ArmSummary, ...]:
    """Summarises every arm and compares it with the baseline.

    Intervals are BCa bootstrap intervals of whole clusters, those of shares Wilson's for as many questions as the
    clustered ones are worth.

    Args:
        runs: The arms, their replies in the order of the questions.
        measured: The measures of each arm, alike in names and rows.
        groups: The cluster of every question.
        baseline: Name of the arm to compare with; without it there are no differences.
        seed: Seed of the resampling.
        controls: Names of arms that are adjusted for among themselves, apart from the others.
    """
    names = [run.name for run in runs]
    scores: list[dict[str, Estimate]] = [{} for _ in runs]
    versus: list[dict[str, Versus]] = [{} for _ in runs]
    for rows, places in _populations(measured[0]):
        here = [groups[row] for row in rows]
        alike = [measured[0][place] for place in places]
        sides = _sides([[arm[place] for place in places] for arm in measured], rows, here, seed)
        for number, side in enumerate(sides):
            scores[number] |= _estimates(alike, side, here)
            if baseline in names and names[number] != baseline:
                tests = sum(name != baseline and (name in controls) is (names[number] in controls) for name in names)
                versus[number] |= _differences(alike, side, sides[names.index(baseline)], here, seed, tests)
    for apart in (True, False):
        _adjust([own for name, own in zip(names, versus, strict=True) if (name in controls) is apart])
    order = [measure.name for measure in measured[0]]
    return tuple(
        _arm(run, {name: own[name] for name in order if name in own}, {n: against[n] for n in order if n in against})
        for run, own, against in zip(runs, scores, versus, strict=True)
    )


def _arm(run: "ArmRun", scores: Mapping[str, Estimate], versus: Mapping[str, Versus]) -> ArmSummary:
    seconds = [reply.seconds for reply in run.replies if not reply.error]
    middle, slow = np.quantile(seconds, [0.5, 0.95]).tolist() if seconds else (0.0, 0.0)
    failed = tuple(reply.question_id for reply in run.replies if reply.error)
    return ArmSummary(run.name, run.description, len(run.replies), scores, versus, failed, middle, slow)


def _populations(measured: Sequence[Measure]) -> Iterator[tuple[list[int], list[int]]]:
    """The rows of questions that some measures are about, with the places of these measures."""
    places: dict[bytes, list[int]] = {}
    for place, measure in enumerate(measured):
        places.setdefault(measure.rows.tobytes(), []).append(place)
    for alike in places.values():
        rows = np.flatnonzero(measured[alike[0]].rows).tolist()
        if rows:
            yield rows, alike


def _sides(arms: Sequence[Sequence[Measure]], rows: Sequence[int], groups: Sequence[int], seed: int) -> list[_Side]:
    """Resamples all arms by the same draws, so that differences between arms are paired."""
    tops = [np.column_stack([measure.numerators[rows] for measure in arm]) for arm in arms]
    bottoms = [np.column_stack([measure.denominators[rows] for measure in arm]) for arm in arms]
    sums = [(group_sums(top, groups), group_sums(bottom, groups)) for top, bottom in zip(tops, bottoms, strict=True)]
    columns = np.hstack([np.hstack(pair) for pair in sums])
    totals, without = bootstrap_totals(columns, resamples=RESAMPLES, seed=seed), left_out(columns)
    parts = [np.split(part, 2 * len(arms), axis=1) for part in (totals, without)]
    return [
        _Side(
            tops[number],
            bottoms[number],
            sums[number],
            ratios(tops[number].sum(axis=0), bottoms[number].sum(axis=0)),
            *(ratios(part[2 * number], part[2 * number + 1]) for part in parts),
        )
        for number in range(len(arms))
    ]


def _estimates(alike: Sequence[Measure], side: _Side, groups: Sequence[int]) -> dict[str, Estimate]:
    estimates = {}
    for column, measure in enumerate(alike):
        value = float(side.observed[column])
        counted = np.flatnonzero(side.denominators[:, column])
        if counted.size:
            interval = (
                share_interval(side.numerators[counted, column].tolist(), [groups[row] for row in counted.tolist()])
                if measure.share
                else bca_interval(value, side.drawn[:, column], side.without[:, column], CONFIDENCE)
            )
            estimates[measure.name] = Estimate(value, *interval, counted.size)
    return estimates


def _differences(
    alike: Sequence[Measure], side: _Side, base: _Side, groups: Sequence[int], seed: int, tests: int
) -> dict[str, Versus]:
    p_values = swap_p(side.sums, base.sums, resamples=RESAMPLES, seed=seed)
    differences = {}
    for column, measure in enumerate(alike):
        difference = float(side.observed[column] - base.observed[column])
        if np.isnan(difference):
            continue
        drawn, without = (mine[:, column] - theirs[:, column] for mine, theirs in zip(side[4:], base[4:], strict=True))
        low, high = bca_interval(difference, drawn, without, CONFIDENCE)
        influence = _influence(side, column) - _influence(base, column)
        p = float(p_values[column])
        whole = measure.share and bool(side.denominators[:, column].all() and base.denominators[:, column].all())
        differences[measure.name] = Versus(
            *(difference, low, high, p, p),
            detectable_difference(influence, groups=groups, tests=tests),
            design_effect(influence, groups),
            mcnemar(side.numerators[:, column].tolist(), base.numerators[:, column].tolist()) if whole else None,
        )
    return differences


def _influence(side: _Side, column: int) -> Array:
    """How much each question moves the ratio, in units in which their mean's error is that of the ratio."""
    top, bottom = side.numerators[:, column], side.denominators[:, column]
    return np.asarray((top - side.observed[column] * bottom) / bottom.mean())


def _adjust(versus: Sequence[dict[str, Versus]]) -> None:
    """Adjusts the p-values of each measure for the number of arms that were compared in it."""
    for name in {name: None for differences in versus for name in differences}:
        tested = [differences for differences in versus if name in differences]
        for differences, p in zip(tested, holm([each[name].p for each in tested]), strict=True):
            differences[name] = differences[name]._replace(p_holm=p)
