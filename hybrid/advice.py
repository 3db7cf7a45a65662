"""The verdict: what the comparison says a team should build, at what it says counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten

from hybrid.arms import ARMS, Arm, controls
from hybrid.cautions import ALPHA, FEW_CLUSTERS, asked, cautions, failures, made_up, metric_name, score
from hybrid.config import WeightsConfig
from hybrid.costs import ArmCost
from hybrid.eval.clusters import count_clusters
from hybrid.eval.comparison import Comparison
from hybrid.eval.constant import Constant, best_constant
from hybrid.eval.labels import duration, p_value
from hybrid.standings import Standing, against, mean, over_constant, price, scored, stand, worth

_WIDE = 20.0  # points of quality between the ends of an interval
_NAMES = {
    "hybrid": "Hybrid (fine-tuned on retrieved contexts, served with retrieval)",
    "tuned": "Fine-tuning alone",
    "tuned_rag": "The closed-book adapter, served with retrieval",
    "base": "The base model alone",
    "rag": "Retrieval alone (RAG)",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to build.

    Attributes:
        choice: Name of the arm; None where there is not enough evidence.
        fine_tune: Whether to fine-tune; None where that is open, or no fine-tuned arm ran.
        reasons: The conclusion and its numbers, in sentences.
        warnings: What makes the evidence weak, in sentences.
        standings: The arms that could be built, in the order of the comparison, without the baseline.
    """

    choice: str | None
    fine_tune: bool | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()

    @property
    def text(self) -> str:
        """The verdict as the report shows it: a paragraph of reasons, one of warnings."""
        return "\n\n".join(" ".join(part) for part in (self.reasons, self.warnings) if part)


def decide(
    comparison: Comparison,
    weights: WeightsConfig = WeightsConfig(),  # noqa: B008 - frozen
    costs: Mapping[str, ArmCost] | None = None,
    arms: Mapping[str, Arm] = ARMS,
    documents: Collection[str] | None = None,
) -> Decision:
    """Decides which arm to build, from the paired differences against the baseline.

    An arm is worth `quality` x its points of the comparison's metric, less `latency` x its seconds, `cost` x its price,
    and `changes` if its model must know the documents by heart. It is preferred to the baseline only if it is worth
    more with p < 0.05, by Holm's adjustment for the number of arms, and if it is clearly better than the best single
    answer to every question (`best_constant`), which needs no reading. Arms most of whose answers failed are left out.
    Of several, the one worth most is chosen, unless one that needs no training is not clearly worth less. Fine-tuning
    is advised against where the intervals of all fine-tuned arms exclude a gain. Arms that nobody can build, such as
    those with oracle contexts, are never chosen.

    Args:
        comparison: The arms, their scores and replies.
        weights: What counts how much.
        costs: What each arm costs; arms without one have no price.
        arms: What each arm is; others count as untrained.
        documents: Ids of the documents in the index, if they are known.
    """
    prices = costs or {}
    failing = {arm.name for arm in comparison.summaries if 2 * arm.errors > arm.n}
    unbuildable = controls(arms.values())
    known = [run.name for run in comparison.runs if run.name not in unbuildable]
    built = [name for name in known if name not in failing]
    if comparison.baseline not in known:
        return _without_baseline(comparison, known)
    if comparison.baseline in failing or not any(mean(comparison, name) for name in known):
        reason = _useless(comparison, failed=comparison.baseline in failing)
        return Decision(None, None, (reason,), tuple(failures(comparison)))
    if len(built) == 1:
        left = f"Only {built[0]} ran ({score(comparison, built[0])})"
        if failing & set(known):
            left += f", as most answers of {', '.join(name for name in known if name in failing)} failed"
        reason = f"{left}; with one arm there is nothing to compare."
        return Decision(None, None, (reason,), tuple(failures(comparison)))
    worths = worth(comparison, weights, prices, arms)
    standings = stand(comparison, [name for name in built if name != comparison.baseline], worths, prices, arms)
    plain = weights.latency == weights.cost == weights.changes == 0
    constant = _constant(comparison)
    blind = {name for name in built if constant and not _reads(comparison, constant, name)}
    better = sorted((s for s in standings if _is_better(s)), key=lambda s: -s.net)
    if seeing := [standing for standing in better if standing.arm not in blind]:
        decision = _change(comparison, worths, standings, seeing, plain)
    elif comparison.baseline in blind:
        decision = _blind(comparison, standings, plain, everyone=len(blind) == len(built))
    else:
        decision = _stay(comparison, [s for s in standings if s not in better], plain)
    decisive = next((s for s in standings if s.arm == decision.choice), max(standings, key=lambda s: s.net))
    free = [name for name in built if price(name, prices) is None] if weights.cost else []
    warnings = cautions(comparison, decisive, free, documents, wide=_WIDE * (weights.quality or 1.0))
    warnings += made_up(comparison, decision.choice)
    if constant and blind:
        named = ", ".join(name for name in built if name in blind)
        warnings.append(
            f"Not clearly better than answering {shorten(constant.answer, 60, placeholder=' …')!r} to every question "
            f"({metric_name(comparison)} {constant.mean:.3f}): {named}."
        )
    return replace(decision, warnings=tuple(warnings), standings=standings)


