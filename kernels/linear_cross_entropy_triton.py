"""Triton kernel of `hybrid.kernels.linear_cross_entropy.softmax_gradient_`; imported only where Triton runs."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


@triton.jit
def _softmax_gradient(logits, targets, weights, losses, columns, row_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # offsets exceed 2**31 for large vocabularies
    start = logits + row * row_stride
    target = tl.load(targets + row)
    weight = tl.load(weights + row)
    target_logit = tl.load(start + target)
    offsets = tl.arange(0, BLOCK)

    # Online maximum and sum of the other tokens: the target's own power never enters `rest`.
    top = target_logit
    rest = 0.0
    for first in range(0, columns, BLOCK):
        column = first + offsets
        x = tl.load(start + column, mask=column < columns, other=-float("inf"))
        new_top = tl.maximum(top, tl.max(x, 0))
        powers = tl.where(column == target, 0.0, tl.exp(x - new_top))
        rest = rest * tl.exp(top - new_top) + tl.sum(powers, 0)
        top = new_top
    total = rest + tl.exp(target_logit - top)
    tl.store(losses + row, weight * ((top - target_logit) + tl.log(total)))

    for first in range(0, columns, BLOCK):
        column = first + offsets
        x = tl.load(start + column, mask=column < columns, other=-float("inf"))
        gradient = tl.where(column == target, -rest, tl.exp(x - top)) * (weight / total)
        tl.store(start + column, gradient, mask=column < columns)


def softmax_gradient_triton_(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor) -> Tensor:
    """Overwrites float32 logits by their gradient and returns the weighted losses [C]."""
    rows, columns = logits_CV.shape
    losses_C = torch.empty(rows, dtype=torch.float32, device=logits_CV.device)
    if rows:
        block = min(BLOCK, triton.next_power_of_2(columns))
        _softmax_gradient[(rows,)](
            logits_CV,
            targets_C.contiguous(),
            weights_C.contiguous(),
            losses_C,
            columns,
            logits_CV.stride(0),
            BLOCK=block,
            num_warps=8,
            enable_fp_fusion=True,  # said, as Triton 3.10 changes its default
        )
    return losses_C
