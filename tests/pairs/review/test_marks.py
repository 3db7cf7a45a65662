import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import ConfigError
from hybrid.pairs.candidates import Candidate, Funnel
from hybrid.pairs.review.marks import Mark, Marks, change_marks, read_marks, short_id, write_marks
from hybrid.types import Pair


def candidate(key: str = "a.md#3-9/fact/x", question: str = "How heavy is it?", answer: str = "5 kg") -> Candidate:
    return Candidate(key, question, answer, ("a.md#0-40",), ("a.md",), (), "syntax-2")


def pair(key: str, question: str = "How heavy is it?", answer: str = "5 kg", **values: Any) -> Pair:
    return Pair(key, question, answer, ("a.md#0-40",), ("a.md#0-40",), **values)


def bad(key: str, question: str = "How heavy is it?", answer: str = "5 kg", reason: str = "") -> Mark:
    return Mark(key, question, answer, "bad", reason)


# --- what a mark is about ---------------------------------------------------------------------------------------------


def test_a_bad_mark_drops_its_candidate_and_is_counted() -> None:
    marks = Marks([bad("a.md#3-9/fact/x"), Mark("b", "Who bakes?", "Ann", "good"), bad("c", "Gone?", "1")])
    funnel = Funnel()
    kept = funnel.keep(
        "marked bad", [candidate(), candidate("b", "Who bakes?", "Ann"), candidate("d", "Why?")], marks.unmarked
    )
    assert [c.id for c in kept] == ["b", "d"]
    assert funnel.counts == {"marked bad": 1}
    assert marks.figures() == {"applied": ["a.md#3-9/fact/x", "b"], "unmatched": ["c"]}


def test_a_mark_survives_a_new_id_by_question_and_answer_in_words() -> None:
    marks = Marks([bad("a.md#3-9/fact/x")])
    assert not marks.unmarked(candidate("a.md#103-109/fact/x", "how heavy is it", "5 KG."))
    assert marks.unmarked(candidate("a.md#103-109/fact/x", "How heavy is it?", "6 kg"))
    assert marks.unmarked(candidate("a.md#103-109/fact/x", "How old is it?", "5 kg"))


def test_an_id_of_another_question_and_answer_is_not_meant() -> None:
    """Ids of a user's own questions are often numbers, which come back in every file."""
    marks = Marks([bad("1")])
    assert marks.unmarked(candidate("1", "Who bakes?", "Ann"))
    assert not marks.unmarked(candidate("1", "How heavy is it really?", "5 kg"))
    assert not marks.unmarked(candidate("1", "How heavy is it?", "5 or 6 kg"))


def test_a_mark_on_a_refusal_drops_the_question_whatever_its_answer() -> None:
    refused = pair("old", answer="The documents do not say.", kind="absent")
    marks = change_marks(Marks(), [refused], ["old"], "bad")
    assert marks.by_id["old"].answer == ""
    assert marks.on(refused) == [marks.by_id["old"]]
    assert not marks.unmarked(candidate("new", "How heavy is it?", "5 kg"))


def test_of_several_marks_on_one_pair_a_bad_one_holds() -> None:
    marks = Marks([Mark("x", "How heavy is it?", "5 kg", "good"), bad("y")])
    assert not marks.unmarked(candidate("x"))
    assert [mark.id for mark in marks.on(pair("x"))] == ["y", "x"]


# --- the file ---------------------------------------------------------------------------------------------------------


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.builds(Mark, TEXT.filter(bool), TEXT, TEXT, st.sampled_from(["bad", "good"]), TEXT)))
def test_marks_are_read_as_written(tmp_path_factory: pytest.TempPathFactory, marks: list[Mark]) -> None:
    path = tmp_path_factory.mktemp("marks") / "marks.jsonl"
    write_marks(path, Marks(marks))
    assert read_marks(path).by_id == Marks(marks).by_id
    assert list(read_marks(path).by_id) == list(Marks(marks).by_id)


