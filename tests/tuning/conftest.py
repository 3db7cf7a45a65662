"""Tiny random models with a tokenizer, and examples that share contexts."""

# mypy: disable-error-code="no-untyped-call"

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hybrid.tuning.tree import Example

VOCABULARY = 61


@pytest.fixture(autouse=True, scope="session")
def on_one_thread(one_thread: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Every test of this folder."""
    with one_thread():
        yield


# Fields beyond the sizes. Windows are narrower than the samples, so that they matter.
_FAMILIES: dict[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 9}),
    "mistral wide": (MistralForCausalLM, MistralConfig, {"sliding_window": 64}),
    "phi3": (Phi3ForCausalLM, Phi3Config, {"sliding_window": 11, "pad_token_id": 0}),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config, {"pad_token_id": 0}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, "sliding_window": 9, "query_pre_attn_scalar": 8}),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}


def _tiny_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(7)
    model, config, fields = _FAMILIES[kind]
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
    }
    return model(config(**sizes, **fields))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that gives the folder of a tiny model of a family."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            _tiny_model(kind).save_pretrained(path)
            words = Tokenizer(WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0"))
            PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1").save_pretrained(path)
        return path

    return folder


def _make_examples(groups: int = 3, branches: int = 3, context: int = 12, seed: int = 0) -> list[Example]:
    """Examples of different lengths on shared contexts; the last group shares its whole prompt."""
    draw = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, VOCABULARY) for _ in range(count))

    examples = []
    for group in range(groups):
        shared = tokens(context)
        for branch in range(branches):
            own = () if group == groups - 1 else (2 + branch, *tokens(branch % 3))
            examples.append(Example(f"{group}.{branch}", f"g{group}", shared + own, (*tokens(1 + branch % 3), 1)))
    return examples


@pytest.fixture(scope="session")
def make_examples() -> Callable[..., list[Example]]:
    """Returns `_make_examples`."""
    return _make_examples
