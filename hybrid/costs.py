"""What an arm costs: tokens, time, memory, training, and money at the user's rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid.config import ArmConfig
from hybrid.eval.comparison import Reply

_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class ArmCost:
    """The cost of an arm; what is None was not measured or has no price.

    Attributes:
        arm: Name of the arm.
        tokens_in: Mean tokens of a prompt.
        tokens_out: Mean tokens of an answer.
        seconds_p50: Median time of an answer, with the search: its share of its batch, or of an endpoint its own call.
        seconds_p95: 95th percentile of the same.
        peak_memory_mb: Most memory held while the arm answered: of the GPU, else of the whole process.
        training_seconds: Time that its adapter took to train.
        price: Price of 1,000 answers at the rates of the settings.
    """

    arm: str
    tokens_in: float | None
    tokens_out: float | None
    seconds_p50: float
    seconds_p95: float
    peak_memory_mb: float | None
    training_seconds: float | None
    price: float | None


def arm_cost(
    arm: str,
    replies: Sequence[Reply],
    *,
    memory_mb: float | None,
    training_seconds: float | None,
    price_hour: float,
    endpoint: ArmConfig | None,
) -> ArmCost:
    """Adds up the cost of an arm from its replies; those that failed count nowhere.

    Args:
        arm: Its name.
        replies: What it said.
        memory_mb: Measured by `peak_memory_mb`.
        training_seconds: Of its adapter.
        price_hour: Price of an hour of this machine; 0 for no price.
        endpoint: The settings of an arm that runs elsewhere, which is paid by the token.
    """
    answered = [reply for reply in replies if not reply.error]
    seconds = [reply.seconds for reply in answered] or [0.0]
    tokens_in = _mean([reply.tokens_in for reply in answered])
    tokens_out = _mean([reply.tokens_out for reply in answered])
    if endpoint:
        a_thousand = (endpoint.price_in * (tokens_in or 0) + endpoint.price_out * (tokens_out or 0)) / 1000
    else:
        a_thousand = price_hour * float(np.mean(seconds)) * 1000 / 3600
    return ArmCost(
        arm=arm,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        seconds_p50=float(np.quantile(seconds, 0.5)),
        seconds_p95=float(np.quantile(seconds, 0.95)),
        peak_memory_mb=None if endpoint else memory_mb,
        training_seconds=training_seconds,
        price=a_thousand or None,
    )


def reset_peak_memory() -> bool:
    """Starts a measurement of `peak_memory_mb`; False where the system offers none."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        _CLEAR.write_text("5", encoding="ascii")  # Linux: forget the peak of this process' resident memory
    except OSError:
        return False
    return True


def peak_memory_mb() -> float:
    """Most memory held since `reset_peak_memory`: of the GPU, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    from hybrid.tuning.memory import peak_memory_mb as of_process

    return of_process()


def _mean(counts: Sequence[int]) -> float | None:
    """None where nobody counted."""
    return sum(counts) / len(counts) if any(counts) else None
