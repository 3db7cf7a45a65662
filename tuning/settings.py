"""The settings of one fine-tuning run; importing this module loads no torch."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hybrid.errors import ConfigError

Method = Literal["qlora", "lora", "full"]
Weights = Literal["auto", "nf4", "resident"]
Kernels = Literal["auto", "required"]
AttentionBackend = Literal["auto", "sdpa", "flex", "triton"]
Checkpointing = Literal["auto", "none", "selective", "full"]
Optimizer = Literal["adamw", "paged_adamw_8bit"]
Scheduler = Literal["cosine", "linear", "constant"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
GgufWeights = Literal["f32", "f16", "bf16", "q8_0"]


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How a model is tuned.

    Attributes:
        method: `qlora` trains adapters on a base rounded to NF4, `lora` on the base as it is, `full` all weights.
        weights: How `qlora` keeps the base: `nf4` packed and dequantised per use, `resident` dequantised once. The
            numbers are the same; `auto` is resident on a CPU and nf4 on a GPU.
        rank: Rank of the adapters.
        alpha: The adapters are scaled by alpha / rank.
        dropout: Dropout before the adapters. Above 0 the shared context draws one mask for all of its branches, and
            the fused LoRA linear is not used.
        target_modules: Names of the linear layers that get an adapter, or "all-linear" for all but the LM head.
        learning_rate: Peak learning rate.
        epochs: Passes over the examples; a fraction is allowed.
        warmup_ratio: Share of the optimiser steps with a rising learning rate, in [0, 1).
        scheduler: Shape of the learning rate after the warm-up.
        weight_decay: Decoupled weight decay of AdamW.
        max_grad_norm: Gradients are clipped to this norm; 0 switches clipping off.
        max_tokens: Most tokens of a row, every shared token counted once.
        trees_per_step: Contexts per optimiser step, on average at least; rows are accumulated until it is reached.
        min_steps: A run that would have fewer optimiser steps per epoch takes fewer contexts a step instead.
        min_shared_tokens: Examples of a group share a prefix only if it has this many tokens.
        share_contexts: False trains every example on its own, with the same loss and gradients.
        dtype: Data type of the computation; `auto` is bfloat16 where the hardware multiplies it, else float32. Full
            tuning under `auto` is always float32, as its weights are the optimiser's master copy.
        checkpointing: What the backward pass computes again instead of keeping it: `none`; `selective`, the gate and
            up products of the MLP; `full`, every layer. `auto` takes the first of these whose predicted memory fits.
        optimizer: `adamw` (fused), or `paged_adamw_8bit` of bitsandbytes, whose moments take a quarter of the memory
            and move to the host when the GPU is full.
        attention: Which implementation of shared-context attention runs; `auto` is `triton` on a GPU and `sdpa` on a
            CPU.
        kernels: `auto` trains a layer that the fast path does not cover by the forward pass of transformers or PEFT and
            says so; `required` refuses.
        save_steps: Optimiser steps between checkpoints.
        loggers: Experiment loggers that receive the metrics, as the Trainer's `report_to` names them.
    """

    method: Method = "qlora"
    weights: Weights = "auto"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    learning_rate: float = 1e-3
    epochs: float = 1.0
    warmup_ratio: float = 0.05
    scheduler: Scheduler = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_tokens: int = 1024
    trees_per_step: int = 8
    min_steps: int = 32
    min_shared_tokens: int = 16
    share_contexts: bool = True
    dtype: DtypeName = "auto"
    checkpointing: Checkpointing = "auto"
    optimizer: Optimizer = "adamw"
    attention: AttentionBackend = "auto"
    kernels: Kernels = "auto"
    save_steps: int = 50
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ConfigError: A value is outside its range; the message names the setting and the value.
        """
        for name, kind in (
            ("method", Method),
            ("weights", Weights),
            ("scheduler", Scheduler),
            ("dtype", DtypeName),
            ("checkpointing", Checkpointing),
            ("optimizer", Optimizer),
            ("attention", AttentionBackend),
            ("kernels", Kernels),
        ):
            _choice(name, getattr(self, name), get_args(kind))
        for name in ("rank", "alpha", "max_tokens", "trees_per_step", "min_steps", "min_shared_tokens", "save_steps"):
            _whole(name, getattr(self, name))
        _require("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")
        _require("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0 and finite")
        _require("epochs", self.epochs, 0 < self.epochs < math.inf, "above 0 and finite")
        _require("warmup_ratio", self.warmup_ratio, 0 <= self.warmup_ratio < 1, "in [0, 1)")
        _require("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _require("max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0, "0 or more")
        _require("target_modules", self.target_modules, bool(self.target_modules), "a name or names of layers")


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"tune.{name} is {value!r}, but must be one of {', '.join(allowed)}")


def _whole(name: str, value: object) -> None:
    _require(
        name, value, isinstance(value, int) and not isinstance(value, bool) and value > 0, "a whole number above 0"
    )


def _require(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"tune.{name} is {value!r}, but must be {wanted}")
