"""The linear layer with a LoRA adapter as one autograd function over a frozen weight.

Against the composition ``x @ W.T + s * (x @ A.T) @ B.T`` it adds the adapter's product into the base's output and
input gradient in place, keeps only ``x`` and ``x @ A.T`` for the backward pass, and computes no gradient of ``W``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


def lora_linear(
    x: Tensor, weight: Callable[[], Tensor], bias: Tensor | None, a_RK: Tensor, b_NR: Tensor, scale: float
) -> Tensor:
    """Returns ``linear(x, W, bias) + scale * (x @ A.T) @ B.T``.

    Backward: ``dx = dy @ W + scale * (dy @ B) @ A``, ``dA = scale * (dy @ B).T @ x`` and
    ``dB = scale * dy.T @ (x @ A.T)``.

    Args:
        x: [..., K].
        weight: Returns the frozen weight [N, K] in the dtype of x. It is called in the forward and in the backward
            pass, so a packed weight is dequantised twice rather than kept.
        bias: Frozen [N], or None.
        a_RK: Adapter [R, K] of any floating dtype; multiplied in the dtype of x, with its gradient in its own dtype.
        b_NR: Adapter [N, R], likewise.
        scale: Factor of the adapter.
    """
    y: Tensor = _LoraLinear.apply(x, weight, bias, a_RK, b_NR, scale)  # type: ignore[no-untyped-call]
    return y


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Callable[[], Tensor],
        bias: Tensor | None,
        a_RK: Tensor,
        b_NR: Tensor,
        scale: float,
    ) -> Tensor:
        x_MK = x.reshape(-1, x.shape[-1])
        xa_MR = x_MK @ a_RK.to(x.dtype).T
        y_MN = linear(x_MK, weight(), bias)
        y_MN.addmm_(xa_MR, b_NR.to(x.dtype).T, alpha=scale)
        ctx.save_for_backward(x_MK, xa_MR, a_RK, b_NR)
        ctx.weight, ctx.scale, ctx.x_shape = weight, scale, x.shape
        return y_MN.view(*x.shape[:-1], y_MN.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x_MK, xa_MR, a_RK, b_NR = ctx.saved_tensors
        dy_MN = dy.reshape(-1, dy.shape[-1])
        dyb_MR = (dy_MN @ b_NR.to(dy.dtype)).mul_(ctx.scale)
        da_RK = (dyb_MR.T @ x_MK).to(a_RK.dtype)
        db_NR = (dy_MN.T @ xa_MR).mul_(ctx.scale).to(b_NR.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx_MK = dy_MN @ ctx.weight()
            dx = dx_MK.addmm_(dyb_MR, a_RK.to(dy.dtype)).view(ctx.x_shape)
        return dx, None, None, da_RK, db_NR, None
