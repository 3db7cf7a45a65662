"""Writes a tuned model as one ordinary model folder that needs neither PEFT nor Hybrid."""

from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

from hybrid.errors import writing
from hybrid.tuning.model import compute_dtype, load_tuned, save_tokenizer
from hybrid.tuning.settings import DtypeName


def merge(model_path: Path | str, tuned: Path, output: Path, *, dtype: DtypeName = "float32") -> None:
    """Adds an adapter to the weights it was trained on and saves the sum with the tokenizer.

    A `qlora` adapter is added to the base rounded to NF4, as it was trained to make up for that rounding: the merged
    model answers like the adapter does, but is as large as an unquantised one.

    Args:
        model_path: Folder of the base model.
        tuned: Output folder of `tune`, or a plain PEFT adapter folder.
        output: Folder to fill with safetensors; made if missing.
        dtype: Of the saved weights; the sum itself is computed in float32.

    Raises:
        ModelError: The base or the adapter cannot be loaded.
        ArtefactError: hybrid.json is damaged.
        OSError: The disk is full, or the folder cannot be written.
    """
    cpu = torch.device("cpu")
    model = load_tuned(model_path, tuned, weights="resident", dtype="float32", device=cpu)
    merged = model.merge_and_unload() if isinstance(model, PeftModel) else model
    nn.Module.to(merged, compute_dtype(dtype, cpu))
    with writing(output):
        merged.save_pretrained(str(output))
        save_tokenizer(model_path, output)
