"""What the backward pass keeps in memory, and how much of it to compute again instead.

Kept per token and layer, in elements of the dtype, with h hidden, q = heads * head size, kv = key-value heads * head
size, i intermediate, r rank, and e the keys that a row copies for its branches per token (`sdpa` alone)::

    4h (inputs and outputs of the norms) + 3q (query, attention, its copy) + 2kv (1 + e) + 3i (gate, up, their product)
    + r per adapter

Left out are the statistics of norms and attention, and the masks of branches: a few percent in the smallest models.
This is a count of what Hybrid's own forward pass saves (fused LoRA linears, norms and attention, so neither scores nor
logits), in the manner of Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4; tests/tuning/test_memory.py holds it against the tensors that autograd saves.
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
    """

    tokens: int
    copied_keys: int


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
    copied = sum(
        len(tree.branches) * (len(tree.prefix_ids) + max(branch.tokens for branch in tree.branches))
        for tree in row
        if tree.prefix_ids
    )
    return RowSize(sum(tree.tokens for tree in row), copied)


def largest_row(rows: Sequence[Row]) -> RowSize:
    """Returns the most tokens and the most copied keys that a row has."""
    sizes = [row_size(row) for row in rows]
    return RowSize(
        max((size.tokens for size in sizes), default=0), max((size.copied_keys for size in sizes), default=0)
    )


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
    copied = row.copied_keys / row.tokens
    inside = shape.intermediate * (1 if checkpointing == "selective" else 3)
    return width * (4 * shape.hidden + 3 * shape.query + 2 * shape.key * (1 + copied) + inside + ranks)


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


def free_memory_mb() -> float:
    """Returns the memory that a process can have on the host: what Linux calls available, elsewhere half of all."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            values = dict(line.split(":", 1) for line in lines)
        return int(values["MemAvailable"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**21


def peak_memory_mb() -> float:
    """Returns the most memory that this process has held since it started."""
    try:  # what getrusage tells on Linux is at least the memory of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="ascii").split("\n")
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, ValueError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
