"""Triton kernel of `hybrid.kernels.rope.rotate_`; imported only where Triton runs."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # pairs of a program


@triton.jit
def _turn(
    source,
    target,
    cos,
    sin,
    heads,
    half,
    source_token,
    source_head,
    source_dim,
    target_token,
    target_head,
    target_dim,
    ADJOINT: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS)).to(tl.int64)[:, None]
    dim = tl.arange(0, HALF)
    angle = token * 2 * half + dim
    cos_1 = tl.load(cos + angle, mask=dim < half, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos + angle + half, mask=dim < half, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin + angle, mask=dim < half, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin + angle + half, mask=dim < half, other=0.0).to(tl.float32)
    if ADJOINT:
        sin_1, sin_2 = -sin_2, -sin_1
    dim = dim.to(tl.int64)[None, :]
    inside = (head < heads) & (dim < half)
    start = source + token * source_token + head * source_head
    x_1 = tl.load(start + dim * source_dim, mask=inside, other=0.0).to(tl.float32)
    x_2 = tl.load(start + (dim + half) * source_dim, mask=inside, other=0.0).to(tl.float32)
    dtype = target.dtype.element_ty
    y_1 = (x_1 * cos_1[None, :]).to(dtype).to(tl.float32) - (x_2 * sin_1[None, :]).to(dtype).to(tl.float32)
    y_2 = (x_2 * cos_2[None, :]).to(dtype).to(tl.float32) + (x_1 * sin_2[None, :]).to(dtype).to(tl.float32)
    start = target + token * target_token + head * target_head
    tl.store(start + dim * target_dim, y_1.to(dtype), mask=inside)
    tl.store(start + (dim + half) * target_dim, y_2.to(dtype), mask=inside)


def turn_triton(source_LPR: Tensor, target_LPR: Tensor, cos_LR: Tensor, sin_LR: Tensor, *, adjoint: bool) -> None:
    """Writes the rotated source, or its adjoint, to the target; both may be one tensor."""
    tokens, heads, width = source_LPR.shape
    half = triton.next_power_of_2(max(1, width // 2))
    block = min(triton.next_power_of_2(max(1, heads)), max(1, TILE // half))
    if source_LPR.numel():
        # Without fusion of a * b + c the products are rounded in float32 too.
        _turn[(tokens, triton.cdiv(heads, block))](
            source_LPR,
            target_LPR,
            cos_LR.expand(tokens, width).contiguous(),
            sin_LR.expand(tokens, width).contiguous(),
            heads,
            width // 2,
            *source_LPR.stride(),
            *target_LPR.stride(),
            ADJOINT=adjoint,
            HEADS=block,
            HALF=half,
            enable_fp_fusion=False,
        )
