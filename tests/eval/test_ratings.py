"""Ratings that come back: what is refused, who won, and kappa against scikit-learn."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from hybrid.errors import EvaluationError
from hybrid.eval.blind import COLUMNS, Key, KeyItem, make_sheet, write_sheet
from hybrid.eval.ratings import Ratings, cohen_kappa, judge_ratings, read_ratings
from hybrid.types import Question

Row = dict[str, str]
N = 6


@pytest.fixture
def key(tmp_path: Path) -> Key:
    questions = [Question(f"q{i}", f"What is {i},\nexactly?", answers=("-1",)) for i in range(N)]
    answers = {"new": [f"=new; {i}" for i in range(N)], "old": [f'an "old" one, {i}' for i in range(N)]}
    sheet, key = make_sheet(questions, answers, [("new", "old")], n=N, seed=0)
    write_sheet(sheet, key, tmp_path, tmp_path / "key.json", title="t")
    return key


def rate(folder: Path, name: str, change: Callable[[list[Row]], object], delimiter: str = ",") -> Path:
    """Fills the sheet in as a person would: A everywhere, then whatever `change` does to the rows."""
    with (folder / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows: list[Row] = [{**row, "rating": "A"} for row in csv.DictReader(file)]
    change(rows)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return folder / f"{name}.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_ratings_come_back_in_the_order_of_the_sheet(tmp_path: Path, key: Key, delimiter: str) -> None:
    def change(rows: list[Row]) -> None:
        rows[0]["rating"], rows[1]["rating"] = " b ", "Tie"
        rows.reverse()

    assert read_ratings(rate(tmp_path, "ada", change, delimiter), key) == Ratings("ada", ("B", "tie", *"AAAA"))


def test_what_the_page_saves_has_no_texts(tmp_path: Path, key: Key) -> None:
    lines = ["item,rating,sheet", *(f"{i + 1},tie,{key.sheet}" for i in range(N)), ""]
    (tmp_path / "bob.csv").write_bytes("\r\n".join(lines).encode())
    assert read_ratings(tmp_path / "bob.csv", key) == Ratings("bob", ("tie",) * N)


def test_a_spreadsheet_may_take_the_guard_off(tmp_path: Path, key: Key) -> None:
    def change(rows: list[Row]) -> None:
        for row in rows:
            row.update({name: value.removeprefix("'").replace("\n", "\r\n") for name, value in row.items()})

    assert read_ratings(rate(tmp_path, "ada", change), key).ratings == ("A",) * N


def test_what_a_spreadsheet_rewrote_is_read_by_item_number_and_counted(tmp_path: Path, key: Key) -> None:
    def change(rows: list[Row]) -> None:
        rows[1].update(answer_a="04. Mrz", reference="7", rating="B")
        rows[2].update(question="Why?", rating="tie")
        rows.reverse()

    assert read_ratings(rate(tmp_path, "ada", change), key) == Ratings("ada", ("A", "B", "tie", *"AAA"), 2)


def test_rewritten_items_are_counted_for_every_rater() -> None:
    raters = [Ratings("ada", ("A",), 1), Ratings("bob", ("B",))]
    assert judge_ratings(_key("+"), raters).rewritten == (1, 0)


def _sort_apart(rows: list[Row]) -> None:
    """The texts of two rows change places, their numbers and ratings stay."""
    for name in ("question", "reference", "answer_a", "answer_b"):
        rows[0][name], rows[1][name] = rows[1][name], rows[0][name]


def _drop_column(rows: list[Row]) -> None:
    for row in rows:
        del row["sheet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_sort_apart, "row 2: item '1' has the texts of another item"),
        (lambda rows: rows.pop(), "1 of 6 items are missing: 6"),
        (lambda rows: rows.append(rows[1]), "row 8: item '2' is there twice"),
        (lambda rows: rows[0].update(item="77"), "row 2: the sheet has no item '77'"),
        (lambda rows: rows[0].update(sheet="other"), "belongs to sheet 'other'"),
        (lambda rows: rows[0].update(rating=" "), "row 2: item '1' is not rated; write A, B or tie"),
        (lambda rows: rows[0].update(rating="C"), "item '1' is rated 'C'; it can be A, B or tie"),
        (lambda rows: rows[0].update(rating="nan"), "item '1' is rated 'nan'"),
        (_drop_column, "the header must have the column 'sheet' once"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path: Path, key: Key, change: Callable[[list[Row]], object], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_ratings(rate(tmp_path, "ada", change), key)


def test_a_wrong_file_is_refused(tmp_path: Path, key: Key) -> None:
    with pytest.raises(EvaluationError, match="there is no file of ratings"):
        read_ratings(tmp_path / "none.csv", key)
    for content, message in (
        (b"\xff\xfe", "save it as CSV UTF-8"),
        (b"", "must have the column 'item'"),
        (b"item,rating,sheet\r\n1,A\r\n", "row 2: 2 cells for 3 columns"),
        (b'item,rating,sheet\r\n"1"2,A,x\r\n', "is no CSV file"),
    ):
        (tmp_path / "bad.csv").write_bytes(content)
        with pytest.raises(EvaluationError, match=message):
            read_ratings(tmp_path / "bad.csv", key)


def test_the_header_is_that_of_the_sheet(tmp_path: Path, key: Key) -> None:
    header = (tmp_path / "answers.csv").read_text(encoding="utf-8-sig").split("\n")[0].strip()
    assert header.split(",") == list(COLUMNS)


def _key(sides: str, same: int = 0) -> Key:
    """`+` has the arm `new` as A, `-` as B."""
    items = tuple(
        KeyItem(str(i), f"q{i}", *(("new", "old") if side == "+" else ("old", "new")), "")
        for i, side in enumerate(sides, 1)
    )
    return Key("s", (("new", "old"),), items, (same,))


def test_preferences_follow_the_key() -> None:
    ratings = Ratings("ada", ("A", "B", "A", "B", "tie", "A", "A"))
    (found,) = judge_ratings(_key("+-+-++-", same=3), [ratings]).preferences
    assert (found.first, found.second) == ("new", "old")
    assert (found.n, found.wins, found.ties, found.losses, found.same) == (10, 5, 4, 1, 3)
    assert found.p == pytest.approx(binomtest(5, 6).pvalue)
    expected = binomtest(5, 10).proportion_ci(method="wilson")
    assert found.win_interval == pytest.approx((expected.low, expected.high))
    expected = binomtest(1, 10).proportion_ci(method="wilson")
    assert found.loss_interval == pytest.approx((expected.low, expected.high))


def test_several_raters_decide_by_majority() -> None:
    raters = [
        Ratings("a", ("A", "A", "A", "A")),
        Ratings("b", ("A", "B", "A", "tie")),
        Ratings("c", ("B", "tie", "tie", "tie")),
    ]
    result = judge_ratings(_key("++++"), raters)
    (found,) = result.preferences
    assert (found.wins, found.ties, found.losses) == (2, 2, 0)
    assert [agreement.raters for agreement in result.agreements] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [agreement.share for agreement in result.agreements] == [0.5, 0.0, 0.25]
    two = judge_ratings(_key("++++"), raters[:2]).preferences[0]
    assert (two.wins, two.ties) == (2, 2)


def test_only_ties_prove_nothing() -> None:
    (found,) = judge_ratings(_key("+-"), [Ratings("a", ("tie", "tie"))]).preferences
    assert (found.wins, found.losses, found.p) == (0, 0, 1.0)


def test_raters_need_names_of_their_own_and_all_items() -> None:
    for raters in ([], [Ratings("a", ("A",)), Ratings("a", ("B",))]):
        with pytest.raises(EvaluationError, match="name of its own"):
            judge_ratings(_key("+"), raters)
    with pytest.raises(EvaluationError, match="a rated 2 items of 1"):
        judge_ratings(_key("+"), [Ratings("a", ("A", "B"))])


rated = st.lists(st.tuples(*[st.sampled_from(["A", "B", "tie"])] * 2), min_size=1, max_size=40)


@settings(deadline=None)
@given(rated)
def test_kappa_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    found = cohen_kappa(one, other)
    if len({*one, *other}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(one, other))
        assert found == pytest.approx(cohen_kappa(other, one))


def test_kappa_of_nothing() -> None:
    assert cohen_kappa([], []) is None
    with pytest.raises(EvaluationError, match="found 1 and 0"):
        cohen_kappa(["A"], [])
