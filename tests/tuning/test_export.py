from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hybrid.tuning.export import merge
from hybrid.tuning.model import load_base, load_tuned
from hybrid.tuning.settings import DtypeName, Method, TuneSettings
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


@pytest.mark.parametrize(("trained", "served"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_the_base_is_rounded_as_it_was_in_training(
    model_folder: Callable[[str], Path],
    make_examples: Callable[..., list[Example]],
    tmp_path: Path,
    trained: DtypeName,
    served: DtypeName,
) -> None:
    base, tuned, cpu = model_folder("llama"), tmp_path / "tuned", torch.device("cpu")
    settings = TuneSettings(method="qlora", weights="resident", rank=2, max_tokens=64, dtype=trained)
    tune(
        make_examples(), model_path=base, output=tuned, settings=settings, seed=0, checkpoints=tmp_path / "checkpoints"
    )
    then = load_base(base, method="qlora", weights="resident", dtype=getattr(torch, trained), device=cpu)
    now = load_tuned(base, tuned, weights="resident", dtype=served, device=cpu)
    assert isinstance(now, PeftModel)
    weights = {name.replace(".base_layer", ""): value for name, value in now.get_base_model().state_dict().items()}
    for name, value in then.state_dict().items():
        assert weights[name].dtype is getattr(torch, served)
        assert torch.equal(weights[name], value.to(weights[name].dtype)), name
    merge(base, tuned, tmp_path / "merged")
    exported = load_file(tmp_path / "merged" / "model.safetensors")
    whole = now.float().merge_and_unload().state_dict()
    if served == "float32":
        assert all(torch.equal(exported[name], whole[name]) for name in exported)


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
