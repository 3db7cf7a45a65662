"""The cases of kernels.py whose kernels move more than they multiply: norms, rotation, activations."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from kernel_case import Case, Draw, Sizes, Step, Tensors, trained
from torch import Tensor
from torch.nn.functional import gelu, silu

from hybrid.kernels.gated import Activation, gated, gated_packed
from hybrid.kernels.rms_norm import add_rms_norm, rms_norm
from hybrid.kernels.rope import rotate_

EPS = 1e-5


def cases(sizes: Sizes, itemsize: int) -> list[Case]:
    """All of them, with activations of `itemsize` bytes."""
    return [
        norm(sizes, itemsize),
        add_norm(sizes, itemsize),
        rope(sizes, itemsize),
        activation(sizes, itemsize, "silu"),
        activation(sizes, itemsize, "gelu_tanh"),
        packed_activation(sizes, itemsize),
    ]


def _norm_plain(x: Tensor, weight_H: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight_H * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


def norm(sizes: Sizes, itemsize: int) -> Case:
    """RMSNorm with a frozen weight, forward and backward."""

    def liger(given: Tensors) -> Step:
        function = import_module("liger_kernel.transformers.functional").liger_rms_norm
        return trained(lambda x, weight: function(x, weight, EPS))(given)

    def unsloth(given: Tensors) -> Step:
        function = import_module("unsloth.kernels").fast_rms_layernorm
        return trained(lambda x, weight: function(SimpleNamespace(weight=weight, variance_epsilon=EPS), x))(given)

    ours = trained(lambda x, weight: rms_norm(x, weight, EPS))
    return Case(
        "rms_norm",
        f"{sizes.rows}x{sizes.hidden}",
        lambda draw: (draw(sizes.rows, sizes.hidden, grad=True), draw(sizes.hidden)),
        {"hybrid": ours, "torch": trained(_norm_plain), "liger": liger, "unsloth": unsloth},
        bytes=5 * sizes.rows * sizes.hidden * itemsize,
        flops=0,
    )


def add_norm(sizes: Sizes, itemsize: int) -> Case:
    """The residual sum and its RMSNorm, forward and backward."""

    def plain(x: Tensor, residual: Tensor, weight_H: Tensor) -> Tensors:
        total = x + residual
        return _norm_plain(total, weight_H), total

    def liger(given: Tensors) -> Step:
        function = import_module("liger_kernel.transformers.functional").liger_fused_add_rms_norm
        return trained(lambda x, residual, weight: function(x, residual, weight, EPS))(given)

    def unsloth(given: Tensors) -> Step:
        function = import_module("unsloth.kernels").fast_rms_layernorm

        def run(x: Tensor, residual: Tensor, weight_H: Tensor) -> Tensors:
            total = x + residual
            return function(SimpleNamespace(weight=weight_H, variance_epsilon=EPS), total), total

        return trained(run)(given)

    rows, hidden = sizes.rows, sizes.hidden
    ours = trained(lambda x, residual, weight: add_rms_norm(x, residual, weight, EPS))
    return Case(
        "add_rms_norm",
        f"{rows}x{hidden}",
        lambda draw: (draw(rows, hidden, grad=True), draw(rows, hidden, grad=True), draw(hidden)),
        {"hybrid": ours, "torch": trained(plain), "liger": liger, "unsloth": unsloth},
        bytes=8 * rows * hidden * itemsize,
        flops=0,
    )


def rope(sizes: Sizes, itemsize: int) -> Case:
    """The rotation of queries and keys, forward and backward."""
    rows, dim = sizes.rows, sizes.head_dim

    def ours(q_LND: Tensor, k_LKD: Tensor, cos_LR: Tensor, sin_LR: Tensor) -> Tensors:
        return rotate_(q_LND, cos_LR, sin_LR, sizes.heads), rotate_(k_LKD, cos_LR, sin_LR, sizes.key_heads)

    def plain(q_LND: Tensor, k_LKD: Tensor, cos_LR: Tensor, sin_LR: Tensor) -> Tensors:
        cos, sin = cos_LR.unsqueeze(1), sin_LR.unsqueeze(1)
        halves = [torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), -1) for x in (q_LND, k_LKD)]
        return q_LND * cos + halves[0] * sin, k_LKD * cos + halves[1] * sin

    def peer(function: Callable[..., Tensors], *given: Tensor) -> Tensors:
        q_LND, k_LKD, cos_LR, sin_LR = given
        turned = function(q_LND.transpose(0, 1)[None], k_LKD.transpose(0, 1)[None], cos_LR, sin_LR)
        return tuple(x[0].transpose(0, 1) for x in turned)

    def liger(given: Tensors) -> Step:
        return trained(partial(peer, import_module("liger_kernel.transformers.functional").liger_rope))(given)

    def unsloth(given: Tensors) -> Step:
        return trained(partial(peer, import_module("unsloth.kernels").fast_rope_embedding))(given)

    def draws(draw: Draw) -> Tensors:
        frequencies_R = 5e5 ** (-torch.arange(0, dim, 2, device=draw.device) / dim)
        angles_LR = torch.arange(rows, device=draw.device)[:, None] * frequencies_R
        tables = [torch.cat((x, x), -1).bfloat16().to(draw.dtype) for x in (angles_LR.cos(), angles_LR.sin())]
        return draw(rows, sizes.heads, dim, grad=True), draw(rows, sizes.key_heads, dim, grad=True), *tables

    return Case(
        "rotate_",
        f"{rows}x({sizes.heads}+{sizes.key_heads})x{dim}",
        draws,
        {"hybrid": trained(ours), "torch": trained(plain), "liger": liger, "unsloth": unsloth},
        bytes=4 * rows * (sizes.heads + sizes.key_heads) * dim * itemsize,
        flops=0,
    )


def _act(x: Tensor, kind: Activation) -> Tensor:
    return silu(x) if kind == "silu" else gelu(x, approximate="tanh")


def activation(sizes: Sizes, itemsize: int, kind: Activation) -> Case:
    """The gated activation of an MLP, forward and backward."""

    def liger(given: Tensors) -> Step:
        functions = import_module("liger_kernel.transformers.functional")
        return trained(functions.liger_swiglu if kind == "silu" else functions.liger_geglu)(given)

    def unsloth(given: Tensors) -> Step:
        kernels = import_module("unsloth.kernels")
        names = ("swiglu_fg_kernel", "swiglu_DWf_DW_dfg_kernel")
        if kind != "silu":
            names = ("geglu_approx_forward_kernel", "geglu_approx_backward_kernel")
        forward, backward = (getattr(kernels, name) for name in names)

        class Gated(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401
                ctx.save_for_backward(gate, up)
                h: Tensor = forward(gate[None], up[None])[0]
                return h

            @staticmethod
            def backward(ctx: Any, dh: Tensor) -> Any:  # noqa: ANN401
                # It writes h, dup and dgate over what it reads; the values do not matter to its time.
                return backward(dh, *ctx.saved_tensors)[:0:-1]

        return trained(Gated.apply)(given)

    rows, inner = sizes.rows, sizes.inner
    return Case(
        f"gated {kind}",
        f"{rows}x{inner}",
        lambda draw: (draw(rows, inner, grad=True), draw(rows, inner, grad=True)),
        {
            "hybrid": trained(lambda gate, up: gated(gate, up, kind)),
            "torch": trained(lambda gate, up: _act(gate, kind) * up),
            "liger": liger,
            "unsloth": unsloth,
        },
        bytes=8 * rows * inner * itemsize,
        flops=0,
    )


def packed_activation(sizes: Sizes, itemsize: int) -> Case:
    """The same on the two halves of one tensor."""

    def plain(gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return silu(gate) * up

    rows, inner = sizes.rows, sizes.inner
    return Case(
        "gated_packed silu",
        f"{rows}x2x{inner}",
        lambda draw: (draw(rows, 2 * inner, grad=True),),
        {"hybrid": trained(lambda gate_up: gated_packed(gate_up, "silu")), "torch": trained(plain)},
        bytes=8 * rows * inner * itemsize,
        flops=0,
    )
