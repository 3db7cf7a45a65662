"""The gated activation of an MLP, ``act(gate) * up``, which keeps its inputs alone for the backward pass.

Both activations are ``x * σ(z)``: z = x for SiLU, and z = 2 sqrt(2/π) (x + 0.044715 x³) for the tanh form of GELU,
as (1 + tanh(t)) / 2 = σ(2t). Gradients: ``dup = dh * act(gate)`` and ``dgate = dh * up * act'(gate)``, with act
computed again in float32.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, silu

from hybrid.kernels.dispatch import runs_triton

Activation = Literal["silu", "gelu_tanh"]


def gated(gate: Tensor, up: Tensor, kind: Activation) -> Tensor:
    """Returns ``act(gate) * up``; act is rounded to the dtype before the product, as in transformers.

    Args:
        gate: [..., I] of any strides.
        up: Of the same shape and dtype.
        kind: SiLU (SwiGLU) or the tanh form of GELU (GeGLU).
    """
    h: Tensor = _Gated.apply(gate, up, kind)  # type: ignore[no-untyped-call]
    return h


def gated_packed(gate_up: Tensor, kind: Activation) -> Tensor:
    """Returns `gated` [..., I] of two halves [..., 2I], the gate first; the gradient is packed likewise."""
    h: Tensor = _GatedPacked.apply(gate_up, kind)  # type: ignore[no-untyped-call]
    return h


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kind: Activation) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(gate, up)
        ctx.kind = kind
        return _forward(gate, up, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        gate, up = ctx.saved_tensors
        dgate, dup = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (gate, up))
        _backward(dh, gate, up, ctx.kind, dgate, dup)
        return dgate, dup, None


class _GatedPacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, kind: Activation) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(gate_up)
        ctx.kind = kind
        gate, up = gate_up.chunk(2, dim=-1)
        return _forward(gate, up, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        dgate_up = torch.empty_like(gate_up, memory_format=torch.contiguous_format)
        dgate, dup = dgate_up.chunk(2, dim=-1)
        _backward(dh, gate, up, ctx.kind, dgate, dup)
        return dgate_up, None


def _forward(gate: Tensor, up: Tensor, kind: Activation) -> Tensor:
    if runs_triton(gate):
        from hybrid.kernels.gated_triton import forward_triton

        return forward_triton(gate, up, kind)
    return _act(gate, kind).mul_(up)


def _backward(dh: Tensor, gate: Tensor, up: Tensor, kind: Activation, dgate: Tensor, dup: Tensor) -> None:
    """Writes the gradients of gate and up to the last two tensors."""
    if runs_triton(gate):
        from hybrid.kernels.gated_triton import backward_triton

        backward_triton(dh, gate, up, kind, dgate, dup)
    else:
        _backward_torch(dh, gate, up, kind, dgate, dup)


def _backward_torch(dh: Tensor, gate: Tensor, up: Tensor, kind: Activation, dgate: Tensor, dup: Tensor) -> None:
    # No buffer beside the results: on a CPU fresh memory costs more than the arithmetic.
    aten = torch.ops.aten
    torch.mul(dh, up, out=dgate)
    if kind == "silu":
        aten.silu.out(gate, out=dup)
        aten.silu_backward.grad_input(dgate, gate, grad_input=dgate)
    else:
        aten.gelu.out(gate, approximate="tanh", out=dup)
        aten.gelu_backward.grad_input(dgate, gate, approximate="tanh", grad_input=dgate)
    dup.mul_(dh)


def _act(gate: Tensor, kind: Activation) -> Tensor:
    return silu(gate) if kind == "silu" else gelu(gate, approximate="tanh")
