# mypy: disable-error-code="no-any-return"

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybrid.errors import TrainingError
from hybrid.tuning.lora import attach_adapter, fused_lora
from hybrid.tuning.model import load_base
from hybrid.tuning.settings import Method, TuneSettings, Weights

CPU = torch.device("cpu")


def adapted(
    folder: Path, weights: Weights = "resident", method: Method = "qlora", **options: object
) -> torch.nn.Module:
    base = load_base(folder, method=method, weights=weights, device=CPU)
    model = attach_adapter(base, TuneSettings(method=method, rank=2, **options))  # type: ignore[arg-type]
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("weights", ["resident", "nf4"])
def test_fused_layers_compute_what_peft_computes(
    model_folder: Callable[[str], Path], kind: str, weights: Weights
) -> None:
    model = adapted(model_folder(kind), weights)
    ids = torch.arange(2, 22).reshape(2, 10)
    plain = model(input_ids=ids).logits
    with fused_lora(model) as report:
        fused = model(input_ids=ids).logits
    assert report == {"lora": "lora_linear: 14 of 14 layers"}
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(model(input_ids=ids).logits, plain)  # PEFT's forward is back


def test_dropout_keeps_pefts_forward_and_says_so(model_folder: Callable[[str], Path]) -> None:
    with fused_lora(adapted(model_folder("llama"), dropout=0.1)) as report:
        assert report == {"lora": "lora_linear: 0 of 14 layers; PEFT's forward: 14 (dropout)"}


def test_a_required_fast_path_refuses_a_fallback(model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(TrainingError, match=r"tune\.kernels is 'required', but .*14 \(dropout\)"):
        with fused_lora(adapted(model_folder("llama"), dropout=0.1), required=True):
            pass
    with fused_lora(adapted(model_folder("llama")), required=True) as report:
        assert report == {"lora": "lora_linear: 14 of 14 layers"}


SAVED = """
import sys, torch
from hybrid.tuning.lora import attach_adapter
from hybrid.tuning.model import load_base
from hybrid.tuning.settings import TuneSettings
torch.manual_seed(0)
base = load_base(sys.argv[1], method="lora", device=torch.device("cpu"))
attach_adapter(base, TuneSettings(method="lora", rank=2)).save_pretrained(sys.argv[2])
"""


def test_every_process_writes_the_same_adapter(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    for seed in "123":
        command = [sys.executable, "-c", SAVED, str(model_folder("llama")), str(tmp_path / seed)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    for name in names:
        assert len({(tmp_path / seed / name).read_bytes() for seed in "123"}) == 1, name
    saved = json.loads((tmp_path / "1" / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["target_modules"] == sorted(saved["target_modules"])
    assert len(saved["target_modules"]) == 14


def test_only_named_layers_get_an_adapter(model_folder: Callable[[str], Path]) -> None:
    with fused_lora(adapted(model_folder("llama"), target_modules=("q_proj", "v_proj"))) as report:
        assert report == {"lora": "lora_linear: 4 of 4 layers"}


def test_an_unknown_layer_is_named(model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(TrainingError, match="w_pack"):
        adapted(model_folder("llama"), target_modules=("w_pack",))
