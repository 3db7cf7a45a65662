"""Questions that are answered again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.config import PromptConfig, TeacherConfig, config_from_dict
from hybrid.errors import ConfigError
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.verify import PromptedAnswerer, agreement, answer_again, make_answerer, tag_closed_book
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.types import Chunk, Pair

CHUNKS = {f"c{n}": Chunk(f"c{n}", "d", 0, 9, f"Valve {n} opens at {n} bar.") for n in range(50)}


def _candidates(count: int) -> list[Candidate]:
    return [
        Candidate(f"q{n}", f"When does valve {n} open?", f"{n} bar", (f"c{n}",), ("d",), (), "t") for n in range(count)
    ]


class Reader:
    """Reads the pressure from the chunk; knows valve 1 by heart; misreads valve 2; dies after so many calls."""

    def __init__(self, calls: int = 1000) -> None:
        self.calls = calls
        self.asked: list[str] = []
        self.checked = 0

    def check_cost(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> None:
        self.checked = len(questions)

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> list[str]:
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.asked += questions
        return [self._answer(q, c) for q, c in zip(questions, contexts, strict=True)]

    def _answer(self, question: str, context: Sequence[Chunk]) -> str:
        number = question.split()[3]
        if number == "2":
            return "at noon"
        return f"{number} bar" if context or number == "1" else "I do not know."


def test_agreement_and_what_is_known_by_heart(tmp_path: Path) -> None:
    found = [*_candidates(4), Candidate("u", "Why?", "Not answered.", (), (), (), "t")]
    verified = answer_again(found, CHUNKS, Reader(), tmp_path / "answers.jsonl", min_agreement=0.5)
    assert verified.agreement == {"q0": 1.0, "q1": 1.0, "q2": 0.0, "q3": 1.0}
    assert verified.closed_book == {"q1"}
    pairs = [Pair(f"q{n}", "?", "-", (), ()) for n in range(3)]
    assert [pair.closed_book for pair in tag_closed_book(pairs, verified.closed_book)] == [False, True, False]


def test_every_question_is_asked_once_with_and_once_without_its_oracles(tmp_path: Path) -> None:
    reader = Reader()
    answer_again(_candidates(40), CHUNKS, reader, tmp_path / "answers.jsonl", min_agreement=0.5)
    assert sorted(reader.asked) == sorted(2 * [c.question for c in _candidates(40)])
    assert reader.calls == 1000 - 3, "in batches"


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    journal, whole = tmp_path / "answers.jsonl", tmp_path / "whole.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_again(_candidates(40), CHUNKS, Reader(calls=2), journal, min_agreement=0.5)
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"id": "q39", "key"')
    reader = Reader()
    verified = answer_again(_candidates(40), CHUNKS, reader, journal, min_agreement=0.5)
    assert len(reader.asked) == 2 * 8
    assert verified == answer_again(_candidates(40), CHUNKS, Reader(), whole, min_agreement=0.5)
    assert journal.read_bytes() == whole.read_bytes()
    assert all(json.loads(line) for line in journal.read_text(encoding="utf-8").split("\n") if line)


def test_what_changed_is_asked_anew(tmp_path: Path) -> None:
    journal = tmp_path / "answers.jsonl"
    answer_again(_candidates(4), CHUNKS, Reader(), journal, min_agreement=0.5)
    changed = {**CHUNKS, "c3": Chunk("c3", "d", 0, 9, "Valve 3 is gone.")}
    reader = Reader()
    answer_again(_candidates(4), changed, reader, journal, min_agreement=0.5)
    assert set(reader.asked) == {"When does valve 3 open?"}


@pytest.mark.parametrize(
    ("reply", "answer", "agreed"),
    [
        ("Yes.", "yes", 1.0),
        ("Yes, it is not closed.", "yes", 1.0),
        ("No, yes.", "yes", 0.0),
        ("", "no", 0.0),
        ("The first Monday", "first monday", 1.0),
        ("Monday", "first Monday of May", 0.4),
        ("", "12 bar", 0.0),
    ],
)
def test_agreement_is_token_f1_and_of_a_yes_its_first_word(reply: str, answer: str, agreed: float) -> None:
    assert agreement(reply, answer) == pytest.approx(agreed)


class Echo:
    """Replies with what it is asked, the last first, and refuses the second prompt."""

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        for place in reversed(range(len(prompts))):
            text = " | ".join(message["content"] for message in prompts[place])
            yield Reply(place, text, None, None, "refused" if place == 1 else "stop")


def test_a_generator_is_asked_as_the_assistant_is() -> None:
    prompt = PromptConfig(instructions="Open.", closed_book="Closed.", answers="quoted")
    answers = PromptedAnswerer(Echo(), prompt).answer(["A?", "B?", "C?"], [[CHUNKS["c7"]], [], []])
    assert answers[0].startswith("Open.")
    assert "[1]\nValve 7 opens at 7 bar.\n\nQuestion: A?" in answers[0]
    assert answers[1:] == ["", "Closed. | Question: C?"]


def test_answering_again_stays_below_the_limit_of_the_cost(tmp_path: Path) -> None:
    priced = TeacherConfig(max_new_tokens=100, price_in=1.0, price_out=10.0, max_cost=0.02)
    # 40 prompts of 100 reply tokens cost 0.04 at most, drafting beside them not counted.
    with pytest.raises(ConfigError, match=r"40 prompts again may cost up to 0\.04.*max_cost = 0\.02"):
        answer_again(
            _candidates(20),
            CHUNKS,
            PromptedAnswerer(Echo(), PromptConfig(), priced),
            tmp_path / "answers.jsonl",
            min_agreement=0.5,
        )
    few = PromptedAnswerer(Echo(), PromptConfig(), priced, spent=lambda: 0.01)
    few.check_cost(["Why?"] * 8, [[]] * 8)
    with pytest.raises(ConfigError, match=r"beside 0\.01 for drafting"):
        few.check_cost(["Why?"] * 10, [[]] * 10)
    PromptedAnswerer(Echo(), PromptConfig(), replace(priced, max_cost=0.0)).check_cost(["Why?"] * 999, [[]] * 999)
    reader = Reader()
    answer_again(_candidates(3), CHUNKS, reader, tmp_path / "others.jsonl", min_agreement=0.5)
    assert reader.checked == 6


def test_who_answers_is_a_setting(tmp_path: Path, tiny_model: Path) -> None:
    def make(**pairs: str) -> object:
        return make_answerer(config_from_dict({"model": str(tiny_model), "pairs": pairs}), tmp_path)

    assert make() is None
    assert make(verify="student") is not None
    assert make(verify="teacher", teacher="model") is not None
    assert make(verify="student", teacher="endpoint") is not None
    with pytest.raises(ConfigError, match=r"pairs\.verify: teacher .* student or off"):
        make(verify="teacher")


def test_the_student_answers(tmp_path: Path, tiny_model: Path) -> None:
    values = {"model": str(tiny_model), "pairs": {"verify": "student"}, "compare": {"max_new_tokens": 4}}
    answerer = make_answerer(config_from_dict(values), tmp_path)
    assert answerer is not None
    verified = answer_again(_candidates(2), CHUNKS, answerer, tmp_path / "a.jsonl", min_agreement=0.5)
    assert set(verified.agreement) == {"q0", "q1"}
