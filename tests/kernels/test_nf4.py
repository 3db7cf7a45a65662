"""The same tests run by Triton's interpreter in test_interpreter.py."""

import os

import bitsandbytes.functional as bnb
import pytest
import torch
from bitsandbytes.functional import QuantState
from torch import Tensor

from hybrid.kernels.nf4 import NestedScale, dequantize_nf4

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.float16] + ([] if INTERPRETED else [torch.bfloat16])


def ours(packed: Tensor, state: QuantState, out: Tensor | None = None) -> Tensor:
    scale = state.absmax
    if state.nested:
        inner = state.state2
        scale = NestedScale(state.absmax, inner.code, inner.absmax, state.offset, inner.blocksize)
    return dequantize_nf4(packed, state.code, scale, state.blocksize, tuple(state.shape), state.dtype, out)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (100, 37), (257, 128), (33, 1)], ids=str)
def test_is_bit_equal_to_bitsandbytes(shape: tuple[int, ...], nested: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    weight = torch.randn(shape, dtype=dtype) * 0.02
    packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type="nf4")
    assert torch.equal(ours(packed, state), bnb.dequantize_4bit(packed, state))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 64), (100, 37), (33, 1)], ids=str)
def test_fills_a_slice_of_a_wider_buffer_and_nothing_else(shape: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    rows, columns = shape
    packed, state = bnb.quantize_4bit(torch.randn(shape, dtype=dtype), blocksize=64, quant_type="nf4")
    buffer = torch.full((rows + 2, columns + 5), torch.nan, dtype=dtype)
    out = buffer[1:-1, :columns]
    assert ours(packed, state, out).data_ptr() == out.data_ptr()
    assert torch.equal(out, bnb.dequantize_4bit(packed, state))
    assert int(buffer.isnan().sum()) == buffer.numel() - rows * columns


def test_a_block_of_zeros_stays_zero() -> None:
    weight = torch.randn(4, 64)
    weight[1] = 0
    packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=False, quant_type="nf4")
    assert torch.equal(ours(packed, state), bnb.dequantize_4bit(packed, state))
    assert not ours(packed, state)[1].any()


def test_is_the_same_in_two_runs() -> None:
    packed, state = bnb.quantize_4bit(torch.randn(65, 63), blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(ours(packed, state), ours(packed, state))