def _without_baseline(comparison: Comparison, built: Sequence[str]) -> Decision:
    best = max(built or [run.name for run in comparison.runs], key=lambda name: mean(comparison, name))
    reason = (
        f"{_name(best)} answers best ({score(comparison, best)}), "
        f"but the baseline {comparison.baseline!r} was not among the arms."
    )
    return Decision(None, None, (reason, "Without it there is not enough evidence."))


def _change(
    comparison: Comparison,
    worths: Mapping[str, Sequence[float]],
    standings: Sequence[Standing],
    better: Sequence[Standing],
    plain: bool,
) -> Decision:
    """Some arms are clearly better than the baseline: takes the best, or one that is as good without training."""
    best = better[0]
    simpler = [s for s in better[1:] if best.trained and not s.trained]
    chosen = next((s for s in simpler if against(comparison, worths, best.arm, s.arm).p >= ALPHA), best)
    reasons = [
        f"{_name(chosen.arm)}: {_lead(comparison, chosen, standings)}.",
        *_net(chosen, plain),
    ]
    for rival in (s for s in better if s is not chosen):
        lead = against(comparison, worths, chosen.arm, rival.arm)
        if lead.p >= ALPHA:
            reasons.append(
                f"{rival.arm} is not clearly apart from it: {chosen.arm} leads by {lead.difference:+.1f} points "
                f"({lead.low:+.1f} to {lead.high:+.1f})."
            )
    reasons += _time(chosen)
    if chosen.trained:
        return Decision(chosen.arm, True, (*reasons, *_training(chosen)))
    trained = [s for s in standings if s.trained]
    leads = [against(comparison, worths, s.arm, chosen.arm) for s in trained]
    closed = bool(trained) and all(_is_ruled_out(comparison, lead.high, lead.p) for lead in leads)
    if closed:
        reasons.append("Do not fine-tune: no fine-tuned arm gains on it.")
    elif trained:
        reasons.append("Do not fine-tune yet: no fine-tuned arm is clearly better.")
    return Decision(chosen.arm, False if closed else None, tuple(reasons))


def _useless(comparison: Comparison, *, failed: bool) -> str:
    """Why nothing is said about the arms: the baseline failed, or nobody scores anything."""
    if failed:
        base = comparison.baseline
        return f"Most answers of the baseline {base!r} failed, so there is not enough evidence: mend that first."
    if not scored(comparison):
        return (
            "No question has an answer to score, so there is not enough evidence: ask some that the documents answer."
        )
    return (
        f"No arm scores anything ({metric_name(comparison)} 0 on {asked(comparison)}), so there is not enough "
        "evidence: look at the answers, the gold answers and compare.metric."
    )


def _blind(comparison: Comparison, standings: Sequence[Standing], plain: bool, *, everyone: bool) -> Decision:
    """The baseline is no better than one answer to every question, and no arm that is better than both is."""
    best = max(standings, key=lambda s: s.net)
    who = "No arm shows that it reads the questions"
    if not everyone:
        who = f"{comparison.baseline} does not show that it reads the questions, and no arm that does is clearly better"
    reasons = (
        f"{who}: not enough evidence for any of them.",
        f"{_name(best.arm)} has {_lead(comparison, best, standings)}.",
        *_net(best, plain),
    )
    return Decision(None, None, reasons)


