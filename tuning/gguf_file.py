"""A model folder as one GGUF file, which llama.cpp and what is built on it run.

The layout is llama.cpp's: its names of tensors and settings come from the `gguf` package. Written are models of the
Llama and Qwen families with byte-level BPE tokenizers; others are refused by name.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from hybrid.errors import DependencyError, ModelError
from hybrid.tuning.settings import GgufWeights

if TYPE_CHECKING:
    from gguf import GGUFWriter

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
WAY_OUT = "export a folder instead, and convert that with llama.cpp's own script"
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How text is split before merging, by llama.cpp's name of it.
_SPLITS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (_LLAMA3_SPLIT, "ByteLevel"): "llama-bpe",
    (_LLAMA3_SPLIT.replace("{1,3}", ""), "ByteLevel"): "qwen2",
}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # kinds of tokens


class _Tokens(NamedTuple):
    texts: list[str]
    kinds: list[int]
    merges: list[str]
    split: str


def write_gguf(folder: Path, file: Path, weights: GgufWeights = "f16") -> None:
    """Write a model folder with its tokenizer and chat template as a GGUF file.

    Args:
        folder: A folder with safetensors, as `merge` writes.
        file: The new file.
        weights: How matrices are stored; vectors stay float32.

    Raises:
        ModelError: The model is of a family, or has rotary embeddings or a tokenizer, that cannot be written, or its
            weights do not fit the type.
        DependencyError: The package gguf is missing.
    """
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise DependencyError("gguf", "gguf") from None
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        known = ", ".join(_ARCHITECTURES)
        raise ModelError(f"a model of type {config.model_type} cannot be written as GGUF ({known} can); {WAY_OUT}")
    if (getattr(config, "sliding_window", None) or config.max_position_embeddings) < config.max_position_embeddings:
        raise ModelError(f"attention in sliding windows cannot be written as GGUF here; {WAY_OUT}")
    factors = _rope_factors(config, architecture)
    tokens = _tokens(folder, config.vocab_size)
    writer = GGUFWriter(file, architecture)
    try:
        _add_settings(writer, config, weights)
        _add_tokenizer(writer, folder, tokens)
        if factors is not None:
            writer.add_tensor("rope_freqs.weight", factors)
        for name, tensor in _tensors(folder, config, architecture):
            _add_tensor(writer, name, tensor, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_settings(writer: "GGUFWriter", config: PreTrainedConfig, weights: GgufWeights) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    kinds = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    head = _head_dim(config)
    writer.add_file_type(kinds[weights])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _head_dim(config: PreTrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope_factors(config: PreTrainedConfig, architecture: str) -> NDArray[np.float32] | None:
    """What divides the frequencies of the rotary embedding, one a pair of dimensions; None if nothing does."""
    parameters = config.rope_parameters
    kind = parameters.get("rope_type", "default")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError(f"partial rotary embeddings cannot be written as GGUF here; {WAY_OUT}")
    if kind == "default":
        return None
    if kind not in {"llama3", "linear"} or architecture != "llama":
        raise ModelError(f"rotary embeddings of type {kind} cannot be written as GGUF here; {WAY_OUT}")
    scaled, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    head = _head_dim(config)
    plain = parameters["rope_theta"] ** (-np.arange(0, head, 2) / head)
    return np.asarray(plain / scaled.double().numpy(), dtype=np.float32)


def _tokens(folder: Path, size: int) -> _Tokens:
    file = folder / "tokenizer.json"
    try:
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    split = _split(tokenizer)
    if tokenizer["model"]["type"] != "BPE" or split is None:
        raise ModelError(f"the tokenizer in {file} is of a kind that cannot be written as GGUF here; {WAY_OUT}")
    texts = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, _NORMAL)
    for token in tokenizer["added_tokens"]:
        texts[token["id"]] = token["content"]
        kinds[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    # Embeddings are often longer than the vocabulary.
    every = range(max(size, max(texts) + 1))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return _Tokens(
        [texts.get(number, f"[PAD{number}]") for number in every],
        [kinds.get(number, _UNUSED) for number in every],
        merges,
        split,
    )


def _split(tokenizer: Mapping[str, Any]) -> str | None:
    if (tokenizer["normalizer"] or {"type": "NFC"})["type"] != "NFC":  # llama.cpp leaves out NFC, too
        return None
    first = tokenizer["pre_tokenizer"] or {"type": "none"}
    steps = first["pretokenizers"] if first["type"] == "Sequence" else [first]
    key = tuple(step["pattern"].get("Regex", "") if step["type"] == "Split" else step["type"] for step in steps)
    plain = all(
        not step.get("add_prefix_space", False)
        and step.get("individual_digits", True)
        and not step.get("invert", False)
        for step in steps
    )
    return _SPLITS.get(key) if plain else None


def _add_tokenizer(writer: "GGUFWriter", folder: Path, tokens: _Tokens) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokens.split)
    writer.add_token_list(tokens.texts)
    writer.add_token_types(tokens.kinds)
    writer.add_token_merges(tokens.merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(folder: Path, config: PreTrainedConfig, architecture: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield llama.cpp's name of every tensor with its values; the same tensor is not given twice."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():
                if key == "lm_head.weight" and config.tie_word_embeddings:
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ModelError(f"the tensor {key} in {file} has no place in GGUF; {WAY_OUT}")
                tensor = opened.get_tensor(key).float()
                if architecture == "llama" and key.rpartition(".")[0].endswith(("q_proj", "k_proj")):
                    heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
                    tensor = _interleaved(tensor, heads)
                yield name, tensor


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Put the two dimensions that a rotary embedding turns together beside each other: `[heads * 2 * half, ...]`."""
    pairs = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return pairs.transpose(1, 2).reshape(tensor.shape)


def _add_tensor(writer: "GGUFWriter", name: str, tensor: torch.Tensor, weights: GgufWeights) -> None:
    from gguf import GGMLQuantizationType, QuantError, quants

    values = tensor.numpy()
    kind = GGMLQuantizationType.F32 if tensor.ndim == 1 else GGMLQuantizationType[weights.upper()]
    try:
        with np.errstate(over="ignore"):  # seen below
            stored = quants.quantize(values, kind)
    except QuantError as error:
        raise ModelError(f"{name} cannot be stored as {weights}: {error}; choose another type") from error
    if weights == "f16" and not np.isfinite(stored).all():
        raise ModelError(f"{name} has values beyond what f16 holds; choose bf16")
    writer.add_tensor(name, stored, raw_dtype=kind)
