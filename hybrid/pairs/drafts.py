"""Drafts on disk, so that no chunk is drafted twice by the same teacher.

The file belongs to one teacher; a line holds a chunk's drafts under a hash of the chunk. Lines are only added, each
as soon as its drafts are there, so a run that is killed repeats no finished chunk, nor does the run after an edit
repeat those that did not change. A line that was cut off by a kill is ignored. A teacher that looks at neighbours too,
and costs only time, drafts all chunks again if one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hybrid.artefacts import fingerprint
from hybrid.journal import append_journal, read_journal
from hybrid.pairs.teacher import Draft, Teacher
from hybrid.types import Chunk


def chunk_hash(chunk: Chunk) -> str:
    """A short hash of all that drafts and prompts take from a chunk: its document, span, title and text."""
    return fingerprint(id=chunk.id, title=chunk.title, text=chunk.text)


def draft_keys(chunks: Sequence[Chunk], *, alone: bool) -> list[str]:
    """What the drafts of each chunk are kept under.

    Args:
        chunks: All chunks.
        alone: Whether a chunk's drafts depend on it alone; else they belong to these chunks as a whole.
    """
    keys = [chunk_hash(chunk) for chunk in chunks]
    return keys if alone else [f"{fingerprint(chunks=keys)} {key}" for key in keys]


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
    missing = [(key, chunk) for key, chunk in zip(keys, chunks, strict=True) if key not in known]
    if missing and not teacher.alone:
        missing = list(zip(keys, chunks, strict=True))
        file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    drafted = teacher.draft([chunk for _, chunk in missing])
    # A teacher may end early, so the lengths may differ.
    bar = tqdm(drafted, "writing questions", len(missing), unit="chunk", leave=False)
    for (key, _), drafts in zip(missing, bar, strict=False):
        if drafts is not None:
            append_journal(file, [{"chunk": key, "drafts": drafts}])
            known[key] = drafts
    return [known.get(key, []) for key in keys]
