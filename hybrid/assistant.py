"""The assistant: question -> retrieved context -> answer with citations."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.arms import NEXT_QUESTION, PromptChoice, Runner, Searcher, read_answer
from hybrid.citations import with_pages
from hybrid.errors import ConfigError
from hybrid.nearness import is_too_far, refusals
from hybrid.types import Answer, Hit, Question

if TYPE_CHECKING:
    from hybrid.eval.comparison import Reply


@dataclass(frozen=True, slots=True)
class Assistant:
    """Answers questions from a project's documents.

    Attributes:
        runner: The loaded model.
        retriever: The project's retriever; None for a closed-book assistant.
        choice: How it prompts.
        arm: Name of the arm it serves.
        min_cosine: It refuses without asking the model where no passage retrieved is as near as this.
        page_starts: Of documents with pages, the places in the text at which these begin.
    """

    runner: Runner
    retriever: Searcher | None
    choice: PromptChoice
    arm: str
    min_cosine: float = 0.0
    page_starts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @staticmethod
    def load(project: str | Path, arm: str | None = None) -> Assistant:
        """Loads the assistant of a project folder: the arm named, else `hybrid` if it has been tuned, else `rag`."""
        from hybrid.project import Project

        return Project.open(project).assistant(arm)

    def ask(self, question: str) -> Answer:
        """Answers one question.

        Raises:
            ConfigError: The question is empty.
        """
        return self.batch([question])[0]

    def batch(self, questions: Sequence[str]) -> list[Answer]:
        """Answers several questions together, which is faster than one by one.

        In 16 bits a batch rounds otherwise than its parts, so some answers differ from those of `ask`.
        """
        for question in questions:
            _require_text(question)
        if not questions:
            return []
        started = time.perf_counter()
        hits = self._retrieve(questions)
        searching = (time.perf_counter() - started) / len(questions)
        asked = [Question(str(n), question) for n, question in enumerate(questions)]
        refused = refusals(asked, hits, self.min_cosine, k=self.choice.k, refusal=self.runner.prompt.refusal)
        replies = self.runner.answer(asked, hits, self.choice, label="answering", done=refused, record=lambda _: None)
        answers = (_answer(reply, found, searching) for reply, found in zip(replies, hits, strict=True))
        return [self._paged(answer) for answer in answers]

    def stream(self, question: str) -> AnswerStream:
        """Answers one question while the model writes: iterate for the pieces, then read `answer`.

        With `prompt.answers` other than `short` the pieces hold more than the plain answer: quotes and numbers of
        passages.

        Raises:
            ConfigError: The question is empty; raised by the first piece.
        """
        return AnswerStream(self._write(question))

    def _write(self, question: str) -> Generator[str, None, Answer]:
        from hybrid.generate import stop_ids, stream_tokens

        _require_text(question)
        started = time.perf_counter()
        found = self._retrieve([question])[0]
        if is_too_far(found, self.min_cosine):
            yield self.runner.prompt.refusal
            return self._read(self.runner.prompt.refusal, found[: self.choice.k], started)
        ids, hits = self.runner.encode(question, found, self.choice)
        tokenizer, tokens = self.runner.tokenizer, list[int]()
        shown = text = ""
        ended = False
        stops = stop_ids(self.runner.model, tokenizer)
        longest = self.runner.longest_reply(bool(hits))
        for token in stream_tokens(self.runner.model, ids, max_new_tokens=longest, stops=stops):
            tokens.append(token)
            # Space is held back until something follows it: `ask` strips the whole.
            text, *rest = str(tokenizer.decode(tokens, skip_special_tokens=True)).split(NEXT_QUESTION)
            if ended := bool(rest):
                break
            ready = _before_next_question(text).strip()
            # A character of several tokens shows as the replacement character until it is whole.
            if len(ready) > len(shown) and not ready.endswith("\ufffd"):
                yield ready[len(shown) :]
                shown = ready
        text = text.strip()
        if len(text) > len(shown):
            yield text[len(shown) :]
        return self._read(text, hits, started, cut_off=not ended and len(tokens) >= longest)

    def _read(self, text: str, hits: Sequence[Hit], started: float, *, cut_off: bool = False) -> Answer:
        answer = self._paged(read_answer(text, hits, self.runner.prompt))
        return replace(answer, seconds=time.perf_counter() - started, cut_off=cut_off)

    def _paged(self, answer: Answer) -> Answer:
        return replace(answer, citations=with_pages(answer.citations, self.page_starts))

    def _retrieve(self, questions: Sequence[str]) -> list[list[Hit]]:
        # As many as a comparison retrieves, though the prompt may show fewer: the nearest of all of them decides.
        k = max(self.choice.k, self.runner.prompt.k)
        return self.retriever.search(questions, k) if self.retriever else [[] for _ in questions]


class AnswerStream:
    """An answer while it is written: iterating yields the pieces of its text, once; then `answer` is the whole."""

    def __init__(self, pieces: Generator[str, None, Answer]) -> None:
        self._pieces = pieces
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self._answer = end.value or self._answer  # a generator that has ended tells its value once
            raise

    @property
    def answer(self) -> Answer:
        """What `Assistant.ask` returns, with citations.

        Raises:
            ValueError: Not all pieces have been read.
        """
        if self._answer is None:
            raise ValueError("the answer is not complete: read all pieces of the stream first")
        return self._answer


def _before_next_question(text: str) -> str:
    """The text without an end that may become the start of a next question."""
    for length in range(min(len(text), len(NEXT_QUESTION)), 0, -1):
        if NEXT_QUESTION.startswith(text[-length:]):
            return text[:-length].rstrip()
    return text


def _require_text(question: str) -> None:
    if not question.strip():
        raise ConfigError("the question is empty")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the question is not UTF-8 text, from its character {error.start + 1} on") from error


def _answer(reply: Reply, hits: Sequence[Hit], searching: float) -> Answer:
    by_id = {hit.chunk.id: hit for hit in hits}
    return Answer(
        reply.text,
        reply.citations,
        tuple(by_id[chunk] for chunk in reply.contexts),
        reply.abstained,
        reply.seconds + searching,
        reply.invalid_citations,
        reply.cut_off,
    )
