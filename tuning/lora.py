"""LoRA adapters of PEFT, and the fused forward pass that replaces PEFT's own during training."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn
from transformers import PreTrainedModel

from hybrid.errors import TrainingError
from hybrid.kernels.lora_linear import lora_linear
from hybrid.kernels.nf4 import NestedScale, dequantize_nf4
from hybrid.kernels.stacked_lora_linear import Adapter, stack_packed, stack_weights, stacked_lora_linear
from hybrid.tuning.settings import TuneSettings

FUSED = "lora_linear"


def attach_adapter(model: PreTrainedModel, settings: TuneSettings) -> PeftModel:
    """Freezes a model and adds trainable float32 LoRA adapters to its linear layers.

    Raises:
        TrainingError: No layer of the model has one of the names in `settings.target_modules`.
    """
    named = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=named if isinstance(named, str) else list(named),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT reads a name that transformers is about to drop
            tuned = get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(f"no adapter can be attached to target_modules {named!r}: {error}") from error
    if not isinstance(config.target_modules, str):
        # PEFT makes it a set, and would save it in an order that differs from process to process.
        config.target_modules = sorted(config.target_modules or ())
    return tuned


@contextmanager
def fused_lora(model: nn.Module, *, required: bool = False) -> Iterator[dict[str, str]]:
    """Runs the LoRA linears of a model by `lora_linear` inside the block; yields what runs, with counts.

    A layer keeps PEFT's forward, and is counted under the reason, where the fused one would not compute the same. The
    parameters stay PEFT's in both cases.

    Raises:
        TrainingError: A layer would keep PEFT's forward, though the fused one is `required`.
    """
    layers = [module for module in model.modules() if isinstance(module, lora.LoraLayer)]
    reasons = [why_not_fused(layer) for layer in layers]
    if required and any(reasons):
        raise TrainingError(f"tune.kernels is 'required', but {_report(reasons)['lora']}; set it to 'auto'")
    fused = [layer for layer, reason in zip(layers, reasons, strict=True) if reason is None]
    for layer in fused:
        layer.forward = _fused_forward(layer)
    try:
        yield _report(reasons)
    finally:
        for layer in fused:
            del layer.forward


def why_not_fused(layer: lora.LoraLayer) -> str | None:
    """Returns why PEFT's own forward must run a layer, or None if the fused one computes the same."""
    adapters = layer.active_adapters
    kinds = (type(layer), type(layer.get_base_layer()))
    if kinds not in ((lora.Linear, nn.Linear), (lora.Linear4bit, bnb.nn.Linear4bit)):
        return f"layer {kinds[0].__name__} on {kinds[1].__name__}"
    if len(adapters) != 1 or layer.disable_adapters or layer.merged:
        return "not exactly one active adapter"
    (name,) = adapters
    refusals = {
        "dropout": not isinstance(layer.lora_dropout[name], nn.Identity),
        "adapter variant": name in layer.lora_variant,
        "adapter bias": bool(layer.lora_bias[name]),
        "transposed weight": bool(layer.fan_in_fan_out),
    }
    return next((reason for reason, refused in refusals.items() if refused), None)


def stacked_linears(layers: Sequence[nn.Module]) -> Callable[[Tensor], Tensor] | None:
    """Returns one product in place of LoRA linears that read the same input, or None where it would not be the same.

    Weights that are not packed move into one buffer, of which the parameters become views.
    """
    adapted = [layer for layer in layers if isinstance(layer, lora.LoraLayer) and why_not_fused(layer) is None]
    bases = [layer.get_base_layer() for layer in adapted]
    kinds = {(type(base), base.bias is None) for base in bases}
    if len(adapted) < len(layers) or len(kinds) > 1:
        return None
    adapters = [_adapter(layer) for layer in adapted]
    rank = sum(len(adapter.a_RK) for adapter in adapters)
    ((kind, no_bias),) = kinds
    if kind is bnb.nn.Linear4bit:
        outputs, first = [base.out_features for base in bases], bases[0]
        dtype, device = first.weight.quant_state.dtype, first.weight.device
        members = [unpacker(base.weight.data, base.weight.quant_state) for base in bases]
        weight = stack_packed(members, outputs, first.in_features, rank, dtype, device)
    else:
        weight = stack_weights([base.weight for base in bases], rank)
        for index, base in enumerate(bases):
            base.weight.data = weight.member(index)
    bias_N = None if no_bias else torch.cat([base.bias.detach() for base in bases])
    return lambda x: stacked_lora_linear(x, weight, bias_N, adapters)


def base_weight(layer: nn.Linear) -> Callable[[], Tensor]:
    """Returns a function that gives the weight of a frozen linear layer, dequantised anew if it is packed."""
    weight = layer.weight
    if not isinstance(weight, bnb.nn.Params4bit):
        return lambda: weight
    return unpacker(weight.data, weight.quant_state)


def unpacker(packed: Tensor, state: QuantState) -> Callable[..., Tensor]:
    """Returns a function that dequantises a weight with nested scales, into `out` if it is given one."""
    nested = state.state2
    scale = NestedScale(state.absmax, nested.code, nested.absmax, state.offset, nested.blocksize)
    return partial(dequantize_nf4, packed, state.code, scale, state.blocksize, tuple(state.shape), state.dtype)


def _fused_forward(layer: lora.LoraLayer) -> Callable[[Tensor], Tensor]:
    base = layer.get_base_layer()
    weight, bias = base_weight(base), base.bias
    adapter = _adapter(layer)
    return lambda x: lora_linear(x, weight, bias, *adapter)


def _adapter(layer: lora.LoraLayer) -> Adapter:
    (name,) = layer.active_adapters
    return Adapter(layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])


def _report(reasons: list[str | None]) -> dict[str, str]:
    counts = Counter(reasons)
    fused = counts.pop(None, 0)
    if not counts:
        return {"lora": f"{FUSED}: {fused} of {fused} layers"}
    others = ", ".join(f"{count} ({reason})" for reason, count in sorted(counts.items(), key=str))
    return {"lora": f"{FUSED}: {fused} of {len(reasons)} layers; PEFT's forward: {others}"}
