"""Decoder layers run by Hybrid's kernels, and the last one only where an answer token is predicted.

Modules and parameters stay those of transformers and PEFT; only the `forward` of each layer is replaced for a while.
In the last layer all tokens give keys and values, but queries, output, MLP and the final norm are computed for the
predicting rows alone: nothing reads the others.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from hybrid.errors import TrainingError
from hybrid.kernels.gated import Activation, gated, gated_packed
from hybrid.kernels.rms_norm import add_rms_norm, rms_norm
from hybrid.kernels.rope import rotate_
from hybrid.tuning.attention import TreeMask, tree_attention
from hybrid.tuning.lora import stacked_linears
from hybrid.tuning.memory import Recompute


@dataclass(frozen=True, slots=True)
class Family:
    """How the decoder layers of an architecture differ from Llama's.

    Attributes:
        gemma: Norms multiply by 1 + weight, and the outputs of attention and MLP have norms of their own.
        head_norms: Queries and keys are normalised head by head before they are rotated.
        packed: One linear gives queries, keys and values, another gate and up.
        window: Where the sliding window of a layer is found.
    """

    gemma: bool = False
    head_norms: bool = False
    packed: bool = False
    window: Literal["none", "config", "layer"] = "layer"


FAMILIES = {
    "LlamaDecoderLayer": Family(window="none"),
    "MistralDecoderLayer": Family(window="config"),
    "Qwen2DecoderLayer": Family(),
    "Qwen3DecoderLayer": Family(head_norms=True),
    "Phi3DecoderLayer": Family(packed=True, window="config"),
    "Gemma2DecoderLayer": Family(gemma=True),
    "Gemma3DecoderLayer": Family(gemma=True, head_norms=True),
}
_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True, slots=True)
class FastLayer:
    """One decoder layer and how it is computed.

    Attributes:
        module: The layer of transformers.
        family: Its family.
        qkv: One product for queries, keys and values, or None if they are computed one by one.
        gate_up: One product for gate and up, or None.
        activation: Of the MLP.
        pruned: Compute the predicting rows alone.
        recompute: What the backward pass computes again.
    """

    module: Any
    family: Family
    qkv: Callable[[Tensor], Tensor] | None
    gate_up: Callable[[Tensor], Tensor] | None
    activation: Activation
    pruned: bool
    recompute: Recompute


@contextmanager
def fast_layers(
    model: nn.Module, *, recompute: Recompute = "none", required: bool = False, stack: bool = False
) -> Iterator[dict[str, str]]:
    """Runs the decoder layers of a model by Hybrid's kernels inside the block; yields what runs, with counts.

    Args:
        model: A causal language model of transformers, with or without PEFT.
        recompute: What these layers compute again in the backward pass instead of keeping it.
        required: Whether a layer of another family is an error.
        stack: Whether LoRA linears that read the same input become one product.

    Raises:
        TrainingError: A layer would keep the forward pass of transformers, though Hybrid's is `required`.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    reasons = [why_not_fast(layer) for layer in layers]
    others = sorted({reason for reason in reasons if reason})
    if required and others:
        raise TrainingError(f"tune.kernels is 'required', but not for {', '.join(others)}; set it to 'auto'")
    fast = [layer for layer, reason in zip(layers, reasons, strict=True) if reason is None]
    plans = [_plan(layer, layer is layers[-1], recompute, stack) for layer in fast]
    for plan in plans:
        plan.module.forward = _forward(plan)
    try:
        yield {"layers": _report(reasons, plans)}
    finally:
        for layer in fast:
            del layer.forward


def why_not_fast(layer: nn.Module) -> str | None:
    """Returns why transformers' own forward must run a layer, or None if Hybrid's computes the same."""
    name = type(layer).__name__
    if name not in FAMILIES or not type(layer).__module__.startswith("transformers.models."):
        return name
    if _activation(layer) not in _ACTIVATIONS:
        return f"{name} with the activation {_activation(layer)}"
    dropouts = [module.p for module in layer.children() if isinstance(module, nn.Dropout)]
    return f"{name} with dropout" if any(dropouts) else None


def layer_forward(layer: FastLayer, hidden_BLH: Tensor, rotary: tuple[Tensor, Tensor], tree: TreeMask) -> Tensor:
    """Computes one decoder layer.

    Args:
        layer: The layer.
        hidden_BLH: [1, L, H].
        rotary: Cosine and sine, [1, L, rotated dim] each.
        tree: Who sees whom.

    Returns:
        [1, L, H], or [1, R, H] if the layer is pruned.
    """
    module, family = layer.module, layer.family
    out_BRH = _attention(layer, _norm(module.input_layernorm, family, hidden_BLH), rotary, tree)
    residual_BRH = hidden_BLH.index_select(1, tree.rows) if layer.pruned else hidden_BLH
    before_mlp = module.post_attention_layernorm
    if family.gemma:
        out_BRH, before_mlp = _norm(before_mlp, family, out_BRH), module.pre_feedforward_layernorm
    normed_BRH, total_BRH = add_rms_norm(
        out_BRH, residual_BRH, before_mlp.weight, _epsilon(before_mlp, family), plus_one=family.gemma
    )
    out_BRH = _mlp(layer, normed_BRH)
    if family.gemma:
        out_BRH = _norm(module.post_feedforward_layernorm, family, out_BRH)
    return total_BRH + out_BRH


def _norm(norm: Any, family: Family, x: Tensor) -> Tensor:  # noqa: ANN401
    return rms_norm(x, norm.weight, _epsilon(norm, family), plus_one=family.gemma)


