"""What makes the evidence of a comparison weak, in sentences, and the words in which it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hybrid.eval.clusters import count_clusters
from hybrid.eval.comparison import Comparison
from hybrid.standings import POINTS, Standing, mean, scored

ALPHA = 0.05
FEW_CLUSTERS = 20
_FEW_QUESTIONS = 50
_LOW_RECALL = 0.7
_METRICS = {
    "f1": "token F1",
    "em": "exact match",
    "contains": "share of answers that contain the right one",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
}


def power_note(comparison: Comparison) -> str | None:
    """Says which differences the questions are too few to show; None if no arm is compared with the baseline."""
    versus = [arm.versus[comparison.metric] for arm in comparison.summaries if comparison.metric in arm.versus]
    if not versus:
        return None
    limits = [each.detectable for each in versus if each.detectable is not None]
    if not limits and any(each.p < 1 for each in versus):
        return (
            f"{asked(comparison)} cannot show any difference, however large (5% level, adjusted for the number of "
            f"arms): ask about more {comparison.grouped_by}s, or compare fewer arms."
        )
    if not any(limits):
        return None
    return (
        f"With {asked(comparison)}, a difference under {POINTS * max(limits):.1f} points of "
        f"{metric_name(comparison)} cannot be seen reliably (80% power, 5% level, adjusted for the number of arms)."
    )


def cautions(
    comparison: Comparison,
    decisive: Standing,
    free: Sequence[str],
    documents: Collection[str] | None,
    *,
    wide: float,
) -> list[str]:
    """What makes the evidence weak.

    Args:
        comparison: The comparison.
        decisive: The arm that the verdict turns on.
        free: Arms that count as free as nobody knows their price.
        documents: Ids of the documents in the index, if they are known.
        wide: Points between the ends of an interval from which on it is wide.
    """
    rows = scored(comparison)
    count, about = len(rows), count_clusters([comparison.groups[row] for row in rows])
    warnings = []
    if count < _FEW_QUESTIONS:
        warnings.append(f"Few questions: {count}; ask at least {_FEW_QUESTIONS}.")
    if about.clusters < min(FEW_CLUSTERS, count):
        warnings.append(
            f"Few documents: the questions are about {about.clusters} separate groups of documents, "
            "so ask about others rather than more about the same."
        )
    if decisive.high - decisive.low > wide:
        warnings.append(f"Wide interval: {decisive.low:+.1f} to {decisive.high:+.1f} points for {decisive.arm}.")
    warnings += _retrieval(comparison, documents)
    warnings += failures(comparison)
    if free:
        warnings.append(
            f"No price is known for {', '.join(free)}, so compare.weights.cost takes it for free; "
            "set compare.price_hour."
        )
    return warnings


def failures(comparison: Comparison) -> list[str]:
    """Counts the answers of each arm that failed."""
    return [
        f"{arm.name}: {arm.errors} of {arm.n} answers failed and count as wrong."
        for arm in comparison.summaries
        if arm.errors
    ]


def made_up(comparison: Comparison, choice: str | None) -> list[str]:
    """Warns where the arm of choice answers more of what the documents do not answer than the baseline does."""
    arms = {arm.name: arm for arm in comparison.summaries}
    name = "refused_unanswerable"
    versus = arms[choice].versus.get(name) if choice else None
    if choice is None or versus is None or versus.difference >= 0 or versus.p_holm >= ALPHA:
        return []
    own, theirs = (arms[arm].value(name) for arm in (choice, comparison.baseline))
    return [
        f"It makes answers up: of the unanswerable questions {choice} refuses {own:.0%}, "
        f"{comparison.baseline} {theirs:.0%}."
    ]


def _retrieval(comparison: Comparison, documents: Collection[str] | None) -> list[str]:
    """Warns where retrieval finds too little for any model to answer well."""
    recalls = {arm.name: recall for arm in comparison.summaries if (recall := arm.value("recall_at_k")) is not None}
    if not recalls:
        return []
    recall = recalls.get(comparison.baseline, max(recalls.values()))
    if recall >= _LOW_RECALL:
        return []
    named = {document for question in comparison.questions for document in question.gold}
    missing = len(named - set(documents)) if documents is not None else 0
    if missing:
        return [
            f"Retrieval finds {recall:.0%} of the gold documents, but {missing} of {len(named)} are not in the index "
            "under the ids that the questions name: mend these first."
        ]
    oracle = f"{comparison.baseline}_oracle"
    ceiling = (
        f" With the right chunks it would reach {score(comparison, oracle)}." if oracle in comparison.scores else ""
    )
    return [
        f"Retrieval is the bottleneck: it finds {recall:.0%} of the gold documents. "
        f"Fix it first (chunks, embedder, prompt.k), then compare again.{ceiling}"
    ]


def asked(comparison: Comparison) -> str:
    """How many questions decide, and in how many groups."""
    rows = scored(comparison)
    about = count_clusters([comparison.groups[row] for row in rows])
    grouped = f" in {about.clusters} groups of common {comparison.grouped_by}s" if about.clusters < len(rows) else ""
    return f"{len(rows)} questions{grouped}"


def score(comparison: Comparison, arm: str) -> str:
    """An arm's mean, with the name of the metric."""
    return f"{metric_name(comparison)} {mean(comparison, arm):.3f}"


def metric_name(comparison: Comparison) -> str:
    """Name of the metric that decides."""
    return _METRICS.get(comparison.metric, comparison.metric)
