"""Drafts on disk: who is asked about what, and what a damaged file does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.drafts import cached_drafts, chunk_hash, read_drafts
from hybrid.pairs.surroundings import Surroundings, surroundings_of
from hybrid.pairs.teacher import Draft, Figures
from hybrid.types import Chunk


class _Teacher:
    """One draft a chunk, for the first `most` it is asked about; fails at the chunk `broken` and refuses `refused`."""

    name = "test"
    alone = True

    def __init__(self, most: int = 99, broken: str = "", refused: str = "") -> None:
        self.asked: list[str] = []
        self.most = most
        self.broken = broken
        self.refused = refused

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft] | None]:
        for chunk in chunks[: self.most]:
            if chunk.id == self.broken:
                raise KeyboardInterrupt
            self.asked.append(chunk.id)
            refused = chunk.id == self.refused
            yield None if refused else [Draft(f"What of {chunk.id}\u2028?", 0, 4, 0, 9, "fact")]

    def figures(self) -> Figures:
        return Figures({}, {})


def _chunks(count: int) -> list[Chunk]:
    return [Chunk(f"d{n}#0-9", f"d{n}", 0, 9, f"text {n}...", "Title") for n in range(count)]


def test_only_new_and_changed_chunks_are_drafted(tmp_path: Path) -> None:
    file, chunks = tmp_path / "new" / "drafts.jsonl", _chunks(5)
    first = cached_drafts(_Teacher(), chunks, file)
    assert [drafts[0].question for drafts in first] == [f"What of d{n}#0-9\u2028?" for n in range(5)]
    written = file.read_bytes()
    again = _Teacher()
    assert cached_drafts(again, chunks, file) == first
    assert again.asked == []
    assert file.read_bytes() == written
    edited = [replace(chunks[0], text="other"), replace(chunks[1], title="Other"), *chunks[2:4], _chunks(6)[5]]
    cached_drafts(again, edited[::-1], file)
    assert again.asked == ["d5#0-9", "d1#0-9", "d0#0-9"]
    assert file.read_bytes().startswith(written)
    assert cached_drafts(again, chunks, file) == first  # an edit that is taken back costs nothing
    assert len(again.asked) == 3


def test_a_chunk_that_was_refused_is_asked_about_again(tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _chunks(3)
    assert [len(drafts) for drafts in cached_drafts(_Teacher(refused="d1#0-9"), chunks, file)] == [1, 0, 1]
    again = _Teacher()
    assert [len(drafts) for drafts in cached_drafts(again, chunks, file)] == [1, 1, 1]
    assert again.asked == ["d1#0-9"]


def test_the_hash_is_of_all_that_a_teacher_sees() -> None:
    chunk = _chunks(1)[0]
    changed = [replace(chunk, id="d0#1-10"), replace(chunk, text="text 1..."), replace(chunk, title="")]
    assert len({chunk_hash(chunk), *map(chunk_hash, changed)}) == 4


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _chunks(5)
    with pytest.raises(KeyboardInterrupt):
        cached_drafts(_Teacher(broken="d3#0-9"), chunks, file)
    assert len(read_drafts(file)) == 3
    teacher = _Teacher()
    expected = cached_drafts(_Teacher(), chunks, tmp_path / "whole.jsonl")
    assert cached_drafts(teacher, chunks, file) == expected
    assert teacher.asked == ["d3#0-9", "d4#0-9"]
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_damaged_lines_are_drafted_again(cut: int, tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _chunks(4)
    expected = cached_drafts(_Teacher(), chunks, file)
    lines = file.read_bytes().strip().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], b'{"chunk": 3}', b"\xff\x00", lines[2], lines[3][:cut]]))
    teacher = _Teacher()
    assert cached_drafts(teacher, chunks, file) == expected
    assert teacher.asked == ["d1#0-9", "d3#0-9"]
    assert cached_drafts(teacher, chunks, file) == expected
    assert len(teacher.asked) == 2


def test_values_of_a_wrong_type_are_no_drafts(tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _chunks(1)
    for drafts in ('[["Q?", "0", 4, 0, 9, "fact"]]', "[[1, 0, 4, 0, 9, 2]]", '[["Q?"]]', "3", '["Q"]'):
        file.write_text(f'{{"chunk": "{chunk_hash(chunks[0])}", "drafts": {drafts}}}\n', encoding="utf-8")
        assert read_drafts(file) == {}


def test_a_teacher_that_ends_early_is_asked_about_the_others_next_time(tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _chunks(5)
    assert [len(drafts) for drafts in cached_drafts(_Teacher(most=2), chunks, file)] == [1, 1, 0, 0, 0]
    teacher = _Teacher()
    assert [len(drafts) for drafts in cached_drafts(teacher, chunks, file)] == [1] * 5
    assert teacher.asked == ["d2#0-9", "d3#0-9", "d4#0-9"]


class _Neighbourly(_Teacher):
    """Asks about what is around a chunk, too."""

    alone = False

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft] | None]:
        drafted = super().draft(chunks)
        for chunk, shown, drafts in zip(chunks, around or surroundings_of(chunks), drafted, strict=False):
            yield drafts and [drafts[0]._replace(question=f"{chunk.title} {chunk.text} {shown}")]


def _neighbours(texts: Sequence[str], titles: Sequence[str] = "AABB") -> list[Chunk]:
    """Two chunks a document."""
    return [
        Chunk(f"d{n // 2}#{n % 2 * 10}-{n % 2 * 10 + 9}", f"d{n // 2}", n % 2 * 10, n % 2 * 10 + 9, text, title)
        for n, (text, title) in enumerate(zip(texts, titles, strict=True))
    ]


def test_a_teacher_that_looks_at_neighbours_drafts_no_chunk_twice(tmp_path: Path) -> None:
    file, chunks = tmp_path / "drafts.jsonl", _neighbours("abcdef", "AABBCC")
    with pytest.raises(KeyboardInterrupt):
        cached_drafts(_Neighbourly(broken="d1#10-19"), chunks, file)
    teacher = _Neighbourly()
    expected = cached_drafts(_Neighbourly(), chunks, tmp_path / "whole.jsonl")
    assert cached_drafts(teacher, chunks, file) == expected == list(_Neighbourly().draft(chunks))
    assert teacher.asked == ["d1#10-19", "d2#0-9", "d2#10-19"]
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    edited = _neighbours("abxdef", "AABBCC")
    assert cached_drafts(teacher, edited, file) == list(_Neighbourly().draft(edited))
    assert teacher.asked[3:] == ["d1#0-9", "d1#10-19"]
    assert cached_drafts(teacher, chunks, file) == expected  # an edit that is taken back costs nothing
    assert len(teacher.asked) == 5
    retitled = _neighbours("abcdef", "AABBAA")
    assert cached_drafts(teacher, retitled, file) == list(_Neighbourly().draft(retitled))
    assert teacher.asked[5:] == ["d0#0-9", "d0#10-19", "d2#0-9", "d2#10-19"]


@given(st.lists(st.tuples(st.text("ab", min_size=4, max_size=4), st.text("AB", min_size=2, max_size=2)), max_size=4))
@settings(max_examples=40, deadline=None)
def test_drafts_after_edits_are_those_of_a_fresh_run(versions: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        for texts, titles in versions:
            chunks = _neighbours(texts, [title for title in titles for _ in "ab"])
            assert cached_drafts(_Neighbourly(), chunks, Path(folder) / "d") == list(_Neighbourly().draft(chunks))


def test_a_build_drafts_no_chunk_twice(
    build: Callable[..., Any], make_teacher: Callable[[], Any], tmp_path: Path
) -> None:
    first, second = make_teacher(), make_teacher()
    made = build(drafts=tmp_path / "d.jsonl", teacher=first)
    assert build(drafts=tmp_path / "d.jsonl", teacher=second) == made
    assert len(first.drafted) > 20
    assert second.drafted == []
