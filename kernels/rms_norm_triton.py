"""Triton kernels of `hybrid.kernels.rms_norm`; imported only where Triton runs."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.rms_norm import Normalised

TILE = 4096  # elements per step of a program: several short rows, or one long one
PROGRAMS = 512  # that share the rows when the weight needs a gradient; each writes one partial sum


@triton.jit
def _forward(
    x,
    residual,
    weight,
    normed,
    total,
    inverse,
    rows,
    columns,
    eps,
    x_stride,
    residual_stride,
    ADD: tl.constexpr,
    PLUS_ONE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows)[:, None] & (column < columns)
    place = row.to(tl.int64)[:, None]
    value = tl.load(x + place * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(residual + place * residual_stride + column, mask=inside, other=0.0).to(tl.float32)
        rounded = value.to(total.dtype.element_ty)
        tl.store(total + place * columns + column, rounded, mask=inside)
        value = rounded.to(tl.float32)
    rho = tl.rsqrt(tl.sum(value * value, 1) / columns + eps)
    tl.store(inverse + row, rho, mask=row < rows)
    value *= rho[:, None]
    scale = tl.load(weight + column, mask=column < columns, other=0.0).to(tl.float32)
    if PLUS_ONE:
        value *= 1.0 + scale
    else:
        value = value.to(total.dtype.element_ty).to(tl.float32) * scale
    tl.store(normed + place * columns + column, value.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    dnormed,
    dtotal,
    total,
    inverse,
    weight,
    dx,
    partials,
    rows,
    columns,
    dnormed_stride,
    dtotal_stride,
    total_stride,
    ADD: tl.constexpr,
    PLUS_ONE: tl.constexpr,
    WEIGHT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.arange(0, BLOCK)[None, :]
    scale = tl.load(weight + column, mask=column < columns, other=0.0).to(tl.float32)
    if PLUS_ONE:
        scale += 1.0
    partial = tl.zeros((BLOCK,), tl.float32)
    for first in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < columns)
        place = row.to(tl.int64)[:, None]
        gradient = tl.load(dnormed + place * dnormed_stride + column, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(total + place * total_stride + column, mask=inside, other=0.0).to(tl.float32)
        rho = tl.load(inverse + row, mask=row < rows, other=0.0)[:, None]
        x *= rho
        if WEIGHT:
            partial += tl.sum(gradient * x, 0)
        gradient *= scale
        gradient = rho * (gradient - x * (tl.sum(gradient * x, 1) / columns)[:, None])
        if ADD:
            gradient += tl.load(dtotal + place * dtotal_stride + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx + place * columns + column, gradient.to(dx.dtype.element_ty), mask=inside)
    if WEIGHT:
        column = tl.arange(0, BLOCK)
        place = tl.program_id(0).to(tl.int64) * columns
        tl.store(partials + place + column, partial, mask=column < columns)


def forward_triton(x: Tensor, residual: Tensor | None, weight_H: Tensor, eps: float, plus_one: bool) -> Normalised:
    """Returns the norm of x, or of ``x + residual``; see `rms_norm`."""
    x_MH = _rows(x)
    residual_MH = x_MH if residual is None else _rows(residual.expand_as(x))
    total = x if residual is None else torch.empty(x.shape, dtype=torch.result_type(x, residual), device=x.device)
    dtype = total.dtype if plus_one else torch.promote_types(total.dtype, weight_H.dtype)
    normed = torch.empty(x.shape, dtype=dtype, device=x.device)
    inverse = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
    rows, columns = x_MH.shape
    if rows:
        launch = _launch(columns)
        _forward[(triton.cdiv(rows, launch["ROWS"]),)](
            x_MH,
            residual_MH,
            weight_H.expand(columns).contiguous(),
            normed,
            total,
            inverse,
            rows,
            columns,
            eps,
            x_MH.stride(0),
            residual_MH.stride(0),
            ADD=residual is not None,
            PLUS_ONE=plus_one,
            **launch,
        )
    return Normalised(normed, total, inverse)


def backward_triton(
    dnormed: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    inverse: Tensor,
    weight_H: Tensor,
    plus_one: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor | None]:
    """Returns the gradients of the normalised rows and, if needed, of the weight."""
    dnormed_MH, total_MH = _rows(dnormed), _rows(total)
    dtotal_MH = dnormed_MH if dtotal is None else _rows(dtotal)
    dx = torch.empty(total.shape, dtype=total.dtype, device=total.device)
    rows, columns = total_MH.shape
    launch = _launch(columns)
    programs = triton.cdiv(rows, launch["ROWS"])
    if needs_weight:
        programs = min(programs, PROGRAMS)
    partials_PH = torch.empty((programs if needs_weight else 0, columns), dtype=torch.float32, device=total.device)
    if rows:
        _backward[(programs,)](
            dnormed_MH,
            dtotal_MH,
            total_MH,
            inverse,
            weight_H.expand(columns).contiguous(),
            dx,
            partials_PH,
            rows,
            columns,
            dnormed_MH.stride(0),
            dtotal_MH.stride(0),
            total_MH.stride(0),
            ADD=dtotal is not None,
            PLUS_ONE=plus_one,
            WEIGHT=needs_weight,
            **launch,
        )
    return dx, partials_PH.sum(0).to(weight_H.dtype) if needs_weight else None


def _rows(x: Tensor) -> Tensor:
    """Returns [M, H] with neighbouring columns, copied only where the strides forbid a view."""
    x_MH = x.reshape(-1, x.shape[-1])
    return x_MH if x_MH.stride(1) == 1 else x_MH.contiguous()


def _launch(columns: int) -> dict[str, int | bool]:
    block = triton.next_power_of_2(columns)
    rows = max(1, TILE // block)
    warps = min(16, rows * block // 512)
    # Fusion is said, as Triton 3.10 changes its default.
    return {"ROWS": rows, "BLOCK": block, "num_warps": warps, "enable_fp_fusion": True}
