"""Compiles every Triton kernel for a Hopper GPU, which needs none: what the interpreter runs may still not compile."""

import importlib
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid.kernels.interval_attention import plan_intervals
from hybrid.kernels.nf4 import NestedScale

jit = pytest.importorskip("triton.runtime.jit")

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
SHARED_BYTES = 227 * 1024
DTYPES = [torch.bfloat16, torch.float32]


class Hopper:
    """What Triton asks a driver in order to compile without a GPU."""

    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return -1

    def get_current_stream(self, device: int) -> int:
        return device


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes launches compile for sm_90 instead, and collects what comes out."""
    run, found = jit.JITFunction.run, list[Any]()

    def compile_only(kernel: Any, *values: Any, **settings: Any) -> None:
        found.append(run(kernel, *values, **{**settings, "warmup": True}))

    monkeypatch.setattr(jit.JITFunction, "run", compile_only)
    monkeypatch.setattr(importlib.import_module("triton.runtime").driver, "_active", Hopper())
    return found


def triton_side(name: str) -> Any:
    return importlib.import_module(f"hybrid.kernels.{name}_triton")


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "softcap"), [(64, None), (80, 30.0), (128, None), (256, 50.0)])
def test_interval_attention(compiled: list[Any], dim: int, softcap: float | None) -> None:
    kernels, tokens = triton_side("interval_attention"), 570
    own = torch.arange(tokens)
    segments = torch.stack([own * 0, own.clamp(max=500), (own >= 540) * 40 + 500], 1).int()
    segments[:500] = 0
    plan = plan_intervals(segments, own, head_dim=dim)
    q, dout = torch.randn(2, 1, 4, tokens, dim, dtype=torch.bfloat16)
    k, v = torch.randn(2, 1, 2, tokens, dim, dtype=torch.bfloat16)
    out, lse = kernels.forward_triton(q, k, v, plan, 0.1, softcap)
    kernels.backward_triton(q, k, v, out, lse, dout, plan, 0.1, softcap)
    assert len(compiled) == 3
    for kernel in compiled:
        assert kernel.metadata.shared <= SHARED_BYTES
        assert "wgmma.mma_async" in kernel.asm["ptx"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
@pytest.mark.parametrize(("width", "stride"), [(4096, 4096), (4096, 4160), (576, 640), (36, 37)])
def test_nf4_divides_once_for_its_place_and_not_for_every_weight(
    compiled: list[Any], width: int, stride: int, nested: bool, dtype: torch.dtype
) -> None:
    rows = 64
    scales = torch.ones(rows * width // 64)
    scale = NestedScale(scales.byte(), torch.ones(256), torch.ones(len(scales)), torch.ones(()), 256)
    packed, out = torch.zeros(rows * width // 2, dtype=torch.uint8), torch.empty(rows, stride, dtype=dtype)[:, :width]
    triton_side("nf4").dequantize_nf4_triton(
        packed, torch.zeros(16), scale if nested else scales, 64, (rows, width), dtype, out
    )
    (kernel,) = compiled
    assert len(re.findall(r"\b(?:div|rem)\.", kernel.asm["ptx"])) <= 2


def gated(kernels: Any, x: Tensor) -> None:
    for kind in ("silu", "gelu_tanh"):
        kernels.forward_triton(x, x, kind)
        kernels.backward_triton(x, x, x, kind, x.clone(), x.clone())


def rms_norm(kernels: Any, x: Tensor) -> None:
    for plus_one in (False, True):
        for residual in (None, x):
            found = kernels.forward_triton(x, residual, x[0], 1e-5, plus_one)
            for needs_weight in (False, True):
                kernels.backward_triton(x, residual, found.total, found.inverse, x[0], plus_one, needs_weight)


def rope(kernels: Any, x: Tensor) -> None:
    heads = x[:, : x.shape[1] // 64 * 64].view(len(x), -1, 64)
    for adjoint in (False, True):
        kernels.turn_triton(heads, heads, heads[:, 0], heads[:, 0], adjoint=adjoint)


def linear_cross_entropy(kernels: Any, x: Tensor) -> None:
    targets = torch.zeros(len(x), dtype=torch.long)
    kernels.softmax_gradient_triton_(x.float(), targets, targets.float())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [576, 4096])
@pytest.mark.parametrize("launch", [gated, rms_norm, rope, linear_cross_entropy])
def test_elementwise_kernels(
    compiled: list[Any], launch: Callable[[Any, Tensor], None], width: int, dtype: torch.dtype
) -> None:
    launch(triton_side(launch.__name__), torch.zeros(8, width, dtype=dtype))
    assert compiled
    for kernel in compiled:
        assert kernel.metadata.shared <= SHARED_BYTES
