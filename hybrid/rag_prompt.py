"""The prompt of the rag arm: several are tried on the training side, and the best is the baseline.

A comparison keeps it beside its report, so that the rag assistant is the one that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from hybrid.answers import target_text
from hybrid.arms import PromptChoice, Searcher
from hybrid.config import PromptConfig
from hybrid.errors import ArtefactError
from hybrid.eval.comparison import Reply
from hybrid.prompt import Shot
from hybrid.types import Chunk, Hit, Pair, Question

FILE = "rag_prompt.json"

Ask: TypeAlias = Callable[[Sequence[Question], Sequence[Sequence[Hit]], PromptChoice], Sequence[Reply]]
Score: TypeAlias = Callable[[Reply, Question], float]


def candidates(shots: Mapping[int, Sequence[Shot]]) -> list[PromptChoice]:
    """The prompts worth a try: for every number of chunks, without and with the worked examples that show as many.

    >>> [choice.name for choice in candidates({1: [Shot("Why?", "Rust")], 2: [Shot("Why?", "Rust")]})]
    ['zero-shot, k=1', 'zero-shot, k=2', '1-shot, k=1', '1-shot, k=2']
    """
    zero = [PromptChoice(f"zero-shot, k={k}", k, ()) for k in shots]
    return zero + [PromptChoice(f"{len(s)}-shot, k={k}", k, tuple(s)) for k, s in shots.items() if s]


def worked_example(pair: Pair, chunks: Sequence[Chunk], prompt: PromptConfig) -> Shot:
    """A pair as an example of how to answer from these chunks, in the style of the prompt."""
    return Shot(pair.question, target_text(pair, chunks, prompt), tuple(chunks))


def choose(
    ask: Ask, questions: Sequence[Question], searcher: Searcher, choices: Sequence[PromptChoice], score: Score
) -> list[PromptChoice]:
    """Scores every choice on questions of the training side, and the best with its chunks in reverse order.

    Args:
        ask: Answers questions from what was retrieved for them, by a prompt.
        questions: Questions with answers, none of them of the comparison.
        searcher: Finds the context.
        choices: What to try.
        score: How good a reply is.

    Returns:
        The choices with their scores, best first; the earlier one of equals.
    """
    hits = searcher.search([q.question for q in questions], max(choice.k for choice in choices))

    def scored(choice: PromptChoice) -> PromptChoice:
        scores = map(score, ask(questions, hits, choice), questions)
        return choice._replace(score=round(sum(scores) / len(questions), 4))

    tried = [scored(choice) for choice in choices]
    best = max(tried, key=_score_of)
    if best.k > 1:
        tried.append(scored(best._replace(name=f"{best.name}, best last", best_last=True)))
    return sorted(tried, key=_score_of, reverse=True)


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
        return PromptChoice(values["name"], values["k"], shots, values["score"], values["best_last"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{file} is damaged ({error}); delete {file.parent} (answers are kept elsewhere), then run: hybrid compare"
        ) from error


def _score_of(choice: PromptChoice) -> float:
    return choice.score or 0.0
