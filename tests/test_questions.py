"""Question files: what is read, and that every mistake names file and line."""

import json
from pathlib import Path

import pytest

from hybrid.errors import QuestionError
from hybrid.questions import load_questions, question_from_record

GOOD = '{"question": "Why?", "answer": "Because."}'


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_all_fields_are_read(tmp_path: Path) -> None:
    record = {"id": 7, "question": " Who? ", "answers": ["A", "B"], "gold": ["a.md"], "kind": "fact", "extra": 1}
    (question,) = load_questions(_file(tmp_path, json.dumps(record)))
    assert question.id == "7"
    assert question.question == "Who?"
    assert question.answers == ("A", "B")
    assert question.gold == ("a.md",)
    assert question.kind == "fact"
    assert question.answerable


def test_defaults_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode() + b"\n")
    first, second = load_questions(path)
    assert (first.id, second.id) == ("1", "3")
    assert first.answers == ("Because.",)
    assert first.gold == ()


def test_unanswerable_questions_need_no_answer(tmp_path: Path) -> None:
    lines = ['{"question": "A?", "answerable": false}', '{"question": "B?", "answers": []}']
    assert [(q.answerable, q.answers) for q in load_questions(_file(tmp_path, *lines))] == [(False, ()), (False, ())]


def test_a_line_separator_inside_a_string_ends_no_record(tmp_path: Path) -> None:
    (question,) = load_questions(_file(tmp_path, '{"question": "One\u2028two\u0085three?", "answer": "yes"}'))
    assert question.question == "One\u2028two\u0085three?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected an object, found list"),
        ('{"answer": "x"}', "the field 'question' is missing or empty"),
        ('{"question": " ", "answer": "x"}', "the field 'question' is missing or empty"),
        ('{"question": 3, "answer": "x"}', "the field 'question' is missing or empty"),
        ('{"question": "Q?"}', "the field 'answer' or 'answers' is missing"),
        ('{"question": "Q?", "answer": 12}', "'answers' must be a list of strings, found 12"),
        ('{"question": "Q?", "answers": {"a": 1}}', "'answers' must be a list of strings"),
        ('{"question": "Q?", "answers": ["a", 1]}', "'answers' must be a list of strings"),
        ('{"question": "Q?", "answers": [" "]}', "'answers' is empty"),
        ('{"question": "Q?", "answers": [], "answerable": true}', "'answers' is empty"),
        ('{"question": "Q?", "answer": "a", "gold": "a.md"}', "'gold' must be a list of strings, found 'a.md'"),
        ('{"question": "Q?", "answer": "a", "answerable": "no"}', "'answerable' must be true or false, found 'no'"),
        ('{"question": "Q?", "answer": "a", "id": "1"}', "id '1' was used on line 1"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD, "", line)
    with pytest.raises(QuestionError) as caught:
        load_questions(path)
    assert str(caught.value).startswith(f"{path}:3: {message}")


def test_a_missing_an_empty_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"nowhere\.jsonl does not exist"):
        load_questions(tmp_path / "nowhere.jsonl")
    with pytest.raises(QuestionError, match="holds no questions"):
        load_questions(_file(tmp_path, "", " "))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QuestionError, match="binary cannot be read"):
        load_questions(tmp_path / "binary")
    with pytest.raises(QuestionError, match="cannot be read"):
        load_questions(tmp_path)


def test_a_null_beside_an_answer_is_no_answer(tmp_path: Path) -> None:
    record = {"question": "Q?", "answers": None, "answer": "b"}
    (question,) = load_questions(_file(tmp_path, json.dumps(record)))
    assert question.answers == ("b",)


def test_nulls_of_a_table_are_no_values(tmp_path: Path) -> None:
    records = [{"id": None, "question": f"Q{n}?", "answer": "b", "kind": None, "gold": None} for n in range(2)]
    questions = load_questions(_file(tmp_path, *map(json.dumps, records)))
    assert [(question.id, question.kind) for question in questions] == [("1", ""), ("2", "")]
    assert question_from_record({"id": 0, "question": "Q?", "answer": "b"}, "f:1", "1").id == "0"


def test_quotes_are_texts_or_objects_that_hold_one() -> None:
    record = {"question": "Why?", "answer": "x", "quotes": ["plain", {"document": "a", "quote": "said"}, {"text": "t"}]}
    assert question_from_record(record, "f:1", "1").quotes == ("plain", "said", "t")
    assert question_from_record({"question": "Why?", "answer": "x"}, "f:1", "1").quotes == ()
    for wrong in ({"quote": 3}, [{"document": "a"}], 3, [["a"]]):
        with pytest.raises(QuestionError, match=r"f:1: 'quotes' must be"):
            question_from_record({**record, "quotes": wrong}, "f:1", "1")
