"""What the backward pass keeps in memory, and how much of it to compute again instead.

Kept per token and layer, in elements of the dtype, with h hidden, q = heads * head size, kv = key-value heads * head
size, i intermediate, r rank, and e the keys that a row copies for its branches per token (`sdpa` alone)::

    4h (inputs and outputs of the norms) + 3q (query, attention, its copy) + 2kv (1 + e) + 3i (gate, up, their product)
    + r per adapter

Gemma has h more for each of its two further norms. No fused kernel of `sdpa` computes soft-capped scores: there it is
4q (query, keys and values repeated for all heads, attention) and, for each pair of tokens of a tree, a byte of its mask
and for each head the tanh and the softmax, which is float32 and in a narrower dtype is kept in that as well. Left out
are the statistics of norms and attention, and the masks of branches: a few percent in the smallest models.
This is a count of what Hybrid's own forward pass saves (fused LoRA linears, norms and attention, so no logits), in the
manner of Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", section 4;
tests/tuning/test_memory.py holds it against the tensors that autograd saves.
"""

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hybrid.tuning.settings import Optimizer, TuneSettings
from hybrid.tuning.shape import Shape, adapted_linears
from hybrid.tuning.tree import Row

HEADROOM = 0.8  # share of the free memory that a prediction may fill

Recompute = Literal["none", "selective", "full"]


class RowSize(NamedTuple):
    """What a row's memory depends on.

    Attributes:
        tokens: Tokens, shared ones counted once.
        copied_keys: Keys beside which the branches are computed where attention copies them (`sdpa`).
        scores: Pairs of tokens of a tree, whose scores attention keeps where they are soft-capped (`sdpa`).
    """

    tokens: int
    copied_keys: int = 0
    scores: int = 0

    def in_place(self) -> "RowSize":
        """The row where a kernel reads keys in place and keeps no scores, as on a GPU."""
        return RowSize(self.tokens)


class Choice(NamedTuple):
    """How much is computed again.

    Attributes:
        checkpointing: The choice.
        needed_mb: Predicted memory of activations with it.
        room_mb: Memory that was left for them.
    """

    checkpointing: Recompute
    needed_mb: float
    room_mb: float

    def __str__(self) -> str:
        """For the report of a run."""
        return f"{self.checkpointing} ({self.needed_mb:.0f} MB of activations predicted, room for {self.room_mb:.0f})"


def row_size(row: Row) -> RowSize:
    """Counts a row.

    Each branch is computed beside a copy of its prefix's keys and its own, padded to the longest; see attention.
    """
    copied = sum(len(tree.branches) * tree.longest for tree in row if tree.prefix_ids)
    return RowSize(sum(tree.tokens for tree in row), copied, sum(tree.tokens**2 for tree in row))


def largest_row(rows: Sequence[Row]) -> RowSize:
    """Returns the most that a row has of everything."""
    return RowSize(*map(max, zip(*map(row_size, rows), strict=True))) if rows else RowSize(0)


def layer_bytes(shape: Shape, row: RowSize, tune: TuneSettings, width: int, checkpointing: Recompute = "none") -> float:
    """Returns the bytes that one layer keeps per token, by the formula of the module.

    Args:
        shape: Sizes of the model.
        row: Of the largest row.
        tune: Settings; only method, rank and target modules count.
        width: Bytes of an element.
        checkpointing: What is computed again.
    """
    if checkpointing == "full":
        return width * shape.hidden
    ranks = 0.0
    if tune.method != "full":
        ranks = tune.rank * len(adapted_linears(shape, tune.target_modules)) / shape.layers
    inside = shape.intermediate * (1 if checkpointing == "selective" else 3)
    elements = (2 + shape.norms) * shape.hidden + inside + ranks
    if shape.scored_heads and row.scores:
        per_score = 1 + shape.scored_heads * (width + 4 + (width if width < 4 else 0))
        return width * (elements + 4 * shape.query) + per_score * row.scores / row.tokens
    return width * (elements + 3 * shape.query + 2 * shape.key * (1 + row.copied_keys / row.tokens))


def activation_bytes(shape: Shape, row: RowSize, tune: TuneSettings, width: int, checkpointing: Recompute) -> float:
    """Returns the bytes kept for the backward pass of a row, with one layer's gradients and recomputation on top."""
    kept = layer_bytes(shape, row, tune, width, checkpointing)
    working = layer_bytes(shape, row, tune, width) * (1 if checkpointing == "none" else 2)
    return row.tokens * (shape.layers * kept + working)


def choose_checkpointing(shape: Shape, row: RowSize, tune: TuneSettings, width: int, room_mb: float) -> Choice:
    """Follows the settings or, for "auto", takes the fastest way whose predicted memory fits into the room."""
    ways: tuple[Recompute, ...] = ("none", "selective", "full")
    if tune.checkpointing != "auto":
        ways = (tune.checkpointing,)
    choices = [Choice(way, activation_bytes(shape, row, tune, width, way) / 2**20, room_mb) for way in ways]
    return next((choice for choice in choices if choice.needed_mb <= room_mb), choices[-1])


def optimizer_bytes(trained: float, optimizer: Optimizer) -> float:
    """Returns the bytes of AdamW's two moments for trained parameters of so many bytes in float32."""
    return trained * (0.5 if optimizer == "paged_adamw_8bit" else 2)


def free_memory_mb(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Returns the memory that a process can have on the host: what Linux calls available, elsewhere half of all.

    Args:
        cgroup: Where Linux tells what a container may have; that is the limit if it is less.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            values = dict(line.split(":", 1) for line in lines)
        available = int(values["MemAvailable"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**21
    try:
        limit, used = (int((cgroup / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        counters = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available
    cached = int(counters.get("inactive_file", 0))  # given back when it is needed
    return min(available, max(0, limit - used + cached) / 2**20)


def peak_memory_mb() -> float:
    """Returns the most memory that this process has held since it started."""
    try:  # what getrusage tells on Linux is at least the memory of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="ascii").split("\n")
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, ValueError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
