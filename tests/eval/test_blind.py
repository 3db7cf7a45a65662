"""The blinded sheet: what it shows and hides, and that it is balanced."""

import csv
import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from hybrid.errors import EvaluationError
from hybrid.eval.blind import Key, Sheet, make_sheet, read_key, write_sheet
from hybrid.types import Question

QUESTIONS = [Question(f"q{i}", f"What is {i}?", answers=(f"It is {i}", str(i))) for i in range(41)]
ANSWERS = {
    "armone": [f"first answer {i}" for i in range(41)],
    "armtwo": [f"second answer {i}" for i in range(41)],
    "armthree": [f"first answer {i}" if i % 2 else f" third answer {i} " for i in range(41)],
}
PAIRS = [("armone", "armtwo"), ("armthree", "armone")]


def sheet_and_key(n: int = 30, seed: int = 3) -> tuple[Sheet, Key]:
    return make_sheet(QUESTIONS, ANSWERS, PAIRS, n=n, seed=seed)


def written(folder: Path, seed: int = 3) -> dict[str, str]:
    write_sheet(*sheet_and_key(seed=seed), folder / "out", folder / "kept" / "key.json", title="Which is better?")
    return {file.name: file.read_bytes().decode() for file in (folder / "out").iterdir()}


def test_every_item_shows_the_answers_of_the_arms_in_the_key() -> None:
    sheet, key = sheet_and_key()
    numbers = {question.id: row for row, question in enumerate(QUESTIONS)}
    for item, hidden in zip(sheet.items, key.items, strict=True):
        row = numbers[hidden.question]
        assert item.item == hidden.item
        assert item.question == QUESTIONS[row].question
        assert item.reference == f"It is {row} / {row}"
        assert item.answer_a == ANSWERS[hidden.arm_a][row].strip()
        assert item.answer_b == ANSWERS[hidden.arm_b][row].strip()


def test_a_rater_is_told_what_the_documents_do_not_answer() -> None:
    questions = [Question("q0", "What did it cost?", answerable=False)]
    sheet, _ = make_sheet(questions, {"rag": ["9 crowns"], "hybrid": ["No."]}, [("rag", "hybrid")], n=1, seed=0)
    assert sheet.items[0].reference == "(The documents do not answer this question.)"


def test_pairs_share_their_questions_and_same_answers_are_not_shown() -> None:
    sheet, key = sheet_and_key()
    shown = {pair: {i.question for i in key.items if {i.arm_a, i.arm_b} == set(pair)} for pair in PAIRS}
    assert len(shown[PAIRS[0]]) == 30
    assert shown[PAIRS[1]] < shown[PAIRS[0]]
    assert key.same == (0, 30 - len(shown[PAIRS[1]]))
    assert all(item.answer_a != item.answer_b for item in sheet.items)
    assert all(int(id_[1:]) % 2 == 0 for id_ in shown[PAIRS[1]])


@pytest.mark.parametrize("seed", range(5))
def test_each_arm_is_a_on_half_of_the_items(seed: int) -> None:
    for n in (29, 30):
        _, key = sheet_and_key(n, seed)
        for pair in PAIRS:
            sides = Counter(item.arm_a for item in key.items if {item.arm_a, item.arm_b} == set(pair))
            assert abs(sides[pair[0]] - sides[pair[1]]) == sides.total() % 2


def test_sides_and_order_are_drawn_by_the_seed() -> None:
    assert sheet_and_key() == sheet_and_key()
    keys = [sheet_and_key(seed=seed)[1] for seed in range(4)]
    assert len({key.sheet for key in keys}) == 4
    assert len({tuple(item.arm_a for item in key.items) for key in keys}) == 4
    order = [int(item.question[1:]) for item in keys[0].items]
    assert order != sorted(order)


def test_the_place_of_a_question_does_not_tell_the_side() -> None:
    for question in ("q0", "q1"):
        sides = {
            next(
                item.arm_a
                for item in make_sheet(QUESTIONS, ANSWERS, PAIRS[:1], n=41, seed=seed)[1].items
                if item.question == question
            )
            for seed in range(12)
        }
        assert sides == set(PAIRS[0])


def test_neither_file_names_an_arm_and_the_key_does(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert sorted(files) == ["answers.csv", "rate.html"]
    for text in files.values():
        assert "first answer" in text
        assert not any(arm in text for arm in ANSWERS)
    assert read_key(tmp_path / "kept" / "key.json") == sheet_and_key()[1]


def test_the_csv_file_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / "out" / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    sheet, _ = sheet_and_key()
    assert [row["item"] for row in rows] == [item.item for item in sheet.items]
    assert {row["rating"] for row in rows} == {""}
    assert {row["sheet"] for row in rows} == {sheet.id}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-5 °C", "@SUM(A1)"])
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    sheet, key = make_sheet(QUESTIONS[:1], {"x": [text], "y": ["fine"]}, [("x", "y")], n=1, seed=0)
    write_sheet(sheet, key, tmp_path, tmp_path / "key.json", title="t")
    with (tmp_path / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {row["answer_a"], row["answer_b"]} == {f"'{text}", "fine"}


def _items_of(page: str) -> Sequence[dict[str, str]]:
    items: Sequence[dict[str, str]] = json.loads(page.split('id="items">')[1].split("</script>")[0])
    return items


def test_the_page_is_self_contained_and_escapes_every_text(tmp_path: Path) -> None:
    bad = "</script><img src=x onerror=alert(1)> & \u2028 'quoted' \ud800"
    sheet, key = make_sheet(
        [Question("q", bad, answers=(bad,))], {"x": [bad], "y": ["fine"]}, [("x", "y")], n=1, seed=0
    )
    write_sheet(sheet, key, tmp_path, tmp_path / "key.json", title=bad.removesuffix("\ud800"))
    page = (tmp_path / "rate.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "http:" not in page and "https:" not in page
    assert "default-src 'none'" in page
    assert html.escape("</script><img") in page
    (item,) = _items_of(page)
    assert bad in (item["answer_a"], item["answer_b"])


def test_a_rated_sheet_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path)  # the same sheet again is no harm
    with pytest.raises(EvaluationError, match=r"answers\.csv holds another or a rated sheet"):
        written(tmp_path, seed=4)
    assert read_key(tmp_path / "kept" / "key.json") == sheet_and_key()[1]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("armone", "armfour")], "no answers of an arm 'armfour'; there are armone, armtwo, armthree"),
        ([("armone", "armone")], "'armone' cannot be compared with itself"),
        ([("armone", "armtwo"), ("armtwo", "armone")], "name each pair of arms once"),
        ([], "name each pair of arms once"),
    ],
)
def test_wrong_pairs(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        make_sheet(QUESTIONS, ANSWERS, pairs, n=5, seed=0)


def test_nothing_to_rate() -> None:
    with pytest.raises(EvaluationError, match="at least one question, got 0"):
        make_sheet(QUESTIONS, ANSWERS, PAIRS, n=0, seed=0)
    with pytest.raises(EvaluationError, match="all 2 questions in the same words"):
        make_sheet(QUESTIONS[:2], {"x": ["a", ""], "y": ["a ", " "]}, [("x", "y")], n=5, seed=0)


def test_a_missing_or_damaged_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"key\.json is missing; make a sheet first"):
        read_key(tmp_path / "key.json")
    for text in ("[]", "{}", "no json", '{"sheet": "x", "pairs": [["a"]], "items": [], "same": []}'):
        (tmp_path / "key.json").write_text(text, encoding="utf-8")
        with pytest.raises(EvaluationError, match="is no key of a blinded sheet"):
            read_key(tmp_path / "key.json")
