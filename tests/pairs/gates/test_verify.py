"""Questions that are answered again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.config import PromptConfig, TeacherConfig, config_from_dict
from hybrid.errors import ConfigError
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.verify import (
    Answered,
    PromptedAnswerer,
    agreement,
    answer_again,
    make_answerer,
    tag_closed_book,
)
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.project import Project
from hybrid.types import Chunk, Pair

CHUNKS = {f"c{n}": Chunk(f"c{n}", "d", 0, 9, f"Valve {n} opens at {n} bar.") for n in range(50)}


def _candidates(count: int) -> list[Candidate]:
    return [
        Candidate(f"q{n}", f"When does valve {n} open?", f"{n} bar", (f"c{n}",), ("d",), (), "t") for n in range(count)
    ]


class Reader:
    """Reads the pressure from the chunk; knows valve 1 by heart; misreads valve 2; dies after so many calls.

    It answers the last first, and refuses questions about one valve.
    """

    def __init__(self, calls: int = 1000, refused: int | None = None) -> None:
        self.calls = calls
        self.refused = refused
        self.asked: list[str] = []
        self.times = 0
        self.checked = 0

    def check_cost(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> None:
        self.checked = len(questions)

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> Iterator[Answered]:
        self.times += 1
        for place, question in reversed(list(enumerate(questions))):
            if len(self.asked) == self.calls:
                raise KeyboardInterrupt
            self.asked.append(question)
            if question.split()[3] == str(self.refused):
                yield Answered(place, "", None, None, is_refused=True)
            else:
                yield Answered(place, self._answer(question, contexts[place]), 100, 10)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in + 2 * tokens_out) / 1000

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
    assert reader.times == 1, "all at once"


@pytest.mark.parametrize("killed_after", [0, 1, 50, 79])
def test_a_killed_run_repeats_no_finished_call(tmp_path: Path, killed_after: int) -> None:
    journal, whole = tmp_path / "answers.jsonl", tmp_path / "whole.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_again(_candidates(40), CHUNKS, Reader(killed_after), journal, min_agreement=0.5)
    with journal.open("a", encoding="utf-8") as file:
        file.write('\n{"id": "q0", "closed_book": fal')
    before = journal.read_bytes()
    reader = Reader()
    verified = answer_again(_candidates(40), CHUNKS, reader, journal, min_agreement=0.5)
    assert len(reader.asked) == reader.checked == 80 - killed_after
    assert verified == answer_again(_candidates(40), CHUNKS, Reader(), whole, min_agreement=0.5)
    assert journal.read_bytes().startswith(before), "what was written stays"
    again = Reader(calls=0)
    assert answer_again(_candidates(40), CHUNKS, again, journal, min_agreement=0.5) == verified
    assert again.times == 0


def test_each_answer_is_on_disk_before_the_next_is_awaited(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "answers.jsonl"
    seen: list[int] = []

    class Watching(Reader):
        def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> Iterator[Answered]:
            for answered in super().answer(questions, contexts):
                yield answered
                seen.append(_lines(journal))

    answer_again(_candidates(2), CHUNKS, Watching(), journal, min_agreement=0.5)
    assert seen == [1, 2, 3, 4]
    records = [json.loads(line) for line in journal.read_text(encoding="ascii").split("\n") if line]
    assert {(record["id"], record["closed_book"]) for record in records} == {
        ("q0", False),
        ("q0", True),
        ("q1", False),
        ("q1", True),
    }
    assert all((record["tokens_in"], record["tokens_out"]) == (100, 10) for record in records)


def _lines(journal: Path) -> int:
    return sum(bool(line) for line in journal.read_text(encoding="ascii").split("\n"))


def test_usage_counts_what_earlier_runs_asked_about_these_candidates(tmp_path: Path) -> None:
    journal = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_again(_candidates(6), CHUNKS, Reader(calls=5), journal, min_agreement=0.5)
    usage = {"verification calls": 12, "verification tokens in": 1200, "verification tokens out": 120}
    for _ in range(2):
        verified = answer_again(_candidates(6), CHUNKS, Reader(), journal, min_agreement=0.5)
        assert verified.usage == {**usage, "verification cost": pytest.approx(1.44)}
    fewer = answer_again(_candidates(2), CHUNKS, Reader(), journal, min_agreement=0.5)
    assert fewer.usage["verification calls"] == 4
    assert fewer.usage["verification tokens in"] == 400


def test_a_generator_costs_what_its_prices_say_and_may_not_tell_its_tokens(tmp_path: Path) -> None:
    priced = TeacherConfig(price_in=1.0, price_out=10.0)
    assert PromptedAnswerer(Echo(), PromptConfig(), priced).cost(1000, 100) == pytest.approx(0.002)
    assert PromptedAnswerer(Echo(), PromptConfig()).cost(1000, 100) == 0
    found = answer_again(
        _candidates(2), CHUNKS, PromptedAnswerer(Echo(), PromptConfig()), tmp_path / "a.jsonl", min_agreement=0.5
    )
    assert found.usage == {
        "verification calls": 3,
        "verification tokens in": 0,
        "verification tokens out": 0,
        "verification calls without token counts": 3,
        "verification prompts refused": 1,
    }


def test_what_is_refused_is_no_answer_now_and_asked_again_later(tmp_path: Path) -> None:
    journal = tmp_path / "answers.jsonl"
    first = answer_again(_candidates(4), CHUNKS, Reader(refused=3), journal, min_agreement=0.5)
    assert first.agreement["q3"] == 0
    assert first.usage["verification calls"] == 6
    assert first.usage["verification prompts refused"] == 2
    reader = Reader()
    later = answer_again(_candidates(4), CHUNKS, reader, journal, min_agreement=0.5)
    assert reader.asked == 2 * ["When does valve 3 open?"]
    assert later.agreement["q3"] == 1
    assert later.usage["verification calls"] == 8
    assert "verification prompts refused" not in later.usage


def test_what_changed_is_asked_anew(tmp_path: Path) -> None:
    journal = tmp_path / "answers.jsonl"
    answer_again(_candidates(4), CHUNKS, Reader(), journal, min_agreement=0.5)
    changed = {**CHUNKS, "c3": Chunk("c3", "d", 0, 9, "Valve 3 is gone.")}
    reader = Reader()
    answer_again(_candidates(4), changed, reader, journal, min_agreement=0.5)
    assert reader.asked == ["When does valve 3 open?"], "and not what is known of it by heart"


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
    answers = list(PromptedAnswerer(Echo(), prompt).answer(["A?", "B?", "C?"], [[CHUNKS["c7"]], [], []]))
    assert answers[:2] == [
        Answered(2, "Closed. | Question: C?", None, None),
        Answered(1, "", None, None, is_refused=True),
    ]
    assert answers[2].place == 0
    assert answers[2].text.startswith("Open.")
    assert "[1]\nValve 7 opens at 7 bar.\n\nQuestion: A?" in answers[2].text


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
    assert verified.usage["verification calls"] == 4
    assert 4 <= verified.usage["verification tokens out"] <= 16
    assert "verification cost" not in verified.usage


def test_a_prompt_that_is_too_long_for_a_proven_student_is_asked_again(tmp_path: Path, tiny_model: Path) -> None:
    values = {"model": str(tiny_model), "pairs": {"verify": "student"}, "compare": {"max_new_tokens": 4090}}
    config, journal = config_from_dict(values), tmp_path / "a.jsonl"
    answerer = make_answerer(config, tmp_path)
    assert answerer is not None
    with pytest.raises(ConfigError, match="reads 4096"):
        answer_again(_candidates(1), CHUNKS, answerer, journal, min_agreement=0.5)
    assert not journal.exists()
    proven = make_answerer(config, tmp_path, proven=True)
    assert proven is not None
    found = answer_again(_candidates(1), CHUNKS, proven, journal, min_agreement=0.5)
    assert found.usage["verification prompts refused"] == 2


def test_the_stage_plans_counts_and_prints_what_is_answered_again(
    toy_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def generate(self: object, prompts: Sequence[Messages]) -> Iterator[Reply]:
        said.append(capsys.readouterr().err)
        for place in range(len(prompts)):
            yield Reply(place, "yes", 100, 10)

    def agrees(reply: str, answer: str) -> float:
        return float(reply == "yes")

    monkeypatch.setattr("hybrid.pairs.prompting.local_model.LocalModel.generate", generate)
    monkeypatch.setattr("hybrid.pairs.gates.verify.agreement", agrees)
    project = Project.open(toy_project.folder, ["pairs.verify=student", "pairs.total=20"])
    manifest = project.pairs().manifest
    assert "answering again by the student: up to 120 further calls" in said[0]
    calls = manifest["verification calls"]
    assert calls > 0
    assert manifest["verification tokens out"] == 10 * calls
    assert f"verification calls: {calls}, " in capsys.readouterr().err
