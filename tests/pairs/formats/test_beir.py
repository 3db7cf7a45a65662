"""Folders in the layout of BEIR."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.errors import QuestionError
from hybrid.pairs.formats.load import fingerprint_examples, load_examples, read_examples
from hybrid.types import Question

Write = Callable[..., Path]
QUERIES = [{"_id": str(n), "text": f"Question {n}?", "metadata": {}} for n in range(1, 5)]


@pytest.fixture
def beir(write: Write) -> Path:
    path = write(QUERIES, lines=True, name="set/queries.jsonl")
    head = "query-id\tcorpus-id\tscore\n"
    write(f"{head}1\tdoc a\t1\n1\tdoc b\t2\n2\tdoc a\t0\n", name="set/qrels/train.tsv")
    write(f"{head}3\tdoc c\t1\n", name="set/qrels/test.tsv")
    return path.parent


def test_a_beir_folder_without_answers(beir: Path) -> None:
    examples = read_examples(beir)
    assert examples.format == "BEIR (test, train)"
    assert examples.questions == [
        Question("1", "Question 1?", (), ("doc a", "doc b")),
        Question("3", "Question 3?", (), ("doc c",)),
    ]
    assert examples.left_out == {"queries without a judgement": 2}
    assert load_examples(beir) == examples.questions
    with pytest.raises(QuestionError, match=r"2 questions have no answer, such as '1'; add a qa\.jsonl"):
        load_examples(beir, answered=True)


def test_the_answers_of_a_beir_folder(beir: Path, write: Write) -> None:
    answers = [
        {"id": "1", "question": "Question 1?", "answers": ["a"], "gold": ["elsewhere"], "kind": "fact"},
        {"id": "3", "question": "Question 3?", "answers": ["c"]},
        {"id": "4", "question": "Question 4?", "answers": [], "answerable": False},
    ]
    write(answers, lines=True, name="set/qa.jsonl")
    assert load_examples(beir, answered=True) == [
        Question("1", "Question 1?", ("a",), ("doc a", "doc b"), kind="fact"),
        Question("3", "Question 3?", ("c",), ("doc c",)),
        Question("4", "Question 4?", answerable=False),
    ]


def test_a_file_of_judgements_names_a_split(beir: Path) -> None:
    examples = read_examples(beir / "qrels" / "test.tsv")
    assert examples.questions == [Question("3", "Question 3?", (), ("doc c",))]
    assert examples.format == "BEIR (test)"
    marks = {fingerprint_examples(path) for path in (beir, *(beir / "qrels").iterdir())}
    assert len(marks) == 3
    (beir / "queries.jsonl").write_text(json.dumps(QUERIES[2]) + "\n", encoding="utf-8")
    assert fingerprint_examples(beir / "qrels" / "test.tsv") not in marks


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1 doc 1\n", r"qrels/test\.tsv:2: expected query, document and"),
        ("qrels/test.tsv", "1\tdoc\tmuch\n", r"qrels/test\.tsv:1: expected query, document and score"),
        ("queries.jsonl", '{"_id": "1"}\n', r"queries\.jsonl:1: expected an object with '_id' and 'text'"),
        ("queries.jsonl", '{"_id": "1", "text": " "}\n', r"queries\.jsonl:1: the text is empty"),
        ("qa.jsonl", '{"id": "1"}\n', r"qa\.jsonl:1: the field 'question' is missing"),
    ],
)
def test_a_malformed_beir_file_is_named(name: str, text: str, message: str, beir: Path) -> None:
    (beir / name).write_text(text, encoding="utf-8")
    with pytest.raises(QuestionError, match=message):
        read_examples(beir)


def test_a_folder_that_is_no_beir_folder(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"is no BEIR folder: qrels/\*\.tsv is missing"):
        read_examples(tmp_path)


@pytest.mark.parametrize(
    ("name", "questions", "answerable"),
    [("squad11_dev13", 4557, 4557), ("clapnq", 600, 300), ("cranfield", 225, 225), ("hotpot100", 100, 100)],
)
def test_published_sets(name: str, questions: int, answerable: int, data_folder: Path) -> None:
    found = load_examples(data_folder / name)
    assert (len(found), sum(question.answerable for question in found)) == (questions, answerable)
    assert all(question.gold for question in found if question.answerable)
    assert all(question.answers for question in found if question.answerable) == (name != "cranfield")
