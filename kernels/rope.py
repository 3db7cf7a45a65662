"""Rotary position embedding in place, in the halves convention of Llama."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

from hybrid.kernels.dispatch import runs_triton


def rotate_(heads_LND: Tensor, cos_LR: Tensor, sin_LR: Tensor, rotated: int) -> Tensor:
    """Rotates the first `rotated` heads of each token in place and returns them.

    With x1 and x2 the halves of a head's first R dimensions, and c and s halved likewise:
    ``(x1 * c1 - x2 * s1, x2 * c2 + x1 * s2)``. Products are rounded to the dtype before they are added, as in
    transformers. The backward pass writes a new tensor and needs no activation.

    Args:
        heads_LND: Queries, keys or a packed projection whose values come last, of any strides. From here on only the
            returned tensor may be used: autograd does not know that this one, or what it is a view of, has changed.
        cos_LR: As transformers computes it, with both halves, in the dtype of the heads; R may be smaller than D.
        sin_LR: Likewise.
        rotated: Number of heads to rotate; the others stay.
    """
    # Autograd refuses to change a view of another Function's output, and copies the gradient of any view three times.
    # It does not see this alias as a view; whatever has saved the tensor for its backward pass still raises.
    alias_LND = torch.ops.aten._unsafe_view(heads_LND, heads_LND.shape)
    turned_LND: Tensor = _Rotate.apply(alias_LND, cos_LR, sin_LR, rotated)  # type: ignore[no-untyped-call]
    increment_version(heads_LND)
    return turned_LND


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads_LND: Tensor, cos_LR: Tensor, sin_LR: Tensor, rotated: int) -> Tensor:  # noqa: ANN401
        part_LPR = heads_LND[:, :rotated, : cos_LR.shape[1]]
        _turn(part_LPR, part_LPR, cos_LR, sin_LR, adjoint=False)
        ctx.save_for_backward(cos_LR, sin_LR)
        ctx.rotated = rotated
        ctx.mark_dirty(heads_LND)
        return heads_LND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dturned_LND: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        cos_LR, sin_LR = ctx.saved_tensors
        heads, width = ctx.rotated, cos_LR.shape[1]
        dheads_LND = torch.empty_like(dturned_LND, memory_format=torch.contiguous_format)
        _turn(dturned_LND[:, :heads, :width], dheads_LND[:, :heads, :width], cos_LR, sin_LR, adjoint=True)
        dheads_LND[:, heads:] = dturned_LND[:, heads:]
        dheads_LND[:, :heads, width:] = dturned_LND[:, :heads, width:]
        return dheads_LND, None, None, None


def _turn(source_LPR: Tensor, target_LPR: Tensor, cos_LR: Tensor, sin_LR: Tensor, *, adjoint: bool) -> None:
    """Writes the rotated source, or its adjoint, to the target; both may be one tensor."""
    if runs_triton(source_LPR):
        from hybrid.kernels.rope_triton import turn_triton

        turn_triton(source_LPR, target_LPR, cos_LR, sin_LR, adjoint=adjoint)
    else:
        _turn_torch(source_LPR, target_LPR, cos_LR, sin_LR, adjoint=adjoint)


def _turn_torch(source_LPR: Tensor, target_LPR: Tensor, cos_LR: Tensor, sin_LR: Tensor, *, adjoint: bool) -> None:
    sin_1, sin_2 = sin_LR.unsqueeze(1).chunk(2, dim=2)
    if adjoint:
        sin_1, sin_2 = -sin_2, -sin_1
    x_1, x_2 = source_LPR.chunk(2, dim=2)
    crossed_LPR = torch.empty_like(source_LPR, memory_format=torch.contiguous_format)
    crossed_1, crossed_2 = crossed_LPR.chunk(2, dim=2)
    torch.mul(x_2, -sin_1, out=crossed_1)
    torch.mul(x_1, sin_2, out=crossed_2)
    torch.mul(source_LPR, cos_LR.unsqueeze(1), out=target_LPR)
    target_LPR.add_(crossed_LPR)
