"""Chunks: spans of a document that fit the embedding model.

LangChain's recursive splitter splits; spans are counted along its pieces and never searched for in the text, so that
repeated passages keep their own places.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hybrid.errors import ModelError
from hybrid.types import Chunk, Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SENTENCE = r"(?<=[.!?;])\s+|(?<=[。！？；])"
_PLAIN = [r"\n(?:[ \t]*\r?\n)+", r"\n", _SENTENCE, r"\s+"]
_MARKDOWN = [r"\n(?=#{1,6}[ \t])", r"\n(?:[ \t]*(?:\*\*\*+|---+|___+)[ \t]*\r?\n)+", *_PLAIN]
_MARKDOWN_FILES = {".md", ".markdown"}
_HEADING = r"#{1,6}[ \t][^\n]*"
_BARE_HEADINGS = re.compile(rf"{_HEADING}(?:\s*\n{_HEADING})*")
_LAST_HEADINGS = re.compile(rf"\n({_HEADING}(?:\s*\n{_HEADING})*)\Z")
_SENTENCE_START = re.compile(r"(?<=[.!?;]\s)(?=\S)|(?<=\n)(?=\S)|(?<=[。！？；])(?=\S)")
_WORD_START = re.compile(r"(?<=\s)(?=\S)")

_SMALLEST = 16
# Unknown words are one token whatever their length, and prompts are not made of unknown words. Real text has 3-6
# characters a token; more than this is counted as several tokens.
_CHARACTERS_PER_TOKEN = 16

Count = Callable[[str], int]


class ChunkerSettings(NamedTuple):
    """All that the chunks of a document depend on; `tokenizer` is the SHA-256 of the tokenizer's file."""

    size: int
    overlap: int
    tokenizer: str


class Span(NamedTuple):
    """Characters `[start, end)` of a text."""

    start: int
    end: int


class Chunker:
    """Splits documents into chunks of at most `size` tokens, at headings, paragraphs, lines, sentences or words.

    Text and span agree exactly, all text but white space at the edges is in a chunk, and a heading stands with the
    text it heads.

    Args:
        tokenizer_path: Folder of the embedding model; holds `tokenizer.json`.
        size: Most tokens of a chunk, special tokens not counted.
        overlap: Most tokens that a chunk repeats from the one before it.

    Raises:
        ValueError: `size` is below 16, or `overlap` is negative or more than half of `size`.
    """

    def __init__(self, tokenizer_path: str | Path, size: int = 128, overlap: int = 0) -> None:
        if size < _SMALLEST:
            raise ValueError(f"chunk size must be at least {_SMALLEST} tokens, got {size}")
        if not 0 <= overlap <= size // 2:
            raise ValueError(f"overlap must be between 0 and half of the chunk size {size}, got {overlap}")
        self.tokenizer_path = Path(tokenizer_path)
        self.size = size
        self.overlap = overlap

    @cached_property
    def settings(self) -> ChunkerSettings:
        """What identifies this chunker.

        Raises:
            ModelError: The folder has no `tokenizer.json`.
        """
        digest = hashlib.sha256(_tokenizer_file(self.tokenizer_path).read_bytes()).hexdigest()
        return ChunkerSettings(self.size, self.overlap, digest)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.tokenizer_path)

    def count(self, text: str) -> int:
        """Count the tokens of `text`, at least one for each 16 characters; no more than these if they exceed `size`."""
        least = -(-len(text) // _CHARACTERS_PER_TOKEN)
        if least > self.size:  # no chunk, however many it is; tokens of a whole file would take much memory
            return least
        return max(least, len(self._tokenizer.encode(text, add_special_tokens=False).ids))

    def chunk(self, document: Document) -> list[Chunk]:
        """Split one document; none or only white space gives no chunk."""
        text = document.text
        markdown = Path(document.id).suffix.lower() in _MARKDOWN_FILES
        # Splitting asks for the same strings several times; a cache for one document cannot grow without bound.
        count = lru_cache(maxsize=4096)(self.count)
        size = self.size - self.overlap
        spans = split_spans(text, size, count, _MARKDOWN if markdown else _PLAIN)
        if markdown:
            spans = _join_headings(text, spans, size, count)
        spans = _overlapping(text, spans, self.overlap, self.size, count)
        return [
            Chunk(f"{document.id}#{start}-{end}", document.id, start, end, text[start:end], document.title)
            for start, end in spans
        ]


def load_tokenizer(path: Path) -> "Tokenizer":
    """Load `tokenizer.json` from the folder `path`, without truncation and padding.

    Raises:
        ModelError: The file is missing or damaged.
    """
    from tokenizers import Tokenizer

    file = _tokenizer_file(path)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{file} is damaged: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokenizer_file(path: Path) -> Path:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"no tokenizer.json in {path}: name the folder of the embedding model")
    return file


