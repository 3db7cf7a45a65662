"""Files that cannot be used: the message names the place and what is wrong there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import QuestionError
from hybrid.pairs.formats.load import load_examples, read_examples

Write = Callable[..., Path]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who bakes?"},
    {"role": "assistant", "content": "Ida."},
    {"role": "user", "content": "And when?"},
    {"role": "assistant", "content": "At six."},
]
SHAREGPT = [{"from": "human", "value": "Who bakes?"}, {"from": "gpt", "value": "Ida."}]
SQUAD = {"question": "When?", "id": "a1", "answers": [{"text": "1712", "answer_start": 0}], "is_impossible": False}
PUBMEDQA = {"1": {"QUESTION": "Do they?", "CONTEXTS": ["They."], "final_decision": "yes", "LONG_ANSWER": "They do."}}
HOTPOTQA = {"_id": "1", "question": "Both?", "answer": "yes", "supporting_facts": [["Ann Lee", 0]], "context": []}


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"messages": CHAT}, {"messages": "hello"}, "the field 'messages' must not be of type str"),
        ({"messages": CHAT}, {"dialogue": CHAT}, "the field 'messages' is missing"),
        ({"messages": CHAT}, {"messages": ["hello"]}, "messages[0]: expected an object, found str"),
        ({"messages": CHAT}, {"messages": [{"role": "user"}]}, "messages[0]: the field 'content' is missing"),
        ({"messages": CHAT}, {"messages": [{"content": "?"}]}, "messages[0]: the field 'role' is missing"),
        ({"conversations": SHAREGPT}, {"conversations": [{"from": "human"}]}, "conversations[0]: the field 'value' is"),
        (
            {"conversations": SHAREGPT},
            {"conversations": [{"from": "human", "value": 1}]},
            "conversations[0]: the field 'value' must be a text, found int",
        ),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": "a", "completion": ["b"]},
            "the field 'completion' must be a text",
        ),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": 1}, "the field 'completion' must not be of"),
        ({"instruction": "a", "output": "b"}, {"instruction": "a"}, "the field 'output' is missing"),
        (
            {"instruction": "a", "output": "b"},
            {"instruction": "a", "output": "b", "input": 1},
            "the field 'input' must be a text, found int",
        ),
        (
            {"instruction": "a", "output": "b"},
            {"instruction": "a", "output": "b", "history": [["a"]]},
            "history[0] must be a question and an answer",
        ),
        (HOTPOTQA, {**HOTPOTQA, "_id": "2", "supporting_facts": ["Ann"]}, "supporting_facts[0] must be a title and a"),
        (
            HOTPOTQA,
            {**HOTPOTQA, "_id": "2", "supporting_facts": {"title": "Ann"}},
            "supporting_facts: the field 'title'",
        ),
        (HOTPOTQA, {**HOTPOTQA, "_id": "2", "answer": None}, "the field 'answer' must be a text, found NoneType"),
        ({"question": "a", "answer": "b"}, {"question": "a"}, "the field 'answer' or 'answers' is missing"),
        (
            {"id": 7, "question": "a", "answer": "b"},
            {"id": "7", "question": "c", "answer": "d"},
            "the id '7' is taken by",
        ),
        ({"question": "a", "answer": "b"}, 5, "expected an object, found int"),
    ],
)
def test_a_malformed_record_is_named(good: Any, bad: Any, message: str, write: Write) -> None:
    for path, place in ((write([good, bad], lines=True, name="l"), ":2"), (write([good, bad], name="a"), "[1]")):
        with pytest.raises(QuestionError) as caught:
            read_examples(path)
        assert str(caught.value).startswith(f"{path}{place}: ")
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"data": ["x"]}, "data[0]: expected an object with the list 'paragraphs'"),
        (
            {"data": [{"paragraphs": [{"context": "x"}]}]},
            "data[0].paragraphs[0]: expected an object with the list 'qas'",
        ),
        (
            {"data": [{"paragraphs": [{"qas": [SQUAD, {"question": "Q?"}]}]}]},
            "data[0].paragraphs[0].qas[1]: the field 'answers' is missing",
        ),
        (
            {"data": [{"paragraphs": [{"qas": [{"question": "Q?", "answers": ["1712"]}]}]}]},
            "data[0].paragraphs[0].qas[0]: answers[0]: expected an object, found str",
        ),
        (
            {"data": [{"paragraphs": [{"qas": [{**SQUAD, "is_impossible": "no"}]}]}]},
            "data[0].paragraphs[0].qas[0]: 'is_impossible' must be true or false, found 'no'",
        ),
        ({**PUBMEDQA, "2": "x"}, "'2': expected an object, found str"),
        ({**PUBMEDQA, "2": {"QUESTION": "Q?"}}, "'2': the field 'CONTEXTS' is missing"),
    ],
)
def test_the_place_in_a_document_is_named(document: Any, place: str, write: Write) -> None:
    path = write(document)
    with pytest.raises(QuestionError, match=re.escape(f"{path}: {place}")):
        read_examples(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"question": "A?", "answer": "b"}\n{"question"\n',
            r":2: not valid JSON \(Expecting ':' delimiter at column 12",
        ),
        ('[\n {"question": "A?",}\n]', r":2: not valid JSON \(.* at column"),
        ("{", r":1: not valid JSON"),
        (
            f'{{"question": "A?", "answer": "b"}}\n{{"question": {"9" * 5000}}}',
            r":2: not valid JSON \(Exceeds the limit",
        ),
        (f'[{{"question": {"9" * 5000}}}]', r"not valid JSON \(Exceeds the limit"),
        ("", "holds no questions"),
        (" \n", "holds no questions"),
        ("[]", "holds no questions"),
        ("{}", "is in no format that is understood: .* has no field"),
        (
            '{"messages": [{"role": "user", "content": "?"}]}',
            "holds no questions; left out: 1 conversations that do not",
        ),
        ('[{"_id": "1", "text": "Who?"}]', r"\[0\] has '_id', 'text'; understood are a question file .* CSV or TSV"),
        ("frage,antwort\nWer?,Ida\n", "its first line has 'frage', 'antwort'; understood are"),
        ("Just a text.\n", "its first line has 'just a text.'; understood are"),
        ("question,answer\nA?\n", ":2: 1 cells under 2 columns"),
        ("question,answer\nA?,b\n\nB?,c,d\n", ":4: 3 cells under 2 columns"),
        ("question,answer\nA?,\n", ":2: 'answers' is empty; for a question without answer"),
        ("question,answer\n,b\n", ":2: the field 'question' is missing or empty"),
        ("question,answer,answerable\nA?,b,perhaps\n", ":2: 'answerable' must be true or false, found 'perhaps'"),
        ('question,answer\nA?,b\nB?,"c"d\n', ":3: not a valid row"),
        ("question,answer\n", "holds no questions"),
        ("id,question,answer\n1,A?,b\n1,B?,c\n", r":3: the id '1' is taken by .*:2"),
    ],
)
def test_a_file_that_cannot_be_used(text: str, message: str, write: Write) -> None:
    with pytest.raises(QuestionError, match=message):
        read_examples(write(text))


def test_a_missing_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"nowhere\.json does not exist"):
        read_examples(tmp_path / "nowhere.json")
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(QuestionError, match="binary cannot be read: binary data"):
        read_examples(tmp_path / "binary")
    (tmp_path / "deep").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(QuestionError, match="is nested too deeply"):
        read_examples(tmp_path / "deep")
    (tmp_path / "deep").write_text("{}\n" + "[" * 100_000, encoding="utf-8")
    with pytest.raises(QuestionError, match="deep:2: nested too deeply"):
        read_examples(tmp_path / "deep")


def test_what_was_left_out_is_one_line_on_stderr(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write([{"messages": CHAT}, {"messages": CHAT[:2]}], lines=True)
    load_examples(path)
    assert capsys.readouterr().err == (
        f"{path}: 1 questions, read as chat messages; left out: 2 system messages, 1 later turns, which may depend on "
        "the first, 1 conversations that do not begin with a question and its answer\n"
    )
    load_examples(write('{"question": "A?", "answer": "b"}'))
    assert capsys.readouterr().err == ""
