"""Sizes of a language model, from its config.json and the headers of its safetensors files; no weight is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.errors import ModelError
from hybrid.tuning.settings import TuneSettings

_NF4 = ".quant_state.bitsandbytes__nf4"  # JSON of a packed weight, with the shape that it has unpacked
_EMBEDDINGS = ("embed", "wte", "wpe", "lm_head")


class Linear(NamedTuple):
    """A linear layer that can get an adapter: its module name and sizes."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a language model.

    Attributes:
        parameters: All of them, tied ones counted once.
        linears: Linear layers but the LM head.
        layers: Number of layers.
        hidden: Width of the hidden states.
        intermediate: Width inside the MLP.
        query: Heads times head size.
        key: Key-value heads times head size.
        vocabulary: Size of the vocabulary.
        stored_bytes: Size of the tensors in the files.
        norms: Norms of a layer that are as wide as the hidden states.
        scored_heads: Heads whose scores are soft-capped.
    """

    parameters: int
    linears: tuple[Linear, ...]
    layers: int
    hidden: int
    intermediate: int
    query: int
    key: int
    vocabulary: int
    stored_bytes: int = 0
    norms: int = 2
    scored_heads: int = 0


def load_shape(folder: Path) -> Shape:
    """Reads the sizes of the model in a folder.

    Raises:
        ModelError: A file is missing or damaged, or lacks a size.
    """
    tensors: dict[str, tuple[int, ...]] = {}
    packed: dict[str, tuple[int, ...]] = {}
    size = 0
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for file in sorted(folder.glob("*.safetensors")):
            with file.open("rb") as opened:
                length = int.from_bytes(opened.read(8), "little")
                header = json.loads(opened.read(length))
                stored = {name: value for name, value in header.items() if name != "__metadata__"}
                for name in (name for name in stored if name.endswith(_NF4)):
                    begin, end = stored[name]["data_offsets"]
                    opened.seek(8 + length + begin)
                    packed[name.removesuffix(_NF4)] = tuple(json.loads(opened.read(end - begin))["shape"])
            tensors |= {name: tuple(value["shape"]) for name, value in stored.items()}
            size += sum(value["data_offsets"][1] - value["data_offsets"][0] for value in stored.values())
    except (OSError, ValueError, LookupError, TypeError, MemoryError, OverflowError) as error:
        raise ModelError(f"the model in {folder} cannot be read: {error}") from error
    parts = tuple(f"{name}." for name in packed)
    tensors = {name: shape for name, shape in tensors.items() if not name.startswith(parts)} | packed
    return replace(read_shape(config, tensors), stored_bytes=size)


def read_shape(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Shape:
    """Reads the sizes of a model.

    Args:
        config: Contents of its config.json.
        tensors: Name and shape of its tensors.

    Raises:
        ModelError: The configuration lacks a size, or there is no tensor.
    """
    values = config.get("text_config") or config
    try:
        heads, hidden = int(values["num_attention_heads"]), int(values["hidden_size"])
        size = int(values.get("head_dim") or hidden // heads)
        key = size * int(values.get("num_key_value_heads") or heads)
        sizes = [int(values[name]) for name in ("num_hidden_layers", "intermediate_size", "vocab_size")]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json of the model lacks a size that the plan needs: {error}") from error
    if not tensors:
        raise ModelError("the model has no safetensors weights")
    linears = tuple(
        Linear(name.removesuffix(".weight"), shape[1], shape[0])
        for name, shape in sorted(tensors.items())
        if len(shape) == 2 and name.endswith(".weight") and not any(part in name for part in _EMBEDDINGS)
    )
    layers, intermediate, vocabulary = sizes
    parameters = sum(math.prod(shape) for shape in tensors.values())
    norms = (
        sum(shape == (hidden,) and "norm" in name and ".layers." in name for name, shape in tensors.items()) // layers
    )
    return Shape(
        parameters,
        linears,
        layers,
        hidden,
        intermediate,
        size * heads,
        key,
        vocabulary,
        norms=norms or 2,
        scored_heads=heads if values.get("attn_logit_softcapping") else 0,
    )


def adapted_linears(shape: Shape, target: str | tuple[str, ...]) -> list[Linear]:
    """The linear layers that get an adapter, by the rules of PEFT: a string is a pattern, a list holds endings."""
    if target == "all-linear":
        return list(shape.linears)
    if isinstance(target, str):
        return [linear for linear in shape.linears if re.fullmatch(target, linear.name)]
    return [linear for linear in shape.linears if f".{linear.name}".endswith(tuple(f".{name}" for name in target))]


def adapter_parameters(shape: Shape, tune: TuneSettings) -> int:
    """Counts rank * (inputs + outputs) for every adapted linear layer."""
    return sum(tune.rank * (linear.inputs + linear.outputs) for linear in adapted_linears(shape, tune.target_modules))
