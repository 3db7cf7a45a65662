"""What drafting will take, estimated before the first call: calls, tokens, cost and time.

Counted: chunks, and those drafted before. Estimated from the prompts of a sample of chunks: prompt tokens, by the local
model's own tokenizer or four characters a token. Assumed: replies as long as the example in the prompt, for as many
questions as are asked for; repairs, at most one a chunk, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hybrid.config import TeacherConfig
from hybrid.eval.labels import duration
from hybrid.pairs.prompting.dialogue import EXAMPLE_REPLY, ask
from hybrid.pairs.prompting.generator import Messages
from hybrid.types import Chunk

_SAMPLE = 32  # chunks whose prompts are rendered
_CHARACTERS_PER_TOKEN = 4.0
_STREAM_SPEED, _LATENCY = 50.0, 1.0  # tokens a second of one call to an endpoint, and seconds before the first: assumed
_SYNTAX_CHARACTERS = 7_500.0  # read by the syntax teacher in a second, on one core (docs/experiments.md)

Count = Callable[[Messages], int]


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """What the teacher will be asked.

    Attributes:
        teacher: The setting `pairs.teacher`.
        chunks: Chunks of the documents.
        missing: Those that the teacher has not drafted before.
        calls: Prompts; 0 for a teacher that asks no model.
        tokens_in: Tokens of all prompts.
        tokens_out: Tokens of all replies.
        cost: At the prices set.
        seconds: Time; None if nothing is known about the speed.
    """

    teacher: str
    chunks: int
    missing: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float
    seconds: float | None

    def __str__(self) -> str:
        """One line for people.

        >>> print(DraftPlan("endpoint", 400, 20, 20, 14000, 6000, 0.05, 90.0))
        questions about 20 of 400 chunks by the teacher `endpoint`: 20 calls (at most twice as many with repairs), \
about 14,000 prompt and 6,000 reply tokens, cost about 0.05, about 90 s
        """
        parts = []
        if self.calls:
            parts.append(f"{self.calls:,} calls (at most twice as many with repairs)")
            parts.append(f"about {self.tokens_in:,} prompt and {self.tokens_out:,} reply tokens")
        if self.cost:
            parts.append(f"cost about {self.cost:.3g}")
        if self.missing and self.seconds is not None:
            parts.append(f"about {duration(self.seconds)}")
        said = ", ".join(parts) or ("all are drafted" if not self.missing else "nothing is known about its speed")
        return f"questions about {self.missing:,} of {self.chunks:,} chunks by the teacher `{self.teacher}`: {said}"


def count_characters(prompt: Messages) -> int:
    """Tokens of a prompt for a model whose tokenizer is not at hand."""
    return round(sum(len(message["content"]) for message in prompt) / _CHARACTERS_PER_TOKEN)


def plan_syntax(chunks: int, missing: Sequence[Chunk]) -> DraftPlan:
    """The plan of the teacher `syntax`, by a rate that was measured once."""
    seconds = sum(len(chunk.text) for chunk in missing) / _SYNTAX_CHARACTERS
    return DraftPlan("syntax", chunks, len(missing), 0, 0, 0, 0.0, seconds)


def plan_prompts(
    teacher: str,
    chunks: int,
    missing: Sequence[Chunk],
    settings: TeacherConfig,
    count: Count,
    speed: float | None = None,
) -> DraftPlan:
    """The plan of a teacher that asks a model.

    Args:
        teacher: The setting `pairs.teacher`.
        chunks: Number of all chunks.
        missing: Chunks to draft.
        settings: How the model is asked.
        count: Counts the tokens of a prompt.
        speed: Reply tokens a second of a local model, if it was measured.
    """
    sample = missing[:: max(1, len(missing) // _SAMPLE)][:_SAMPLE]
    asked = [count(ask(chunk, settings.questions_per_chunk)) for chunk in sample]
    tokens_in = round(len(missing) * sum(asked) / max(1, len(asked)))
    line = count([{"role": "assistant", "content": EXAMPLE_REPLY}]) / len(EXAMPLE_REPLY.split("\n"))
    reply = min(settings.max_new_tokens, round(line * settings.questions_per_chunk))
    tokens_out = len(missing) * reply
    seconds = tokens_out / speed if speed else None
    if teacher == "endpoint":
        streams = len(missing) / settings.concurrency * (_LATENCY + reply / _STREAM_SPEED)
        seconds = max(streams, 60 * len(missing) / (settings.requests_per_minute or float("inf")))
    cost = (tokens_in * settings.price_in + tokens_out * settings.price_out) / 1e6
    return DraftPlan(teacher, chunks, len(missing), len(missing), tokens_in, tokens_out, cost, seconds)
