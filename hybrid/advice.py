"""The verdict: what the comparison says a team should build."""

from __future__ import annotations

from hybrid.eval.comparison import ArmSummary, Comparison

_ALPHA = 0.05
_NAMES = {
    "hybrid": "Hybrid (fine-tuned on retrieved contexts, served with retrieval)",
    "tuned": "Fine-tuning alone",
    "base": "The base model alone",
    "rag": "Retrieval alone (RAG)",
}


def verdict(comparison: Comparison) -> str:
    """States which arm to build, from the paired differences in token F1 against the baseline.

    An arm is preferred to the baseline only if it is better with p < 0.05, by Holm's adjustment for the number of arms;
    otherwise the simpler baseline stands.
    """
    arms = {summary.name: summary for summary in comparison.summaries}
    baseline = arms.get(comparison.baseline)
    if baseline is None:
        best = max(comparison.summaries, key=lambda arm: arm.f1)
        return (
            f"{_name(best)} answers best (F1 {best.f1:.3f}), "
            f"but the baseline {comparison.baseline!r} was not among the arms."
        )
    if len(arms) == 1:
        return f"Only {baseline.name} ran (F1 {baseline.f1:.3f}); with one arm there is nothing to compare."
    answerable = sum(question.answerable for question in comparison.questions)
    better = [arm for arm in comparison.summaries if _better(arm)]
    if better:
        best = max(better, key=lambda arm: arm.f1)
        return (
            f"{_name(best)}: token F1 {best.f1:.3f} against {baseline.f1:.3f} for {comparison.baseline}, "
            f"{_evidence(best)} on {answerable} questions."
        )
    close = [arm for arm in comparison.summaries if arm.vs_rag and arm.vs_rag.high > 0]
    if not close:
        return f"{_name(baseline)}: no other arm comes near it (F1 {baseline.f1:.3f} on {answerable} questions)." + (
            " Do not fine-tune." if arms.keys() & {"tuned", "hybrid"} else ""
        )
    best = max(close, key=lambda arm: arm.f1)
    return (
        f"{_name(baseline)}: not enough evidence for anything else. {best.name} differs by {_evidence(best)} "
        f"on {answerable} questions; ask more questions to see a smaller difference."
    )


def power_note(comparison: Comparison) -> str | None:
    """Says which differences the questions are too few to show; None if no arm is compared with the baseline."""
    limits = [arm.detectable for arm in comparison.summaries if arm.detectable]
    if not limits:
        return None
    answerable = sum(question.answerable for question in comparison.questions)
    return (
        f"With {answerable} answerable questions, a difference in F1 under {max(limits):.3f} is likely to go unseen "
        "(80% power, 5% level)."
    )


def _better(arm: ArmSummary) -> bool:
    return arm.vs_rag is not None and arm.vs_rag.difference > 0 and arm.p_holm is not None and arm.p_holm < _ALPHA


def _name(arm: ArmSummary) -> str:
    return _NAMES.get(arm.name, arm.name)


def _evidence(arm: ArmSummary) -> str:
    difference = arm.vs_rag
    if difference is None:
        return "no difference measured"
    p = "p < 0.001" if difference.p < 0.001 else f"p = {difference.p:.3f}"
    return f"{difference.difference:+.3f} (95% interval {difference.low:+.3f} to {difference.high:+.3f}, {p})"
