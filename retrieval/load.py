"""Documents from a folder, one file or a BEIR corpus."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.errors import DocumentError
from hybrid.retrieval.formats import READERS, Unreadable, encodable
from hybrid.types import Document

TYPES = sorted([*READERS, ".jsonl"])
_BOM = b"\xef\xbb\xbf"


class Skipped(NamedTuple):
    """A file, or a record as `file:line`, that gives no document, and why."""

    path: str
    reason: str


class Loaded(NamedTuple):
    """Documents ordered by id, and what was left out, ordered by path."""

    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...]


def load_documents(path: Path) -> Loaded:
    """Read every document under `path`: a folder, a file, or a BEIR `corpus.jsonl`.

    Hidden files are ignored. Links that leave the folder, unreadable files and repeated texts are skipped with a
    reason.

    Args:
        path: A folder is read with all folders below it.

    Raises:
        DocumentError: Nothing is there or nothing is readable, a line of a corpus is malformed, or two documents
            share an id.
        DependencyError: A format needs a package that is missing.
    """
    if not path.exists():
        raise DocumentError(f"no documents at {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    skipped: list[Skipped] = []
    documents: dict[str, Document] = {}
    origins: dict[str, str] = {}
    files = [path] if path.is_file() else list(_files(folder, skipped))
    for file in files:
        # Bytes of a name that are no UTF-8 stand as \xff, so that two such names stay apart.
        name = os.fsencode(file.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")
        for origin, document in _read(file, name, folder, skipped, required=file == path):
            if document.id in documents:
                raise DocumentError(f"{origin}: the id {document.id!r} is taken by {origins[document.id]}")
            documents[document.id] = document
            origins[document.id] = origin
    kept = _without_repeats(documents, origins, skipped)
    if not kept:
        raise DocumentError(_nothing_found(path, len(files), skipped))
    return Loaded(kept, tuple(sorted(skipped)))


def _files(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield all files below `folder` that are not hidden, in order; add what cannot be entered to `skipped`."""

    def refused(error: OSError) -> None:
        skipped.append(
            Skipped(Path(error.filename).relative_to(folder).as_posix(), f"cannot be read: {error.strerror}")
        )

    found = []
    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (link := Path(parent, name)).is_symlink():
                skipped.append(Skipped(link.relative_to(folder).as_posix(), "link to a folder: not followed"))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    yield from sorted(found)


def _read(
    file: Path, name: str, folder: Path, skipped: list[Skipped], *, required: bool
) -> Iterator[tuple[str, Document]]:
    """Yield the documents of one file with their origin; add what gives none to `skipped`."""
    try:
        if not required and not _resolved(file).is_relative_to(folder.resolve()):
            raise Unreadable("link that leaves the folder")
        data = _read_bytes(file)
        if file.suffix.lower() == ".jsonl":
            _check_corpus(file, data, required=required)
            yield from _records(name, data, skipped)
            return
        content = READERS[file.suffix.lower()](data)
        if not content.text.strip():
            raise Unreadable("empty")
    except Unreadable as reason:
        skipped.append(Skipped(name, str(reason)))
    else:
        metadata = {"path": name, **content.metadata}
        yield name, Document(name, content.text, content.title or Path(name).stem, metadata)


def _resolved(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        raise Unreadable("link that leads nowhere") from None


def _read_bytes(file: Path) -> bytes:
    if file.suffix.lower() not in TYPES:
        raise Unreadable(f"type {file.suffix or 'without suffix'} is not read ({', '.join(TYPES)} are)")
    if not file.is_file():
        raise Unreadable("not a regular file")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise Unreadable("empty")
    return data


def _check_corpus(file: Path, data: bytes, *, required: bool) -> None:
    """Keep question files apart from corpora, unless the user asked for this very file.

    A BEIR `queries.jsonl` looks like a corpus: questions in the index would be found instead of their answers.
    """
    if required:
        return
    if file.name != "corpus.jsonl" and (file.parent / "corpus.jsonl").is_file():
        raise Unreadable("beside corpus.jsonl: not taken for documents")
    try:
        first = json.loads(data.removeprefix(_BOM).strip().split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return
    if isinstance(first, dict) and "text" not in first:
        raise Unreadable(f"not a corpus: its first record has no 'text' but {', '.join(first) or 'nothing'}")


def _records(name: str, data: bytes, skipped: list[Skipped]) -> Iterator[tuple[str, Document]]:
    # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
    for number, line in enumerate(data.removeprefix(_BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        origin = f"{name}:{number}"
        document = _record(origin, line, {"path": name, "line": str(number)})
        if document.text.strip():
            yield origin, document
        else:
            skipped.append(Skipped(origin, f"empty text ({document.id})"))


def _record(origin: str, line: bytes, metadata: Mapping[str, str]) -> Document:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{origin}: not a JSON record: {error}") from None
    if not isinstance(record, dict):
        raise DocumentError(f"{origin}: expected an object with 'id' and 'text', found {type(record).__name__}")
    key = record.get("_id", record.get("id"))
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        raise DocumentError(f"{origin}: needs a string or number as '_id' or 'id', found {key!r}")
    if not isinstance(record.get("text"), str):
        raise DocumentError(f"{origin}: 'text' of {key!r} is not a string: {record.get('text')!r}")
    name = encodable(str(key))
    title = encodable(str(record.get("title") or ""))
    return Document(name, encodable(record["text"]), title, {**_extra(record), **metadata})


def _extra(record: Mapping[str, Any]) -> dict[str, str]:
    known = {"_id", "id", "title", "text"}
    return {
        encodable(key): encodable(str(value))
        for key, value in record.items()
        if key not in known and isinstance(value, str | int | float)
    }


def _without_repeats(
    documents: Mapping[str, Document], origins: Mapping[str, str], skipped: list[Skipped]
) -> tuple[Document, ...]:
    kept: dict[str, Document] = {}
    for document in sorted(documents.values(), key=lambda document: document.id):
        first = kept.setdefault(" ".join(document.text.split()), document)
        if first is not document:
            skipped.append(Skipped(origins[document.id], f"same text as {first.id}"))
    return tuple(kept.values())


def _nothing_found(path: Path, files: int, skipped: list[Skipped]) -> str:
    types = f"Hybrid reads {', '.join(TYPES)}"
    if not files and not skipped:
        return f"no documents in {path}: the folder is empty; {types}"
    reasons = Counter(entry.reason for entry in skipped)
    examples = {entry.reason: entry.path for entry in reversed(skipped)}
    found = "; ".join(f"{count} x {reason}, e.g. {examples[reason]}" for reason, count in reasons.most_common(3))
    return f"no readable document in {path}: {files} files found: {found}; {types}"
