"""What is compared: an arm is a model, an adapter and a context policy; a runner answers the questions with it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from tqdm import tqdm

from hybrid.citations import cite
from hybrid.config import PromptConfig
from hybrid.errors import ConfigError
from hybrid.eval.comparison import Reply
from hybrid.prompt import Shot, encode, fit_context, render_messages, to_text
from hybrid.types import Citation, Hit, Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# A model that was shown examples may go on to ask itself the next question: there its answer ends.
NEXT_QUESTION = "\nQuestion:"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer.

    Attributes:
        name: Its name in tables.
        description: What it is, for the report.
        adapter: Which fine-tuned adapter it uses, if any.
        retrieval: Whether the prompt shows retrieved chunks.
    """

    name: str
    description: str
    adapter: Literal["tuned", "hybrid"] | None
    retrieval: bool


ARMS = {
    arm.name: arm
    for arm in (
        Arm("base", "the model alone, closed book", None, False),
        Arm("rag", "the model with retrieved context, best prompt of the training side", None, True),
        Arm("tuned", "fine-tuned closed book on the same pairs", "tuned", False),
        Arm("hybrid", "fine-tuned on retrieved contexts, served with retrieved context", "hybrid", True),
    )
}


def select_arms(names: Sequence[str]) -> list[Arm]:
    """Returns the arms of these names.

    Raises:
        ConfigError: There is none, or one is unknown or there twice.
    """
    for name in names:
        if name not in ARMS:
            raise ConfigError(f"compare.arms: unknown arm {name!r}; known are {', '.join(ARMS)}")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"compare.arms must name each arm once, found {', '.join(names) or 'none'}")
    return [ARMS[name] for name in names]


class PromptChoice(NamedTuple):
    """How an arm prompts: chunks in the context, worked examples in front; `f1` is its score on the training side."""

    name: str
    k: int
    shots: tuple[Shot, ...]
    f1: float | None = None


class Searcher(Protocol):
    """What arms need of a retriever."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best `k` hits of every question."""
        ...


@dataclass(frozen=True, slots=True)
class Runner:
    """Answers questions with one loaded model.

    Attributes:
        model: The model, with the adapter of the arm.
        tokenizer: Its tokenizer.
        prompt: Prompt settings.
        max_new_tokens: Longest answer.
        batch_tokens: Padded prompt tokens per batch.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: PromptConfig
    max_new_tokens: int
    batch_tokens: int

    def encode(self, question: str, hits: Sequence[Hit], choice: PromptChoice) -> tuple[list[int], list[Hit]]:
        """Token ids of a prompt, and the hits that fit into it."""
        chunks = [hit.chunk for hit in hits[: choice.k]]
        keep = [chunk.id for chunk in chunks[:1]]
        fitted = fit_context(question, chunks, keep, self.prompt, self.tokenizer, shots=choice.shots)
        messages = render_messages(question, fitted.chunks, self.prompt, choice.shots)
        return encode(to_text(messages, self.tokenizer), self.tokenizer), list(hits[: len(fitted.chunks)])

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
        """Answers all questions; batches whose questions are all in `done` are not answered again.

        Args:
            questions: The questions.
            hits: What was retrieved for each; empty for closed-book arms.
            choice: How to prompt.
            label: Text of the progress bar.
            done: Replies of an interrupted run, by question id.
            record: Called with the replies of every finished batch.
        """
        # Imported here so that `hybrid.arms` loads no torch.
        from hybrid.generate import encode_prefix, generate_batch, plan_batches, stop_ids

        encoded = [self.encode(q.question, h, choice) for q, h in zip(questions, hits, strict=True)]
        batches = plan_batches([len(ids) for ids, _ in encoded], self.batch_tokens)
        stops = stop_ids(self.model, self.tokenizer)
        replies = dict(done)
        started = time.perf_counter()
        prefix = encode_prefix(self.model, [ids for ids, _ in encoded])
        prefix_seconds = (time.perf_counter() - started) / max(1, len(questions))
        with tqdm(total=len(questions), desc=label, unit="question", leave=False) as bar:
            for batch in batches:
                if not all(questions[i].id in replies for i in batch.indices):
                    started = time.perf_counter()
                    outputs = generate_batch(
                        self.model,
                        [encoded[i][0] for i in batch.indices],
                        prefix,
                        max_new_tokens=self.max_new_tokens,
                        stops=stops,
                        pad=int(self.tokenizer.pad_token_id or 0),
                    )
                    seconds = prefix_seconds + (time.perf_counter() - started) / len(batch.indices)
                    fresh = [
                        self._reply(questions[i], hits[i], encoded[i][1], output, seconds)
                        for i, output in zip(batch.indices, outputs, strict=True)
                    ]
                    record(fresh)
                    replies |= {reply.question_id: reply for reply in fresh}
                bar.update(len(batch.indices))
        return [replies[question.id] for question in questions]

    def _reply(
        self,
        question: Question,
        retrieved: Sequence[Hit],
        shown: Sequence[Hit],
        output: Sequence[int],
        seconds: float,
    ) -> Reply:
        text = str(self.tokenizer.decode(list(output), skip_special_tokens=True)).split(NEXT_QUESTION)[0].strip()
        abstained = is_refusal(text, self.prompt.refusal)
        return Reply(
            question_id=question.id,
            text=text,
            abstained=abstained,
            documents=tuple(dict.fromkeys(hit.chunk.document for hit in retrieved)),
            contexts=tuple(hit.chunk.id for hit in shown),
            seconds=seconds,
            citations=() if abstained else cite(text, shown),
        )


_SAYS_NOTHING = re.compile(
    r"^(i'?m sorry|sorry|unfortunately)\b"
    r"|\bi (do not|don't) know\b"
    r"|\b(can ?not|can't|unable to) (be )?(answer|find|determine)"
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


def read_replies(journal: Path) -> dict[str, Reply]:
    """Replies that an interrupted run recorded; a half-written line is left out."""
    replies: dict[str, Reply] = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                values = json.loads(line)
                citations = tuple(Citation(**c) for c in values["citations"])
                reply = Reply(
                    **{
                        **values,
                        "documents": tuple(values["documents"]),
                        "contexts": tuple(values["contexts"]),
                        "citations": citations,
                    }
                )
            except (ValueError, KeyError, TypeError):
                continue
            replies[reply.question_id] = reply
    return replies


def append_replies(journal: Path, replies: Sequence[Reply]) -> None:
    """Appends replies to the journal, one JSON object a line."""
    with journal.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(reply), ensure_ascii=False) + "\n" for reply in replies)