def _stay(comparison: Comparison, standings: Sequence[Standing], plain: bool) -> Decision:
    """No arm is clearly better than the baseline; arms that only seem so are not among `standings`."""
    base = comparison.baseline
    if not standings:
        reason = f"{_name(base)}: no other arm shows that it reads the questions ({score(comparison, base)})."
        return Decision(base, None, (reason,))
    trained = [s for s in standings if s.trained]
    closed = bool(trained) and all(_is_ruled_out(comparison, s.high, s.p) for s in trained)
    advice = [f"Do not fine-tune{_spent(trained)}."] if closed else []
    nearest = max(standings, key=lambda s: s.net)
    if all(_is_ruled_out(comparison, s.high, s.p) for s in standings):
        reason = f"{_name(base)}: no other arm gains on it ({score(comparison, base)} on {asked(comparison)})."
        detail = f"The next, {nearest.arm}, differs by {_evidence(nearest, standings)}."
        return Decision(base, False if closed else None, (reason, detail, *_net(nearest, plain), *advice))
    reasons = [
        f"{_name(base)} for now: not enough evidence for anything else.",
        f"{nearest.arm} differs by {_evidence(nearest, standings)} on {asked(comparison)}.",
        *_net(nearest, plain),
        *advice,
        "Ask more questions to see a smaller difference.",
    ]
    if trained and not closed:
        reasons.append("Whether to fine-tune is open.")
    return Decision(None, False if closed else None, tuple(reasons))


def _reads(comparison: Comparison, constant: Constant, arm: str) -> bool:
    """Whether an arm is clearly better than one answer to every question."""
    lead = over_constant(comparison, constant, arm)
    return lead.difference > 0 and lead.p < ALPHA


def _constant(comparison: Comparison) -> Constant | None:
    """The best single answer to every question, what each arm says most often among those tried."""
    counts = [Counter(reply.text for reply in run.replies if reply.text) for run in comparison.runs]
    said = [text for count in counts for text, times in count.most_common(1) if times > 1]
    return best_constant([comparison.questions[row] for row in scored(comparison)], comparison.metric, said)


def _is_better(standing: Standing) -> bool:
    return standing.net > 0 and standing.p_holm < ALPHA


def _is_ruled_out(comparison: Comparison, high: float, p: float) -> bool:
    """Whether a gain is excluded: an interval from a handful of questions is too narrow to say so alone."""
    enough = count_clusters([comparison.groups[row] for row in scored(comparison)]).clusters >= FEW_CLUSTERS
    return high <= 0 and (p < ALPHA or enough)


def _lead(comparison: Comparison, standing: Standing, standings: Sequence[Standing]) -> str:
    return (
        f"{score(comparison, standing.arm)} against {mean(comparison, comparison.baseline):.3f} for "
        f"{comparison.baseline}, {_evidence(standing, standings)} on {asked(comparison)}"
    )


def _evidence(standing: Standing, standings: Sequence[Standing]) -> str:
    told = p_value(standing.p_holm, len(standings))
    return f"{standing.net:+.1f} points (95% interval {standing.low:+.1f} to {standing.high:+.1f}, {told})"


def _net(standing: Standing, plain: bool) -> list[str]:
    """What the points are made of, where more than quality counts."""
    if plain:
        return []
    priced = "" if standing.price is None else f", {standing.price:+.2f} in price of 1,000 answers"
    return [
        f"These are points after your weights; before them it is {standing.quality:+.1f} points of quality, "
        f"{standing.seconds:+.2f} s an answer{priced}."
    ]


def _time(standing: Standing) -> list[str]:
    if abs(standing.seconds) < 0.005:
        return []
    return [f"An answer takes {abs(standing.seconds):.2f} s {'more' if standing.seconds > 0 else 'less'}."]


def _training(standing: Standing) -> list[str]:
    if standing.training_seconds is None:
        return ["It needs training, and again when the documents change much."]
    return [
        f"It took {duration(standing.training_seconds)} to train, and needs it again when the documents change much."
    ]


def _spent(trained: Sequence[Standing]) -> str:
    spent = [s.training_seconds for s in trained if s.training_seconds is not None]
    return f": {duration(sum(spent))} of training bought nothing" if spent else ""


def _name(arm: str) -> str:
    return _NAMES.get(arm, arm)
