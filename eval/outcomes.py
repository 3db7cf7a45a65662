"""What a reader wants to know of a reply: one word per reply, and means per kind of question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from hybrid.eval.answers import AnswerScore
from hybrid.eval.comparison import Comparison, Reply
from hybrid.types import Question

Outcome = Literal["exact", "partial", "wrong", "abstained", "refused", "answered", "error"]

FAILURES: frozenset[Outcome] = frozenset({"wrong", "abstained", "answered", "error"})

# Share of tokens that makes an inexact answer worth a second look.
_PARTIAL_F1 = 0.5


@dataclass(frozen=True, slots=True)
class Slice:
    """One measure over the questions of one kind.

    Attributes:
        kind: The label of the questions; may be empty.
        measure: `F1` of answerable questions, or `refused`, the share of abstentions over unanswerable ones.
        n: Number of questions.
        values: The mean per arm, in 0..1.
    """

    kind: str
    measure: Literal["F1", "refused"]
    n: int
    values: Mapping[str, float]


def outcome(question: Question, reply: Reply, score: AnswerScore) -> Outcome:
    """Names how a reply turned out.

    `exact`: exact match. `partial`: contains a gold answer, or has a token F1 of at least 0.5. `wrong`: neither.
    `abstained`: declined though the question has an answer. `refused`: rightly declined. `answered`: answered though
    there is no answer. `error`: failed.
    """
    if reply.error:
        return "error"
    if not question.answerable:
        return "refused" if reply.abstained else "answered"
    if reply.abstained:
        return "abstained"
    if score.em:
        return "exact"
    return "partial" if score.contains or (score.f1 or 0.0) >= _PARTIAL_F1 else "wrong"


def by_kind(comparison: Comparison) -> tuple[Slice, ...]:
    """Means per kind of question, kinds in the order of the questions; F1 before refusals."""
    kinds = dict.fromkeys(question.kind for question in comparison.questions)
    slices = (
        _slice(comparison, kind, answerable)
        for kind in kinds
        for answerable in (True, False)
        if any(question.kind == kind and question.answerable is answerable for question in comparison.questions)
    )
    return tuple(slices)


def _slice(comparison: Comparison, kind: str, answerable: bool) -> Slice:
    rows = [
        row
        for row, question in enumerate(comparison.questions)
        if question.kind == kind and question.answerable is answerable
    ]
    means = {run.name: _mean(comparison.scores[run.name], run.replies, rows, answerable) for run in comparison.runs}
    return Slice(kind, "F1" if answerable else "refused", len(rows), means)


def _mean(scores: Sequence[AnswerScore], replies: Sequence[Reply], rows: Sequence[int], answerable: bool) -> float:
    if answerable:
        return fmean(scores[row].f1 or 0.0 for row in rows)
    return fmean(replies[row].abstained and not replies[row].error for row in rows)
