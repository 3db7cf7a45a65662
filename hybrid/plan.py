"""What a fine-tuning run will need, estimated before it starts: memory, time, and whether it is worth it.

Counted: parameters, adapter parameters, base weights, optimiser state, and pairs and tokens where the pairs exist.
Estimates: activations and work buffers, the time (from a measured rate), and pairs and tokens where they do not exist.
The formula of the activations is in tuning/memory.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hybrid.pairs.prompting.estimate import DraftPlan
from hybrid.plan_choice import Choice, choose
from hybrid.tuning.memory import HEADROOM, Recompute, RowSize, choose_checkpointing, largest_row, optimizer_bytes
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import Shape, adapter_parameters
from hybrid.tuning.tree import Row, tree_stats

MIN_PAIRS = 100
_LOSS_BUFFER = 64 << 20  # kernels/linear_cross_entropy.py: CHUNK_BYTES
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a nibble, a byte per block of 64, a float per 256 blocks
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is computed to train one adapter.

    Attributes:
        adapter: Name of the arm.
        pairs: Training examples.
        rows: Rows of trees.
        tokens: Tokens per pass, shared ones counted once.
        separate_tokens: Tokens per pass without sharing.
        answer_tokens: Tokens that carry the loss.
        row: The largest row.
        exact: True if counted from the published pairs, False if estimated from the documents.
    """

    adapter: str
    pairs: int
    rows: int
    tokens: int
    separate_tokens: int
    answer_tokens: int
    row: RowSize
    exact: bool


