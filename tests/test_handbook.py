"""The example handbook: large enough, original, and every gold answer is where its quote says."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

KINDS = {"fact", "number", "procedure", "yes_no", "two_page", "unanswerable"}
FIELDS = {"id", "question", "answers", "kind", "answerable", "gold", "quotes"}

Row = dict[str, Any]


@pytest.fixture(scope="module")
def pages(handbook: Path) -> dict[str, str]:
    docs = handbook / "docs"
    return {path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8") for path in sorted(docs.rglob("*.md"))}


@pytest.fixture(scope="module")
def rows(handbook: Path) -> list[Row]:
    return [json.loads(line) for line in (handbook / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_size(pages: dict[str, str]) -> None:
    assert len(pages) >= 40
    assert sum(len(text.split()) for text in pages.values()) >= 15_000


def test_every_page_starts_with_its_only_title(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        titles = [line for line in text.splitlines() if line.startswith("# ")]
        assert len(titles) == 1, name
        assert text.startswith(titles[0]), name


def test_links_lead_to_pages(handbook: Path, pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert (handbook / "docs" / name).parent.joinpath(target).is_file(), f"{name}: {target}"


def test_no_long_sentence_occurs_twice(pages: dict[str, str]) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, text in pages.items():
        for line in text.splitlines():
            for sentence in re.split(r"(?<=[.!?])\s+", line):
                if len(words := _words(sentence)) > 12:
                    places[" ".join(words)].append(name)
    assert {sentence: names for sentence, names in places.items() if len(names) > 1} == {}


def test_questions_have_the_promised_kinds(rows: list[Row]) -> None:
    kinds = Counter(row["kind"] for row in rows)
    assert len(rows) >= 200
    assert set(kinds) == KINDS
    assert kinds["unanswerable"] >= 30


def test_questions_are_well_formed_and_unique(rows: list[Row]) -> None:
    assert all(set(row) == FIELDS for row in rows)
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    assert len({row["question"].casefold() for row in rows}) == len(rows)
    for row in rows:
        filled = [bool(row[key]) for key in ("answerable", "answers", "gold", "quotes")]
        assert filled == [row["kind"] != "unanswerable"] * 4, row["id"]


def test_quotes_are_exact_and_cover_the_gold_documents(pages: dict[str, str], rows: list[Row]) -> None:
    for row in rows:
        for quote in row["quotes"]:
            assert pages[quote["document"]].count(quote["quote"]) == 1, row["id"]
        assert sorted(row["gold"]) == sorted({quote["document"] for quote in row["quotes"]}), row["id"]
        if row["kind"] == "two_page":
            assert len(row["gold"]) == 2, row["id"]


def test_first_answer_stands_in_a_quote(rows: list[Row]) -> None:
    for row in rows:
        if row["kind"] in {"fact", "number"}:
            answer = row["answers"][0].casefold()
            assert any(answer in quote["quote"].casefold() for quote in row["quotes"]), row["id"]
        if row["kind"] == "yes_no":
            assert row["answers"] in (["yes"], ["no"]), row["id"]


def test_questions_do_not_copy_their_page(pages: dict[str, str], rows: list[Row]) -> None:
    """A question that repeats six words of its gold page in a row could be answered by matching letters."""
    for row in rows:
        words = _words(row["question"])
        grams = {" ".join(words[i : i + 6]) for i in range(len(words) - 5)}
        for name in row["gold"]:
            text = f" {' '.join(_words(pages[name]))} "
            assert not [gram for gram in grams if f" {gram} " in text], row["id"]
