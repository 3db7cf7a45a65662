"""What a fine-tuning run will need, estimated before it starts: memory, time, and whether it is worth it.

Counted: parameters, adapter parameters, base weights, optimiser state, and pairs and tokens where the pairs exist.
Estimates: activations and work buffers, the time (from a measured rate), and pairs and tokens where they do not exist.

Kept for the backward pass, in elements per token and layer, with h hidden, q = heads * head size, kv = key-value
heads * head size, i intermediate, r rank, and e the keys a row copies for its branches per token::

    in the dtype:  2h (norm outputs) + 3q (query, attention, its copy) + 2kv (1 + e) + 4i (MLP) + r per adapter,
                   and 2h more when all weights are tuned (for the norms' gradients)
    in 32 bit:     2h (norm inputs)

Left out are the statistics of norms and attention, and the masks of branches: a few percent in the smallest models.
This is a count of what Hybrid's own forward pass saves (fused LoRA linears, fused attention, so neither scores nor
logits), in the manner of Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4; tests/test_plan.py holds it against the tensors that autograd saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hybrid.shape import Shape, adapted_linears, adapter_parameters
from hybrid.tuning.settings import TuneSettings

MIN_PAIRS = 100
_HEADROOM = 0.8  # share of the free memory that a plan may fill
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
        row_tokens: Tokens of the largest row.
        copied_keys: Keys that the largest row copies for its branches.
        exact: True if counted from the published pairs, False if estimated from the documents.
    """

    adapter: str
    pairs: int
    rows: int
    tokens: int
    separate_tokens: int
    answer_tokens: int
    row_tokens: int
    copied_keys: int
    exact: bool


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
    """Peak memory in MiB by what it is for; `activations` and `work` are estimates."""

    base: float
    adapter: float
    gradients: float
    optimiser: float
    activations: float
    work: float
    runtime: float

    @property
    def total(self) -> float:
        """The sum."""
        return self.base + self.adapter + self.gradients + self.optimiser + self.activations + self.work + self.runtime


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
        totals_mb: Total memory of every method: `lora`, `qlora` (packed) and `full`.
        seconds: Time of the matrix products at the measured rate, all adapters together; a busy machine changes it.
        advice: What to do, in words.
    """

    model: str
    method: str
    parameters: int
    trained_parameters: int
    workloads: tuple[Workload, ...]
    machine: Machine
    memory: Memory
    totals_mb: dict[str, float]
    seconds: float
    advice: tuple[str, ...]


def make_plan(model: str, shape: Shape, workloads: tuple[Workload, ...], tune: TuneSettings, machine: Machine) -> Plan:
    """Joins the estimates.

    Args:
        model: Name of the model.
        shape: Its sizes.
        workloads: At least one.
        tune: How it will be tuned.
        machine: Where.
    """
    largest = max(workloads, key=lambda work: estimate_memory(shape, work, tune, machine).total)
    methods = {
        "lora": replace(tune, method="lora"),
        "qlora": replace(tune, method="qlora", weights="nf4"),
        "full": replace(tune, method="full"),
    }
    totals = {name: estimate_memory(shape, largest, settings, machine).total for name, settings in methods.items()}
    memory = estimate_memory(shape, largest, tune, machine)
    return Plan(
        model=model,
        method=tune.method,
        parameters=shape.parameters,
        trained_parameters=shape.parameters if tune.method == "full" else adapter_parameters(shape, tune),
        workloads=workloads,
        machine=machine,
        memory=memory,
        totals_mb=totals,
        seconds=sum(estimate_flops(shape, work, tune) for work in workloads) / machine.flops,
        advice=advise(workloads, tune, memory.total, totals, machine),
    )


def estimate_memory(shape: Shape, work: Workload, tune: TuneSettings, machine: Machine) -> Memory:
    """Estimates the peak memory of training; see the module for what is exact."""
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
    parts = {
        "base": base,
        "adapter": 0 if full else trained,
        "gradients": trained,
        "optimiser": 2 * trained,
        "activations": activation_bytes(shape, work, tune, width),
        "work": logits * (1 if width == 4 else 1 + width / 4) + head_gradient + unpacked,
    }
    return Memory(**{name: value / 2**20 for name, value in parts.items()}, runtime=machine.runtime_mb)


def activation_bytes(shape: Shape, work: Workload, tune: TuneSettings, width: int) -> float:
    """Bytes kept for the backward pass of the largest row, and one layer's gradients on top."""
    layer = layer_bytes(shape, work, tune, width) * work.row_tokens
    kept = shape.layers * (shape.hidden * width * work.row_tokens if tune.gradient_checkpointing else layer)
    return kept + layer * (2 if tune.gradient_checkpointing else 1)


def layer_bytes(shape: Shape, work: Workload, tune: TuneSettings, width: int) -> float:
    """Bytes that one layer keeps per token; the formula of the module."""
    copied = work.copied_keys / work.row_tokens
    full = tune.method == "full"
    ranks = 0.0 if full else tune.rank * len(adapted_linears(shape, tune.target_modules)) / shape.layers
    narrow = 2 * shape.hidden + 3 * shape.query + 2 * shape.key * (1 + copied) + 4 * shape.intermediate + ranks
    return width * (narrow + (2 * shape.hidden if full else 0)) + 4 * 2 * shape.hidden


def estimate_flops(shape: Shape, work: Workload, tune: TuneSettings) -> float:
    """Counts the operations of a run's matrix products.

    They are 2 per weight and token forward, 2 for the gradient of the input, and 2 more each where weights are tuned
    and for the second forward pass of checkpointing. The LM head runs on answer tokens only; attention scores are left
    out.
    """
    passes = 4 + 2 * (tune.method == "full") + 2 * tune.gradient_checkpointing
    body = sum(linear.inputs * linear.outputs for linear in shape.linears)
    if tune.method != "full":
        body += adapter_parameters(shape, tune)
    head = shape.vocabulary * shape.hidden * (6 if tune.method == "full" else 4)
    tokens = work.tokens if tune.share_contexts else work.separate_tokens
    return tune.epochs * (passes * body * tokens + head * work.answer_tokens)


def advise(
    workloads: tuple[Workload, ...], tune: TuneSettings, total: float, totals: Mapping[str, float], machine: Machine
) -> tuple[str, ...]:
    """Says in words whether and how to tune."""
    room = _HEADROOM * machine.free_mb
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
        advice.append(_way_out(totals, room))
    fitting = [name for name in ("full", "lora", "qlora") if totals[name] <= room]
    if "lora" in fitting and tune.method == "qlora":
        advice.append(
            f"lora fits as well ({totals['lora']:.0f} MB) and leaves the base unrounded: set tune.method=lora."
        )
    advice.append("full tuning fits too." if "full" in fitting else "full tuning does not fit.")
    return tuple(advice)


def _way_out(totals: Mapping[str, float], room: float) -> str:
    if totals["lora"] <= room:
        return f"Set tune.method=lora ({totals['lora']:.0f} MB)."
    if totals["qlora"] <= room:
        return f"Set tune.method=qlora and tune.weights=nf4 ({totals['qlora']:.0f} MB)."
    return "Set tune.gradient_checkpointing=true, lower tune.max_tokens, or choose a smaller model."
