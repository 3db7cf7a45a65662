"""Journals: whatever a killed run left behind, what was whole is read, and what comes after is not lost."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.journal import append_journal, read_journal

RECORDS = st.lists(st.fixed_dictionaries({"id": st.integers(), "text": st.text()}), max_size=4)


def same(record: Any) -> Any:
    return record


@given(RECORDS, RECORDS, st.integers(0, 40))
def test_records_before_and_after_a_cut_are_kept(first: list[Any], second: list[Any], cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        append_journal(path, first)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - cut] if cut < len(whole) else b"")
        kept = read_journal(path, same)
        assert kept == first[: len(kept)]
        append_journal(path, second)
        read = read_journal(path, same)
        assert read[: len(kept)] == kept
        assert [record for record in read if isinstance(record, dict)][len(kept) :] == second


def test_text_that_is_no_utf_8_is_written() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        append_journal(path, [{"text": "\ud800 \u2028"}])
        assert read_journal(path, same) == [{"text": "\ud800 \u2028"}]


@pytest.mark.parametrize("line", ["{", "[]", '{"other": 1}', "null", "3", "\ufffd", '"id"'])
def test_what_cannot_be_restored_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'\n{{"id": 1}}\n{line}\n{{"id": 2}}', encoding="utf-8")
    assert read_journal(path, lambda record: int(record["id"])) == [1, 2]


def test_no_file_holds_nothing(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl", same) == []
