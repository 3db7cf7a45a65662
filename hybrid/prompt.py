"""The one prompt: context first, question last.

Training, serving and evaluation all render through this module. The context stands before the question so that many
questions about one context share its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError

from hybrid.config import PromptConfig
from hybrid.types import Chunk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

# What the instructions say of the style, by `prompt.answers`; `hybrid.answers` renders and reads it.
_STYLES = {
    "short": "",
    "cited": "\nEnd an answer with the numbers of the passages that support it, such as [1] or [1][2].",
    "quoted": (
        "\nBefore an answer, copy the sentences that prove it word for word from the passages, each on a line of its "
        'own after its passage number, such as [1] "…". Then write the answer on a new line after "Answer:".'
    ),
}


@dataclass(frozen=True, slots=True)
class Shot:
    """A worked example that stands before the question in a few-shot prompt; its answer has the style of the prompt."""

    question: str
    answer: str
    chunks: tuple[Chunk, ...] = ()


class Fitted(NamedTuple):
    """A context that fits its limit, and how many chunks had to leave."""

    chunks: tuple[Chunk, ...]
    dropped: int


def render_context(chunks: Sequence[Chunk]) -> str:
    r"""Numbers the chunks as the prompt shows them.

    >>> render_context([Chunk("a#0-4", "a", 0, 4, "Wind", "Weather")])
    '[1] Weather\nWind'
    """
    return "\n\n".join(f"[{n}] {c.title}\n{c.text}" if c.title else f"[{n}]\n{c.text}" for n, c in enumerate(chunks, 1))


def render_turn(question: str, chunks: Sequence[Chunk]) -> str:
    """The user's turn; without chunks the question alone."""
    return f"{render_context(chunks)}\n\nQuestion: {question}" if chunks else f"Question: {question}"


def question_of(turn: str) -> str:
    r"""The question of a rendered turn: what follows the last `Question:` that begins a paragraph, else the whole text.

    >>> question_of("[1] Weather\nWind\n\nQuestion: Why?"), question_of("Why?")
    ('Why?', 'Why?')
    """
    _, marker, question = f"\n\n{turn}".rpartition("\n\nQuestion:")
    return question.strip().removesuffix("\n\nAnswer:").rstrip() if marker else turn


def render_messages(
    question: str, chunks: Sequence[Chunk], config: PromptConfig, shots: Sequence[Shot] = ()
) -> list[Message]:
    """Renders a prompt as chat messages; the model's answer would be the next one.

    With passages the instructions ask for the style of answers; without, an answer is always short.
    """
    with_context = bool(chunks) or any(shot.chunks for shot in shots)
    system = config.instructions + _STYLES[config.answers] if with_context else config.closed_book
    messages = [{"role": "system", "content": system.replace("{refusal}", config.refusal)}]
    for shot in shots:
        messages.append({"role": "user", "content": render_turn(shot.question, shot.chunks)})
        messages.append({"role": "assistant", "content": shot.answer})
    messages.append({"role": "user", "content": render_turn(question, chunks)})
    return messages


def to_text(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt as the model reads it: by its chat template, else as plain paragraphs that end in `Answer:`."""
    messages = [{**message, "content": harmless(message["content"], tokenizer)} for message in messages]
    if tokenizer.chat_template:
        try:
            return _by_template(messages, tokenizer)
        except TemplateError:  # some templates know no system role: its text then opens the first user's turn
            system, first, *others = messages
            opening = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
            return _by_template([opening, *others], tokenizer)
    lines = [m["content"] if m["role"] != "assistant" else f"Answer: {m['content']}" for m in messages]
    return "\n\n".join([*lines, "Answer:"])


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """The texts that the tokenizer reads as control tokens, such as those that open and close a turn."""
    special = sorted({str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}, key=len)
    return re.compile("|".join(map(re.escape, reversed(special)))) if special else None


def harmless(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text with an invisible sign within what would be read as a control token.

    A document or question could otherwise close its turn and speak as the assistant, or as whoever it likes.
    """
    control = _control_tokens(tokenizer)
    return control.sub(lambda match: f"{match[0][0]}\u200b{match[0][1:]}", text) if control else text


def _by_template(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a rendered prompt; a chat template writes its own special tokens."""
    return list(tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"])


def encode_answer(answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a target answer, closed by the token that ends a turn."""
    lead = "" if tokenizer.chat_template else " "
    ids = list(tokenizer(lead + harmless(answer, tokenizer), add_special_tokens=False)["input_ids"])
    return [*ids, int(tokenizer.eos_token_id)]


def fit_context(
    question: str,
    chunks: Sequence[Chunk],
    keep: Sequence[str],
    config: PromptConfig,
    tokenizer: PreTrainedTokenizerBase,
    reserve: int = 0,
    shots: Sequence[Shot] = (),
) -> Fitted:
    """Drops distractors, the last of the prompt first, until the prompt fits `config.max_tokens`.

    Args:
        question: The question.
        chunks: The context in the order of the prompt.
        keep: Ids of chunks that must stay (oracles); a context that does not fit with these alone is returned whole.
        config: Holds the limit.
        tokenizer: Counts the tokens.
        reserve: Tokens of the answer, which count against the limit.
        shots: Worked examples of the prompt, which stay.
    """
    remaining = list(chunks)
    while True:
        text = to_text(render_messages(question, remaining, config, shots), tokenizer)
        if len(encode(text, tokenizer)) + reserve <= config.max_tokens:
            break
        removable = [chunk for chunk in remaining if chunk.id not in keep]
        if not removable or len(remaining) == 1:
            break
        remaining.remove(removable[-1])
    return Fitted(tuple(remaining), len(chunks) - len(remaining))
