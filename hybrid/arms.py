"""What is compared: an arm is a model, an adapter and a context policy; an answerer answers the questions with it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from tqdm import tqdm

from hybrid.answers import parse_reply, reply_tokens
from hybrid.citations import cite
from hybrid.config import ArmConfig, Context, PromptConfig
from hybrid.errors import ConfigError, QuestionError
from hybrid.eval.comparison import Reply
from hybrid.prompt import Shot, encode, fit_context, render_messages, to_text
from hybrid.types import Answer, Hit, Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hybrid.generate import Continuation

# A model that was shown examples may go on to ask itself the next question: there its answer ends.
NEXT_QUESTION = "\nQuestion:"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer.

    Attributes:
        name: Its name in tables.
        description: What it is, for the report.
        adapter: Which of the project's adapters it uses, if any; it is trained for the comparison.
        context: The chunks that its prompt shows.
        searched: Whether it prompts as was found best on the training side; else zero-shot with `prompt.k` chunks.
        other: The settings of an arm that is none of the project's own.
        outside: Whether an endpoint or a function answers, so that no model is loaded for it.
    """

    name: str
    description: str
    adapter: Literal["tuned", "hybrid"] | None = None
    context: Context = "none"
    searched: bool = False
    other: ArmConfig | None = None
    outside: bool = False


ARMS = {
    arm.name: arm
    for arm in (
        Arm("base", "the model alone, closed book"),
        Arm("rag", "the model with retrieved context, best prompt of the training side", None, "retrieved", True),
        Arm("tuned", "fine-tuned closed book on the same pairs", "tuned"),
        Arm("tuned_rag", "fine-tuned closed book, served with retrieved context", "tuned", "retrieved"),
        Arm("hybrid", "fine-tuned on retrieved contexts, served with retrieved context", "hybrid", "retrieved"),
        Arm("hybrid_closed", "fine-tuned on retrieved contexts, served without", "hybrid"),
        Arm("rag_oracle", "rag, with the chunks that hold the answer in place of retrieval", None, "oracle", True),
        Arm("hybrid_oracle", "hybrid, with the chunks that hold the answer in place of retrieval", "hybrid", "oracle"),
        Arm("hybrid_distractors", "hybrid, with retrieved chunks that lack the answer", "hybrid", "distractors"),
    )
}

_SHOWN = {
    "none": "closed book",
    "retrieved": "with retrieved context",
    "oracle": "with the chunks that hold the answer",
    "distractors": "with retrieved chunks that lack the answer",
}


def controls(arms: Iterable[Arm | ArmConfig]) -> set[str]:
    """Names of the arms that nobody can build, as their contexts are chosen by the answer.

    >>> sorted(controls(ARMS.values()))
    ['hybrid_distractors', 'hybrid_oracle', 'rag_oracle']
    """
    return {arm.name for arm in arms if arm.context in {"oracle", "distractors"}}


def known_controls(entries: Iterable[str | ArmConfig]) -> set[str]:
    """Names of all arms that nobody can build, those that sections of `compare.arms` describe among them."""
    return controls([*ARMS.values(), *(entry for entry in entries if isinstance(entry, ArmConfig))])


def count_tests(names: Iterable[str], unbuildable: Collection[str], baseline: str = "rag") -> int:
    """How many arms are tested against the baseline for the verdict, at least one.

    >>> count_tests(["base", "rag", "hybrid", "rag_oracle"], controls(ARMS.values()))
    2
    """
    return max(1, sum(name != baseline and name not in unbuildable for name in names))


def select_arms(entries: Sequence[str | ArmConfig], functions: Iterable[str] = ()) -> list[Arm]:
    """Returns the arms that `compare.arms` lists, and one for every Python function by its name.

    Raises:
        ConfigError: There is none, one is unknown or there twice, or the section of one is incomplete.
    """
    arms = [_known(entry) if isinstance(entry, str) else _other(entry) for entry in entries]
    arms += [_function(name) for name in functions]
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"compare.arms must name each arm once, found {', '.join(names) or 'none'}")
    return arms


def _known(name: str) -> Arm:
    if name not in ARMS:
        raise ConfigError(f"compare.arms: unknown arm {name!r}; known are {', '.join(ARMS)}")
    return ARMS[name]


def _other(settings: ArmConfig) -> Arm:
    _check_name(settings.name)
    at = f"compare.arms: {settings.name}"
    shown = _SHOWN[settings.context]
    if settings.base_url is not None:
        if settings.adapter or not settings.model:
            raise ConfigError(f"{at}.base_url names an endpoint: set {at}.model to its model, and no adapter")
        described = f"{settings.model} by an endpoint, {shown}"
        return Arm(settings.name, described, context=settings.context, other=settings, outside=True)
    if not (settings.model or settings.adapter):
        raise ConfigError(f"{at} needs a model, an adapter (a folder), or a base_url with a model")
    # Reports travel: they name a folder, not where it lies.
    named = f"model {Path(settings.model).name}" if settings.model else "the model"
    adapted = f" with the adapter {Path(settings.adapter).name}" if settings.adapter else ""
    return Arm(settings.name, f"{named}{adapted}, {shown}", context=settings.context, other=settings)


