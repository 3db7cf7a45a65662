"""Refusing without asking a model, where search finds nothing near the question."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.eval.comparison import Reply
from hybrid.types import Hit, Question


def nearest_cosine(hits: Sequence[Hit]) -> float | None:
    """Cosine of a question and the nearest of its hits; None if it is not known of any."""
    return max((hit.cosine for hit in hits if hit.cosine is not None), default=None)


def is_too_far(hits: Sequence[Hit], min_cosine: float) -> bool:
    """Whether the nearest hit lies below `serve.min_cosine`; never where its cosine is not known.

    >>> is_too_far([], 0.5)
    False
    """
    cosine = nearest_cosine(hits)
    return cosine is not None and cosine < min_cosine


def refuse(question: Question, hits: Sequence[Hit], k: int, refusal: str) -> Reply:
    """The reply to a question that no model is asked; it names the `k` passages that a prompt would have shown."""
    return Reply(
        question.id,
        refusal,
        abstained=True,
        documents=tuple(dict.fromkeys(hit.chunk.document for hit in hits)),
        contexts=tuple(hit.chunk.id for hit in hits[:k]),
        seconds=0.0,
    )


def refusals(
    questions: Sequence[Question], hits: Sequence[Sequence[Hit]], min_cosine: float, *, k: int, refusal: str
) -> dict[str, Reply]:
    """The replies to those questions that are too far from all of their hits, by question id; see `refuse`."""
    return {
        question.id: refuse(question, found, k, refusal)
        for question, found in zip(questions, hits, strict=True)
        if is_too_far(found, min_cosine)
    }