def test_no_file_an_empty_one_and_good_marks_change_no_pairs(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    assert read_marks(path).identity() is None
    path.write_text("\n\n", encoding="utf-8")
    assert read_marks(path).identity() is None
    write_marks(path, Marks([Mark("a", "q", "a", "good")]))
    assert read_marks(path).identity() is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["marks.jsonl"]


def test_order_and_reasons_change_no_pairs() -> None:
    one, other = bad("a"), bad("b", "Who bakes?", "Ann")
    assert Marks([one, other]).identity() == Marks([other, bad("a", reason="nonsense")]).identity()
    assert Marks([one]).identity() != Marks([other]).identity()


def test_of_two_lines_with_one_id_the_later_holds_and_marks_of_other_systems_are_read(tmp_path: Path) -> None:
    lines = [{"id": "a", "question": "q\u2028r", "answer": "a", "mark": mark} for mark in ("bad", "good")]
    text = "\ufeff" + "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "marks.jsonl").write_bytes(text.encode())
    assert read_marks(tmp_path / "marks.jsonl").by_id == {"a": Mark("a", "q\u2028r", "a", "good")}


WHOLE = {"id": "a", "question": "q", "answer": "a", "mark": "bad"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["a"]', "is no JSON object"),
        (json.dumps({**WHOLE, "mark": "maybe"}), "mark 'maybe'; a mark is bad or good"),
        (json.dumps({**WHOLE, "id": ""}), "id is ''"),
        (json.dumps({**WHOLE, "resaon": "x"}), "unknown key 'resaon'"),
        (json.dumps({**WHOLE, "reason": None}), "reason is None; it must be a string"),
        (json.dumps({"id": "a", "mark": "bad", "answer": "a"}), "'question' is missing"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "marks.jsonl"
    path.write_text(json.dumps(WHOLE) + "\n\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"marks\.jsonl:3: ") as caught:
        read_marks(path)
    assert message in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "marks.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"marks\.jsonl cannot be read as UTF-8"):
        read_marks(tmp_path / "marks.jsonl")


def test_half_a_surrogate_pair_is_not_written(tmp_path: Path) -> None:
    write_marks(tmp_path / "marks.jsonl", Marks([bad("a")]))
    with pytest.raises(ConfigError, match="half of a surrogate pair"):
        write_marks(tmp_path / "marks.jsonl", Marks([bad("b", reason="\ud800")]))
    assert list(read_marks(tmp_path / "marks.jsonl").by_id) == ["a"], "the old file is whole"


# --- judging ----------------------------------------------------------------------------------------------------------


def test_marking_renewing_and_clearing() -> None:
    pairs = [pair("a"), pair("b", "Who bakes?", "Ann")]
    marks = change_marks(Marks(), pairs, ["b", short_id("a")], "bad", "nonsense")
    assert marks.by_id == {
        "b": Mark("b", "Who bakes?", "Ann", "bad", "nonsense"),
        "a": Mark("a", "How heavy is it?", "5 kg", "bad", "nonsense"),
    }
    assert change_marks(marks, pairs, ["a"], "bad").by_id["a"].reason == "nonsense", "the same verdict keeps its reason"
    assert change_marks(marks, pairs, ["a"], "good").by_id["a"] == Mark("a", "How heavy is it?", "5 kg", "good")
    assert list(change_marks(marks, pairs, ["a"], None).by_id) == ["b"]
    assert change_marks(Marks(), pairs, ["a"], None).by_id == {}, "clearing what is not marked does nothing"


def test_a_mark_outlives_its_pair_and_can_be_cleared() -> None:
    marks = Marks([bad("gone", "Who?", "Ann")])
    assert change_marks(marks, [], ["gone"], "good").by_id == {"gone": Mark("gone", "Who?", "Ann", "good")}
    assert change_marks(marks, [], [short_id("gone")], None).by_id == {}


def test_a_pair_with_a_new_id_renews_its_old_mark() -> None:
    marks = change_marks(Marks([bad("old")]), [pair("new")], ["new"], "good")
    assert marks.by_id == {"old": Mark("old", "How heavy is it?", "5 kg", "good")}
    assert change_marks(marks, [pair("new")], ["new"], None).by_id == {}


def test_mistakes_are_named() -> None:
    pairs = [pair("pumps.md#1-2/fact/How?")]
    with pytest.raises(
        ConfigError, match=r"no pair 'pumps\.md#1-2/fact/Howe\?'; did you mean 'pumps\.md#1-2/fact/How\?'"
    ):
        change_marks(Marks(), pairs, ["pumps.md#1-2/fact/Howe?"], "bad")
    with pytest.raises(ConfigError, match="unknown mark 'ugly'"):
        change_marks(Marks(), pairs, [pairs[0].id], "ugly")  # type: ignore[arg-type]
