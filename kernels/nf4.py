"""Dequantisation of NF4 weights with double-quantised scales, bit-equal to bitsandbytes.

Layout: the weight [N, K] is flattened row by row in blocks of 64; two 4-bit codes share a byte, the high half first.
Each block's scale is an 8-bit code; the scales are quantised in blocks of 256 around a common offset:
``scale = code_256[q] * absmax[block] + offset`` (two roundings, no fused multiply-add) and
``weight = code_16[nibble] * scale``.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hybrid.kernels.dispatch import runs_triton


class NestedScale(NamedTuple):
    """The scales of the blocks, themselves quantised.

    Attributes:
        codes: uint8, one per block of weights.
        code_256: float32 [256] values of the codes.
        absmax: float32, one per block of scales.
        offset: float32 scalar added to every scale.
        blocksize: Scales per block.
    """

    codes: Tensor
    code_256: Tensor
    absmax: Tensor
    offset: Tensor
    blocksize: int


def dequantize_nf4(
    packed: Tensor,
    code_16: Tensor,
    scale: NestedScale | Tensor,
    blocksize: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """Returns the weight of the given shape and dtype.

    Args:
        packed: uint8 with (elements + 1) // 2 entries, of any shape.
        code_16: float32 [16] values of the 4-bit codes.
        scale: Quantised scales, or float32 scales, one per block.
        blocksize: Weights per block, an even number.
        shape: Shape of the weight; its last pair is half used if the number of elements is odd.
        dtype: float32, float16 or bfloat16; rounded once, at the end.
        out: Written and returned instead of a new tensor; of that shape and dtype, its rows strided if it has two axes.
    """
    if runs_triton(code_16):
        from hybrid.kernels.nf4_triton import dequantize_nf4_triton

        return dequantize_nf4_triton(packed, code_16, scale, blocksize, shape, dtype, out)
    return dequantize_nf4_torch(packed, code_16, scale, blocksize, shape, dtype, out)


def dequantize_nf4_torch(
    packed: Tensor,
    code_16: Tensor,
    scale: NestedScale | Tensor,
    blocksize: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """The torch twin of `dequantize_nf4`."""
    elements = torch.Size(shape).numel()
    # Both float32 values of a byte are looked up as one 64-bit word: half the look-ups of single values.
    pairs_256 = torch.cartesian_prod(code_16, code_16).view(torch.int64).reshape(-1)
    values = pairs_256.index_select(0, packed.reshape(-1).int()).view(torch.float32)[:elements]
    scales_B1 = block_scales(scale).reshape(-1, 1)
    padded = pad(values, (0, scales_B1.numel() * blocksize - elements))
    weight = padded.reshape(-1, blocksize).mul(scales_B1).reshape(-1)[:elements].reshape(shape)
    return weight.to(dtype) if out is None else out.copy_(weight)


def block_scales(scale: NestedScale | Tensor) -> Tensor:
    """Returns the float32 scale of every block."""
    if isinstance(scale, Tensor):
        return scale
    absmax = scale.absmax.repeat_interleave(scale.blocksize)[: scale.codes.numel()]
    return scale.code_256[scale.codes.reshape(-1).int()] * absmax + scale.offset
