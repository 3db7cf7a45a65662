"""Triton kernel of `hybrid.kernels.nf4.dequantize_nf4`: one launch; imported only where Triton runs."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.nf4 import NestedScale

BLOCK = 1024


@triton.jit
def _dequantize_nf4(
    packed,
    code_16,
    codes,
    code_256,
    absmax,
    offset,
    out,
    elements,
    blocksize,
    nested_blocksize,
    width,
    stride,
    NESTED: tl.constexpr,
    STRIDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    byte = tl.load(packed + element // 2, mask=inside, other=0).to(tl.int32)
    nibble = tl.where(element % 2 == 0, byte >> 4, byte & 15)
    value = tl.load(code_16 + nibble, mask=inside, other=0.0)
    block = element // blocksize
    if NESTED:
        code = tl.load(codes + block, mask=inside, other=0).to(tl.int32)
        level = tl.load(code_256 + code, mask=inside, other=0.0)
        scale = level * tl.load(absmax + block // nested_blocksize, mask=inside, other=0.0) + tl.load(offset)
    else:
        scale = tl.load(absmax + block, mask=inside, other=0.0)
    place = element
    if STRIDED:
        place = element // width * stride + element % width
    tl.store(out + place, (value * scale).to(out.dtype.element_ty), mask=inside)


def dequantize_nf4_triton(
    packed: Tensor,
    code_16: Tensor,
    scale: NestedScale | Tensor,
    blocksize: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """Returns the weight; see `dequantize_nf4`."""
    out = torch.empty(shape, dtype=dtype, device=packed.device) if out is None else out.view(shape)
    elements = out.numel()
    nested = isinstance(scale, NestedScale)
    parts = scale if isinstance(scale, NestedScale) else NestedScale(packed, code_16, scale, code_16, 1)
    if elements:
        # Without fusion of a * b + c the scale is rounded twice, as bitsandbytes does.
        _dequantize_nf4[(triton.cdiv(elements, BLOCK),)](
            packed,
            code_16,
            parts.codes,
            parts.code_256,
            parts.absmax,
            parts.offset,
            out,
            elements,
            blocksize,
            parts.blocksize,
            out.shape[-1],
            out.stride(0),
            NESTED=nested,
            STRIDED=not out.is_contiguous(),
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )
    return out
