"""Whole models as `hybrid tune` runs them on each device, in bfloat16: as near the truth as separate samples are."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid.tuning.fast_paths import fast_paths
from hybrid.tuning.loss import separate_gradients, shared_gradients
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.trainer import prepare_model, tune
from hybrid.tuning.tree import Example, build_trees

ModelFolder = Callable[[str], Path]
MakeExamples = Callable[..., list[Example]]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SETTINGS = {
    "lora": TuneSettings(method="lora", rank=3, kernels="required"),
    "qlora": TuneSettings(method="qlora", rank=3, kernels="required"),
    "resident": TuneSettings(method="qlora", weights="resident", rank=3, kernels="required"),
    "recomputed": TuneSettings(method="qlora", rank=3, kernels="required", checkpointing="full"),
    "partly recomputed": TuneSettings(method="qlora", rank=3, kernels="required", checkpointing="selective"),
}


def stirred(model: Any) -> Any:
    """Gives the adapters values that bfloat16 holds and that change the output."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape).mul_(0.1).bfloat16())
        elif "lora_A" in name:
            parameter.data.copy_(parameter.data.bfloat16())
    return model


def distance(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    ours, wanted = (torch.cat([part.double().flatten().cpu() for part in parts]) for parts in (found, truth))
    return float((ours - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3"])
def test_gradients_are_as_close_to_the_truth_as_those_of_separate_samples(
    model_folder: ModelFolder, make_examples: MakeExamples, kind: str, settings: TuneSettings, device: str
) -> None:
    place = torch.device(device)
    (tree,) = build_trees(make_examples(groups=1, branches=4, context=70), max_tokens=400)
    model = stirred(prepare_model(model_folder(kind), settings, torch.bfloat16, place))
    # Packed weights are unpacked to the values that resident ones have.
    unpacked = stirred(prepare_model(model_folder(kind), replace(settings, weights="resident"), torch.bfloat16, place))
    truth = separate_gradients(unpacked.float(), tree)
    ordinary = separate_gradients(model, tree)
    with fast_paths(model, settings):
        found = shared_gradients(model, tree)
    errors = distance(found.parameters, truth.parameters), distance(ordinary.parameters, truth.parameters)
    assert 0 < errors[0] <= 1.5 * errors[1], errors
    assert abs(found.loss - truth.loss) <= abs(ordinary.loss - truth.loss) + 0.01 * truth.loss


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_of_every_kind_learns(
    model_folder: ModelFolder, make_examples: MakeExamples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    monkeypatch.setattr("hybrid.tuning.trainer.default_device", lambda: torch.device(device))
    for name, settings in SETTINGS.items():
        settings = replace(settings, epochs=8, learning_rate=3e-2, dtype="bfloat16")
        done = tune(
            make_examples(),
            model_path=model_folder("llama"),
            output=tmp_path / name,
            settings=settings,
            seed=0,
            checkpoints=tmp_path / "checkpoints" / name,
        )
        assert done.loss_last < 0.8 * done.loss_first, name
