"""What a reader wants to know of a reply, in one word."""

from typing import Literal

from hybrid.eval.answers import AnswerScore
from hybrid.eval.comparison import Reply
from hybrid.types import Question

Outcome = Literal["exact", "partial", "wrong", "abstained", "refused", "answered", "error"]

FAILURES: frozenset[Outcome] = frozenset({"wrong", "abstained", "answered", "error"})

# Share of tokens that makes an inexact answer worth a second look.
PARTIAL_F1 = 0.5


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
    return "partial" if score.contains or (score.f1 or 0.0) >= PARTIAL_F1 else "wrong"
