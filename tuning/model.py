"""Loads base models for tuning and tuned models for use, both by the same code, so that they compute the same."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import bitsandbytes
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from hybrid.errors import ArtefactError, ModelError
from hybrid.tuning.lora import unpacker
from hybrid.tuning.settings import DtypeName, Method, Weights

RECORD = "hybrid.json"
_TRAIN_AGAIN = "run: hybrid tune --force"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class TunedRecord:
    """What hybrid.json beside an adapter says about the base it was trained on.

    Attributes:
        method: How it was trained; `qlora` needs a base rounded to NF4.
        weights: How the base was kept in training; either way computes the same.
        dtype: Data type of the computation in training.
        notes: The caller's, such as a fingerprint of the base.
    """

    method: Method
    weights: str
    dtype: str
    notes: Mapping[str, str]


def default_device() -> torch.device:
    """Returns the GPU if there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def compute_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """Returns the dtype of a name; "auto" is bfloat16 where the device has instructions for its products."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def resolve_weights(weights: Weights, device: torch.device) -> Weights:
    """Returns "nf4" or "resident"; "auto" keeps weights packed on a GPU, where memory is short, and not on a CPU."""
    if weights != "auto":
        return weights
    return "nf4" if device.type == "cuda" else "resident"


# No code that comes with a model is run, and no pickle is read.
_SAFE: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}


def load_base(
    path: Path | str,
    *,
    method: Method,
    weights: Weights = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    rounded_in: torch.dtype | None = None,
) -> PreTrainedModel:
    """Loads a causal language model from local files.

    Args:
        path: Folder of the model.
        method: `qlora` rounds every linear layer but the LM head to NF4 with double quantisation.
        weights: For `qlora`: keep the packed weights, or the rounded ones in `dtype`.
        dtype: Of the weights and the computation.
        device: Where the model lies; the GPU if there is one.
        rounded_in: For `qlora`: what the weights are in when they are rounded to NF4, if not in `dtype`. Other dtypes
            round to other values, and an adapter makes up for those of its training.

    Raises:
        ModelError: The files cannot be loaded.
    """
    device = device or default_device()
    packed = method == "qlora" and resolve_weights(weights, device) == "nf4"
    read_in = rounded_in if rounded_in and method == "qlora" else dtype
    pack = packed and not _stored_quantisation(Path(path))
    options: dict[str, Any] = {"quantization_config": _nf4_config(dtype)} if pack else {}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=read_in, device_map={"": device}, local_files_only=True, **_SAFE, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {path}: {error}") from error
    if packed:
        _keep_packing(model, dtype)
    elif method == "qlora":
        round_to_nf4(model)
        if read_in is not dtype:
            nn.Module.to(model, dtype)
    return model


def _keep_packing(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Has bitsandbytes compute in a dtype with the weights as they were packed, and makes sure that it reads them.

    Raises:
        ModelError: It does not: its CPU code of 0.50 misreads rows that end within a block, on some processors.
    """
    for parameter in model.parameters():  # beside weights that were stored packed, those of the file's own dtype
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    checked: set[torch.Size] = set()
    for name, module in model.named_modules():
        if not isinstance(module, Linear4bit):
            continue
        # On processors with AVX512-BF16 its first forward pass would pack the weights anew, with scales in bfloat16:
        # another model than the one that is trained.
        module.support_avx512bf16_for_cpu = False
        # Those that were stored packed name the dtype they had before.
        module.compute_dtype, module.weight.quant_state.dtype = dtype, dtype
        weight, state = module.weight.data, module.weight.quant_state
        if state.shape not in checked and not torch.equal(dequantize_4bit(weight, state), unpacker(weight, state)()):
            raise ModelError(
                f"bitsandbytes {bitsandbytes.__version__} misreads packed weights of shape {tuple(state.shape)} "
                f"({name}) on this processor; set tune.weights to resident"
            )
        checked.add(state.shape)


