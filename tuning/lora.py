"""LoRA adapters of PEFT, and the fused forward pass that replaces PEFT's own during training."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import bitsandbytes as bnb
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn
from transformers import PreTrainedModel

from hybrid.errors import TrainingError
from hybrid.kernels.lora_linear import lora_linear
from hybrid.kernels.nf4 import NestedScale, dequantize_nf4
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
            return get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(f"no adapter can be attached to target_modules {named!r}: {error}") from error


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


def base_weight(layer: nn.Linear) -> Callable[[], Tensor]:
    """Returns a function that gives the weight of a frozen linear layer, dequantised anew if it is packed."""
    weight = layer.weight
    if not isinstance(weight, bnb.nn.Params4bit):
        return lambda: weight
    state = weight.quant_state
    nested = state.state2
    scale = NestedScale(state.absmax, nested.code, nested.absmax, state.offset, nested.blocksize)
    return lambda: dequantize_nf4(weight.data, state.code, scale, state.blocksize, tuple(state.shape), state.dtype)


def _fused_forward(layer: lora.LoraLayer) -> Callable[[Tensor], Tensor]:
    (name,) = layer.active_adapters
    base = layer.get_base_layer()
    weight, bias = base_weight(base), base.bias
    a_RK, b_NR, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    return lambda x: lora_linear(x, weight, bias, a_RK, b_NR, scale)


def _report(reasons: list[str | None]) -> dict[str, str]:
    counts = Counter(reasons)
    fused = counts.pop(None, 0)
    if not counts:
        return {"lora": f"{FUSED}: {fused} of {fused} layers"}
    others = ", ".join(f"{count} ({reason})" for reason, count in sorted(counts.items(), key=str))
    return {"lora": f"{FUSED}: {fused} of {len(reasons)} layers; PEFT's forward: {others}"}
