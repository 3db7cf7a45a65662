"""The choice of the rag prompt, and that the rag assistant uses it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.arms import PromptChoice, Runner
from hybrid.errors import ArtefactError
from hybrid.eval.answers import token_f1
from hybrid.eval.comparison import Reply
from hybrid.project import Project
from hybrid.prompt import Shot
from hybrid.rag_prompt import FILE, Ask, candidates, choose, load, save
from hybrid.types import Chunk, Hit, Question

QUESTIONS = [Question(f"q{n}", "Why is it so" + " so" * n + "?", ("x",)) for n in range(2)]


def _hits(*numbers: int) -> list[Hit]:
    chunks = [Chunk(f"d{n}#0-9", f"d{n}", 0, 9, f"Fact {n:04}") for n in numbers]
    return [Hit(chunk, 1 / rank, rank) for rank, chunk in enumerate(chunks, 1)]


SHOTS = (Shot("A?", "B", (_hits(1)[0].chunk,)),)


class _Searcher:
    """Returns the same chunks for every question."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [_hits(*range(k)) for _ in questions]


def _asks(runner: Runner) -> Ask:
    def ask(questions: Sequence[Question], hits: Sequence[Sequence[Hit]], choice: PromptChoice) -> list[Reply]:
        return runner.answer(questions, hits, choice, label="t", done={}, record=lambda _: None)

    return ask


def _gold(runner: Runner, favourite: PromptChoice) -> list[Question]:
    """The questions with the answers that the favourite prompt gives."""
    hits = [_hits(*range(favourite.k))] * len(QUESTIONS)
    replies = _asks(runner)(QUESTIONS, hits, favourite)
    return [replace(q, answers=(r.text,)) for q, r in zip(QUESTIONS, replies, strict=True)]


def _f1(reply: Reply, question: Question) -> float:
    return 0.0 if reply.abstained else token_f1(reply.text, question.answers)


def test_one_chunk_and_no_examples_are_not_tried_twice() -> None:
    assert [choice.name for choice in candidates({1: []})] == ["zero-shot, k=1"]


@pytest.mark.parametrize("favourite", candidates({1: SHOTS, 3: SHOTS}), ids=lambda choice: choice.name)
def test_the_prompt_with_the_best_score_comes_first(runner: Runner, favourite: PromptChoice) -> None:
    choices = candidates({1: SHOTS, 3: SHOTS})
    scored = choose(_asks(runner), _gold(runner, favourite), _Searcher(), choices, _f1)
    assert {choice.name for choice in choices} <= {choice.name for choice in scored}
    assert scored[0].score == 1.0
    assert favourite._replace(score=1.0) in scored
    assert [choice.score for choice in scored] == sorted((choice.score or 0 for choice in scored), reverse=True)


def test_the_best_prompt_is_tried_with_its_chunks_reversed(runner: Runner) -> None:
    zero = PromptChoice("zero-shot, k=3", 3, ())
    reverse = PromptChoice("zero-shot, k=3, best last", 3, (), best_last=True)
    scored = choose(_asks(runner), _gold(runner, reverse), _Searcher(), [zero], _f1)
    assert scored[0] == reverse._replace(score=1.0)
    alone = choose(_asks(runner), QUESTIONS, _Searcher(), candidates({1: []}), _f1)
    assert [choice.name for choice in alone] == ["zero-shot, k=1"]


def test_another_score_chooses_another_prompt(runner: Runner) -> None:
    choices = candidates({1: [], 3: []})
    shortest = choose(_asks(runner), QUESTIONS, _Searcher(), choices, lambda reply, _: -reply.tokens_in)
    longest = choose(_asks(runner), QUESTIONS, _Searcher(), choices, lambda reply, _: reply.tokens_in)
    assert (shortest[0].k, longest[0].k) == (1, 3)


def test_a_choice_comes_back_from_its_file(tmp_path: Path) -> None:
    choice = PromptChoice("1-shot, k=3", 3, SHOTS, 0.25, best_last=True)
    save(choice, tmp_path / FILE)
    assert load(tmp_path / FILE) == choice
    assert load(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "a", "k": 1, "score": 0, "best_last": false, "shots": [1]}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArtefactError, match=rf"{FILE} is damaged .*; delete .*, then run: hybrid compare"):
        load(tmp_path / FILE)


def test_the_rag_assistant_is_the_one_that_was_measured(finished_copy: Project) -> None:
    assistant = finished_copy.assistant("rag")
    manifest = json.loads((finished_copy.path("compare") / "manifest.json").read_text())
    assert assistant.choice.name == manifest["rag prompt"]
    assert assistant.choice == load(finished_copy.path("compare") / FILE)
    shot_choice = PromptChoice("1-shot, k=1", 1, SHOTS, 0.5)
    save(shot_choice, finished_copy.path("compare") / FILE)
    assert finished_copy.assistant("rag").choice == shot_choice
    assert finished_copy.assistant("hybrid").choice.shots == ()
    (finished_copy.path("compare") / FILE).unlink()
    assert finished_copy.assistant("rag").choice == PromptChoice("zero-shot", finished_copy.config.prompt.k, ())
