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


@pytest.mark.parametrize("shape", [(0, 64), (3, 0), (0,)], ids=str)
def test_nothing_is_unpacked_to_nothing(shape: tuple[int, ...]) -> None:
    nothing = torch.empty(0)
    found = dequantize_nf4(nothing.byte(), torch.zeros(16), nothing, 64, shape, torch.float32)
    assert (found.shape, found.numel()) == (shape, 0)


@pytest.mark.parametrize("blocksize", [64, 128, 4096])
@pytest.mark.parametrize("skipped", [0, 1, 4], ids="{} bytes before".format)
def test_blocks_of_every_size_wherever_the_bytes_start(blocksize: int, skipped: int) -> None:
    torch.manual_seed(3)
    weight = torch.randn(24, 1500, dtype=torch.float16)
    packed, state = bnb.quantize_4bit(weight, blocksize=blocksize, compress_statistics=True, quant_type="nf4")
    moved = torch.zeros(skipped + packed.numel(), dtype=torch.uint8)[skipped:].copy_(packed.view(-1))
    buffer = torch.empty(24, 1600, dtype=torch.float16)
    expected = bnb.dequantize_4bit(packed, state)
    assert torch.equal(ours(moved, state), expected)
    assert torch.equal(ours(moved, state, buffer[:, :1500]), expected)
    assert torch.equal(ours(moved.repeat_interleave(2)[::2], state), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
@pytest.mark.parametrize("shape", [(4096, 4096), (1000, 576), (33, 37), (8, 14336)], ids=str)
def test_gpu_is_bit_equal_to_bitsandbytes(shape: tuple[int, int], nested: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    weight = torch.randn(shape, dtype=dtype, device="cuda") * 0.02
    packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type="nf4")
    expected = bnb.dequantize_4bit(packed, state)
    assert torch.equal(ours(packed, state), expected)
    buffer = torch.full((shape[0], shape[1] + 64), torch.nan, dtype=dtype, device="cuda")
    assert torch.equal(ours(packed, state, buffer[:, : shape[1]]), expected)
    assert bool(buffer[:, shape[1] :].isnan().all())


@pytest.mark.gpu
def test_gpu_places_beyond_int32() -> None:
    rows, columns = 2**20 + 8, 2048
    packed = torch.randint(256, (rows * columns // 2,), dtype=torch.uint8, device="cuda")
    scale, code_16 = torch.rand(rows * columns // 64, device="cuda"), torch.linspace(-1, 1, 16, device="cuda")
    found = dequantize_nf4(packed, code_16, scale, 64, (rows, columns), torch.bfloat16)
    last = dequantize_nf4(
        packed[-8 * columns // 2 :], code_16, scale[-8 * columns // 64 :], 64, (8, columns), torch.bfloat16
    )
    assert found.numel() > 2**31
    assert torch.equal(found[-8:], last)


def test_is_the_same_in_two_runs() -> None:
    packed, state = bnb.quantize_4bit(torch.randn(65, 63), blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(ours(packed, state), ours(packed, state))
