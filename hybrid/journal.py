"""Journals: what a long run has done so far, one JSON object a line, so that a run that was killed can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def read_journal(path: Path, restore: Callable[[Any], T]) -> list[T]:
    """What `restore` makes of each record, in order; none if there is no file.

    A line that was half-written when the run was killed is left out, as is a record that `restore` cannot read.
    """
    read = []
    # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            read.append(restore(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return read


def append_journal(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Adds records to the file, which is made if it is missing, and hands them to the system."""
    # In ASCII, as a model may write half of a surrogate pair; a line break first, as the last line may be half a line.
    with path.open("a", encoding="ascii") as file:
        file.writelines(f"\n{json.dumps(record)}" for record in records)
