import re
from typing import Any

import pytest

from hybrid.pairs.review.marks import Mark, Marks, short_id
from hybrid.pairs.review.show import Filter, documents, entries, fits, format_entry, format_funnel, format_marks, funnel
from hybrid.types import Pair, Quote

COUNTS: dict[str, Any] = {"candidates": 10, "dropped: duplicate": 2, "dropped: marked bad": 1, "train": 5, "dev": 2}
QUOTE = Quote("docs/pumps.md", 3, 20, "every 200\nhours of use")
CONTEXT, PUMPS = ("docs/a.md#0-9",), ("docs/pumps.md#0-90",)
PAIRS = [
    Pair("1", "How often?", "200 hours", CONTEXT + PUMPS, PUMPS, (QUOTE,), "grounded", "syntax-2", "number", 1),
    Pair("2", "Who bakes?", "Not said.", CONTEXT, ("docs/bread.md#5-50",), (), "absent", "own.jsonl", "fact"),
    Pair("3", "Where is Straße 4?", "Nowhere.", CONTEXT, (), (), "absent", "own.jsonl"),
]
MARKS = Marks([Mark("2", "Who bakes?", "", "bad", "nobody does"), Mark("9", "Gone?", "x", "good")])
ENTRIES = entries({"train": PAIRS[:2], "dev": PAIRS[2:]}, MARKS)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), "123"),
        (Filter(kind="absent"), "23"),
        (Filter(asks="number"), "1"),
        (Filter(document="PUMPS"), "1"),
        (Filter(document="docs/a.md"), "3"),
        (Filter(source="own"), "23"),
        (Filter(search="hours 200"), "1"),
        (Filter(search="STRASSE"), "3"),
        (Filter(search="hours bakes"), ""),
        (Filter(part="dev"), "3"),
        (Filter(mark="bad"), "2"),
        (Filter(mark="none"), "13"),
        (Filter(kind="absent", mark="none", part="train"), ""),
    ],
)
def test_each_filter_alone_and_together(wanted: Filter, found: str) -> None:
    assert "".join(entry.pair.id for entry in ENTRIES if fits(entry, wanted)) == found


def test_a_pair_is_about_its_oracles_and_quotes_else_about_what_it_shows() -> None:
    assert [documents(pair) for pair in PAIRS] == [["docs/pumps.md"], ["docs/bread.md"], ["docs/a.md"]]
    assert documents(Pair("4", "?", "a", (), ())) == []
    assert fits(entries({"train": [Pair("4", "?", "a", (), ())]}, Marks())[0], Filter())


def test_the_funnel_adds_up() -> None:
    steps = funnel(COUNTS)
    assert [(step.dropped, step.left) for step in steps] == [(0, 10), (2, 8), (1, 7)]
    gap = funnel({**COUNTS, "train": 3})
    assert gap[-1] == ("not drawn", 2, 5)
    rows = format_funnel(COUNTS).split("\n")
    assert [row.split()[-1] for row in rows[:-1]] == ["10", "8", "7"]
    assert rows[-1].split() == ["kept", "7", "(train", "5,", "dev", "2)"]
    assert len({len(row) for row in rows[:-1]}) == 1, "columns are aligned"


def test_marks_are_summed_up_with_those_that_met_nothing() -> None:
    assert format_marks(Marks(), COUNTS) == ""
    assert format_marks(MARKS, COUNTS) == "marks: 1 bad, 1 good; made after the last run"
    told = format_marks(MARKS, {**COUNTS, "marks": {"applied": ["2"], "unmatched": ["9"]}})
    assert "1 met a candidate in the last run, 1 met none" in told
    assert f"met none: {short_id('9')}  9" in told


def test_a_listed_pair_says_all_a_reader_needs() -> None:
    text = format_entry(ENTRIES[0], 100)
    assert text.split("\n")[0] == f"{short_id('1')} · train · grounded · number · oracle rank 1 · syntax-2"
    assert "“every 200 hours of use” docs/pumps.md:3-20" in text
    assert "[2] docs/pumps.md#0-90 *" in text
    assert "[1] docs/a.md#0-9\n" in text
    refused = format_entry(ENTRIES[1], 100)
    assert "oracle not retrieved" in refused
    assert "marked bad: nobody does" in refused
    assert re.search(r"hidden +docs/bread\.md#5-50 \*", refused)
    assert "no oracle" in format_entry(ENTRIES[2], 100)


def test_no_document_steers_the_terminal() -> None:
    hostile = Pair("\x1b]0;x\x07", "a\x1b[2Jb\rc", "\x9b31m\u202e", ("x\x08#0-1",), ())
    text = format_entry(entries({"train": [hostile]}, Marks())[0], 60)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
