"""Drafts on disk, so that no chunk is drafted twice by the same teacher.

The file belongs to one teacher; a line holds a chunk's drafts under a hash of what they depend on: the chunk, and for a
teacher that looks further what is around it. Lines are only added, each as soon as its drafts are there, so a run that
is killed repeats no finished chunk, nor does the run after an edit repeat those that did not change. A line that was
cut off by a kill is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hybrid.artefacts import fingerprint
from hybrid.journal import append_journal, read_journal
from hybrid.pairs.surroundings import surroundings_of
from hybrid.pairs.teacher import Draft, Teacher
from hybrid.types import Chunk


def chunk_hash(chunk: Chunk) -> str:
    """A short hash of all that drafts and prompts take from a chunk: its document, span, title and text."""
    return fingerprint(id=chunk.id, title=chunk.title, text=chunk.text)


def draft_keys(chunks: Sequence[Chunk], *, alone: bool) -> list[str]:
    """What the drafts of each chunk are kept under.

    Args:
        chunks: All chunks.
        alone: Whether a chunk's drafts depend on it alone; else on what is around it, too.
    """
    keys = [chunk_hash(chunk) for chunk in chunks]
    if alone:
        return keys
    return [fingerprint(chunk=key, around=shown) for key, shown in zip(keys, surroundings_of(chunks), strict=True)]


def read_drafts(file: Path) -> dict[str, list[Draft]]:
    """The drafts of a file by the hash of their chunk; none if there is no file."""
    return dict(read_journal(file, _restored))


def _restored(record: Mapping[str, Any]) -> tuple[str, list[Draft]]:
    return record["chunk"], [_draft(values) for values in record["drafts"]]


def _draft(values: Sequence[object]) -> Draft:
    draft = Draft(*values)  # type: ignore[arg-type]
    if not all(isinstance(value, int) for value in draft[1:5]) or not isinstance(draft.question, str):
        raise TypeError
    return draft


def cached_drafts(teacher: Teacher, chunks: Sequence[Chunk], file: Path) -> list[list[Draft]]:
    """Drafts every chunk that `file` does not hold, and adds it there.

    Returns:
        The drafts of each chunk; empty for chunks that the teacher ended before or could not ask about, which the next
        run drafts.
    """
    known = read_drafts(file)
    keys = draft_keys(chunks, alone=teacher.alone)
    around = surroundings_of(chunks)
    missing = [place for place, key in enumerate(keys) if key not in known]
    file.parent.mkdir(parents=True, exist_ok=True)
    drafted = teacher.draft([chunks[place] for place in missing], [around[place] for place in missing])
    # A teacher may end early, so the lengths may differ.
    bar = tqdm(drafted, "writing questions", len(missing), unit="chunk", leave=False)
    for place, drafts in zip(missing, bar, strict=False):
        if drafts is not None:
            append_journal(file, [{"chunk": keys[place], "drafts": drafts}])
            known[keys[place]] = drafts
    return [known.get(key, []) for key in keys]
