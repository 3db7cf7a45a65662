"""Finds the spans of retrieved chunks that support an answer."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from hybrid.pairs.align import whole_match
from hybrid.types import Chunk, Citation, Hit

_WORD = re.compile(r"\w+")
# The full stops of Chinese, Japanese and Hindi end a sentence whatever follows them.
_SENTENCE = re.compile(r"[^\n.!?。！？।]*(?:[.!?](?!\s|$)[^\n.!?。！？।]*)*[.!?。！？।]?")
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
    pattern = re.compile(r"\W+".join(map(re.escape, wanted)), re.I)
    exact = [
        citation_at(number, hit.chunk, *sentence_around(hit.chunk.text, *span))
        for number, hit in enumerate(hits, 1)
        if (span := whole_match(pattern, hit.chunk.text))
    ]
    return tuple(exact[:limit]) or _closest(wanted, hits)


def _closest(wanted: Sequence[str], hits: Sequence[Hit]) -> tuple[Citation, ...]:
    best: tuple[float, Citation | None] = (0.0, None)
    for number, hit in enumerate(hits, 1):
        for match in _SENTENCE.finditer(hit.chunk.text):
            shared = sum((Counter(_WORD.findall(match.group().lower())) & Counter(wanted)).values()) / len(wanted)
            if shared > best[0] and match.group().strip():
                best = (shared, citation_at(number, hit.chunk, *match.span()))
    return (best[1],) if best[1] and best[0] >= _MIN_OVERLAP else ()


def cite_passage(answer: str, number: int, chunk: Chunk) -> Citation:
    """The citation of a passage that a model names: the sentence that `cite` finds there, else the whole passage."""
    (found,) = cite(answer, [Hit(chunk, 0.0, 1)], limit=1) or [citation_at(1, chunk, 0, len(chunk.text))]
    return replace(found, number=number)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the sentences of a text, without white space around them; a line ends a sentence too."""
    for match in _SENTENCE.finditer(text):
        sentence = match.group()
        if bare := sentence.strip():
            start = match.start() + len(sentence) - len(sentence.lstrip())
            yield start, start + len(bare)


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """The span from the beginning of the sentence that holds `start` to its end, or to `end` if that is later.

    >>> text = "It rains. Bring 3.5 litres and a coat. Then wait."
    >>> text[slice(*sentence_around(text, 16, 19))]
    ' Bring 3.5 litres and a coat.'
    """
    for match in _SENTENCE.finditer(text):
        if match.start() <= start < match.end():
            return match.start(), max(match.end(), end)
    return start, end


def with_pages(citations: Iterable[Citation], page_starts: Mapping[str, Sequence[int]]) -> tuple[Citation, ...]:
    """Adds the page to citations of documents with pages, from the places in the text at which these begin.

    >>> [found] = with_pages([Citation(1, "a.pdf", 120, 130, "")], {"a.pdf": [0, 100, 200]})
    >>> found.page
    2
    """
    return tuple(
        replace(citation, page=bisect_right(page_starts[citation.document], citation.start))
        if citation.document in page_starts
        else citation
        for citation in citations
    )


def citation_at(number: int, chunk: Chunk, start: int, end: int) -> Citation:
    """The citation of a span of a chunk's text, without the white space around it."""
    quote = chunk.text[start:end]
    start += len(quote) - len(quote.lstrip())
    quote = quote.strip()
    return Citation(number, chunk.document, chunk.start + start, chunk.start + start + len(quote), quote)