def _epsilon(norm: Any, family: Family) -> float:  # noqa: ANN401
    epsilon: float = norm.eps if family.gemma else norm.variance_epsilon
    return epsilon


def _attention(layer: FastLayer, x_BLH: Tensor, rotary: tuple[Tensor, Tensor], tree: TreeMask) -> Tensor:
    attention, family = layer.module.self_attn, layer.family
    q_RND, k_LKD, v_LKD = _heads(layer, x_BLH[0], (rotary[0][0], rotary[1][0]), tree.rows if layer.pruned else None)
    q_BNRD, k_BKLD, v_BKLD = (heads.transpose(0, 1).unsqueeze(0) for heads in (q_RND, k_LKD, v_LKD))
    softcap = attention.config.attn_logit_softcapping if family.gemma else None
    out_BNRD = tree_attention(q_BNRD, k_BKLD, v_BKLD, tree, attention.scaling, _window(attention, family), softcap)
    out_BRH: Tensor = attention.o_proj(out_BNRD.transpose(1, 2).flatten(2))
    return out_BRH


def _window(attention: Any, family: Family) -> int | None:  # noqa: ANN401
    if family.window == "none":
        return None
    window: int | None = (attention.config if family.window == "config" else attention).sliding_window
    return window


def _heads(
    layer: FastLayer, x_LH: Tensor, rotary: tuple[Tensor, Tensor], rows: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns rotated queries [R, N, D], rotated keys [L, K, D] and values [L, K, D]."""
    attention, size, head_norms = layer.module.self_attn, layer.module.self_attn.head_dim, layer.family.head_norms
    if layer.qkv is None:
        q_RC = attention.q_proj(x_LH if rows is None else x_LH.index_select(0, rows))
        q_RND, k_LKD, v_LKD = (
            part.view(len(part), -1, size) for part in (q_RC, attention.k_proj(x_LH), attention.v_proj(x_LH))
        )
    else:
        packed_LND = layer.qkv(x_LH).view(len(x_LH), -1, size)
        queries, keys = attention.config.num_attention_heads, attention.config.num_key_value_heads
        if not head_norms:  # before the split, whose parts autograd forbids to change
            packed_LND = rotate_(packed_LND, *rotary, queries + keys)
        q_RND, k_LKD, v_LKD = torch.split(packed_LND, [queries, keys, keys], 1)
        q_RND = q_RND if rows is None else q_RND.index_select(0, rows)
        if not head_norms:
            return q_RND, k_LKD, v_LKD
    if head_norms:
        q_RND, k_LKD = _norm(attention.q_norm, layer.family, q_RND), _norm(attention.k_norm, layer.family, k_LKD)
    own = rotary if rows is None else (rotary[0].index_select(0, rows), rotary[1].index_select(0, rows))
    return rotate_(q_RND, *own, q_RND.shape[1]), rotate_(k_LKD, *rotary, k_LKD.shape[1]), v_LKD


def _mlp(layer: FastLayer, x_BRH: Tensor) -> Tensor:
    mlp, kind = layer.module.mlp, layer.activation

    def inside(x_BRH: Tensor) -> Tensor:
        if layer.gate_up is not None:
            return gated_packed(layer.gate_up(x_BRH), kind)
        return gated(mlp.gate_proj(x_BRH), mlp.up_proj(x_BRH), kind)

    again = layer.recompute == "selective" and torch.is_grad_enabled()
    out_BRH: Tensor = mlp.down_proj(checkpoint(inside, x_BRH, use_reentrant=False) if again else inside(x_BRH))
    return out_BRH


def _activation(layer: Any) -> str:  # noqa: ANN401
    """Name of the activation of a layer's MLP in its model's configuration."""
    config = layer.self_attn.config.to_dict()
    return str(config.get("hidden_activation") or config.get("hidden_act"))


def _plan(module: nn.Module, last: bool, recompute: Recompute, stack: bool) -> FastLayer:
    layer: Any = module
    family, attention, mlp = FAMILIES[type(module).__name__], layer.self_attn, layer.mlp
    qkv = gate_up = None
    if family.packed:
        qkv, gate_up = attention.qkv_proj, mlp.gate_up_proj
    elif stack:
        # The last layer wants its queries for other rows than its keys and values.
        qkv = None if last else stacked_linears([attention.q_proj, attention.k_proj, attention.v_proj])
        gate_up = stacked_linears([mlp.gate_proj, mlp.up_proj])
    return FastLayer(module, family, qkv, gate_up, _ACTIVATIONS[_activation(module)], last, recompute)


def _forward(layer: FastLayer) -> Callable[..., Tensor]:
    def forward(
        hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor], tree: TreeMask, **_: object
    ) -> Tensor:
        if layer.recompute == "full" and torch.is_grad_enabled():
            again: Tensor = checkpoint(
                layer_forward, layer, hidden_states, position_embeddings, tree, use_reentrant=False
            )
            return again
        return layer_forward(layer, hidden_states, position_embeddings, tree)

    return forward


def _report(reasons: list[str | None], plans: list[FastLayer]) -> str:
    fast = reasons.count(None)
    others = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(r for r in reasons if r).items()))
    parts = [f"fast_layers: {fast} of {len(reasons)}"]
    for what, products in (
        ("q, k and v", [plan.qkv for plan in plans]),
        ("gate and up", [plan.gate_up for plan in plans]),
    ):
        joined = sum(product is not None and not isinstance(product, nn.Module) for product in products)
        if joined:
            parts.append(f"{what} by one stacked_lora_linear instead in {joined}")
    if reasons and reasons[-1] is None:
        parts.append("the last on predicting rows alone")
    if others:
        parts.append(f"transformers' forward: {others}")
    return "; ".join(parts)
