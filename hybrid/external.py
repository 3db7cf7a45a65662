"""Arms that answer outside this process' model: an OpenAI-compatible endpoint, or a function.

An answer that fails is recorded with its error, so that it counts as wrong and can be listed; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tqdm import tqdm

from hybrid.answers import reply_tokens
from hybrid.arms import PromptChoice, read_answer
from hybrid.config import ArmConfig, PromptConfig, TeacherConfig
from hybrid.errors import EndpointError
from hybrid.eval.comparison import Reply
from hybrid.pairs.prompting.endpoint import Endpoint
from hybrid.pairs.prompting.generator import Generator, Messages
from hybrid.pairs.prompting.generator import Reply as Completion
from hybrid.prompt import render_messages
from hybrid.types import Hit, Question

Ask: TypeAlias = Callable[[str, list[Hit]], str]

_WINDOW = 4  # rounds of calls before what failed is asked again
_DOWN = 3  # failures in a row after which an endpoint is not asked any more


@dataclass(frozen=True, slots=True)
class EndpointAnswerer:
    """Answers by a text generator that renders its own chat template.

    Attributes:
        generator: What is asked.
        prompt: Prompt settings; `prompt.max_tokens` cannot be held, as nobody here knows the tokens.
        window: Questions asked together.
    """

    generator: Generator
    prompt: PromptConfig
    window: int

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
        """Answers all questions that are not in `done`; see `Runner.answer`.

        Raises:
            ConfigError: The environment variable with the key is not set.
        """
        shown = [_shown(found, choice) for found in hits]
        prompts = [
            render_messages(question.question, [hit.chunk for hit in found], self.prompt, choice.shots)
            for question, found in zip(questions, shown, strict=True)
        ]
        todo = [place for place, question in enumerate(questions) if question.id not in done]
        replies = dict(done)
        with tqdm(total=len(todo), desc=label, unit="question", leave=False) as bar:
            for place, said, seconds in self._ask(todo, prompts):
                reply = _reply(questions[place], hits[place], shown[place], said, seconds, self.prompt)
                record([reply])
                replies[reply.question_id] = reply
                bar.update()
        return [replies[question.id] for question in questions]

    def _ask(self, todo: Sequence[int], prompts: Sequence[Messages]) -> Iterator[tuple[int, Completion, float]]:
        """Yields place, reply and seconds; what a window left unanswered is asked again, one by one.

        The seconds are the generator's own where it tells them: calls that run side by side arrive all at once, so that
        the time between two replies is no time that anybody waited.
        """
        failures = 0  # in a row
        for start in range(0, len(todo), self.window):
            waiting = list(todo[start : start + self.window])
            for place, said, seconds in self._together(waiting, prompts) if failures < _DOWN else ():
                failures = 0
                waiting = [other for other in waiting if other != place]
                yield place, said, seconds
            for place in waiting:
                said, started = _failed("not asked: the endpoint had failed before"), time.perf_counter()
                if failures < _DOWN:
                    try:
                        said, failures = next(iter(self.generator.generate([prompts[place]]))), 0
                    except EndpointError as error:
                        said, failures = _failed(str(error)), failures + 1
                yield place, said, _seconds(said, time.perf_counter() - started)

    def _together(self, places: Sequence[int], prompts: Sequence[Messages]) -> Iterator[tuple[int, Completion, float]]:
        started = time.perf_counter()
        try:
            for said in self.generator.generate([prompts[place] for place in places]):
                now = time.perf_counter()
                yield places[said.place], said, _seconds(said, now - started)
                started = now
        except EndpointError:
            return  # what is missing is asked again


@dataclass(frozen=True, slots=True)
class FunctionAnswerer:
    """Answers by a Python function of the question and its hits.

    Attributes:
        ask: The function.
        refusal: What it says when the passages do not answer.
    """

    ask: Ask
    refusal: str

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
        replies = dict(done)
        for question, found in tqdm(list(zip(questions, hits, strict=True)), desc=label, unit="question", leave=False):
            if question.id in replies:
                continue
            shown = _shown(found, choice)
            started = time.perf_counter()
            said = self._said(question.question, shown)
            prompt = PromptConfig(refusal=self.refusal)  # the function's texts have no style
            reply = _reply(question, found, shown, said, time.perf_counter() - started, prompt)
            record([reply])
            replies[question.id] = reply
        return [replies[question.id] for question in questions]

    def _said(self, question: str, shown: list[Hit]) -> Completion:
        try:
            text: object = self.ask(question, shown)
        except Exception as error:  # the function is the user's: whatever it raises is this answer's failure
            return _failed(f"{type(error).__name__}: {error}")
        if not isinstance(text, str):
            return _failed(f"the function returned {type(text).__name__}, not a text")
        return Completion(0, text, None, None)


def endpoint_answerer(arm: ArmConfig, prompt: PromptConfig, max_new_tokens: int) -> EndpointAnswerer:
    """Makes the answerer of an endpoint; nothing is sent yet.

    Raises:
        ConfigError: The address or the name of the key's variable is not of its form.
    """
    settings = TeacherConfig(
        model=arm.model,
        base_url=arm.base_url,
        key_env=arm.key_env,
        max_new_tokens=max_new_tokens if arm.context == "none" else reply_tokens(max_new_tokens, prompt),
        temperature=0.0,
        concurrency=arm.concurrency,
        timeout=arm.timeout,
        retries=arm.retries,
    )
    endpoint = Endpoint(settings, section=f"compare.arms: {arm.name}")
    return EndpointAnswerer(endpoint, prompt, _WINDOW * arm.concurrency)


def _shown(found: Sequence[Hit], choice: PromptChoice) -> list[Hit]:
    return list(found[: choice.k])[:: -1 if choice.best_last else 1]


def _seconds(said: Completion, passed: float) -> float:
    return passed if said.seconds is None else said.seconds


def _failed(reason: str) -> Completion:
    return Completion(0, reason, None, None, "refused")


def _reply(
    question: Question,
    retrieved: Sequence[Hit],
    shown: Sequence[Hit],
    said: Completion,
    seconds: float,
    prompt: PromptConfig,
) -> Reply:
    failed = said.ended == "refused"
    raw = "" if failed else said.text.strip()
    answer = read_answer(raw, shown, prompt)
    return Reply(
        question_id=question.id,
        text=answer.text,
        abstained=answer.abstained and not failed,
        documents=tuple(dict.fromkeys(hit.chunk.document for hit in retrieved)),
        contexts=tuple(hit.chunk.id for hit in shown),
        seconds=seconds,
        citations=answer.citations,
        error=(said.text or "no reason given") if failed else "",
        tokens_in=said.tokens_in or 0,
        tokens_out=said.tokens_out or 0,
        invalid_citations=answer.invalid_citations,
        cut_off=said.ended == "length",
        raw="" if raw == answer.text else raw,
    )