def count_rows(adapter: str, rows: Sequence[Row]) -> Workload:
    """Counts what is computed to train an adapter on these rows."""
    stats = tree_stats(tree for row in rows for tree in row)
    return Workload(
        adapter,
        stats.examples,
        len(rows),
        stats.unique_tokens,
        stats.separate_tokens,
        stats.answer_tokens,
        largest_row(rows),
        exact=True,
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the run will take place.

    Attributes:
        device: "cuda" or "cpu".
        dtype: Data type of the computation.
        free_mb: Free memory of the device.
        runtime_mb: Memory that the libraries occupy in a process of their own; 0 on a GPU.
        flops: Operations per second of the fastest matrix product measured; a multiply-add counts as two.
    """

    device: Literal["cuda", "cpu"]
    dtype: str
    free_mb: float
    runtime_mb: float
    flops: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory in MiB by what it is for; `activations` and `work` are estimates.

    `loading` is what the mapped files take above all this while they are read; 0 where training takes more. The system
    takes these pages back when memory is short, so that they do not decide what fits.
    """

    base: float
    adapter: float
    gradients: float
    optimiser: float
    activations: float
    work: float
    runtime: float
    loading: float = 0.0

    @property
    def total(self) -> float:
        """What must fit."""
        return self.base + self.adapter + self.gradients + self.optimiser + self.activations + self.work + self.runtime

    @property
    def peak(self) -> float:
        """What a monitor of processes will show at most."""
        return self.total + self.loading


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs.

    Attributes:
        model: Name of the model.
        method: How it is tuned.
        parameters: Of the model.
        trained_parameters: Of the adapter, or of the model if all of it is tuned.
        workloads: One for every adapter to train.
        machine: Where.
        memory: For the configured method, largest workload.
        checkpointing: What the backward pass computes again, if everything else is as planned.
        totals_mb: Total memory of every method: `lora`, `qlora` (packed) and `full`.
        seconds: Time of the matrix products at the measured rate, all adapters together; a busy machine changes it.
        advice: What to do, in words.
        choice: What to start from and what to train, with the reasons.
        drafts: What the teacher will be asked first; None where it will not be asked.
    """

    model: str
    method: str
    parameters: int
    trained_parameters: int
    workloads: tuple[Workload, ...]
    machine: Machine
    memory: Memory
    checkpointing: Recompute
    totals_mb: dict[str, float]
    seconds: float
    advice: tuple[str, ...]
    choice: Choice
    drafts: DraftPlan | None = None


def make_plan(
    model: str,
    shape: Shape,
    workloads: tuple[Workload, ...],
    tune: TuneSettings,
    machine: Machine,
    *,
    is_instruct: bool = True,
) -> Plan:
    """Joins the estimates.

    Args:
        model: Name of the model.
        shape: Its sizes.
        workloads: At least one.
        tune: How it will be tuned.
        machine: Where.
        is_instruct: Whether the model has a chat template.
    """
    largest = max(workloads, key=lambda work: work.row.tokens)
    methods = {
        "lora": replace(tune, method="lora"),
        "qlora": replace(tune, method="qlora", weights="nf4"),
        "full": replace(tune, method="full"),
    }
    totals = {name: estimate_memory(shape, largest, settings, machine)[0].total for name, settings in methods.items()}
    memory, checkpointing = estimate_memory(shape, largest, tune, machine)
    choice = choose(
        pairs=max(work.pairs for work in workloads),
        answer_tokens=max(work.answer_tokens for work in workloads),
        adapter_parameters=adapter_parameters(shape, tune),
        totals_mb=totals,
        room_mb=HEADROOM * machine.free_mb,
        is_instruct=is_instruct,
    )
    return Plan(
        model=model,
        method=tune.method,
        parameters=shape.parameters,
        trained_parameters=shape.parameters if tune.method == "full" else adapter_parameters(shape, tune),
        workloads=workloads,
        machine=machine,
        memory=memory,
        checkpointing=checkpointing,
        totals_mb=totals,
        seconds=sum(estimate_flops(shape, work, tune, checkpointing) for work in workloads) / machine.flops,
        advice=(*advise(workloads, tune, memory, totals, machine), *choice.reasons),
        choice=choice,
    )


def estimate_memory(shape: Shape, work: Workload, tune: TuneSettings, machine: Machine) -> tuple[Memory, Recompute]:
    """Estimates the peak memory of training, and what is computed again; see the module for what is exact."""
    full = tune.method == "full"
    dtype = "float32" if full and tune.dtype == "auto" else machine.dtype
    width = _WIDTH[dtype]
    packed = tune.method == "qlora" and (tune.weights == "nf4" or (tune.weights == "auto" and machine.device == "cuda"))
    in_linears = sum(linear.inputs * linear.outputs for linear in shape.linears)
    base = in_linears * (_NF4_BYTES if packed else width) + (shape.parameters - in_linears) * width
    trained = shape.parameters * width if full else adapter_parameters(shape, tune) * 4
    logits = min(_LOSS_BUFFER, work.answer_tokens * shape.vocabulary * 4)
    head_gradient = shape.vocabulary * shape.hidden * 4 if full else 0
    unpacked = max(linear.inputs * linear.outputs for linear in shape.linears) * width if packed else 0
    fixed = {
        "base": base,
        "adapter": 0 if full else trained,
        "gradients": trained,
        "optimiser": optimizer_bytes(trained, tune.optimizer),
        "work": logits * (1 if width == 4 else 1 + width / 4) + head_gradient + unpacked,
    }
    parts = {name: value / 2**20 for name, value in fixed.items()} | {"runtime": machine.runtime_mb}
    row = work.row if machine.device == "cpu" else work.row.in_place()
    choice = choose_checkpointing(shape, row, tune, width, HEADROOM * machine.free_mb - sum(parts.values()))
    memory = Memory(activations=choice.needed_mb, **parts)
    # Weights that are stored as they are computed with stay mapped, and are counted already.
    is_converted = packed or shape.stored_bytes != shape.parameters * width
    if machine.device == "cpu" and is_converted:
        read = machine.runtime_mb + memory.base + shape.stored_bytes / 2**20
        memory = replace(memory, loading=max(0.0, read - memory.total))
    return memory, choice.checkpointing


def estimate_flops(shape: Shape, work: Workload, tune: TuneSettings, checkpointing: Recompute = "none") -> float:
    """Counts the operations of a run's matrix products.

    They are 2 per weight and token forward, 2 for the gradient of the input, and 2 more each where weights are tuned
    and for what is computed again. The LM head runs on answer tokens only; attention scores are left out.
    """
    body = sum(linear.inputs * linear.outputs for linear in shape.linears)
    if tune.method != "full":
        body += adapter_parameters(shape, tune)
    gate_up = 2 * shape.layers * shape.hidden * shape.intermediate
    again = {"none": 0, "selective": gate_up, "full": body}[checkpointing]
    head = shape.vocabulary * shape.hidden * (6 if tune.method == "full" else 4)
    tokens = work.tokens if tune.share_contexts else work.separate_tokens
    passes = 6 if tune.method == "full" else 4
    return tune.epochs * ((passes * body + 2 * again) * tokens + head * work.answer_tokens)


def advise(
    workloads: tuple[Workload, ...], tune: TuneSettings, memory: Memory, totals: Mapping[str, float], machine: Machine
) -> tuple[str, ...]:
    """Says in words whether and how to tune."""
    total, room = memory.total, HEADROOM * machine.free_mb
    pairs = max(work.pairs for work in workloads)
    advice = []
    if pairs < MIN_PAIRS:
        advice.append(
            f"{pairs} pairs are too few pairs to fine-tune on (fewer than {MIN_PAIRS}): add documents or questions, "
            "or serve with retrieval alone."
        )
    if total <= room:
        advice.append(f"{tune.method} as configured fits: {total:.0f} of {machine.free_mb:.0f} MB free.")
    else:
        advice.append(f"{tune.method} as configured does not fit well: {total:.0f} of {machine.free_mb:.0f} MB free.")
        advice.append(_way_out(totals, memory.base, room))
    fitting = [name for name in ("full", "lora", "qlora") if totals[name] <= room]
    if "lora" in fitting and tune.method == "qlora":
        advice.append(
            f"lora fits as well ({totals['lora']:.0f} MB) and leaves the base unrounded: set tune.method=lora."
        )
    advice.append("full tuning fits too." if "full" in fitting else "full tuning does not fit.")
    return tuple(advice)


def _way_out(totals: Mapping[str, float], weights: float, room: float) -> str:
    if totals["lora"] <= room:
        return f"Set tune.method=lora ({totals['lora']:.0f} MB)."
    if totals["qlora"] <= room:
        return f"Set tune.method=qlora and tune.weights=nf4 ({totals['qlora']:.0f} MB)."
    if weights > room:
        return f"The model's weights alone take {weights:.0f} MB: choose a smaller model."
    return "Lower tune.max_tokens, or choose a smaller model."
