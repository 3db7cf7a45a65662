"""Triton kernel of `hybrid.kernels.nf4.dequantize_nf4`: one launch; imported only where Triton runs.

What limits it is instructions: a GPU has time for about 18 a weight while memory moves its bytes. So a thread takes a
word of eight codes and reads one scale for it, and whatever is divided by is a constant of the compiled kernel.
"""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.nf4 import NestedScale

WORDS = 128  # one a thread, so that a warp reads and writes whole lines
STEPS = 4  # of a program: their loads overlap


@triton.jit
def _dequantize_nf4(
    packed,
    code_16,
    codes,
    code_256,
    absmax,
    offset,
    out,
    words,
    weights,
    stride,
    NESTED: tl.constexpr,
    WORDS_PER_SCALE: tl.constexpr,
    SCALES_PER_BLOCK: tl.constexpr,
    WORDS_PER_ROW: tl.constexpr,
    CODES: tl.constexpr,
    WORDS: tl.constexpr,
    STEPS: tl.constexpr,
):
    place = tl.arange(0, CODES)[None, :]
    for step in tl.static_range(STEPS):
        word = (tl.program_id(0) * STEPS + step) * WORDS + tl.arange(0, WORDS)
        inside = word < words
        scale_index = word // WORDS_PER_SCALE
        if NESTED:
            level = tl.load(code_256 + tl.load(codes + scale_index, mask=inside, other=0).to(tl.int32))
            block = scale_index // SCALES_PER_BLOCK
            scale = level * tl.load(absmax + block, mask=inside, other=0.0) + tl.load(offset)
        else:
            scale = tl.load(absmax + scale_index, mask=inside, other=0.0)
        # Of the codes in a byte the high half comes first.
        code = (tl.load(packed + word, mask=inside, other=0).to(tl.int32)[:, None] >> (place ^ 1) * 4) & 15
        weight = tl.load(code_16 + code) * scale[:, None]
        start = word.to(tl.int64) * CODES
        inside = inside[:, None]
        if CODES == 2:  # of the last byte only the first half may be in use
            inside = inside & (start[:, None] + place < weights)
        if WORDS_PER_ROW:
            start = (word // WORDS_PER_ROW).to(tl.int64) * stride + word % WORDS_PER_ROW * CODES
        tl.store(out + start[:, None] + place, weight.to(out.dtype.element_ty), mask=inside)


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
    width = 0 if out.is_contiguous() else out.shape[1]
    if width % 2:  # a byte may hold the last weight of a row and the first of the next
        return out.copy_(dequantize_nf4_triton(packed, code_16, scale, blocksize, shape, dtype))
    words, codes = packed.contiguous().view(-1), 2
    aligned = words.storage_offset() % 4 == words.data_ptr() % 4 == 0
    if aligned and out.numel() % 8 == width % 8 == blocksize % 8 == 0:
        words, codes = words.view(torch.int32), 8
    nested, count = isinstance(scale, NestedScale), triton.cdiv(out.numel(), codes)
    parts = scale if isinstance(scale, NestedScale) else NestedScale(packed, code_16, scale, code_16, 1)
    if count:
        # Without fusion of a * b + c the scale is rounded twice, as bitsandbytes does.
        _dequantize_nf4[(triton.cdiv(count, WORDS * STEPS),)](
            words,
            code_16,
            parts.codes,
            parts.code_256,
            parts.absmax,
            parts.offset,
            out,
            count,
            out.numel(),
            out.stride(0) if width else 0,
            NESTED=nested,
            WORDS_PER_SCALE=blocksize // codes,
            SCALES_PER_BLOCK=parts.blocksize,
            WORDS_PER_ROW=width // codes,
            CODES=codes,
            WORDS=WORDS,
            STEPS=STEPS,
            enable_fp_fusion=False,
        )
    return out
