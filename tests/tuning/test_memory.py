"""The memory formula against what autograd saves, and the choice that follows from it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hybrid.tuning.batch import collate
from hybrid.tuning.fast_paths import fast_paths
from hybrid.tuning.loss import row_loss
from hybrid.tuning.memory import (
    Recompute,
    RowSize,
    activation_bytes,
    choose_checkpointing,
    free_memory_mb,
    largest_row,
    layer_bytes,
    peak_memory_mb,
)
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import Shape, load_shape
from hybrid.tuning.trainer import prepare_model
from hybrid.tuning.tree import Example, Row, build_trees

PROMPTS = [(3,) * 300 + (4 + n,) + (9,) * 19 for n in range(6)]
ROW: Row = tuple(build_trees([Example(str(n), "g", p, (7,) * 10) for n, p in enumerate(PROMPTS)], max_tokens=1024))
SHAPE = Shape(10_000, (), layers=4, hidden=64, intermediate=160, query=64, key=32, vocabulary=64)


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"head_dim": 16, "sliding_window": 9},
    "gemma3_text": {"head_dim": 16, "sliding_window": 999},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_formula_counts_what_autograd_saves(
    tmp_path: Path, kind: str, dtype: str, method: Any, checkpointing: Recompute
) -> None:
    settings = TuneSettings(method=method, rank=4, checkpointing=checkpointing)
    # The difference of two depths leaves out what layers share (the final norm, the head, masks and positions), and the
    # last layer, which keeps less.
    shallow, deep = (_saved_bytes(tmp_path, kind, layers, settings, dtype) for layers in (2, 4))
    width = {"float32": 4, "bfloat16": 2}[dtype]
    row = largest_row([ROW])
    shape = load_shape(tmp_path / "2")
    per_token = layer_bytes(shape, row, settings, width, checkpointing)
    statistics = 0.0
    if checkpointing != "full":
        statistics = row.tokens * shape.norms * 4
        if not shape.scored_heads:
            statistics += row.tokens * 4 * 4 + 30 * 330 * width  # 4 heads, the mask of a branch
        if kind == "gemma3_text":  # norms of queries and keys: inputs and statistics
            statistics += row.tokens * (width * (shape.query + shape.key) + 6 * 4)
    assert row.tokens * per_token + statistics == pytest.approx((deep - shallow) / 2, rel=0.01)


def _saved_bytes(folder: Path, kind: str, layers: int, settings: TuneSettings, dtype: str) -> int:
    """Bytes that one forward pass of a small model keeps for the backward pass."""
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 160}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": layers}
    config = AutoConfig.for_model(kind, **sizes, **heads, **FAMILIES[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / str(layers))  # type: ignore[no-untyped-call]
    model = prepare_model(folder / str(layers), settings, getattr(torch, dtype), torch.device("cpu"))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with fast_paths(model, settings), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = row_loss(model, collate(ROW))
    assert loss.requires_grad
    return sum(storage.nbytes() for address, storage in saved.items() if address not in weights)


def test_a_row_counts_shared_tokens_once_and_copied_keys_for_each_branch() -> None:
    assert largest_row([ROW, ()]) == RowSize(tokens=480, copied_keys=6 * (300 + 30), scores=480**2)
    alone: Row = tuple(build_trees([Example("a", "g", (1,) * 20, (2,))], max_tokens=64))
    assert largest_row([alone]) == RowSize(21, 0, 21**2)
    assert largest_row([]) == RowSize(0)
    assert largest_row([ROW]).in_place() == RowSize(480)


@pytest.mark.parametrize("way", ["none", "selective", "full"])
def test_the_settings_decide_where_they_name_a_way(way: Any) -> None:
    choice = choose_checkpointing(SHAPE, RowSize(1000, 0), TuneSettings(checkpointing=way), 4, room_mb=0.001)
    assert choice.checkpointing == way


def test_the_first_way_that_fits_is_chosen() -> None:
    row, settings = RowSize(1000, 0), TuneSettings()
    needed = {way: activation_bytes(SHAPE, row, settings, 4, way) / 2**20 for way in ("none", "selective", "full")}
    assert needed["none"] > needed["selective"] > needed["full"] > 0
    for way, size in needed.items():
        choice = choose_checkpointing(SHAPE, row, settings, 4, room_mb=size)
        assert (choice.checkpointing, choice.needed_mb) == (way, size)
        assert str(choice).startswith(f"{way} ({size:.0f} MB of activations predicted")
    assert choose_checkpointing(SHAPE, row, settings, 4, room_mb=0.0).checkpointing == "full"


def test_the_memory_of_the_host_is_read() -> None:
    assert 10 < peak_memory_mb() < 1e6
    assert 10 < free_memory_mb() < 1e8


def test_a_container_may_have_less_than_its_host(tmp_path: Path) -> None:
    host = free_memory_mb(tmp_path)
    (tmp_path / "memory.current").write_text(f"{300 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {100 << 20}\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory_mb(tmp_path) == pytest.approx(host, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{700 << 20}\n")
    assert free_memory_mb(tmp_path) == 500


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="getrusage alone tells of memory here")
def test_the_memory_of_a_parent_is_not_counted() -> None:
    held = b"x" * (600 << 20)
    code = "from hybrid.tuning.memory import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < len(held) / 2**20
