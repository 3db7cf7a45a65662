"""Decoder layers by kernels: what runs, what is refused, and what is left out. Gradients are held in test_loss.py."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hybrid.errors import TrainingError
from hybrid.tuning.batch import collate
from hybrid.tuning.layers import FAMILIES, fast_layers
from hybrid.tuning.loss import causal_lm, row_loss
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.trainer import prepare_model
from hybrid.tuning.tree import Example, build_trees

ModelFolder = Callable[[str], Path]
MakeExamples = Callable[..., list[Example]]
CPU = torch.device("cpu")


def model_of(folder: Path) -> nn.Module:
    return prepare_model(folder, TuneSettings(method="lora", rank=2), torch.float32, CPU)


def test_the_last_layer_computes_predicting_rows_alone(model_folder: ModelFolder, make_examples: MakeExamples) -> None:
    model = model_of(model_folder("llama"))
    batch = collate(tuple(build_trees(make_examples(), max_tokens=400)))
    rows: dict[str, int] = {}
    for name, module in model.named_modules():
        if name.endswith(("q_proj", "k_proj", "o_proj", "down_proj", "model.norm")):
            module.register_forward_hook(
                lambda module, args, output, name=name: rows.__setitem__(name, args[0].numel() // args[0].shape[-1])
            )
    with fast_layers(model) as report:
        row_loss(model, batch)
    assert report == {"layers": "fast_layers: 2 of 2; the last on predicting rows alone"}
    tokens, predicting = batch.input_ids.numel(), len(batch.rows)
    assert predicting < tokens
    found = {name.split("model.")[-1]: count for name, count in rows.items()}
    assert found == {
        "layers.0.self_attn.q_proj": tokens,
        "layers.0.self_attn.k_proj": tokens,
        "layers.0.self_attn.o_proj": tokens,
        "layers.0.mlp.down_proj": tokens,
        "layers.1.self_attn.q_proj": predicting,
        "layers.1.self_attn.k_proj": tokens,
        "layers.1.self_attn.o_proj": predicting,
        "layers.1.mlp.down_proj": predicting,
        "norm": predicting,
    }


def test_transformers_forward_is_back_afterwards(model_folder: ModelFolder) -> None:
    model = model_of(model_folder("qwen3"))
    layers = causal_lm(model).model.layers
    with fast_layers(model):
        assert all("forward" in vars(layer) for layer in layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_another_architecture_keeps_its_own_forward_or_is_refused(model_folder: ModelFolder) -> None:
    model = model_of(model_folder("olmo2"))
    with fast_layers(model) as report:
        assert report == {"layers": "fast_layers: 0 of 2; transformers' forward: 2 Olmo2DecoderLayer"}
    with pytest.raises(TrainingError, match="'required', but not for Olmo2DecoderLayer"):
        with fast_layers(model, required=True):
            pass


def test_another_activation_is_named(model_folder: ModelFolder) -> None:
    model = model_of(model_folder("llama"))
    causal_lm(model).config.hidden_act = "relu"
    with fast_layers(model) as report:
        assert report["layers"].endswith("transformers' forward: 2 LlamaDecoderLayer with the activation relu")


def test_a_class_of_the_same_name_from_elsewhere_is_not_trusted() -> None:
    from transformers.modeling_layers import GradientCheckpointingLayer

    for name in FAMILIES:
        foreign = nn.ModuleList([type(name, (GradientCheckpointingLayer,), {})()])
        with fast_layers(foreign) as report:
            assert report["layers"].startswith("fast_layers: 0 of 1")
