"""Finds the spans of retrieved chunks that support an answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hybrid.types import Citation, Hit

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^\n.!?]*(?:[.!?](?!\s|$)[^\n.!?]*)*[.!?]?")
_MIN_OVERLAP = 0.6


def cite(answer: str, hits: Sequence[Hit], limit: int = 3) -> tuple[Citation, ...]:
    """Returns the sentences that hold the answer word for word, else the one that shares most of its words.

    A bare yes or no has no citation.

    Args:
        answer: The generated answer.
        hits: The context, in the order of the prompt; citation numbers count from 1.
        limit: Most citations returned.
    """
    wanted = _WORD.findall(answer.lower())
    if set(wanted) <= {"yes", "no"}:  # words that say nothing about where they come from
        return ()
    pattern = re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, wanted)) + r"(?!\w)", re.I)
    exact = [
        _citation(number, hit, *_sentence_around(hit.chunk.text, *match.span()))
        for number, hit in enumerate(hits, 1)
        if (match := pattern.search(hit.chunk.text))
    ]
    return tuple(exact[:limit]) or _closest(wanted, hits)


def _closest(wanted: Sequence[str], hits: Sequence[Hit]) -> tuple[Citation, ...]:
    best: tuple[float, Citation | None] = (0.0, None)
    for number, hit in enumerate(hits, 1):
        for match in _SENTENCE.finditer(hit.chunk.text):
            shared = sum((Counter(_WORD.findall(match.group().lower())) & Counter(wanted)).values()) / len(wanted)
            if shared > best[0] and match.group().strip():
                best = (shared, _citation(number, hit, *match.span()))
    return (best[1],) if best[1] and best[0] >= _MIN_OVERLAP else ()


def _sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    for match in _SENTENCE.finditer(text):
        if match.start() <= start < match.end():
            return match.start(), max(match.end(), end)
    return start, end


def _citation(number: int, hit: Hit, start: int, end: int) -> Citation:
    quote = hit.chunk.text[start:end]
    start += len(quote) - len(quote.lstrip())
    quote = quote.strip()
    return Citation(number, hit.chunk.document, hit.chunk.start + start, hit.chunk.start + start + len(quote), quote)