def split_spans(text: str, size: int, count: Count, separators: list[str]) -> list[Span]:
    r"""Split `text` into spans of at most `size` by `count`, without white space at their edges.

    Args:
        text: Any text.
        size: Most that `count` may say of a span.
        count: Length of a text, such as its number of tokens.
        separators: Regular expressions without groups, coarsest first; where none splits, the text is cut anywhere.

    >>> split_spans("one two two two", 8, len, [r"\s+"])
    [Span(start=0, end=7), Span(start=8, end=15)]
    """
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators,
        keep_separator=True,
        is_separator_regex=True,
        chunk_size=size,
        chunk_overlap=0,
        length_function=count,
        strip_whitespace=False,
    )
    spans: list[Span] = []
    start = 0
    # With separators kept and nothing stripped the pieces join to the text, so their lengths give their places.
    for piece in splitter.split_text(text):
        spans += _cut(text, Span(start, start + len(piece)), size, count)
        start += len(piece)
    if start != len(text):
        raise RuntimeError(f"the splitter returned {start} of {len(text)} characters")
    return spans


def _trimmed(text: str, span: Span) -> Span:
    part = text[span.start : span.end]
    start = span.start + len(part) - len(part.lstrip())
    return Span(start, max(start, span.start + len(part.rstrip())))


def _cut(text: str, span: Span, size: int, count: Count) -> list[Span]:
    """Cut a span that no separator made small enough; the usual span comes back alone and trimmed."""
    spans = []
    span = _trimmed(text, span)
    while span.start < span.end:
        end = _longest_fit(text, span, size, count)
        spans.append(_trimmed(text, Span(span.start, end)))
        span = _trimmed(text, Span(end, span.end))
    return spans


def _longest_fit(text: str, span: Span, size: int, count: Count) -> int:
    """End of a prefix that fits and that one more character would make too long; at least one character."""
    # A window, since counting all that is left again and again would take quadratic time.
    fits, fails = span.start + 1, min(span.end, span.start + size * _CHARACTERS_PER_TOKEN)
    if count(text[span.start : fails]) <= size:
        return fails
    while fits + 1 < fails:
        middle = (fits + fails) // 2
        if count(text[span.start : middle]) <= size:
            fits = middle
        else:
            fails = middle
    return fits


def _join_headings(text: str, spans: Iterable[Span], size: int, count: Count) -> list[Span]:
    """Let every heading stand with the text after it, halving that text where both together are too long."""
    pending = [part for span in spans for part in _detached_headings(text, span)][::-1]
    joined: list[Span] = []
    while pending:
        span = pending.pop()
        if not pending or not _BARE_HEADINGS.fullmatch(text, span.start, span.end):
            joined.append(span)
            continue
        both = Span(span.start, pending[-1].end)
        if count(text[both.start : both.end]) <= size:
            pending[-1] = both
            continue
        follower = pending.pop()
        half = max(1, -(-count(text[follower.start : follower.end]) // 2))
        first = split_spans(text[follower.start : follower.end], half, count, _PLAIN)[0]
        end = follower.start + first.end
        both = Span(span.start, end)
        joined += [both] if count(text[both.start : both.end]) <= size else [span, Span(follower.start, end)]
        pending += _cut(text, Span(end, follower.end), size, count)[::-1]
    return joined


def _detached_headings(text: str, span: Span) -> list[Span]:
    """Split headings off the end of a span."""
    last = _LAST_HEADINGS.search(text, span.start, span.end)
    if last is None:
        return [span]
    return [_trimmed(text, Span(span.start, last.start())), Span(last.start(1), span.end)]


def _overlapping(text: str, spans: list[Span], overlap: int, size: int, count: Count) -> list[Span]:
    """Start each span earlier, within the one before, by at most `overlap`."""
    if not overlap:
        return spans
    extended = spans[:1]
    for before, span in pairwise(spans):

        def fits(place: int, span: Span = span) -> bool:
            return count(text[place : span.start].rstrip()) <= overlap and count(text[place : span.end]) <= size

        starts = (_earliest(text, pattern, before, span, fits) for pattern in (_SENTENCE_START, _WORD_START))
        extended.append(Span(next((start for start in starts if start is not None), span.start), span.end))
    return extended


def _earliest(text: str, pattern: re.Pattern[str], before: Span, span: Span, fits: Callable[[int], bool]) -> int | None:
    places = [match.start() for match in pattern.finditer(text, before.start + 1, span.start)]
    fitting = list(takewhile(fits, reversed(places)))
    return fitting[-1] if fitting else None
