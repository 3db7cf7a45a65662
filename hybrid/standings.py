"""How each arm stands against the baseline once quality, time, price and upkeep are weighed in one currency: points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hybrid.arms import Arm
from hybrid.config import WeightsConfig
from hybrid.costs import ArmCost
from hybrid.eval.comparison import ArmRun, Comparison
from hybrid.eval.constant import Constant
from hybrid.eval.statistics import Difference, holm, paired_bootstrap

# Points in the whole range of a metric.
POINTS = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """How an arm stands against the baseline, in points: hundredths of the metric, after the weights.

    Attributes:
        arm: The arm.
        net: Worth of the arm above that of the baseline.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p-value of the permutation test.
        p_holm: The same, adjusted for the number of arms that could be built.
        quality: Points of the metric above the baseline, before the weights.
        seconds: Mean seconds of an answer above the baseline's.
        price: Price of 1,000 answers above the baseline's; None where one of them is not known.
        training_seconds: Time that its adapter took; None where nothing was trained, or nobody measured.
        trained: Whether it needs fine-tuning.
    """

    arm: str
    net: float
    low: float
    high: float
    p: float
    p_holm: float
    quality: float
    seconds: float
    price: float | None
    training_seconds: float | None
    trained: bool


def worth(
    comparison: Comparison, weights: WeightsConfig, costs: Mapping[str, ArmCost], arms: Mapping[str, Arm]
) -> dict[str, list[float]]:
    """What each arm's answer to each question that has the metric is worth, in points.

    `quality` x points of the metric - `latency` x seconds - `cost` x price, and less `changes` where the model is
    trained on the documents and answers without retrieval. An arm without a price counts as free; a reply that failed
    takes as long as the arm's others, and the mean of the seconds is that of all questions.
    """
    rows = scored(comparison)
    worths = {}
    for run in comparison.runs:
        quality = [POINTS * weights.quality * value for value in values(comparison, run.name)]
        usual = fmean([reply.seconds for reply in run.replies if not reply.error] or [0.0])
        seconds = [usual if run.replies[row].error else run.replies[row].seconds for row in rows]
        # Questions that the metric does not fit take time as well.
        shift = usual - fmean(seconds or [usual])
        fixed = weights.cost * (price(run.name, costs) or 0.0) + weights.changes * _knows_by_heart(arms.get(run.name))
        worths[run.name] = [
            points - weights.latency * (time + shift) - fixed for points, time in zip(quality, seconds, strict=True)
        ]
    return worths


def against(comparison: Comparison, worths: Mapping[str, Sequence[float]], arm: str, other: str) -> Difference:
    """What an arm is worth above another, question by question."""
    groups = [comparison.groups[row] for row in scored(comparison)]
    return paired_bootstrap(worths[arm], worths[other], groups=groups, seed=comparison.seed)


def stand(
    comparison: Comparison,
    names: Sequence[str],
    worths: Mapping[str, Sequence[float]],
    costs: Mapping[str, ArmCost],
    arms: Mapping[str, Arm],
) -> tuple[Standing, ...]:
    """Compares these arms with the baseline; p-values are adjusted for their number."""
    differences = {name: against(comparison, worths, name, comparison.baseline) for name in names}
    adjusted = holm([difference.p for difference in differences.values()])
    runs = {run.name: run for run in comparison.runs}
    base = comparison.baseline
    standings = []
    for (name, difference), p_holm in zip(differences.items(), adjusted, strict=True):
        own, theirs = price(name, costs), price(base, costs)
        standings.append(
            Standing(
                arm=name,
                net=difference.difference,
                low=difference.low,
                high=difference.high,
                p=difference.p,
                p_holm=p_holm,
                quality=POINTS * (mean(comparison, name) - mean(comparison, base)),
                seconds=_seconds(runs[name]) - _seconds(runs[base]),
                price=None if own is None or theirs is None else own - theirs,
                training_seconds=costs[name].training_seconds if name in costs else None,
                trained=is_trained(arms.get(name)),
            )
        )
    return tuple(standings)


def over_constant(comparison: Comparison, constant: Constant, arm: str) -> Difference:
    """Points of the metric that an arm has above one answer to every question."""
    groups = [comparison.groups[row] for row in scored(comparison)]
    own, theirs = ([POINTS * value for value in side] for side in (values(comparison, arm), constant.values))
    return paired_bootstrap(own, theirs, groups=groups, seed=comparison.seed)


def scored(comparison: Comparison) -> list[int]:
    """Rows of the questions that have the comparison's metric."""
    scores = comparison.scores[comparison.runs[0].name]
    return [row for row, score in enumerate(scores) if score._asdict()[comparison.metric] is not None]


def values(comparison: Comparison, arm: str) -> list[float]:
    """The metric of an arm's replies to these questions."""
    return [float(comparison.scores[arm][row]._asdict()[comparison.metric]) for row in scored(comparison)]


def mean(comparison: Comparison, arm: str) -> float:
    """Mean of the metric; 0 if no question has it."""
    return fmean(values(comparison, arm) or [0.0])


def price(arm: str, costs: Mapping[str, ArmCost]) -> float | None:
    """Price of 1,000 answers; None if it is not known."""
    return costs[arm].price if arm in costs else None


def is_trained(arm: Arm | None) -> bool:
    """Whether the arm needs fine-tuning."""
    return arm is not None and bool(arm.adapter or (arm.other and arm.other.adapter))


def _knows_by_heart(arm: Arm | None) -> bool:
    return arm is not None and is_trained(arm) and arm.context == "none"


def _seconds(run: ArmRun) -> float:
    return fmean([reply.seconds for reply in run.replies if not reply.error] or [0.0])
