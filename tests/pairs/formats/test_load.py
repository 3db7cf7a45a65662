"""Existing data sets, in samples that follow their published schemas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.pairs.formats.load import Examples, load_examples, read_examples
from hybrid.types import Question

Write = Callable[..., Path]

CONTEXT = "The mill was built in 1712. Its wheel has twelve blades."
SQUAD_1 = {
    "version": "1.1",
    "data": [
        {
            "title": "Mill",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "answers": [
                                {"answer_start": 22, "text": "1712"},
                                {"answer_start": 19, "text": "in 1712"},
                                {"answer_start": 22, "text": "1712"},
                            ],
                            "question": "When was the mill built?",
                            "id": "5733be284776f41900661182",
                        }
                    ],
                }
            ],
        }
    ],
}
SQUAD_2_QAS = [
    {
        "question": "How many blades has the wheel?",
        "id": "a1",
        "answers": [{"text": "twelve", "answer_start": 42}],
        "is_impossible": False,
    },
    {
        "plausible_answers": [{"text": "1712", "answer_start": 22}],
        "question": "When did the mill burn down?",
        "id": "a2",
        "answers": [],
        "is_impossible": True,
    },
    {"question": "Who burnt it?", "id": "a3", "answers": [{"text": "Its", "answer_start": 28}], "is_impossible": True},
]
PUBMEDQA = {
    "21645374": {
        "QUESTION": "Do mitochondria play a role in remodelling lace plant leaves?",
        "CONTEXTS": ["Programmed cell death is regulated.", "Dynamics were delineated."],
        "LABELS": ["BACKGROUND", "RESULTS"],
        "MESHES": ["Alismataceae", "Apoptosis"],
        "YEAR": "2011",
        "reasoning_required_pred": "yes",
        "reasoning_free_pred": "yes",
        "final_decision": "yes",
        "LONG_ANSWER": "Results depicted mitochondrial dynamics in vivo.",
    }
}
PUBMED_QUESTION = Question(
    "21645374",
    "Do mitochondria play a role in remodelling lace plant leaves?",
    ("yes",),
    ("21645374",),
)
HOTPOTQA = {
    "_id": "5a8b57f25542995d1e6f1371",
    "answer": "yes",
    "question": "Were Ann and Bob of the same country?",
    "supporting_facts": [["Ann Lee", 0], ["Bob Ray", 0], ["Ann Lee", 2]],
    "context": [["Ann Lee", ["Ann Lee is French.", " She sings."]], ["Bob Ray", ["Bob Ray is French."]]],
    "type": "comparison",
    "level": "hard",
}
HOTPOT_QUESTION = Question(
    "5a8b57f25542995d1e6f1371",
    "Were Ann and Bob of the same country?",
    ("yes",),
    ("Ann Lee", "Bob Ray"),
    kind="comparison",
)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who bakes?"},
    {"role": "assistant", "content": "Ida."},
    {"role": "user", "content": "And when?"},
    {"role": "assistant", "content": "At six."},
]
SHAREGPT = [
    {"from": {"system": "system", "user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]}
    for turn in CHAT
]
BAKES = Question("0", "Who bakes?", ("Ida.",))


def _only(examples: Examples, name: str) -> Question:
    assert examples.format == name
    (question,) = examples.questions
    return question


def _as(question: Question, identity: str) -> Question:
    return Question(identity, *[getattr(question, name) for name in question.__slots__[1:]])


def test_our_question_file(write: Write) -> None:
    record = {"id": "q", "question": "Who bakes?", "answers": ["Ida", "she"], "gold": ["a.md"], "kind": "fact"}
    expected = Question("q", "Who bakes?", ("Ida", "she"), ("a.md",), kind="fact")
    for path in (write([record], lines=True), write([record]), write(record)):
        assert read_examples(path) == (([expected]), "questions", {})


def test_lines_may_be_blank_or_hold_a_line_separator(write: Write) -> None:
    path = write('\ufeff\n{"question": "One\u2028two?", "answer": "b"}\r\n\n{"question": "A?", "answer": "b"}\n')
    assert [(q.id, q.question) for q in load_examples(path)] == [("2", "One\u2028two?"), ("4", "A?")]


def test_squad_1(write: Write) -> None:
    question = _only(read_examples(write(SQUAD_1)), "SQuAD")
    assert question == Question("5733be284776f41900661182", "When was the mill built?", ("1712", "in 1712"))


def test_squad_2_has_impossible_questions(write: Write) -> None:
    path = write(
        {"version": "v2.0", "data": [{"title": "M", "paragraphs": [{"context": CONTEXT, "qas": SQUAD_2_QAS}]}]}
    )
    examples = read_examples(path)
    assert examples.questions == [
        Question("a1", "How many blades has the wheel?", ("twelve",)),
        Question("a2", "When did the mill burn down?", answerable=False),
        Question("a3", "Who burnt it?", answerable=False),
    ]
    assert examples.left_out == {}


def test_squad_as_rows_of_the_hub(write: Write) -> None:
    rows = [
        {
            "id": "a",
            "title": "M",
            "context": CONTEXT,
            "question": "When?",
            "answers": {"text": ["1712"], "answer_start": [22]},
        },
        {
            "id": "b",
            "title": "M",
            "context": CONTEXT,
            "question": "Where?",
            "answers": {"text": [], "answer_start": []},
        },
    ]
    examples = read_examples(write(rows, lines=True))
    assert examples.format == "SQuAD"
    assert examples.questions == [Question("a", "When?", ("1712",)), Question("b", "Where?", answerable=False)]


def test_pubmedqa(write: Write) -> None:
    assert _only(read_examples(write(PUBMEDQA)), "PubMedQA") == PUBMED_QUESTION
    record = PUBMEDQA["21645374"]
    row = {
        "pubid": 21645374,
        "question": record["QUESTION"],
        "context": {"contexts": record["CONTEXTS"], "labels": record["LABELS"], "meshes": record["MESHES"]},
        "long_answer": record["LONG_ANSWER"],
        "final_decision": "yes",
    }
    assert _only(read_examples(write([row], lines=True)), "PubMedQA") == PUBMED_QUESTION


def test_pubmedqa_without_decisions_has_the_conclusion(write: Write) -> None:
    record = {name: value for name, value in PUBMEDQA["21645374"].items() if name != "final_decision"}
    assert _only(read_examples(write({"1": record})), "PubMedQA").answers == (record["LONG_ANSWER"],)


def test_hotpotqa(write: Write) -> None:
    assert _only(read_examples(write([HOTPOTQA])), "HotpotQA") == HOTPOT_QUESTION
    row = {**HOTPOTQA, "id": HOTPOTQA["_id"], "supporting_facts": {"title": ["Ann Lee", "Bob Ray"], "sent_id": [0, 0]}}
    assert _only(read_examples(write([row], lines=True)), "HotpotQA") == HOTPOT_QUESTION


def test_prompt_and_completion(write: Write) -> None:
    plain = write([{"prompt": "Who bakes?", "completion": " Ida."}], lines=True)
    assert _only(read_examples(plain), "prompt and completion") == _as(BAKES, "1")
    chat = write([{"prompt": CHAT[:2], "completion": CHAT[2:3]}], lines=True)
    examples = read_examples(chat)
    assert _only(examples, "prompt and completion") == _as(BAKES, "1")
    assert examples.left_out == {"system messages": 1}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"messages": CHAT}, "chat messages"),
        ({"conversations": SHAREGPT}, "ShareGPT"),
        ({"conversations": CHAT}, "ShareGPT"),
        ({"id": "0", "messages": SHAREGPT, "source": "web"}, "chat messages"),
    ],
)
def test_of_a_conversation_the_first_turn_is_taken(record: Any, name: str, write: Write) -> None:
    examples = read_examples(write([record]))
    assert _only(examples, name) == BAKES
    assert examples.left_out == {"system messages": 1, "later turns, which may depend on the first": 1}


@pytest.mark.parametrize(
    "turns",
    [
        [],
        CHAT[:2],
        CHAT[2:],
        [CHAT[0], *CHAT[2:]],
        [CHAT[1], CHAT[3], CHAT[4]],
        [CHAT[1], {"role": "tool", "content": "42"}, CHAT[2]],
    ],
)
def test_a_conversation_without_a_first_turn_is_counted(turns: Any, write: Write) -> None:
    examples = read_examples(write([{"messages": CHAT}, {"messages": turns}]))
    assert examples.questions == [BAKES]
    assert examples.left_out["conversations that do not begin with a question and its answer"] == 1


def test_a_turn_that_is_no_text_is_counted(write: Write) -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    records = [{"messages": CHAT}, {"messages": [picture, CHAT[2]]}, {"messages": [CHAT[1], call]}]
    examples = read_examples(write(records, lines=True))
    assert len(examples.questions) == 1
    assert examples.left_out["records with an empty question or answer"] == 2


def test_alpaca(write: Write) -> None:
    records = [
        {"instruction": "Name the baker.", "input": "", "output": "Ida."},
        {"instruction": "Translate to German.", "input": "bread", "output": "Brot", "system": "Be brief."},
        {"instruction": "And when?", "output": "At six.", "history": [["Who bakes?", "Ida."], ["Sure?", "Yes."]]},
        {"instruction": "Write nothing.", "input": "", "output": ""},
    ]
    for path, first in ((write(records, name="a"), 0), (write(records, lines=True, name="l"), 1)):
        examples = read_examples(path)
        assert examples.format == "Alpaca"
        assert examples.questions == [
            Question(str(first), "Name the baker.", ("Ida.",)),
            Question(str(first + 1), "Translate to German.\nbread", ("Brot",)),
            _as(BAKES, str(first + 2)),
        ]
        assert examples.left_out == {
            "system messages": 1,
            "later turns, which may depend on the first": 2,
            "records with an empty question or answer": 1,
        }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("question,answer\nWho bakes?,Ida.\n", [_as(BAKES, "2")]),
        ("\ufeffQuestion;Answer;note\r\nWho bakes?;Ida.;x\r\n", [_as(BAKES, "2")]),
        ("\tquestion\tanswer\n0\tWho bakes?\tIda.\n", [_as(BAKES, "2")]),
        ('answer,question\n"Ida.","Who\nbakes, ""now""?"\n\nBob,Who?\n', [
            Question("2", 'Who\nbakes, "now"?', ("Ida.",)), Question("5", "Who?", ("Bob",)),
        ]),
        ("id,question,answers,gold,answerable,kind\nx,Who?,Ida,a.md; b c.md,,fact\ny,When?,,,FALSE,\n", [
            Question("x", "Who?", ("Ida",), ("a.md", "b c.md"), kind="fact"), Question("y", "When?", answerable=False),
        ]),
    ],
)  # fmt: skip
def test_tables(text: str, expected: list[Question], write: Write) -> None:
    assert read_examples(write(text)) == (expected, "table", {})


def test_a_table_that_a_spreadsheet_saved_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes("question\tanswer\r\nWho bakes?\tIda.\r\n".encode("utf-16"))
    assert _only(read_examples(path), "table") == _as(BAKES, "2")


def test_a_context_in_the_prompt_is_cut_off(write: Write) -> None:
    prompt = "Use the text.\n\n[1] A\nQuestion: no\n\nQuestion: old?\n\nQuestion: Who bakes?\n\nAnswer:"
    examples = read_examples(write([{"prompt": prompt, "completion": "Ida."}], lines=True))
    assert _only(examples, "prompt and completion").question == "Who bakes?"
    assert examples.left_out == {"prompts cut to what follows `Question:`": 1}


@pytest.mark.parametrize("record", [
    r'{"id": "\ud800", "question": "A\ud800?", "answer": "b\udfff", "gold": ["\ud800"], "kind": "\ud800"}',
    r'{"_id": "\ud800", "question": "A\ud800?", "answer": "b\udfff", "supporting_facts": [["\ud800", 0]],'
    r' "type": "\ud800"}',
])  # fmt: skip
def test_a_lone_surrogate_is_replaced(record: str, write: Write) -> None:
    expected = Question("\ufffd", "A\ufffd?", ("b\ufffd",), ("\ufffd",), kind="\ufffd")
    assert load_examples(write(record)) == [expected]


def test_the_text_parts_of_a_turn_are_joined(write: Write) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Who bakes"}, {"type": "text", "text": "and sells?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ida."}]},
    ]
    picture = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "Who is this?"}]
    records = [{"messages": turns}, {"messages": [{"role": "user", "content": picture}, turns[1]]}]
    examples = read_examples(write(records))
    assert examples.questions == [Question("0", "Who bakes\nand sells?", ("Ida.",))]
    assert examples.left_out == {"records with an empty question or answer": 1}


def test_the_input_of_alpaca_may_be_null(write: Write) -> None:
    examples = read_examples(write([{"instruction": "Who bakes?", "input": None, "output": "Ida."}]))
    assert _only(examples, "Alpaca") == BAKES
