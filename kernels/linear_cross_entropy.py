"""Cross entropy of ``hidden @ head.T`` that never keeps the logits of all rows.

The rows go through the head in chunks of limited size. Each chunk's logits buffer is overwritten by its own gradient,
which is multiplied back at once, so the backward pass only scales what the forward pass has found.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid.kernels.dispatch import runs_triton

CHUNK_BYTES = 64 * 2**20


class _Gradients(NamedTuple):
    loss: Tensor
    hidden_MH: Tensor | None
    head_VH: Tensor | None


def linear_cross_entropy(
    hidden_MH: Tensor,
    head_VH: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    *,
    softcap: float | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:
    """Returns ``(weights * cross_entropy(hidden @ head.T, targets, reduction="none")).sum()`` in float32 or wider.

    Args:
        hidden_MH: Rows that predict a token; no row is a valid input and gives 0.
        head_VH: Weight of the LM head, in the dtype of the rows. Its gradient is computed only if it needs one.
        targets_M: Token that each row predicts.
        weights_M: Weight of each row; 0 masks it.
        softcap: Logits x become ``softcap * tanh(x / softcap)``.
        chunk_bytes: Limit of the logits buffer; at least one row is processed at a time.
    """
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_MH, head_VH, targets_M, weights_M, softcap, chunk_bytes
    )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_MH: Tensor,
        head_VH: Tensor,
        targets_M: Tensor,
        weights_M: Tensor,
        softcap: float | None,
        chunk_bytes: int,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:2]
        found = _forward(hidden_MH, head_VH, targets_M, weights_M, softcap, chunk_bytes, needs)
        ctx.save_for_backward(found.hidden_MH, found.head_VH)
        ctx.head_dtype = head_VH.dtype
        return found.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        dhidden_MH, dhead_VH = ctx.saved_tensors
        if dhidden_MH is not None:
            dhidden_MH = (dhidden_MH * dloss).to(dhidden_MH.dtype)
        if dhead_VH is not None:
            dhead_VH = (dhead_VH * dloss).to(ctx.head_dtype)
        return dhidden_MH, dhead_VH, None, None, None, None


def _forward(
    hidden_MH: Tensor,
    head_VH: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    softcap: float | None,
    chunk_bytes: int,
    needs: tuple[bool, bool],
) -> _Gradients:
    rows, vocabulary = hidden_MH.shape[0], head_VH.shape[0]
    wide = torch.promote_types(hidden_MH.dtype, torch.float32)
    chunk = max(1, min(rows, chunk_bytes // (vocabulary * wide.itemsize)))
    dhidden_MH = torch.empty_like(hidden_MH) if needs[0] else None
    dhead_VH = torch.zeros_like(head_VH, dtype=wide) if needs[1] else None
    loss = hidden_MH.new_zeros((), dtype=wide)
    buffer_CV = hidden_MH.new_empty((chunk, vocabulary), dtype=wide)
    for start in range(0, rows, chunk):
        part = slice(start, min(start + chunk, rows))
        hidden_CH = hidden_MH[part]
        logits_CV = _logits(hidden_CH, head_VH, buffer_CV[: hidden_CH.shape[0]])
        slope_CV = None if softcap is None else _cap_(logits_CV, softcap)
        loss += softmax_gradient_(logits_CV, targets_M[part], weights_M[part].to(wide)).sum()
        if slope_CV is not None:
            logits_CV.mul_(slope_CV)
        dlogits_CV = logits_CV.to(head_VH.dtype)
        if dhidden_MH is not None:
            torch.mm(dlogits_CV, head_VH, out=dhidden_MH[part])
        if dhead_VH is not None:
            dhead_VH.addmm_(logits_CV.T, hidden_CH.to(wide))
    return _Gradients(loss, dhidden_MH, dhead_VH)


def _logits(hidden_CH: Tensor, head_VH: Tensor, out_CV: Tensor) -> Tensor:
    """Writes the logits to `out`, which has the accumulation dtype."""
    if hidden_CH.dtype == out_CV.dtype:
        return torch.mm(hidden_CH, head_VH.T, out=out_CV)
    if hidden_CH.is_cuda:
        return torch.mm(hidden_CH, head_VH.T, out_dtype=out_CV.dtype, out=out_CV)
    return out_CV.copy_(hidden_CH @ head_VH.T)


def _cap_(logits_CV: Tensor, softcap: float) -> Tensor:
    """Overwrites logits by their soft-capped values and returns the slope there, 1 - tanh²."""
    slope_CV = 1 - logits_CV.div_(softcap).tanh_().square()
    logits_CV.mul_(softcap)
    return slope_CV


def softmax_gradient_(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor) -> Tensor:
    """Overwrites logits by the gradient of their weighted cross entropy and returns the weighted losses [C].

    With m the row's maximum, ``d = Σ exp(x - m)`` and ``rest`` the same sum without the target:
    ``loss = w * (m - x_y + log d)``, ``grad_j = w * exp(x_j - m) / d`` and ``grad_y = -w * rest / d``. The last form
    does not cancel where the target is near certain, as ``p - 1`` would.

    Args:
        logits_CV: Contiguous float32 (or float64 in torch); overwritten.
        targets_C: Token of each row.
        weights_C: Weight of each row, in the dtype of the logits; 0 gives loss and gradient 0.
    """
    if runs_triton(logits_CV):
        from hybrid.kernels.linear_cross_entropy_triton import softmax_gradient_triton_

        return softmax_gradient_triton_(logits_CV, targets_C, weights_C)
    return softmax_gradient_torch_(logits_CV, targets_C, weights_C)


def softmax_gradient_torch_(logits_CV: Tensor, targets_C: Tensor, weights_C: Tensor) -> Tensor:
    """The torch twin of `softmax_gradient_`."""
    targets_C1 = targets_C.unsqueeze(1)
    top_C1 = logits_CV.amax(dim=1, keepdim=True)
    target_C1 = logits_CV.gather(1, targets_C1) - top_C1
    powers_CV = logits_CV.sub_(top_C1).exp_().scatter_(1, targets_C1, 0.0)
    rest_C1 = powers_CV.sum(dim=1, keepdim=True)
    total_C1 = rest_C1 + target_C1.exp()
    share_C1 = weights_C.unsqueeze(1) / total_C1
    powers_CV.mul_(share_C1).scatter_(1, targets_C1, -rest_C1 * share_C1)
    return (weights_C.unsqueeze(1) * (total_C1.log() - target_C1)).squeeze(1)
