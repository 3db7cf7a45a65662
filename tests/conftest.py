"""Fixtures shared by all tests, and an environment in which no test can use the network for a model."""

import os
from pathlib import Path

import pytest

# Before any test module imports transformers. HYBRID_CACHE keeps its default: models are converted once per machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The public data sets: `HYBRID_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("HYBRID_DATA") or _ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the public data sets: {folder} does not exist; set HYBRID_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def handbook() -> Path:
    """The example corpus: `docs/` and `questions.jsonl`."""
    return _ROOT / "examples" / "handbook"
