"""The prompt of the rag arm: several are tried on the training side, and the best is the baseline.

A comparison keeps it beside its report, so that the rag assistant is the one that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hybrid.arms import PromptChoice, Runner, Searcher
from hybrid.errors import ArtefactError
from hybrid.eval.answers import token_f1
from hybrid.prompt import Shot
from hybrid.types import Chunk, Hit, Question

FILE = "rag_prompt.json"


def candidates(shots: Mapping[int, Sequence[Shot]]) -> list[PromptChoice]:
    """The prompts worth a try: for every number of chunks, without and with the worked examples that show as many.

    >>> [choice.name for choice in candidates({1: [Shot("Why?", "Rust")], 2: [Shot("Why?", "Rust")]})]
    ['zero-shot, k=1', 'zero-shot, k=2', '1-shot, k=1', '1-shot, k=2']
    """
    zero = [PromptChoice(f"zero-shot, k={k}", k, ()) for k in shots]
    return zero + [PromptChoice(f"{len(s)}-shot, k={k}", k, tuple(s)) for k, s in shots.items() if s]


def choose(
    runner: Runner, questions: Sequence[Question], searcher: Searcher, choices: Sequence[PromptChoice], record: Path
) -> list[PromptChoice]:
    """Scores every choice by token F1 on questions of the training side.

    Args:
        runner: The model to prompt.
        questions: Questions with answers, none of them of the comparison.
        searcher: Finds the context.
        choices: What to try.
        record: File of the scores found so far; a choice that it holds is not tried again.

    Returns:
        The choices with their scores, best first; the earlier one of equals.
    """
    scores: dict[str, float] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    hits = searcher.search([q.question for q in questions], max(choice.k for choice in choices))
    for choice in choices:
        if choice.name not in scores:
            scores[choice.name] = _score(runner, questions, hits, choice)
            unfinished = record.with_suffix(".partial")
            unfinished.write_text(json.dumps(scores), encoding="utf-8")
            unfinished.replace(record)
    scored = [choice._replace(f1=scores[choice.name]) for choice in choices]
    return sorted(scored, key=lambda choice: -scores[choice.name])


def save(choice: PromptChoice, file: Path) -> None:
    """Writes a choice with its worked examples in full."""
    values = {**choice._asdict(), "shots": [asdict(shot) for shot in choice.shots]}
    file.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def load(file: Path) -> PromptChoice | None:
    """Reads a choice; None if no comparison has made one.

    Raises:
        ArtefactError: The file is damaged.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        shots = tuple(
            Shot(shot["question"], shot["answer"], tuple(Chunk(**chunk) for chunk in shot["chunks"]))
            for shot in values["shots"]
        )
        return PromptChoice(values["name"], values["k"], shots, values["f1"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{file} is damaged ({error}); run: hybrid compare --force") from error


def _score(runner: Runner, questions: Sequence[Question], hits: Sequence[Sequence[Hit]], choice: PromptChoice) -> float:
    replies = runner.answer(questions, hits, choice, label=f"rag prompt: {choice.name}", done={}, record=lambda _: None)
    f1 = [0.0 if r.abstained else token_f1(r.text, q.answers) for q, r in zip(questions, replies, strict=True)]
    return round(sum(f1) / len(f1), 4)
