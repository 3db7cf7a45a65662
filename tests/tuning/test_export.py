from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hybrid.tuning.export import merge
from hybrid.tuning.model import load_tuned
from hybrid.tuning.settings import Method, TuneSettings
from hybrid.tuning.trainer import tune
from hybrid.tuning.tree import Example


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_a_merged_model_answers_like_the_adapter(
    model_folder: Callable[[str], Path], make_examples: Callable[..., list[Example]], tmp_path: Path, method: Method
) -> None:
    settings = TuneSettings(
        method=method, rank=4, max_tokens=64, min_shared_tokens=4, learning_rate=1e-2, dtype="float32"
    )
    base, tuned, merged = model_folder("llama"), tmp_path / "tuned", tmp_path / "merged"
    tune(
        make_examples(), model_path=base, output=tuned, settings=settings, seed=0, checkpoints=tmp_path / "checkpoints"
    )
    merge(base, tuned, merged)
    ids = torch.arange(2, 12)[None]
    adapter = load_tuned(base, tuned, dtype="float32", device=torch.device("cpu"))
    plain = AutoModelForCausalLM.from_pretrained(merged)
    torch.testing.assert_close(plain(input_ids=ids).logits, adapter(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(merged).eos_token == "w1"


def test_sixteen_bit_weights(
    model_folder: Callable[[str], Path], make_examples: Callable[..., list[Example]], tmp_path: Path
) -> None:
    settings = TuneSettings(method="lora", rank=2, max_tokens=64)
    base, tuned = model_folder("qwen2"), tmp_path / "tuned"
    tune(
        make_examples(), model_path=base, output=tuned, settings=settings, seed=0, checkpoints=tmp_path / "checkpoints"
    )
    merge(base, tuned, tmp_path / "merged", dtype="bfloat16")
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
