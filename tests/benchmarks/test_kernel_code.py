"""Compiles the Triton kernels for a Hopper GPU, which needs none: what the interpreter runs may still not compile."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid.kernels.interval_attention import Tile, choose_blocks, choose_tiles
from hybrid.kernels.nf4 import NestedScale

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

SHARED_BYTES = 227 * 1024
DTYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(scope="module")
def script(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("kernel_code")


def triton_side(name: str) -> Any:
    return import_module(f"hybrid.kernels.{name}_triton")


def test_memory_has_more_to_do_than_the_processors(script: ModuleType) -> None:
    rows = [row for launch in script.elementwise() for row in script.describe(launch)]
    bounded = [row for row in rows if "allowed" in row]
    assert {row["kernel"].split()[0] for row in bounded} == {"nf4", "SwiGLU", "sum", "RoPE"}
    assert all(row["per_element"] < row["allowed"] for row in bounded)
    assert not any(row["spill_bytes"] for row in rows)


def test_tiles_are_compared_with_the_chosen_one(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = load("attention_tiles")
    tree = tiles.Tree(3600, 200, 8, 4, 2, 64)
    now, other = choose_tiles(64, 2, SHARED_BYTES), Tile(64, 32, 4, 2)
    monkeypatch.setattr(tiles, "candidates", lambda *_: [now.query, other, Tile(128, 64, 8, 20)])
    monkeypatch.setattr(tiles.torch.cuda, "is_available", lambda: False)
    rows = list(tiles.sweep(tree, "query"))
    assert [Tile(*(row[name] for name in Tile._fields)) for row in rows] == [now.query, other]
    assert {row["kernel"] for row in rows} == {"attention backward_q"}
    assert {row["milliseconds"] for row in rows} == {None}
    assert rows[1]["registers"] < rows[0]["registers"]
    assert triton_side("interval_attention").choose_tiles is choose_tiles


def test_candidates_fit_the_plan(load: Callable[[str], ModuleType]) -> None:
    tiles = load("attention_tiles")
    for dim, part in product((64, 128, 256), tiles.PARTS):
        blocks, found = choose_blocks(dim), list(tiles.candidates(dim, part))
        assert found
        assert all(tile.rows <= blocks.query for tile in found)
        assert all(tile.keys <= (blocks.key if part == "key" else blocks.step) for tile in found)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "softcap"), [(64, None), (80, 30.0), (128, None), (256, 50.0)])
def test_attention_compiles(script: ModuleType, dim: int, softcap: float | None) -> None:
    with script.compile_only() as compiled:
        script.attend(dim, softcap)
    assert len(compiled) == 3
    for _, binary in compiled:
        assert binary.metadata.shared <= SHARED_BYTES
        assert "wgmma.mma_async" in binary.asm["ptx"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
@pytest.mark.parametrize(("width", "stride"), [(4096, 4096), (4096, 4160), (576, 640), (36, 37)])
def test_nf4_divides_by_constants(
    script: ModuleType, width: int, stride: int, nested: bool, dtype: torch.dtype
) -> None:
    rows = 64
    scales = torch.ones(rows * width // 64)
    scale = NestedScale(scales.byte(), torch.ones(256), torch.ones(len(scales)), torch.ones(()), 256)
    packed, out = torch.zeros(rows * width // 2, dtype=torch.uint8), torch.empty(rows, stride, dtype=dtype)[:, :width]
    with script.compile_only() as compiled:
        triton_side("nf4").dequantize_nf4_triton(
            packed, torch.zeros(16), scale if nested else scales, 64, (rows, width), dtype, out
        )
    ((_, binary),) = compiled
    assert not re.search(r"\b(?:div|rem)\.", binary.asm["ptx"])


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
    heads = x.view(len(x), -1, 64)
    for adjoint in (False, True):
        kernels.turn_triton(heads, heads, heads[:, 0], heads[:, 0], adjoint=adjoint)


def linear_cross_entropy(kernels: Any, x: Tensor) -> None:
    targets = torch.zeros(len(x), dtype=torch.long)
    kernels.softmax_gradient_triton_(x.float(), targets, targets.float())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [576, 4096])
@pytest.mark.parametrize("launch", [gated, rms_norm, rope, linear_cross_entropy])
def test_other_kernels_compile(
    script: ModuleType, launch: Callable[[Any, Tensor], None], width: int, dtype: torch.dtype
) -> None:
    with script.compile_only() as compiled:
        launch(triton_side(launch.__name__), torch.zeros(8, width, dtype=dtype))
    assert compiled
    for _, binary in compiled:
        assert binary.metadata.shared <= SHARED_BYTES
