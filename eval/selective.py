"""Answering only what the model is sure of: precision against coverage, as its confidence has to be higher.

After El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification".
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hybrid.eval.comparison import Comparison
from hybrid.eval.grounding import auroc
from hybrid.eval.measures import decidable

RIGHT = 0.5  # an answer that scores this much of the deciding metric counts as right


class CurvePoint(NamedTuple):
    """What becomes of an arm whose answers below a confidence are withheld.

    Attributes:
        confidence: The least confidence that is answered with.
        coverage: Share of the questions that are still answered.
        precision: Mean score of these answers.
    """

    confidence: float
    coverage: float
    precision: float


class Selective(NamedTuple):
    """How far the confidence of an arm tells its right answers from the others.

    Attributes:
        arm: Its name.
        auroc: Chance that a right answer has more confidence than a wrong one; None without both kinds.
        curve: From the surest answers to all of them.
    """

    arm: str
    auroc: float | None
    curve: tuple[CurvePoint, ...]


def selective(comparison: Comparison) -> list[Selective]:
    """Measures every arm that has answers, all of them with a confidence.

    Refusals and failures are no answers. Answering an unanswerable question scores 0; questions that do not have the
    deciding metric, such as those without a label, are left out.
    """
    found = []
    for run in comparison.runs:
        scores = comparison.scores[run.name]
        judged = [
            (reply, getattr(score, comparison.metric) or 0.0)
            for reply, score, counts in zip(
                run.replies, scores, decidable(comparison.questions, scores, comparison.metric), strict=True
            )
            if counts
        ]
        answered = [(reply.confidence, own) for reply, own in judged if not reply.abstained and not reply.error]
        confidences = [confidence for confidence, _ in answered if confidence is not None]
        if not answered or len(confidences) < len(answered):
            continue
        points = [own for _, own in answered]
        right = [own >= RIGHT for own in points]
        worth = auroc(right, confidences) if len(set(right)) == 2 else None
        found.append(Selective(run.name, worth, tuple(coverage_curve(confidences, points, len(judged)))))
    return found


def coverage_curve(confidences: Sequence[float], scores: Sequence[float], questions: int) -> Iterator[CurvePoint]:
    """Yields one point for each confidence that occurs, the highest first.

    Args:
        confidences: Of every answer.
        scores: Likewise.
        questions: All that were asked, answered or not.

    >>> [point[1:] for point in coverage_curve([0.9, 0.5, 0.7], [1.0, 0.0, 0.5], 4)]
    [(0.25, 1.0), (0.5, 0.75), (0.75, 0.5)]
    """
    ranked = sorted(zip(confidences, scores, strict=True), reverse=True)
    total = 0.0
    for number, (confidence, score) in enumerate(ranked, start=1):
        total += score
        if number == len(ranked) or ranked[number][0] < confidence:
            yield CurvePoint(confidence, number / questions, total / number)
