"""Triton kernel of `hybrid.kernels.nf4.dequantize_nf4`: one launch; imported only where Triton runs.

What limits it is instructions, of which a GPU has about 17 a weight in the time that memory needs for it. So a thread
takes a word of eight codes, reads one scale for it and writes 16 bytes, and no division is by an argument.
"""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.nf4 import NestedScale

WORDS = 128  # one a thread, so that a warp reads and writes whole lines
STEPS = 4  # at most, of a program: their loads overlap


@triton.jit
def _dequantize_nf4(
    packed,
    code_16,
    codes,
    code_256,
    absmax,
    offset,
    out,
    width,
    row_words,
    tiles,
    stride,
    NESTED: tl.constexpr,
    WORDS_PER_SCALE: tl.constexpr,
    SCALES_PER_BLOCK: tl.constexpr,
    CODES: tl.constexpr,
    WORDS: tl.constexpr,
    STEPS: tl.constexpr,
):
    row = (tl.program_id(0) // tiles).to(tl.int64)
    place_in_word = tl.arange(0, CODES)[None, :]
    for step in tl.static_range(STEPS):
        column = (tl.program_id(0) % tiles * STEPS + step) * WORDS + tl.arange(0, WORDS)
        inside = column < row_words
        word = row * row_words + column
        scale_index = word // WORDS_PER_SCALE
        if NESTED:
            level = tl.load(code_256 + tl.load(codes + scale_index, mask=inside, other=0).to(tl.int32))
            block = scale_index // SCALES_PER_BLOCK
            scale = level * tl.load(absmax + block, mask=inside, other=0.0) + tl.load(offset)
        else:
            scale = tl.load(absmax + scale_index, mask=inside, other=0.0)
        # Of the codes in a byte the high half comes first.
        code = (tl.load(packed + word, mask=inside, other=0).to(tl.int32)[:, None] >> (place_in_word ^ 1) * 4) & 15
        weight = tl.load(code_16 + code) * scale[:, None]
        place = column.to(tl.int64)[:, None] * CODES + place_in_word
        tl.store(out + row * stride + place, weight.to(out.dtype.element_ty), mask=place < width)


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
    rows, width = (1, out.numel()) if out.is_contiguous() else out.shape
    if rows > 1 and width % 2:  # a byte may hold the last weight of a row and the first of the next
        return out.copy_(dequantize_nf4_triton(packed, code_16, scale, blocksize, shape, dtype))
    words, codes = packed.reshape(-1), 2
    if width % 8 == blocksize % 8 == words.storage_offset() % 4 == words.data_ptr() % 4 == 0:
        words, codes = words.view(torch.int32), 8
    nested = isinstance(scale, NestedScale)
    parts = scale if isinstance(scale, NestedScale) else NestedScale(packed, code_16, scale, code_16, 1)
    row_words = triton.cdiv(width, codes)
    steps = min(STEPS, triton.next_power_of_2(triton.cdiv(row_words, WORDS)))
    tiles = triton.cdiv(row_words, WORDS * steps)
    if out.numel():
        # Without fusion of a * b + c the scale is rounded twice, as bitsandbytes does.
        _dequantize_nf4[(rows * tiles,)](
            words,
            code_16,
            parts.codes,
            parts.code_256,
            parts.absmax,
            parts.offset,
            out,
            width,
            row_words,
            tiles,
            out.stride(0) if rows > 1 else width,
            NESTED=nested,
            WORDS_PER_SCALE=blocksize // codes,
            SCALES_PER_BLOCK=parts.blocksize,
            CODES=codes,
            WORDS=WORDS,
            STEPS=steps,
            enable_fp_fusion=False,
        )
    return out
