"""Embedders: texts to unit vectors."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import ModelError, writing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

_HASHED_WHOLE = 1 << 20
_SAMPLES = 16
_SAMPLE = 1 << 16
_MODEL_FILES = {".json", ".txt", ".model", ".safetensors", ".bin", ".pt", ".onnx"}
_SHOW_PROGRESS_FROM = 1000
_BLOCK = 8192
_REMEMBERED = 16384


class Embedder(Protocol):
    """Turns texts into float32 vectors `[n, d]` of length 1; their dot product is the cosine."""

    @property
    def name(self) -> str:
        """Identifies the weights: equal names give equal vectors."""

    @property
    def dimension(self) -> int:
        """Length d of a vector."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that are searched; an empty one raises ValueError."""

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that search; an empty one raises ValueError."""


def fingerprint_folder(path: Path, *, without: str = "") -> str:
    """Identify the model in the folder `path` by 32 hexadecimal digits.

    Hashed are the names, sizes and bytes of all configuration, tokenizer and weight files that are not hidden. Of a
    file above 1 MiB 16 blocks of 64 KiB, evenly spaced from the first byte to the last, stand for the whole: training
    moves every block, and a large model is identified in milliseconds. A byte changed between blocks goes unnoticed.

    Args:
        path: The folder.
        without: Name of a file that does not count.

    Raises:
        ModelError: The folder does not exist or holds no such file.
    """
    files = sorted(
        file.relative_to(path)
        for file in path.rglob("*")
        if file.suffix in _MODEL_FILES
        and file.name != without
        and file.is_file()
        and not _is_hidden(file.relative_to(path))
    )
    if not files:
        raise ModelError(f"no model in {path}: the folder is missing or holds no model files")
    digest = hashlib.sha256()
    for file in files:
        size = (path / file).stat().st_size
        digest.update(f"{file.as_posix()}\0{size}\0".encode())
        with (path / file).open("rb") as stream:
            if size <= _HASHED_WHOLE:
                digest.update(stream.read())
                continue
            for sample in range(_SAMPLES):
                stream.seek((size - _SAMPLE) * sample // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:32]


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


class SentenceEmbedder:
    """A sentence-transformers model in a local folder, loaded by the first use.

    Prompts that the model defines for questions and passages are applied. Passages longer than the model reads are cut
    with a warning that counts them.

    Args:
        path: Folder of the model.
        batch_size: Texts computed together.
        device: torch device; the fastest present by default.
    """

    def __init__(self, path: str | Path, batch_size: int = 32, device: str | None = None) -> None:
        self.path = Path(path)
        self.batch_size = batch_size
        self.device = device

    @cached_property
    def name(self) -> str:
        """Fingerprint of the model's files.

        Raises:
            ModelError: The folder holds no model.
        """
        return fingerprint_folder(self.path)

    @property
    def dimension(self) -> int:
        """Length of a vector; loads the model."""
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise ModelError(f"the model in {self.path} does not tell its dimension")
        return dimension

    @cached_property
    def _model(self) -> "SentenceTransformer":
        if not self.path.is_dir():
            raise ModelError(f"no embedding model at {self.path}: there is no such folder")
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(
                str(self.path),
                device=self.device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # damaged files surface as errors of torch, safetensors, json and others
            raise ModelError(f"the embedding model in {self.path} cannot be loaded: {error}") from error

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that are searched: `[len(texts), d]`.

        Raises:
            ValueError: A text is empty.
            ModelError: The model cannot be loaded, or returns values that are no numbers.
        """
        _refuse_empty(texts)
        self._warn_of_cuts(texts)
        return self._checked(self._model.encode_document(list(texts), **self._options(len(texts))), len(texts))

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that search: `[len(texts), d]`.

        Raises:
            ValueError: A text is empty.
            ModelError: The model cannot be loaded, or returns values that are no numbers.
        """
        _refuse_empty(texts)
        return self._checked(self._model.encode_query(list(texts), **self._options(len(texts))), len(texts))

    def _options(self, texts: int) -> dict[str, Any]:
        # The model sorts by length itself, so that a batch holds texts of like length.
        return {
            "batch_size": self.batch_size,
            "normalize_embeddings": True,
            "convert_to_numpy": True,
            "show_progress_bar": texts >= _SHOW_PROGRESS_FROM,
        }

    def _checked(self, vectors: Any, texts: int) -> Vectors:  # noqa: ANN401 - one of six types by the arguments
        checked = np.asarray(vectors, dtype=np.float32).reshape(texts, self.dimension)
        if not np.isfinite(checked).all():
            raise ModelError(f"the embedding model in {self.path} returned values that are no numbers")
        return checked

    def _warn_of_cuts(self, texts: Sequence[str]) -> None:
        limit = self._model.max_seq_length
        # A token has at least one character, nearly always, so short texts need no counting.
        long = [text for text in texts if limit is not None and len(text) > limit - 2]
        if limit is None or not long:
            return
        lengths = map(len, self._model.tokenizer(long, truncation=False, verbose=False)["input_ids"])
        if cut := sum(length > limit for length in lengths):
            warnings.warn(f"{cut} of {len(texts)} passages are longer than the {limit} tokens that the embedding "
                          "model reads; what comes after is not found by search", stacklevel=3)  # fmt: skip


def _refuse_empty(texts: Sequence[str]) -> None:
    for position, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"text {position} of {len(texts)} is empty; some models give no numbers for it")


class CachedEmbedder:
    """An embedder that computes each passage once and keeps its vector in `folder`.

    The vectors of a model lie in blocks of up to 8192, a file each: keys `[n, 32]`, the SHA-256 of model name and text,
    beside vectors `[n, d]`, so that both are replaced together. New ones fill up the last block and begin others, which
    are written at once, so that an interrupted run continues. Questions are remembered by this object alone, the last
    16,384.

    Attributes:
        computed: Passages computed so far by this object.
        reused: Passages found in the cache or earlier in the same call.
    """

    def __init__(self, inner: Embedder, folder: Path) -> None:
        self.inner = inner
        self.folder = folder
        self.computed = 0
        self.reused = 0
        self._asked: dict[str, Vectors] = {}

    @property
    def name(self) -> str:
        """Name of the inner embedder: the vectors are the same."""
        return self.inner.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.inner.dimension

    @property
    def files(self) -> list[Path]:
        """The blocks of this model's vectors, in the order in which they were begun."""
        return sorted(self.folder.glob(f"{self._stem}-*.safetensors"))

    @cached_property
    def _stem(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that search, `[len(texts), d]`, each once.

        Raises:
            ValueError: A text is empty.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._asked]
        self._asked.update(zip(missing, self.inner.embed_questions(missing), strict=True))
        vectors = np.stack([self._asked[text] for text in texts]) if texts else self.inner.embed_questions(texts)
        for oldest in list(self._asked)[:-_REMEMBERED]:
            del self._asked[oldest]
        return vectors

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed passages `[len(texts), d]`, computing those that the cache does not hold.

        Raises:
            ValueError: A text is empty.
        """
        _refuse_empty(texts)
        if not texts:
            return self.inner.embed_passages(texts)
        keys = [self._key(text) for text in texts]
        known = self._known
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.computed += len(missing)
        self.reused += len(texts) - len(missing)
        todo = list(missing.items())
        for start in range(0, len(todo), _BLOCK):
            part = todo[start : start + _BLOCK]
            vectors = self.inner.embed_passages([text for _, text in part])
            computed = dict(zip((key for key, _ in part), vectors, strict=True))
            known.update(computed)
            self._save(computed)
        return np.stack([known[key] for key in keys])

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.name}\0{text}".encode()).digest()

    @cached_property
    def _known(self) -> dict[bytes, Vectors]:
        return {key: vector for file in self.files for key, vector in _read_block(file).items()}

    def _save(self, computed: Mapping[bytes, Vectors]) -> None:
        files = self.files
        last = _read_block(files[-1]) if files else {}
        place = int(files[-1].stem.rpartition("-")[2]) if files else 0
        if len(last) >= _BLOCK:
            last, place = {}, place + 1
        rows = list({**last, **computed}.items())
        for block, start in enumerate(range(0, len(rows), _BLOCK), start=place):
            self._write(self.folder / f"{self._stem}-{block:06}.safetensors", dict(rows[start : start + _BLOCK]))

    def _write(self, file: Path, block: Mapping[bytes, Vectors]) -> None:
        from safetensors.numpy import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        keys = np.frombuffer(b"".join(block), dtype=np.uint8).reshape(-1, 32)
        handle, partial = tempfile.mkstemp(dir=self.folder, suffix=".partial")
        os.close(handle)
        try:
            with writing(file):
                save_file({"keys": keys, "vectors": np.stack(list(block.values()))}, partial)
            os.replace(partial, file)
        finally:
            Path(partial).unlink(missing_ok=True)


def _read_block(file: Path) -> dict[bytes, Vectors]:
    """The vectors of a block by key. One that is damaged is deleted with a warning, and empty."""
    from safetensors.numpy import load_file

    try:
        tensors = load_file(file)
        keys, vectors = tensors["keys"], tensors["vectors"]
        if keys.shape != (len(vectors), 32):
            raise ValueError(f"{keys.shape} keys for {len(vectors)} vectors")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("its vectors are not of length 1")
    except Exception as error:  # whatever is wrong with a cache, the way out is to compute again
        warnings.warn(f"{file} is damaged and is computed again: {error}", stacklevel=4)
        file.unlink(missing_ok=True)
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
