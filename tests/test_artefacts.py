"""Fingerprints, manifests, publication, and the lock."""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybrid.artefacts import (
    check_files,
    fingerprint,
    fingerprint_files,
    installed_versions,
    locked,
    open_work,
    publish,
    read_manifest,
    write_manifest,
    write_whole,
)
from hybrid.errors import ArtefactError, LockedError


@dataclass(frozen=True)
class Settings:
    k: int = 4
    name: str = "ä"


def test_a_fingerprint_depends_on_values_not_on_order() -> None:
    assert fingerprint(a=1, b=Settings()) == fingerprint(b=Settings(), a=1)
    assert len({fingerprint(a=1), fingerprint(a=2), fingerprint(b=1), fingerprint(a=Settings(5))}) == 4
    with pytest.raises(TypeError):
        fingerprint(a=object())


def test_files_are_fingerprinted_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text("one", encoding="utf-8")
    (tmp_path / "sub" / "b.md").write_text("two", encoding="utf-8")
    seen = [fingerprint_files(tmp_path)]
    os.utime(tmp_path / "a.md", (0, 0))
    (tmp_path / ".hidden").write_text("x", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x", encoding="utf-8")
    assert fingerprint_files(tmp_path) == seen[0], "neither times nor hidden files count"
    (tmp_path / "a.md").write_text("uno", encoding="utf-8")
    seen.append(fingerprint_files(tmp_path))
    (tmp_path / "a.md").rename(tmp_path / "c.md")
    seen.append(fingerprint_files(tmp_path))
    (tmp_path / "sub" / "b.md").unlink()
    seen.append(fingerprint_files(tmp_path))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("name", ["corpus.jsonl", ".notes.md"])
def test_a_single_file_is_fingerprinted(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("one", encoding="utf-8")
    before = fingerprint_files(file)
    file.write_text("two", encoding="utf-8")
    assert fingerprint_files(file) != before


def test_publishing_replaces_the_whole_folder(tmp_path: Path) -> None:
    final = tmp_path / "store" / "index"
    for name in ("first", "second"):
        result = tmp_path / "result"
        result.mkdir()
        (result / name).write_text(name, encoding="utf-8")
        publish(result, final, {"fingerprint": name, "inputs": {}})
        assert sorted(path.name for path in final.iterdir()) == sorted([name, "manifest.json"])
        manifest = read_manifest(final)
        assert manifest is not None
        assert manifest["fingerprint"] == name
        assert [path.name for path in final.parent.iterdir()] == ["index"]


def test_a_file_that_is_not_the_published_one_is_named(tmp_path: Path) -> None:
    result = tmp_path / "result"
    (result / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt"):
        (result / name).write_text("whole", encoding="utf-8")
    final = tmp_path / "final"
    publish(result, final, {"fingerprint": "x", "inputs": {}})
    check_files(final, ["a.txt", "sub/b.txt", "unknown"], "run it again")
    (final / "sub" / "b.txt").write_text("whol", encoding="utf-8")
    check_files(final, ["a.txt"], "run it again")
    with pytest.raises(ArtefactError, match=r"b\.txt is damaged: it is not the file that was published; run it again"):
        check_files(final, ["sub/b.txt"], "run it again")
    (final / "a.txt").unlink()
    with pytest.raises(ArtefactError, match=r"a\.txt is missing; run it again"):
        check_files(final, ["a.txt"], "run it again")
    write_manifest(final, {"fingerprint": "x", "inputs": {}})
    check_files(final, ["a.txt", "sub/b.txt"], "published before manifests knew their files")


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    file = tmp_path / "a.json"
    write_whole(file, "old")
    with short_files(100), pytest.raises(OSError, match="File too large"):
        write_whole(file, "new" * 100)
    assert file.read_text(encoding="utf-8") == "old"
    write_whole(file, "new")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"a.json": "new"}


def test_a_full_disk_does_not_cost_the_work_that_goes_on(
    tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    folder = open_work(tmp_path / "work", "a")
    (folder / "done").touch()
    with short_files(0):
        open_work(folder, "a")
    assert (open_work(folder, "a") / "done").exists()
    (folder / "begun-for").write_bytes(b"\xff")
    assert not (open_work(folder, "a") / "done").exists()


def test_without_a_manifest_there_is_no_artefact(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"fingerprint": "x"}', ""])
def test_a_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"manifest\.json is damaged.*delete .* and run the command again"):
        read_manifest(tmp_path)


def test_work_goes_on_for_the_same_fingerprint_only(tmp_path: Path) -> None:
    folder = open_work(tmp_path / "work", "one")
    (folder / "journal").write_text("x", encoding="utf-8")
    assert (open_work(tmp_path / "work", "one") / "journal").is_file()
    assert not (open_work(tmp_path / "work", "two") / "journal").exists()


def test_work_of_unknown_origin_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "journal").write_text("x", encoding="utf-8")
    assert not (open_work(tmp_path / "work", "one") / "journal").exists()


def _hold(folder: Path, held: "multiprocessing.synchronize.Event") -> None:
    with locked(folder):
        held.set()
        held.wait(60)
        multiprocessing.Event().wait(60)


def test_the_lock_is_held_once_and_freed_when_its_process_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    store = tmp_path / "project" / ".hybrid"
    process = context.Process(target=_hold, args=(store, held))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(LockedError, match=f"another command works on {store.parent}; wait"), locked(store):
            pytest.fail("two held it")
    finally:
        process.kill()
        process.join()
    with locked(store):
        pass


def test_versions_name_every_package() -> None:
    versions = installed_versions()
    assert versions["torch"][0].isdigit()
    assert "not installed" not in versions.values()


def test_files_that_nobody_reads_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("words")
    before = fingerprint_files(tmp_path, {".md"}), fingerprint_files(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert fingerprint_files(tmp_path, {".md"}) == before[0]
    assert fingerprint_files(tmp_path) != before[1]
    (tmp_path / "B.MD").write_text("more")
    assert fingerprint_files(tmp_path, {".md"}) != before[0]
