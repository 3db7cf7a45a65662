"""Models of random weights for tuning.py: an 8B Llama in NF4 on the spot, and a small one of the same width."""

from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import BitsAndBytesConfig, LlamaConfig, PreTrainedTokenizerFast

SMALL_LAYERS = 2


def llama_8b(layers: int = 32) -> LlamaConfig:
    """The shape of Llama-3.1-8B."""
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
    )


def write_model(folder: Path, config: LlamaConfig, device: torch.device, seed: int = 0) -> None:
    """Writes a Llama of random weights, linear layers in NF4 with double quantisation, and a tokenizer.

    config.json is written last: a folder that has one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator(device).manual_seed(seed)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, device=device, dtype=torch.bfloat16).mul_(0.02)

    hidden, inner = config.hidden_size, config.intermediate_size
    width = hidden // config.num_attention_heads
    heads, pairs = hidden, (config.num_key_value_heads or config.num_attention_heads) * width
    linears = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (pairs, hidden),
        "self_attn.v_proj": (pairs, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    norm_H = torch.ones(hidden, dtype=torch.bfloat16)
    tensors = {
        "model.embed_tokens.weight": normal(config.vocab_size, hidden).cpu(),
        "model.norm.weight": norm_H.clone(),
        "lm_head.weight": normal(config.vocab_size, hidden).cpu(),
    }
    for layer in range(config.num_hidden_layers):
        start = f"model.layers.{layer}."
        for name, shape in linears.items():
            tensors |= _packed(f"{start}{name}.weight", normal(*shape))
        tensors |= {f"{start}{name}.weight": norm_H.clone() for name in ("input_layernorm", "post_attention_layernorm")}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write_tokenizer(folder)
    _write_config(folder, config)


def _packed(name: str, weight: Tensor) -> dict[str, Tensor]:
    packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    parts = {f"{name}.{key}": value.cpu() for key, value in state.as_dict(packed=True).items()}
    return {name: packed.cpu(), **parts}


def _write_config(folder: Path, config: LlamaConfig) -> None:
    quantisation: Any = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = torch.bfloat16
    config.quantization_config = quantisation
    config.eos_token_id, config.pad_token_id, config.bos_token_id = 1, 0, 2
    config.save_pretrained(folder)


def _write_tokenizer(folder: Path) -> None:
    """Trainers ask for one, though all token ids are given."""
    special = ["<pad>", "</s>", "<s>", "<unk>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["a tokenizer of bytes"], vocab_size=300, special_tokens=special)
    trained.save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token=special[0],
        eos_token=special[1],
        bos_token=special[2],
        unk_token=special[3],
    )
    tokenizer.save_pretrained(folder)