def check_stored(path: Path, *, packed: bool) -> None:
    """Refuses to tune weights that are stored in fewer bits, unless they are kept as QLoRA would pack them itself.

    Args:
        path: Folder of the model.
        packed: Whether linear layers are kept in NF4.

    Raises:
        ModelError: They are; the message names the way out.
    """
    stored = _stored_quantisation(path)
    if not stored:
        return
    if stored.get("bnb_4bit_quant_type") != "nf4" or not stored.get("bnb_4bit_use_double_quant"):
        raise ModelError(
            f"the weights in {path} are stored quantised ({stored.get('quant_method') or 'by an unknown method'}) in a "
            "way that cannot be tuned: name the model with its ordinary weights, which tune.method qlora packs itself"
        )
    if not packed:
        raise ModelError(
            f"the weights in {path} are stored in NF4, which only tune.method qlora with tune.weights nf4 reads: set "
            "these, or name the model with its ordinary weights"
        )


def round_to_nf4(model: PreTrainedModel) -> None:
    """Replaces the weight of every linear layer but the LM head by what its NF4 form dequantises to, in place."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            packed, state = quantize_4bit(module.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4")
            module.weight.data.copy_(unpacker(packed, state)())


def _stored_quantisation(path: Path) -> Mapping[str, Any]:
    """What config.json says of how the weights are stored; empty where they are ordinary."""
    try:
        return json.loads((path / "config.json").read_text(encoding="utf-8")).get("quantization_config") or {}
    except (OSError, ValueError, AttributeError):  # what is wrong with the file is told by who loads the model
        return {}


def save_tokenizer(model_path: Path | str, output: Path) -> None:
    """Writes the tokenizer of a model into another folder."""
    tokenizer = AutoTokenizer.from_pretrained(str(model_path), local_files_only=True, trust_remote_code=False)
    tokenizer.save_pretrained(str(output))


def load_tuned(
    path: Path | str,
    tuned: Path,
    *,
    weights: Weights = "auto",
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
) -> PreTrainedModel | PeftModel:
    """Loads a tuned model for inference on the kind of base it was trained on.

    Args:
        path: Folder of the base model; not read for a fully tuned model.
        tuned: Output folder of `tune`, or a plain PEFT adapter folder.
        weights: As in `load_base`.
        dtype: Of the computation.
        device: As in `load_base`.

    Raises:
        ModelError: The base or the adapter cannot be loaded.
        ArtefactError: hybrid.json is damaged.
    """
    device = device or default_device()
    record = read_record(tuned)
    method, computed = record.method, compute_dtype(dtype, device)
    source = tuned if method == "full" else path
    trained_in = None if record.dtype == "auto" else _DTYPES[record.dtype]
    try:
        model = load_base(source, method=method, weights=weights, dtype=computed, device=device, rounded_in=trained_in)
    except ModelError as error:
        if source is not tuned:
            raise
        raise ModelError(f"{error}; if it is damaged, {_TRAIN_AGAIN}") from error
    if method != "full":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT reads a name that transformers is about to drop
                model = PeftModel.from_pretrained(model, str(tuned), is_trainable=False)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise ModelError(
                f"cannot load the adapter in {tuned}: {error}; if it is damaged, {_TRAIN_AGAIN}"
            ) from error
    model.requires_grad_(False)
    return model.eval()  # type: ignore[no-untyped-call]


def write_record(folder: Path, record: TunedRecord) -> None:
    """Writes hybrid.json."""
    values = {
        "method": record.method,
        "weights": record.weights,
        "dtype": record.dtype,
        "notes": dict(record.notes),
    }
    (folder / RECORD).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_record(folder: Path) -> TunedRecord:
    """Reads hybrid.json; a PEFT folder without one is an adapter on the base as it is.

    Raises:
        ArtefactError: The file is damaged, or the folder holds neither.
    """
    file = folder / RECORD
    if not file.exists():
        if (folder / "adapter_config.json").exists():
            return TunedRecord("lora", "resident", "auto", {})
        raise ArtefactError(
            f"{folder} holds no tuned model: neither {RECORD} nor adapter_config.json is there; {_TRAIN_AGAIN}"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        record = TunedRecord(values["method"], values["weights"], values["dtype"], values["notes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{file} is damaged: {error!r}; {_TRAIN_AGAIN}") from error
    if record.dtype not in get_args(DtypeName):
        raise ArtefactError(f"{file} names the unknown dtype {record.dtype!r}; {_TRAIN_AGAIN}")
    if record.method not in get_args(Method):
        raise ArtefactError(f"{file} names the unknown method {record.method!r}; {_TRAIN_AGAIN}")
    return record


def dtype_name(dtype: torch.dtype) -> str:
    """Returns "float32" for torch.float32, and so on."""
    return str(dtype).removeprefix("torch.")


def _nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
