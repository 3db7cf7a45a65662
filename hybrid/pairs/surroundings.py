"""What the documents show around a chunk, for teachers that look at more than the chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hybrid.types import Chunk

_GAP = 8  # characters: more than the white space between neighbouring chunks; then chunks between them are not shown
_UNKNOWN = "- "  # counts as a list that goes on, so that none is taken for whole that may not be


class Surroundings(NamedTuple):
    """What stands around a chunk.

    Attributes:
        following: How the document goes on behind the chunk, as far as the next chunk tells.
        preceding: How it went before, as far as the chunk before tells.
        own_title: Whether no other document has the title of this one.
    """

    following: str
    preceding: str
    own_title: bool


def surroundings_of(chunks: Sequence[Chunk]) -> list[Surroundings]:
    """The surroundings of each chunk, where `chunks` are all chunks in the order of their documents."""
    documents: dict[str, set[str]] = {}
    for chunk in chunks:
        documents.setdefault(chunk.title, set()).add(chunk.document)
    return [
        Surroundings(*_around(before, chunk, after), own_title=len(documents[chunk.title]) == 1)
        for before, chunk, after in zip([None, *chunks], chunks, [*chunks[1:], None], strict=False)
    ]


def _around(before: Chunk | None, chunk: Chunk, after: Chunk | None) -> tuple[str, str]:
    following = preceding = ""
    if after is not None and after.document == chunk.document:
        following = after.text[max(0, chunk.end - after.start) :] if after.start - chunk.end < _GAP else _UNKNOWN
    if before is not None and before.document == chunk.document and chunk.start - before.end < _GAP:
        preceding = before.text[: chunk.start - before.start]
    return following, preceding
