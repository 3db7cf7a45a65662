"""What to start from and what to train: base or instruct, LoRA, QLoRA or all weights, by rows and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Rules of thumb: an instruct model knows how to answer before it is trained, a base model learns it from its rows.
FEW_PAIRS, MANY_PAIRS = 300, 1000
# An adapter keeps up with full tuning until it must hold more than about 2 bits a parameter; an answer token teaches
# about one.
_BITS_PER_PARAMETER = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """What is advised.

    Attributes:
        start: The sort of model to start from.
        method: How to tune it; `none` if nothing fits into the memory.
        reasons: Why, one sentence or two for each.
    """

    start: Literal["instruct", "either", "base"]
    method: Literal["lora", "qlora", "full", "none"]
    reasons: tuple[str, ...]


def choose(
    *,
    pairs: int,
    answer_tokens: int,
    adapter_parameters: int,
    totals_mb: Mapping[str, float],
    room_mb: float,
    is_instruct: bool,
) -> Choice:
    """Chooses by the number of pairs, the tokens that they teach and the memory that every method takes.

    Args:
        pairs: Training examples.
        answer_tokens: Tokens that carry the loss.
        adapter_parameters: Parameters of the adapter.
        totals_mb: Memory of `lora`, `qlora` and `full`.
        room_mb: Memory that may be used.
        is_instruct: Whether the model in use has a chat template.
    """
    start, why_start = _start(pairs, is_instruct)
    method, why_method = _method(answer_tokens, adapter_parameters, totals_mb, room_mb)
    return Choice(start, method, (why_start, why_method))


def _start(pairs: int, is_instruct: bool) -> tuple[Literal["instruct", "either", "base"], str]:
    here = "This model is one" if is_instruct else "This model has no chat template, so it is none"
    if pairs < FEW_PAIRS:
        return "instruct", (
            f"Start from an instruct model: {pairs} pairs are too few (below {FEW_PAIRS}) to teach a base model how "
            f"to answer. {here}."
        )
    if pairs < MANY_PAIRS:
        return "either", (
            f"Start from an instruct model if in doubt: with {pairs} pairs ({FEW_PAIRS} to {MANY_PAIRS}) a base model "
            f"may do as well, but rag alone needs instructions to be followed. {here}."
        )
    here = "This one is instruct" if is_instruct else "This one is a base model"
    return "base", (
        f"{pairs} pairs are enough (from {MANY_PAIRS}) to start from a base model, which has no habits to unlearn; "
        f"compare it with its instruct sibling, which is the fairer rag. {here}."
    )


def _method(
    tokens: int, parameters: int, totals: Mapping[str, float], room: float
) -> tuple[Literal["lora", "qlora", "full", "none"], str]:
    fits = {name for name, total in totals.items() if total <= room}
    capacity = _BITS_PER_PARAMETER * parameters
    if tokens > capacity and "full" in fits:
        return "full", (
            f"Advised: full. {tokens:,} answer tokens are more than an adapter of {parameters:,} parameters holds "
            f"(about {capacity:,}), and full tuning fits ({totals['full']:.0f} MB)."
        )
    holds = f"an adapter of {parameters:,} parameters holds what {tokens:,} answer tokens teach"
    if tokens > capacity:
        holds = f"full tuning would learn more from {tokens:,} answer tokens but does not fit; a higher rank helps"
    if "lora" in fits:
        return "lora", f"Advised: lora. It fits without rounding the base ({totals['lora']:.0f} MB), and {holds}."
    if "qlora" in fits:
        return "qlora", (
            f"Advised: qlora with tune.weights=nf4. lora needs {totals['lora']:.0f} MB and {room:.0f} may be used; a "
            f"base rounded to 4 bits fits ({totals['qlora']:.0f} MB), and {holds}."
        )
    return "none", f"Advised: a smaller model or less tune.max_tokens. No method fits into {room:.0f} MB."