def _function(name: str) -> Arm:
    _check_name(name)
    return Arm(name, "a Python function, with retrieved context", context="retrieved", outside=True)


def _check_name(name: str) -> None:
    """Refuses the name of a further arm that is taken or could not name a file."""
    if name in ARMS:
        raise ConfigError(f"compare.arms: {name!r} is an arm already; give the other one another name")
    if not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise ConfigError(f"compare.arms: an arm needs a name of letters, digits, '_', '-' and '.', found {name!r}")


class PromptChoice(NamedTuple):
    """How an arm prompts.

    Attributes:
        name: For tables.
        k: Most chunks in the context.
        shots: Worked examples in front.
        score: What it reached on the training side, if it was tried there.
        best_last: Whether the best chunk stands last, next to the question, and not first.
    """

    name: str
    k: int
    shots: tuple[Shot, ...]
    score: float | None = None
    best_last: bool = False


class Searcher(Protocol):
    """What arms need of a retriever."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best `k` hits of every question."""
        ...


class Answerer(Protocol):
    """What answers the questions of an arm: a loaded model, an endpoint, a function."""

    def answer(
        self,
        questions: Sequence[Question],
        hits: Sequence[Sequence[Hit]],
        choice: PromptChoice,
        *,
        label: str,
        done: Mapping[str, Reply],
        record: Callable[[Sequence[Reply]], None],
    ) -> list[Reply]:
        """Answers all questions that are not in `done`; see `Runner.answer`."""
        ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Answers questions with one loaded model.

    Attributes:
        model: The model, with the adapter of the arm.
        tokenizer: Its tokenizer.
        prompt: Prompt settings.
        max_new_tokens: Longest plain answer.
        batch_tokens: Padded prompt tokens per batch.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: PromptConfig
    max_new_tokens: int
    batch_tokens: int

    def encode(self, question: str, hits: Sequence[Hit], choice: PromptChoice) -> tuple[list[int], list[Hit]]:
        """Token ids of a prompt, and the hits that fit into it.

        Raises:
            QuestionError: The question alone is longer than a prompt may be.
        """
        limit = self.prompt.max_tokens
        if len(question.encode()) > limit and (tokens := len(encode(question, self.tokenizer))) > limit:
            raise QuestionError(
                f"the question {shorten(question, 60, placeholder=' …')!r} has {tokens} tokens, more than "
                f"prompt.max_tokens = {limit}: ask in fewer words"
            )
        chunks = [hit.chunk for hit in hits[: choice.k]]
        keep = [chunk.id for chunk in chunks[:1]]
        fitted = fit_context(question, chunks, keep, self.prompt, self.tokenizer, shots=choice.shots)
        step = -1 if choice.best_last else 1
        messages = render_messages(question, fitted.chunks[::step], self.prompt, choice.shots)
        return encode(to_text(messages, self.tokenizer), self.tokenizer), list(hits[: len(fitted.chunks)])[::step]

    def longest_reply(self, with_context: bool) -> int:
        """Most tokens to generate: without a context there is nothing to cite."""
        return reply_tokens(self.max_new_tokens, self.prompt) if with_context else self.max_new_tokens

    def answer(
        self,
        questions: Sequence[Question],
        hits: Sequence[Sequence[Hit]],
        choice: PromptChoice,
        *,
        label: str,
        done: Mapping[str, Reply],
        record: Callable[[Sequence[Reply]], None],
    ) -> list[Reply]:
        """Answers all questions that are not in `done`, in batches of prompts of similar length.

        Args:
            questions: The questions.
            hits: What was retrieved for each; empty for closed-book arms.
            choice: How to prompt.
            label: Text of the progress bar.
            done: Replies that are known, by question id.
            record: Called with the replies of every finished batch.
        """
        # Imported here so that `hybrid.arms` loads no torch.
        from hybrid.generate import encode_prefix, generate_batch, plan_batches, stop_ids

        encoded = [self.encode(q.question, h, choice) for q, h in zip(questions, hits, strict=True)]
        todo = [place for place, question in enumerate(questions) if question.id not in done]
        batches = plan_batches([len(encoded[place][0]) for place in todo], self.batch_tokens)
        stops = stop_ids(self.model, self.tokenizer)
        replies = dict(done)
        started = time.perf_counter()
        # Of all prompts, so that a run that goes on computes what it would have without the interruption.
        prefix = encode_prefix(self.model, [ids for ids, _ in encoded] if todo else [])
        prefix_seconds = (time.perf_counter() - started) / max(1, len(todo))
        with tqdm(total=len(todo), desc=label, unit="question", leave=False, disable=len(todo) < 2) as bar:
            for batch in batches:
                places = [todo[index] for index in batch.indices]
                started = time.perf_counter()
                longest = self.longest_reply(any(encoded[place][1] for place in places))
                outputs = generate_batch(
                    self.model,
                    [encoded[place][0] for place in places],
                    prefix,
                    max_new_tokens=longest,
                    stops=stops,
                    pad=int(self.tokenizer.pad_token_id or 0),
                )
                seconds = prefix_seconds + (time.perf_counter() - started) / len(places)
                fresh = [
                    replace(
                        self._reply(questions[place], hits[place], encoded[place][1], output.ids, seconds),
                        tokens_in=len(encoded[place][0]),
                        tokens_out=len(output.ids),
                        confidence=self._confidence(output),
                        cut_off=self._is_cut_off(output.ids, longest),
                    )
                    for place, output in zip(places, outputs, strict=True)
                ]
                record(fresh)
                replies |= {reply.question_id: reply for reply in fresh}
                bar.update(len(places))
        return [replies[question.id] for question in questions]

    def _is_cut_off(self, ids: Sequence[int], longest: int) -> bool:
        return len(ids) >= longest and NEXT_QUESTION not in self.tokenizer.decode(list(ids))

    def _confidence(self, output: Continuation) -> float | None:
        """Geometric mean of the probabilities of the tokens, up to where the answer ends; None if they overflowed."""
        ids, log_probs = output
        ends = (n for n in range(len(ids) + 1) if NEXT_QUESTION in self.tokenizer.decode(ids[:n]))
        if NEXT_QUESTION in self.tokenizer.decode(ids):
            log_probs = log_probs[: next(ends)]
        mean = fmean(log_probs) if log_probs else 0.0
        return math.exp(mean) if math.isfinite(mean) else None

    def _reply(
        self,
        question: Question,
        retrieved: Sequence[Hit],
        shown: Sequence[Hit],
        output: Sequence[int],
        seconds: float,
    ) -> Reply:
        raw = str(self.tokenizer.decode(list(output), skip_special_tokens=True)).split(NEXT_QUESTION)[0].strip()
        answer = read_answer(raw, shown, self.prompt)
        return Reply(
            question_id=question.id,
            text=answer.text,
            abstained=answer.abstained,
            documents=tuple(dict.fromkeys(hit.chunk.document for hit in retrieved)),
            contexts=tuple(hit.chunk.id for hit in shown),
            seconds=seconds,
            citations=answer.citations,
            invalid_citations=answer.invalid_citations,
            raw="" if raw == answer.text else raw,
        )


