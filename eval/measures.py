"""What a comparison measures of an arm: each measure is a ratio of two sums over the questions it is about."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.eval.answers import AnswerScore
from hybrid.eval.resampling import Array
from hybrid.eval.retrieval import ndcg_at_k, recall_at_k, reciprocal_rank
from hybrid.types import Question, document_of

if TYPE_CHECKING:
    from hybrid.eval.comparison import Reply

# Fields of AnswerScore that are 0 or 1.
BINARY = frozenset({"em", "contains", "accuracy"})


class Measure(NamedTuple):
    """A ratio of sums, such as a mean or a share.

    Attributes:
        name: Its key in reports.
        rows: Which questions it is about: a mask that no reply changes, so that it is the same for all arms.
        numerators: One value per question.
        denominators: Likewise; all 0 if the arm has no such measure.
        share: Whether it counts questions among questions.
    """

    name: str
    rows: npt.NDArray[np.bool_]
    numerators: Array
    denominators: Array
    share: bool = False


def measures(
    questions: Sequence[Question],
    replies: "Sequence[Reply]",
    scores: Sequence[AnswerScore],
    *,
    metric: str,
    k: int,
) -> list[Measure]:
    """Measures one arm; the same list of names and rows for every arm.

    Every field of `AnswerScore` is a mean over the questions that have it. Besides:

    - `abstained`, `over_refused`, `refused_unanswerable`: share of refusals over all, answerable and unanswerable
      questions; the last is the recall of refusals.
    - `refusal_precision`, `refusal_f1`: of refusals, as the detection of unanswerable questions, if there are any.
    - `coverage`: share of questions that were answered, neither refused nor failed.
    - `answered_precision`: mean of `metric` over the questions that were answered; 0 for an unanswerable one. Questions
      that do not have the metric, such as those without a label, are left out.
    - `recall_at_k`, `mrr`, `ndcg_at_k`: means over the questions with gold documents, of what was retrieved.
    - `gold_shown`: mean share of the gold documents of which the prompt showed a passage.
    - `seconds`: mean time of an answer that did not fail.
    """
    everything = np.ones(len(questions), dtype=np.bool_)
    answerable = np.array([question.answerable for question in questions], dtype=np.bool_)
    detectable = np.full(len(questions), not answerable.all())
    refused = _floats(reply.abstained and not reply.error for reply in replies)
    failed = _floats(bool(reply.error) for reply in replies)
    answered = 1 - np.maximum(refused, failed)
    wanted = _field(scores, metric)
    judged = np.array(decidable(questions, scores, metric), dtype=np.bool_)
    points = _floats(value or 0.0 for value in wanted)
    rightly = refused * ~answerable
    ones = np.ones(len(questions))
    retrieves = float(any(reply.documents for reply in replies)) * ones
    shows = float(any(reply.contexts for reply in replies)) * ones
    with_gold = np.array([bool(question.gold) for question in questions], dtype=np.bool_)
    ranked = [(reply.documents, q.gold) for q, reply in zip(questions, replies, strict=True)]
    return [
        *(_mean_of(name, _field(scores, name)) for name in AnswerScore._fields),
        Measure("abstained", everything, refused, ones, True),
        Measure("over_refused", answerable, refused, ones, True),
        Measure("refused_unanswerable", ~answerable, refused, ones, True),
        Measure("refusal_precision", detectable, rightly, refused, True),
        Measure("refusal_f1", detectable, 2 * rightly, refused + ~answerable),
        Measure("coverage", everything, answered, ones, True),
        Measure("answered_precision", judged, points * answered, answered),
        Measure("recall_at_k", with_gold, _floats(recall_at_k(*pair, k) for pair in ranked), retrieves),
        Measure("gold_shown", with_gold, _floats(map(_shown, questions, replies)), shows),
        Measure("mrr", with_gold, _floats(reciprocal_rank(*pair) for pair in ranked), retrieves),
        Measure("ndcg_at_k", with_gold, _floats(ndcg_at_k(*pair, k) for pair in ranked), retrieves),
        Measure("seconds", everything, _floats(reply.seconds for reply in replies) * (1 - failed), 1 - failed),
    ]


def decidable(questions: Sequence[Question], scores: Sequence[AnswerScore], metric: str) -> list[bool]:
    """Which questions an answer can be right or wrong about: those that have the metric, and the unanswerable ones."""
    return [
        value is not None or not question.answerable
        for question, value in zip(questions, _field(scores, metric), strict=True)
    ]


def _shown(question: Question, reply: "Reply") -> float:
    shown = dict.fromkeys(document_of(chunk) for chunk in reply.contexts)
    return recall_at_k(list(shown), question.gold, max(1, len(shown)))


def _field(scores: Sequence[AnswerScore], name: str) -> list[float | None]:
    return [score._asdict()[name] for score in scores]


def _mean_of(name: str, values: Sequence[float | None]) -> Measure:
    rows = np.array([value is not None for value in values], dtype=np.bool_)
    return Measure(name, rows, _floats(value or 0.0 for value in values), rows.astype(np.float64), name in BINARY)


def _floats(values: Iterable[float]) -> Array:
    return np.fromiter(values, dtype=np.float64)
