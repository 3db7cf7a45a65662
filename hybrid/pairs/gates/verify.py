"""Lets a model answer the questions again: from their oracles, which it should, and from memory, which is noted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from hybrid.artefacts import fingerprint
from hybrid.config import Config, PromptConfig, TeacherConfig
from hybrid.errors import ConfigError
from hybrid.eval.answers import normalise, token_f1
from hybrid.journal import append_journal, read_journal
from hybrid.models import resolve_model
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.prompting.budget import most_cost, price
from hybrid.pairs.prompting.endpoint import Endpoint
from hybrid.pairs.prompting.generator import Generator
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.pairs.teachers import teacher_identity
from hybrid.prompt import render_messages
from hybrid.retrieval.embed import fingerprint_folder
from hybrid.types import Chunk, Pair

_DECISIONS = {"yes", "no", "maybe"}


class Answered(NamedTuple):
    """One answer.

    Attributes:
        place: Place of its question in the sequence that was asked, from 0.
        text: The answer; empty if it was refused.
        tokens_in: Tokens of the prompt; None if that is not known.
        tokens_out: Tokens of the answer, likewise.
        is_refused: Whether the model would not answer this prompt, so that the next run shall ask again.
    """

    place: int
    text: str
    tokens_in: int | None
    tokens_out: int | None
    is_refused: bool = False


class Answerer(Protocol):
    """Answers questions from the chunks that it is shown."""

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> Iterator[Answered]:
        """Yields one answer for each question as it arrives; an empty context asks the model for what it knows."""
        ...

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost; 0 where no prices are set."""
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

    def answer(self, questions: Sequence[str], contexts: Sequence[Sequence[Chunk]]) -> Iterator[Answered]:
        """Yields one answer for each question as it arrives."""
        prompts = [render_messages(q, c, self._prompt) for q, c in zip(questions, contexts, strict=True)]
        for reply in self._generator.generate(prompts):
            is_refused = reply.ended == "refused"  # its text is the reason, not an answer
            text = "" if is_refused else reply.text.strip()
            yield Answered(reply.place, text, reply.tokens_in, reply.tokens_out, is_refused)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost; 0 where no prices are set."""
        return price(tokens_in, tokens_out, self._priced) if self._priced else 0.0


def make_answerer(
    config: Config, folder: Path, spent: Callable[[], float] = lambda: 0.0, *, proven: bool = False
) -> Answerer | None:
    """Makes what `pairs.verify` names; nothing is loaded or sent yet. None for `off`.

    Args:
        config: The configuration.
        folder: The project folder, to which a model's folder is relative.
        spent: Tells what drafting has cost so far.
        proven: It has answered before, so that prompts too long for it are no reason to stop.

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
        proven=proven,
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
        usage: Calls, tokens and cost of these answers, those of earlier runs included.
    """

    agreement: Mapping[str, float]
    closed_book: frozenset[str]
    usage: Mapping[str, float]


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
        journal: File that records each answer as it arrives, so that no run asks again. It must belong to this
            answerer: another question or another text of an oracle is asked anew, another model is not noticed.
        min_agreement: Agreement from which on an answer from memory counts as right.

    Raises:
        ConfigError: Answering may cost more than the user allows.
    """
    asked = [candidate for candidate in candidates if candidate.oracles]
    prompts = _prompts(asked, chunks)
    answers = dict(read_journal(journal, _restored))
    answers |= _ask({slot: prompt for slot, prompt in prompts.items() if slot not in answers}, answerer, journal)
    texts = {(slot.id, slot.closed_book): answers[slot].text for slot in prompts}
    return Verified(
        {c.id: agreement(texts[c.id, False], c.answer) for c in asked},
        frozenset(c.id for c in asked if agreement(texts[c.id, True], c.answer) >= min_agreement),
        _usage([answers[slot] for slot in prompts], answerer.cost),
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


class _Slot(NamedTuple):
    """One of the two prompts about a candidate; `key` identifies what the model is shown."""

    id: str
    closed_book: bool
    key: str


class _Prompt(NamedTuple):
    question: str
    shown: Sequence[Chunk]


def _prompts(candidates: Iterable[Candidate], chunks: Mapping[str, Chunk]) -> dict[_Slot, _Prompt]:
    found = {}
    for candidate in candidates:
        oracles = [chunks[oracle] for oracle in candidate.oracles]
        for closed_book in (False, True):
            prompt = _Prompt(candidate.question, () if closed_book else oracles)
            found[_Slot(candidate.id, closed_book, _key(prompt))] = prompt
    return found


def _key(prompt: _Prompt) -> str:
    parts = [prompt.question, *(text for chunk in prompt.shown for text in (chunk.title, chunk.text))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _ask(missing: Mapping[_Slot, _Prompt], answerer: Answerer, journal: Path) -> dict[_Slot, Answered]:
    """The answers to all prompts, which are recorded as they arrive; a refused one counts for this run alone."""
    slots = list(missing)
    questions, contexts = [p.question for p in missing.values()], [p.shown for p in missing.values()]
    answerer.check_cost(questions, contexts)
    if not slots:
        return {}
    found = {}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(slots), desc="answering again", unit="call", leave=False) as bar:
        for answered in answerer.answer(questions, contexts):
            slot = slots[answered.place]
            found[slot] = answered
            if not answered.is_refused:
                append_journal(journal, [_record(slot, answered)])
            bar.update()
    return found


def _usage(answers: Sequence[Answered], cost: Callable[[int, int], float]) -> dict[str, float]:
    done = [answer for answer in answers if not answer.is_refused]
    tokens_in = sum(answer.tokens_in or 0 for answer in done)
    tokens_out = sum(answer.tokens_out or 0 for answer in done)
    usage: dict[str, float] = {
        "verification calls": len(done),
        "verification tokens in": tokens_in,
        "verification tokens out": tokens_out,
    }
    if paid := cost(tokens_in, tokens_out):
        usage["verification cost"] = round(paid, 6)
    if uncounted := sum(None in {answer.tokens_in, answer.tokens_out} for answer in done):
        usage["verification calls without token counts"] = uncounted
    if refused := len(answers) - len(done):
        usage["verification prompts refused"] = refused
    return usage


def _restored(record: Mapping[str, Any]) -> tuple[_Slot, Answered]:
    slot = _Slot(record["id"], record["closed_book"], record["key"])
    return slot, Answered(0, record["text"], record["tokens_in"], record["tokens_out"])


def _record(slot: _Slot, answered: Answered) -> dict[str, Any]:
    tokens = {"tokens_in": answered.tokens_in, "tokens_out": answered.tokens_out}
    return {**slot._asdict(), "text": answered.text, **tokens}
