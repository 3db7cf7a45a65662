"""Artefacts on disk: fingerprints, manifests, atomic publication, and the lock of a project.

A stage works in `.hybrid/work/STAGE/` and renames the finished folder into place, so that a reader never sees half of
one. The work folder remembers the fingerprint it was begun for: the same fingerprint continues it, another one starts
afresh.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hybrid.errors import ArtefactError, LockedError

MANIFEST = "manifest.json"
_PACKAGES = ("hybrid-rag", "torch", "transformers", "peft", "bitsandbytes", "sentence-transformers", "faiss-cpu")


def fingerprint(**parts: Any) -> str:  # noqa: ANN401
    """A short hash of JSON values and dataclasses.

    >>> fingerprint(k=4) == fingerprint(k=4), fingerprint(k=4) == fingerprint(k=5)
    (True, False)
    """
    text = json.dumps(parts, sort_keys=True, default=_json_value, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json_value(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a fingerprint")


def fingerprint_files(path: Path, suffixes: Collection[str] | None = None) -> str:
    """A hash of names and contents: of a file, or of all files of a folder that are not hidden.

    Args:
        path: The file or folder.
        suffixes: In lower case with the point, of the files of a folder that count; None takes all.
    """
    digest = hashlib.sha256()
    files = [path]
    if not path.is_file():
        files = sorted(p for p in path.rglob("*") if suffixes is None or p.suffix.lower() in suffixes)
        files = [file for file in files if file.is_file()]
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        if file != path and any(part.startswith(".") for part in Path(name).parts):
            continue  # as the reader does; a file that is named itself is read whatever it is called
        try:
            content = digest_file(file)
        except OSError:
            content = "unreadable"
        digest.update(f"{name}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def digest_file(file: Path) -> str:
    """The SHA-256 of a file, which is never in memory as a whole."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that artefacts depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a published artefact, or None if there is none.

    Raises:
        ArtefactError: The manifest is damaged.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{file} is damaged ({error}); delete {folder} and run the command again") from error
    if not isinstance(manifest, dict) or not {"fingerprint", "inputs"} <= manifest.keys():
        raise ArtefactError(f"{file} is damaged; delete {folder} and run the command again")
    return manifest


def check_files(folder: Path, names: Iterable[str], way_out: str) -> None:
    """Compares files of a published artefact with what its manifest says of them.

    Args:
        folder: Folder of the artefact.
        names: Names of files in it that are about to be read.
        way_out: What makes the artefact again, for the message.

    Raises:
        ArtefactError: One is missing, or is not the file that was published.
    """
    digests = (read_manifest(folder) or {}).get("files", {})
    for name in names:
        file = folder / name
        if name not in digests:
            continue  # published before manifests knew their files
        if not file.is_file():
            raise ArtefactError(f"{file} is missing; {way_out}")
        if digest_file(file) != digests[name]:
            raise ArtefactError(f"{file} is damaged: it is not the file that was published; {way_out}")


def open_work(folder: Path, stage_fingerprint: str) -> Path:
    """Returns the work folder of a stage, emptied unless it was begun for the same fingerprint."""
    mark = folder / "begun-for"
    if mark.is_file() and mark.read_bytes() == stage_fingerprint.encode():
        return folder  # the mark stays untouched: if it were lost to a full disk, so would be the work
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_whole(mark, stage_fingerprint)
    return folder


def write_whole(file: Path, text: str) -> None:
    """Writes a file beside and puts it into place: a reader finds the old one or the new one, whatever happens."""
    new = file.with_name(f".{file.name}.new")
    with new.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(new, file)


def is_forced(folder: Path) -> bool:
    """True if the work in the folder was begun by `--force`, whose result depends on no artefact of the same stage."""
    mark = folder / "begun-for"
    return mark.is_file() and mark.read_text(encoding="utf-8").startswith("forced ")


def publish(result: Path, final: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest into the finished folder `result` and renames it to `final`, replacing what was there.

    The manifest also gets `files`, the SHA-256 of every file by name, see `check_files`.
    """
    files = sorted(file for file in result.rglob("*") if file.is_file() and file.name != MANIFEST)
    digests = {file.relative_to(result).as_posix(): digest_file(file) for file in files}
    write_manifest(result, {**manifest, "files": digests})
    final.parent.mkdir(parents=True, exist_ok=True)
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    result.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of an artefact, whole or not at all."""
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a project's artefacts; it is free again when its process ends, however that happens.

    Raises:
        LockedError: Another command holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError(
            f"another command works on {folder.parent}; wait until it is done, then run this one again"
        ) from error
    try:
        yield
    finally:
        lock.release()
