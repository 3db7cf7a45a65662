"""The tuned model, merged with its base: as a folder, or as one file for llama.cpp."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from hybrid.errors import ArtefactError, ConfigError, DependencyError, LockedError
from hybrid.stages.pairs import shown_chunks
from hybrid.stages.parts import project_tokenizer, published_pairs, require_adapter
from hybrid.stages.tune import training_examples

if TYPE_CHECKING:
    from hybrid.project import Project
    from hybrid.tuning.settings import GgufWeights

_PROMPTS = 8
# Of a log-probability: a mistake of names, order or tokens makes several, rounding less than half of these.
_LARGEST_DIFFERENCE = {"f32": 0.05, "f16": 0.1, "bf16": 0.3, "q8_0": 1.0}


def export_model(project: Project, output: Path, arm: str) -> Path:
    """Merges an arm's adapter into its base and writes the model; the folder is there once it is whole.

    Raises:
        LockedError: Another command exports to this folder.
    """
    from hybrid.tuning.export import merge

    require_adapter(project, arm)
    with _beside(output) as partial:
        merge(project.model, project.path(f"tune/{arm}"), partial)
        _refuse_taken(output)
        partial.rename(output)
    return output


def export_gguf(project: Project, output: Path, arm: str, weights: GgufWeights) -> Path:
    """Writes the merged model as a GGUF file, once llama.cpp is seen to answer prompts of the project like the model.

    Raises:
        DependencyError: A package of the extra gguf is missing.
        LockedError: Another command exports to this file.
        ModelError: The model cannot be written as GGUF, or answers otherwise there.
    """
    from hybrid.tuning.export import merge
    from hybrid.tuning.gguf_file import write_gguf
    from hybrid.tuning.gguf_parity import compare_gguf

    for package in ("gguf", "xllamacpp"):  # before the long work, at whose end they are needed
        if importlib.util.find_spec(package) is None:
            raise DependencyError(package, "gguf")
    require_adapter(project, arm)
    prompts = _prompts(project, closed_book=arm == "tuned")
    with _beside(output) as partial:
        model, file = partial / "model", partial / "model.gguf"
        merge(project.model, project.path(f"tune/{arm}"), model)
        write_gguf(model, file, weights)
        parity = compare_gguf(model, file, prompts, _LARGEST_DIFFERENCE[weights])
        _refuse_taken(output)
        file.rename(output)
    sys.stderr.write(
        f"llama.cpp continues {parity.texts} prompts like the model: the log-probabilities of the likeliest tokens "
        f"differ by up to {parity.difference:.2g}\n"
    )
    return output


def _prompts(project: Project, *, closed_book: bool) -> list[str]:
    """Prompts that the adapter was trained on, or where the index is newer, the questions of these alone."""
    pairs = published_pairs(project, "train")[: 8 * _PROMPTS]
    tokenizer = project_tokenizer(project)
    try:
        chunks = shown_chunks(project, {"train": pairs})
    except ArtefactError:
        chunks, closed_book = {}, True
    examples = training_examples(pairs, chunks, project, tokenizer, closed_book=closed_book).examples[:_PROMPTS]
    texts = [str(tokenizer.decode(list(example.prompt_ids))) for example in examples]
    return texts or [pair.question for pair in pairs[:_PROMPTS]]


def _refuse_taken(output: Path) -> None:
    if output.exists():
        raise ConfigError(f"{output} exists already; choose a new name")


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A hidden folder beside the output, for this command alone; what a killed one has left there is removed."""
    folder, lock = (output.with_name(f".{output.name}.{suffix}") for suffix in ("partial", "lock"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(lock), timeout=0):
            try:
                _refuse_taken(output)  # by a command that ended since this one began
                shutil.rmtree(folder, ignore_errors=True)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
    except Timeout as error:
        raise LockedError(
            f"another command exports to {output}; wait until it is done, or choose another folder"
        ) from error
