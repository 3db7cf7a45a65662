"""Finds the chunk that supports a user's question and answer, and the span of it that holds the answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hybrid.citations import sentences
from hybrid.eval.answers import contains, normalise, tokens
from hybrid.pairs.align import Span, align, whole_match
from hybrid.types import Chunk, Question

# A retrieved chunk without the answer supports it if it has this share of the words of question and answer. Of 508
# questions on a TV manual, PubMedQA and CLAPNQ whose answer none of 20 retrieved chunks holds, 334 pass, 97 % of them
# with a chunk of the gold document; at 0.5, 437 would pass with 92 %.
_SHARE = 0.6
# One that holds the answer, but need not be about the question, this share: of 1,500 SQuAD questions 97 % pass with
# their own paragraph, of others that hold the answer by chance 20 % (all of them at 0; 35 % at 0.3, 10 % at 0.5).
_SHARE_OF_HOLDER = 0.4
_DECISIONS = {"yes", "no", "maybe"}


class Support(NamedTuple):
    """The chunk that supports an answer, and the span `[start, end)` of its text that proves it."""

    answer: str
    chunk: Chunk
    start: int
    end: int


def find_support(question: Question, gold: Sequence[Chunk], retrieved: Sequence[Chunk]) -> Support | None:
    """Finds the oracle of an answerable question.

    Of the chunks that hold an answer, it is the one that shares the most words with question and answer. Where none
    holds it, it is that chunk of the gold documents, or of the retrieved ones. A retrieved chunk must share enough of
    these words, more if it does not hold the answer.

    Args:
        question: The question with its answers.
        gold: Chunks of its gold documents, as far as these are in the index.
        retrieved: What the retriever returns for the question, best first; only looked at without `gold`.
    """
    if not question.answers:
        return None
    rank = {chunk.id: position for position, chunk in enumerate(retrieved)}
    places = sorted(gold, key=lambda chunk: rank.get(chunk.id, len(rank))) if gold else retrieved
    wanted = frozenset(tokens(f"{question.question} {max(question.answers, key=len)}"))
    shares = {chunk.id: len(wanted & _tokens(chunk.text)) / max(1, len(wanted)) for chunk in places}
    near = [chunk for chunk in places if gold or shares[chunk.id] >= _SHARE_OF_HOLDER]
    held = [support for chunk in near if (support := _held(question.answers, chunk))]
    if held:
        return max(held, key=lambda support: shares[support.chunk.id])
    closest = max(places, key=lambda chunk: shares[chunk.id], default=None)
    if closest is None or (not gold and shares[closest.id] < _SHARE):
        return None
    return Support(question.answers[0], closest, 0, len(closest.text))


def _held(answers: Sequence[str], chunk: Chunk) -> Support | None:
    for answer in answers:
        if span := answer_span(chunk.text, answer):
            return Support(answer, chunk, *span)
    return None


def answer_span(text: str, answer: str) -> Span | None:
    """Finds an answer word for word, whatever its form (`hybrid.pairs.align`), or as evaluation reads it.

    The last gives the sentence that holds it, or the whole text if no single one does. A bare yes, no or maybe is never
    found: a text need not hold it, and one that does proves nothing.
    """
    pattern = _pattern(answer)
    if pattern is None:
        return None
    if span := verbatim_span(text, answer):
        return span
    if _letters(answer) in _letters(text) and (span := align(answer, text)):
        return span
    if pattern.search(text):  # there it is part of another number, which evaluation does not see
        return None
    if _tokens(answer) <= _tokens(text) and contains(text, [answer]):
        return next((span for span in sentences(text) if contains(text[slice(*span)], [answer])), (0, len(text)))
    return None


def verbatim_span(text: str, answer: str) -> Span | None:
    """Finds an answer word for word, whatever its case and line breaks.

    >>> verbatim_span("It weighs 15 kg, 2.5 of them water, and has 5 legs.", "5")
    (44, 45)
    """
    pattern = _pattern(answer)
    return whole_match(pattern, text) if pattern else None


@lru_cache(4096)
def _pattern(answer: str) -> re.Pattern[str] | None:
    """Finds an answer as whole words ("5" is not in "15"), over line breaks too; other scripts need no space around."""
    if normalise(answer) in _DECISIONS:
        return None
    text = r"\s+".join(map(re.escape, answer.split()))
    before = r"(?<!\w)" if re.match(r"[A-Za-z0-9]", answer.strip()) else ""
    after = r"(?!\w)" if re.search(r"[A-Za-z0-9]$", answer.strip()) else ""
    return re.compile(before + text + after, re.IGNORECASE)


@lru_cache(4096)
def _tokens(text: str) -> frozenset[str]:
    return frozenset(tokens(text))


@lru_cache(4096)
def _letters(text: str) -> str:
    """What no difference in form changes: of an answer, a part of that of every text it can be aligned with."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).lower()))
