"""RMSNorm, alone or in one pass with the residual sum before it.

With ρ = 1 / sqrt(mean(x²) + eps), x̂ = x ρ, g the gradient of the output and u = g * scale:
``y = x̂ * scale``, ``dx = ρ * (u - x̂ * mean(u * x̂))`` and ``dweight = Σ g * x̂`` over the rows. Only x and ρ are kept
for the backward pass.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid.kernels.dispatch import runs_triton


class NormedSum(NamedTuple):
    """A residual sum and its norm, in this order as a layer reads them."""

    normed: Tensor
    total: Tensor


class Normalised(NamedTuple):
    """What a forward pass gives: the norm, what was normalised, and ρ of each row [..., 1] in float32 or wider."""

    normed: Tensor
    total: Tensor
    inverse: Tensor


def rms_norm(x: Tensor, weight_H: Tensor, eps: float, *, plus_one: bool = False) -> Tensor:
    """Returns the RMSNorm of the last axis, rounded where transformers rounds it.

    Args:
        x: [..., H] of any strides.
        weight_H: Its gradient is computed only if it needs one.
        eps: Added to the mean square.
        plus_one: False is Llama's norm: x̂ is rounded to the dtype of x, then multiplied by the weight. True is Gemma's:
            x̂ * (1 + weight) in float32, rounded once.
    """
    normed: Tensor = _RmsNorm.apply(x, weight_H, eps, plus_one)  # type: ignore[no-untyped-call]
    return normed


def add_rms_norm(x: Tensor, residual: Tensor, weight_H: Tensor, eps: float, *, plus_one: bool = False) -> NormedSum:
    """Returns ``x + residual``, rounded to its dtype, and the `rms_norm` of that sum.

    The backward pass adds the gradient of the sum in the same pass and gives x and the residual one tensor.

    Args:
        x: [..., H] of any strides.
        residual: Of the same shape.
        weight_H: As in `rms_norm`.
        eps: As in `rms_norm`.
        plus_one: As in `rms_norm`.
    """
    return NormedSum(*_AddRmsNorm.apply(x, residual, weight_H, eps, plus_one))  # type: ignore[no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_H: Tensor, eps: float, plus_one: bool) -> Tensor:  # noqa: ANN401
        found = _forward(x, None, weight_H, eps, plus_one)
        ctx.save_for_backward(x, found.inverse, weight_H)
        ctx.plus_one = plus_one
        return found.normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnormed: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, inverse, weight_H = ctx.saved_tensors
        dx, dweight_H = _backward(dnormed, None, x, inverse, weight_H, ctx.plus_one, ctx.needs_input_grad[1])
        return dx, dweight_H, None, None


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        residual: Tensor,
        weight_H: Tensor,
        eps: float,
        plus_one: bool,
    ) -> tuple[Tensor, Tensor]:
        found = _forward(x, residual, weight_H, eps, plus_one)
        ctx.save_for_backward(found.total, found.inverse, weight_H)
        ctx.plus_one = plus_one
        ctx.set_materialize_grads(False)
        return found.normed, found.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnormed: Tensor | None, dtotal: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if dnormed is None:
            return dtotal, dtotal, None, None, None
        total, inverse, weight_H = ctx.saved_tensors
        dx, dweight_H = _backward(dnormed, dtotal, total, inverse, weight_H, ctx.plus_one, ctx.needs_input_grad[2])
        return dx, dx, dweight_H, None, None


def _forward(x: Tensor, residual: Tensor | None, weight_H: Tensor, eps: float, plus_one: bool) -> Normalised:
    if runs_triton(x):
        from hybrid.kernels.rms_norm_triton import forward_triton

        return forward_triton(x, residual, weight_H, eps, plus_one)
    return _forward_torch(x, residual, weight_H, eps, plus_one)


def _forward_torch(x: Tensor, residual: Tensor | None, weight_H: Tensor, eps: float, plus_one: bool) -> Normalised:
    total = x if residual is None else x + residual
    wide = total.to(torch.promote_types(total.dtype, torch.float32))
    buffer = wide.square()
    inverse = buffer.mean(-1, keepdim=True).add_(eps).rsqrt_()
    torch.mul(wide, inverse, out=buffer)
    if plus_one:
        return Normalised(buffer.mul_(1 + weight_H.to(wide.dtype)).to(total.dtype), total, inverse)
    rounded = buffer.to(total.dtype).to(torch.promote_types(total.dtype, weight_H.dtype))
    return Normalised(rounded.mul_(weight_H), total, inverse)


def _backward(
    dnormed: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    inverse: Tensor,
    weight_H: Tensor,
    plus_one: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor | None]:
    if runs_triton(total):
        from hybrid.kernels.rms_norm_triton import backward_triton

        return backward_triton(dnormed, dtotal, total, inverse, weight_H, plus_one, needs_weight)
    return _backward_torch(dnormed, dtotal, total, inverse, weight_H, plus_one, needs_weight)


def _backward_torch(
    dnormed: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    inverse: Tensor,
    weight_H: Tensor,
    plus_one: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor | None]:
    gradient, x = dnormed.to(inverse.dtype), total.to(inverse.dtype)
    scale_H = weight_H.to(inverse.dtype) + plus_one
    width = x.shape[-1]
    buffer = gradient * x
    mean = (buffer @ scale_H).unsqueeze(-1).mul_(inverse).div_(width)  # of u * x̂
    dweight_H = None
    if needs_weight:
        dweight_H = (inverse.reshape(-1) @ buffer.reshape(-1, width)).to(weight_H.dtype)
    torch.mul(gradient, scale_H, out=buffer)
    buffer.addcmul_(x, mean.mul_(inverse), value=-1).mul_(inverse)
    if dtotal is not None:
        buffer.add_(dtotal)
    return buffer.to(total.dtype), dweight_H
