"""Lets a model answer the questions again: from their oracles, which it should, and from memory, which is noted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from hybrid.artefacts import fingerprint
from hybrid.config import Config, PromptConfig, TeacherConfig
from hybrid.errors import ConfigError
from hybrid.eval.answers import normalise, token_f1
from hybrid.models import resolve_model
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.prompting.budget import most_cost
from hybrid.pairs.prompting.endpoint import Endpoint
from hybrid.pairs.prompting.generator import Generator
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.pairs.teachers import teacher_identity
from hybrid.prompt import render_messages
from hybrid.retrieval.embed import fingerprint_folder
from hybrid.types import Chunk, Pair

_WINDOW = 16  # candidates whose answers are recorded together
_DECISIONS = {"yes", "no", "maybe"}


class Answerer(Protocol):
    """Answers questions from the chunks that it is shown."""

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> list[str]:
        """Returns one answer for each question; an empty context asks the model for what it knows."""
        ...

    def check_cost(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> None:
        """Refuses questions whose answers may cost more than the user allows.

        Raises:
            ConfigError: They may.
        """
        ...


class PromptedAnswerer:
    """A text generator that is asked as the assistant would be, for short answers."""

    def __init__(
        self,
        generator: Generator,
        prompt: PromptConfig,
        priced: TeacherConfig | None = None,
        spent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Makes the answerer.

        Args:
            generator: What is asked.
            prompt: How it is asked.
            priced: The prices and the limit of what it may cost; None for what costs nothing.
            spent: What drafting has cost, which counts too.
        """
        self._generator = generator
        self._prompt = replace(prompt, answers="short")
        self._priced = priced
        self._spent = spent

    def check_cost(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> None:
        """Refuses questions whose answers may cost more than `max_cost` leaves.

        Raises:
            ConfigError: They may; the message names the sums and the way out.
        """
        priced = self._priced
        if priced is None or not priced.max_cost:
            return
        prompts = (render_messages(q, c, self._prompt) for q, c in zip(questions, contexts, strict=True))
        most = sum(most_cost(prompt, priced) for prompt in prompts)
        if self._spent() + most > priced.max_cost:
            raise ConfigError(
                f"answering {len(questions)} prompts again may cost up to {most:.4g} beside {self._spent():.4g} for "
                f"drafting, but pairs.teacher_model.max_cost = {priced.max_cost:g}: raise it, or set pairs.verify to "
                "off or student; what was drafted is kept"
            )

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> list[str]:
        """Returns one answer for each question; empty where the generator refuses the prompt."""
        prompts = [render_messages(q, c, self._prompt) for q, c in zip(questions, contexts, strict=True)]
        answers = [""] * len(prompts)
        for reply in self._generator.generate(prompts):
            answers[reply.place] = "" if reply.ended == "refused" else reply.text.strip()
        return answers


def make_answerer(config: Config, folder: Path, spent: Callable[[], float] = lambda: 0.0) -> Answerer | None:
    """Makes what `pairs.verify` names; nothing is loaded or sent yet. None for `off`.

    Args:
        config: The configuration.
        folder: The project folder, to which a model's folder is relative.
        spent: Tells what drafting has cost so far.

    Raises:
        ConfigError: The teacher shall answer but asks no model.
        ModelError: The model is not found.
    """
    settings, teacher = config.pairs.teacher_model, config.pairs.teacher
    if config.pairs.verify == "off":
        return None
    if config.pairs.verify == "teacher" and teacher == "endpoint":
        return PromptedAnswerer(Endpoint(settings), config.prompt, settings, spent)
    if config.pairs.verify == "teacher" and teacher == "syntax":
        raise ConfigError(
            "pairs.verify: teacher needs a teacher that is a model; set pairs.teacher to model or endpoint, or "
            "pairs.verify to student or off"
        )
    of_teacher = settings.model if config.pairs.verify == "teacher" else None
    model = LocalModel(
        resolve_model(of_teacher or config.model, folder),
        max_new_tokens=config.compare.max_new_tokens,
        batch_tokens=config.compare.batch_tokens,
    )
    return PromptedAnswerer(model, config.prompt)


def answerer_identity(config: Config, folder: Path) -> Mapping[str, Any] | None:
    """What the answers depend on beside the questions and the prompt; None if nobody answers again.

    Raises:
        ConfigError: The teacher shall answer but asks no model.
        ModelError: The model is not found.
    """
    if config.pairs.verify == "off":
        return None
    longest = {"max_new_tokens": config.compare.max_new_tokens}
    if config.pairs.verify == "teacher":
        return {**longest, "teacher": teacher_identity(config, folder)}
    return {**longest, "model": fingerprint_folder(resolve_model(config.model, folder))}


def answers_file(config: Config, folder: Path, store: Path) -> Path:
    """The file of all answers of the model that `pairs.verify` names; `store` is the folder of all artefacts."""
    mark = fingerprint(answerer=answerer_identity(config, folder), prompt=config.prompt)
    return store / "cache" / "answers" / f"{mark}.jsonl"


class Verified(NamedTuple):
    """What answering again showed.

    Attributes:
        agreement: By candidate id, how far the answer from the oracles agrees with the target, in 0..1.
        closed_book: Ids of the candidates that the model answers without any context.
    """

    agreement: Mapping[str, float]
    closed_book: frozenset[str]


def answer_again(
    candidates: Sequence[Candidate],
    chunks: Mapping[str, Chunk],
    answerer: Answerer,
    journal: Path,
    *,
    min_agreement: float,
) -> Verified:
    """Has every candidate with an oracle answered twice: from its oracles alone, and closed book.

    Args:
        candidates: Candidates with ids of their own.
        chunks: All chunks by id.
        answerer: The model.
        journal: File that records the answers, so that no run asks again. It must belong to this answerer: another
            question or another text of an oracle is asked anew, another model is not noticed.
        min_agreement: Agreement from which on an answer from memory counts as right.

    Raises:
        ConfigError: Answering may cost more than the user allows.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    asked = [candidate for candidate in candidates if candidate.oracles]
    answers = _read(journal)
    keys = {candidate.id: _key(candidate, chunks) for candidate in asked}
    missing = [candidate for candidate in asked if answers.get(candidate.id, _NOTHING).key != keys[candidate.id]]
    shown = [[chunks[oracle] for oracle in candidate.oracles] for candidate in missing]
    answerer.check_cost([candidate.question for candidate in missing] * 2, [*shown, *([] for _ in missing)])
    with (
        journal.open("w", encoding="utf-8") as file,
        tqdm(total=len(missing), desc="answering again", unit="question", leave=False) as bar,
    ):
        # Written anew, because the last line of an interrupted run may be half a line.
        file.writelines(_line(i, answer) for i, answer in answers.items())
        file.flush()
        for window in (missing[start : start + _WINDOW] for start in range(0, len(missing), _WINDOW)):
            questions = [candidate.question for candidate in window]
            shown = [[chunks[oracle] for oracle in candidate.oracles] for candidate in window]
            replies = answerer.answer(questions * 2, [*shown, *([] for _ in window)])
            for candidate, from_oracles, closed in zip(window, replies, replies[len(window) :], strict=False):
                answers[candidate.id] = _Answers(keys[candidate.id], from_oracles, closed)
                file.write(_line(candidate.id, answers[candidate.id]))
            file.flush()
            bar.update(len(window))
    return Verified(
        {c.id: agreement(answers[c.id].from_oracles, c.answer) for c in asked},
        frozenset(c.id for c in asked if agreement(answers[c.id].closed_book, c.answer) >= min_agreement),
    )


def agreement(reply: str, answer: str) -> float:
    """Token F1 of a reply with the target answer; of a yes, no or maybe, whether the reply begins with it.

    >>> agreement("No, it is closed.", "no"), agreement("12 bar", "12 bar at most")
    (1.0, 0.6666666666666666)
    """
    if normalise(answer) in _DECISIONS:
        return float(normalise(reply).split(maxsplit=1)[:1] == [normalise(answer)])
    return token_f1(reply, [answer])


def tag_closed_book(pairs: Sequence[Pair], closed_book: Collection[str]) -> list[Pair]:
    """Pairs with a mark on those that the model answers without a context, beside those that have it already."""
    return [replace(pair, closed_book=pair.closed_book or pair.id in closed_book) for pair in pairs]


class _Answers(NamedTuple):
    key: str
    from_oracles: str
    closed_book: str


_NOTHING = _Answers("", "", "")


def _key(candidate: Candidate, chunks: Mapping[str, Chunk]) -> str:
    """Identifies what the model is shown."""
    parts = [candidate.question, *(text for o in candidate.oracles for text in (chunks[o].title, chunks[o].text))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _read(journal: Path) -> dict[str, _Answers]:
    return dict(_records(journal)) if journal.is_file() else {}


def _records(journal: Path) -> Iterator[tuple[str, _Answers]]:
    for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
            yield record["id"], _Answers(record["key"], str(record["from_oracles"]), str(record["closed_book"]))
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the run was killed


def _line(candidate: str, answers: _Answers) -> str:
    return json.dumps({"id": candidate, **answers._asdict()}, ensure_ascii=False) + "\n"
