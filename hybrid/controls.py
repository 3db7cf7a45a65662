"""Contexts that no retriever returns: the chunks that hold the answer, and retrieved chunks that lack it.

They tell the errors of retrieval from those of the model: what an arm would reach with perfect retrieval, and whether
it refuses where the answer is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid.config import Context
from hybrid.pairs.oracles import answer_span, find_support
from hybrid.types import Chunk, Hit, Question

DEPTH = 20  # hits looked at, for an oracle that no gold document names and for distractors


def by_document(chunks: Sequence[Chunk]) -> dict[str, list[Chunk]]:
    """The chunks of every document, in their order."""
    found: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        found.setdefault(chunk.document, []).append(chunk)
    return found


def oracle_hits(question: Question, found: Sequence[Hit], chunks_of: Mapping[str, Sequence[Chunk]]) -> list[Hit]:
    """The best supporting chunk of every gold document; without gold, of what was retrieved.

    Args:
        question: The question with its answers.
        found: What was retrieved for it, best first.
        chunks_of: The chunks of every document.

    Returns:
        Hits with ranks of their own; none for a question without answer, or whose support is not found.
    """
    retrieved = [hit.chunk for hit in found]
    named = [chunks_of[document] for document in question.gold if document in chunks_of]
    supports = [find_support(question, chunks, retrieved) for chunks in named or [[]]]
    chunks = dict.fromkeys(support.chunk for support in supports if support)
    return [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(chunks, 1)]


def distractor_hits(question: Question, found: Sequence[Hit], oracle: Sequence[Hit]) -> list[Hit]:
    """Retrieved chunks that neither hold an answer, nor are the oracle, nor come from a gold document."""
    own = {hit.chunk.id for hit in oracle}
    return [
        hit
        for hit in found
        if hit.chunk.id not in own
        and hit.chunk.document not in question.gold
        and not any(answer_span(hit.chunk.text, answer) for answer in question.answers)
    ]


def contexts(
    context: Context,
    k: int,
    questions: Sequence[Question],
    found: Sequence[Sequence[Hit]],
    chunks_of: Mapping[str, Sequence[Chunk]],
) -> list[list[Hit]]:
    """What an arm with this context shows for every question, best first: `k` chunks, or all oracles.

    A question without a known oracle keeps, under `oracle`, what was retrieved: there is nothing better.

    Args:
        context: The context.
        k: Most chunks.
        questions: The questions.
        found: What was retrieved for each, deeper than `k` so that distractors are left.
        chunks_of: The chunks of every document.
    """
    if context == "none":
        return [[] for _ in questions]
    if context == "retrieved":
        return [list(hits[:k]) for hits in found]
    oracles = [oracle_hits(question, hits, chunks_of) for question, hits in zip(questions, found, strict=True)]
    if context == "oracle":
        return [oracle or list(hits[:k]) for oracle, hits in zip(oracles, found, strict=True)]
    return [distractor_hits(*place)[:k] for place in zip(questions, found, oracles, strict=True)]
