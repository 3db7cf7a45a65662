"""GGUF files: llama.cpp reads the same tokens and expects the same next ones as transformers."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hybrid.errors import ModelError
from hybrid.tuning.gguf_file import _LLAMA3_SPLIT, write_gguf
from hybrid.tuning.gguf_parity import compare_gguf
from hybrid.tuning.settings import GgufWeights

TEXTS = [
    "The beacon stands on the northern cliff, 310 kg; it's 20 seconds.",
    "<|user|>How often?\n\n  Größe 5 & <6> 日本語 🛥️<|end|><|assistant|>",
    "a",
]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
FAMILIES: dict[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], dict[str, Any], str]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}, "gpt-2"),
    "smollm": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}, "smollm"),
    "llama3": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": LLAMA3}, "llama-bpe"),
    "llama with biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}, "gpt-2"),
    "llama, longer": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": LINEAR}, "gpt-2"),
    "llama, wide heads": (LlamaForCausalLM, LlamaConfig, {"head_dim": 32}, "gpt-2"),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}, "llama-bpe"),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}, "qwen2"),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32, "tie_word_embeddings": True}, "qwen2"),
}


def _splitter(name: str) -> pre_tokenizers.PreTokenizer:
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name == "gpt-2":
        return whole
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    regex = _LLAMA3_SPLIT if name == "llama-bpe" else _LLAMA3_SPLIT.replace("{1,3}", "")
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), rest])


def tokenizer_of(split: str, *, begin: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained on a few sentences, with a token more than there are words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter(split)
    special = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, "the beacon and the cliff, often 310 times 20 kg it's"] * 3, trainer)
    tokenizer.add_tokens(["beacon stands"])
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template="{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>",
    )


def tiny_model(folder: Path, kind: str, *, begin: bool = False, **more: Any) -> Path:
    model, config, fields, split = FAMILIES[kind]
    tokenizer = tokenizer_of(split, begin=begin)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer) + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    made = model(config(**{**sizes, **fields, **more}))
    for name, values in made.named_parameters():
        if values.ndim == 1:  # norms of one and biases of zero would hide a mistake
            torch.nn.init.normal_(values, mean=1.0 if "norm" in name else 0.0, std=0.3)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", FAMILIES)
def test_llama_cpp_answers_alike(kind: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", kind, begin=kind == "llama3")
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    parity = compare_gguf(folder, tmp_path / "model.gguf", TEXTS, limit=0.02)
    assert parity.texts == len(TEXTS)
    assert parity.difference > 0


@pytest.mark.parametrize(("weights", "limit"), [("f16", 0.02), ("bf16", 0.1), ("q8_0", 0.2)])
def test_every_type_of_weights(weights: GgufWeights, limit: float, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "qwen2")
    write_gguf(folder, tmp_path / "whole.gguf", "f32")
    write_gguf(folder, tmp_path / "model.gguf", weights)
    whole = compare_gguf(folder, tmp_path / "whole.gguf", TEXTS, limit)
    assert whole.difference < compare_gguf(folder, tmp_path / "model.gguf", TEXTS, limit).difference
    assert (tmp_path / "model.gguf").stat().st_size < 0.8 * (tmp_path / "whole.gguf").stat().st_size


def test_the_file_holds_the_chat_template_and_the_special_tokens(tmp_path: Path) -> None:
    from gguf import GGUFReader

    folder = tiny_model(tmp_path / "model", "llama3", begin=True)
    write_gguf(folder, tmp_path / "model.gguf")
    fields = GGUFReader(tmp_path / "model.gguf").fields
    tokenizer = tokenizer_of("llama-bpe", begin=True)
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert fields["tokenizer.ggml.add_bos_token"].contents() is True
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    tokens, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    assert tokens[: len(tokenizer)] == [tokenizer.convert_ids_to_tokens(number) for number in range(len(tokenizer))]
    assert kinds[:4] == [3, 3, 3, 3]
    assert kinds[tokens.index("beacon stands")] == 4
    assert kinds[len(tokenizer) :] == [5] * 5


def _change(folder: Path, write: Callable[[PreTrainedModel], object]) -> None:
    model = LlamaForCausalLM.from_pretrained(folder)
    write(model)
    model.save_pretrained(folder)


def test_a_file_of_other_weights_is_not_let_through(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "llama")
    write_gguf(folder, tmp_path / "model.gguf", "f32")

    def turned(model: PreTrainedModel) -> None:
        weight = model.get_parameter("model.layers.0.self_attn.q_proj.weight")
        weight.data = weight.data.flip(0)

    _change(folder, turned)
    with pytest.raises(ModelError, match=r"model\.gguf answers otherwise than the model does: .* more than 0\.02"):
        compare_gguf(folder, tmp_path / "model.gguf", TEXTS, limit=0.02)


def test_a_file_of_another_tokenizer_is_not_let_through(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "llama")
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    tokenizer_of("gpt-2", begin=True).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"llama\.cpp reads \d+ tokens where transformers reads \d+"):
        compare_gguf(folder, tmp_path / "model.gguf", TEXTS, limit=0.02)


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "llama")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load .*model\.gguf"):
        compare_gguf(folder, tmp_path / "model.gguf", TEXTS, limit=0.02)


def test_weights_beyond_f16_are_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "llama")
    _change(folder, lambda model: model.get_parameter("model.layers.1.mlp.up_proj.weight").data.mul_(1e7))
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight has values beyond what f16 holds; choose bf16"):
        write_gguf(folder, tmp_path / "model.gguf", "f16")


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("mistral", {"sliding_window": 32}, "attention in sliding windows cannot be written"),
        ("qwen2", {"rope_parameters": LINEAR}, "rotary embeddings of type linear cannot be written"),
        ("llama", {"rope_parameters": {**LINEAR, "rope_type": "dynamic"}}, "rotary embeddings of type dynamic cannot"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(kind: str, more: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        write_gguf(tiny_model(tmp_path / "model", kind, **more), tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_other_families_are_refused_by_name(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model of type gemma2 cannot be written as GGUF"):
        write_gguf(model_folder("gemma2"), tmp_path / "model.gguf")
    with pytest.raises(ModelError, match=r"the tokenizer in .* is of a kind that cannot be written"):
        write_gguf(model_folder("llama"), tmp_path / "model.gguf")


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.Lowercase()),
    ],
)
def test_tokenizers_that_llama_cpp_lacks_are_refused(change: Callable[[Tokenizer], None], tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", "llama")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="is of a kind that cannot be written"):
        write_gguf(folder, tmp_path / "model.gguf")