_SAYS_NOTHING = re.compile(
    r"^(i'?m sorry|sorry|unfortunately)\b"
    r"|\bi (do not|don't) know\b"
    # Whose inability it is decides: "If the TV cannot find a channel" is an answer.
    r"|(^|\b(i|i'm|i am|we|passages?|documents?|context|text) )"
    r"(can ?not|can't|could not|couldn't|unable to|not able to) (answer|find|determine|tell)\b"
    r"|\b(can ?not|can't|could not) be (answered|determined)\b|\banswer (can ?not|can't|could not) be found\b"
    r"|\bno (information|mention) (is|was|about|on|of|in)\b"
    r"|\b(passages?|documents?|context|text|sources?|information)\b( (above|given|provided|\[\d+\]))*"
    r" (do|does)(n't| not) (answer|provide|mention|contain|specify|say|state|include|give)\b"
    r"|\bnot (mentioned|specified|provided|stated|answered|given) (in|by) the (passages?|documents?|context|text)\b"
)


def is_refusal(text: str, refusal: str) -> bool:
    """True if the text is empty, the refusal, or opens with another plain way to say that the passages do not answer.

    >>> is_refusal("the documents do not answer this question", "The documents do not answer this question.")
    True
    >>> is_refusal("The tank does not contain water.", "The documents do not answer this question.")
    False
    """
    said = " ".join(text.lower().replace("\u2019", "'").split())
    own = refusal.lower().strip(" .!")
    opening = re.split(r"(?<=[.!?]) ", said, maxsplit=1)[0]
    return not said.strip(" .!") or bool(own and own in said) or bool(_SAYS_NOTHING.search(opening))


def read_answer(raw: str, shown: Sequence[Hit], prompt: PromptConfig) -> Answer:
    """Reads what a model wrote, in the style of the prompt, to what the user gets.

    Args:
        raw: The text of the model, cut where it goes on to a next question.
        shown: The context, in the order of the prompt.
        prompt: Says the style and the refusal.

    Returns:
        The answer with the model's own citations, as far as they hold; where it makes none, with those that `cite`
        finds. A refusal has none.
    """
    parsed = parse_reply(raw, [hit.chunk for hit in shown], prompt)
    abstained = is_refusal(parsed.text, prompt.refusal)
    silent = not parsed.citations and not parsed.invalid
    found = cite(parsed.text, shown) if silent and not abstained else parsed.citations
    return Answer(parsed.text, () if abstained else found, tuple(shown), abstained, invalid_citations=parsed.invalid)
