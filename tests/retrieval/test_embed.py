"""Embedders: unit vectors, identity by weights, a cache that survives damage."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from hybrid.errors import ModelError
from hybrid.retrieval import CachedEmbedder, Embedder, SentenceEmbedder, embed, fingerprint_folder

TEXTS = ["Oil the pump.", "Replace the seal.", "Oil the pump.", "日本語の文章"]


class Counting:
    """Passes on to another embedder and keeps what it was asked."""

    def __init__(self, inner: Embedder, name: str = "") -> None:
        self.inner = inner
        self.name = name or inner.name
        self.dimension = inner.dimension
        self.asked: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> embed.Vectors:
        self.asked += texts
        return self.inner.embed_passages(texts)

    def embed_questions(self, texts: Sequence[str]) -> embed.Vectors:
        return self.inner.embed_questions(texts)


def test_cache_computes_once(embedder: Embedder, tmp_path: Path) -> None:
    first = CachedEmbedder(embedder, tmp_path / "new" / "cache")
    vectors = first.embed_passages(TEXTS)
    np.testing.assert_array_equal(vectors, embedder.embed_passages(TEXTS))
    assert (first.computed, first.reused) == (3, 1)
    second = CachedEmbedder(embedder, tmp_path / "new" / "cache")
    np.testing.assert_array_equal(second.embed_passages(TEXTS[::-1]), vectors[::-1])
    assert (second.computed, second.reused) == (0, 4)
    assert [file.suffix for file in second.folder.iterdir()] == [".safetensors"]


def test_cache_keeps_models_apart(embedder: Embedder, tmp_path: Path) -> None:
    CachedEmbedder(embedder, tmp_path).embed_passages(TEXTS)
    other = CachedEmbedder(Counting(embedder, "other"), tmp_path)
    other.embed_passages(TEXTS)
    assert other.computed == 3
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "junk", "zeroed", "shape"])
def test_damaged_cache_is_discarded(embedder: Embedder, tmp_path: Path, damage: str) -> None:
    cache = CachedEmbedder(embedder, tmp_path)
    vectors = cache.embed_passages(TEXTS)
    content = cache.files[0].read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "junk": b"junk" * 100,
        "zeroed": content[:-128] + bytes(128),
        "shape": content.replace(b"[3,32]", b"[32,3]"),
    }
    cache.files[0].write_bytes(damaged[damage])
    again = CachedEmbedder(embedder, tmp_path)
    with pytest.warns(UserWarning, match="damaged and is computed again"):
        np.testing.assert_array_equal(again.embed_passages(TEXTS), vectors)
    assert again.computed == 3
    assert cache.files[0].read_bytes() == content


def test_interrupted_run_continues(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_BLOCK", 2)

    class Failing(Counting):
        def embed_passages(self, texts: Sequence[str]) -> embed.Vectors:
            if self.asked:
                raise KeyboardInterrupt
            return super().embed_passages(texts)

    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(Failing(embedder), tmp_path).embed_passages(["a", "b", "c"])
    rest = Counting(embedder)
    CachedEmbedder(rest, tmp_path).embed_passages(["a", "b", "c"])
    assert rest.asked == ["c"]


def test_blocks_are_filled_up_and_no_full_one_is_written_again(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_BLOCK", 2)
    texts = list("abcdefg")
    CachedEmbedder(embedder, tmp_path).embed_passages(texts[:3])
    cache = CachedEmbedder(embedder, tmp_path)
    full = cache.files[0].read_bytes()
    cache.files[0].chmod(0o400)
    inode = cache.files[0].stat().st_ino
    np.testing.assert_array_equal(cache.embed_passages(texts[:6]), embedder.embed_passages(texts[:6]))
    assert (cache.files[0].read_bytes(), cache.files[0].stat().st_ino) == (full, inode)
    assert len(cache.files) == 3
    rest = Counting(embedder)
    again = CachedEmbedder(rest, tmp_path)
    np.testing.assert_array_equal(again.embed_passages(texts), embedder.embed_passages(texts))
    assert rest.asked == ["g"]
    assert len(again.files) == 4


def test_a_damaged_block_costs_its_own_vectors_alone(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_BLOCK", 2)
    texts = list("abcdef")
    CachedEmbedder(embedder, tmp_path).embed_passages(texts)
    CachedEmbedder(embedder, tmp_path).files[1].write_bytes(b"junk")
    rest = Counting(embedder)
    with pytest.warns(UserWarning, match="damaged and is computed again"):
        vectors = CachedEmbedder(rest, tmp_path).embed_passages(texts)
    np.testing.assert_array_equal(vectors, embedder.embed_passages(texts))
    assert rest.asked == ["c", "d"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent = CachedEmbedder(Counting(embedder), tmp_path)
        silent.embed_passages(texts)
    assert silent.computed == 0


def test_two_writers_lose_nothing(embedder: Embedder, tmp_path: Path) -> None:
    first, second = CachedEmbedder(embedder, tmp_path), CachedEmbedder(embedder, tmp_path)
    first.embed_passages(["a"])
    second.embed_passages(["b"])
    first.embed_passages(["c"])
    rest = Counting(embedder)
    CachedEmbedder(rest, tmp_path).embed_passages(["a", "b", "c"])
    assert rest.asked == []


def test_questions_are_remembered_up_to_a_number(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_REMEMBERED", 2)
    cache = CachedEmbedder(embedder, tmp_path)
    np.testing.assert_array_equal(cache.embed_questions(list("abca")), embedder.embed_questions(list("abca")))
    assert list(cache._asked) == ["b", "c"]


def test_failed_write_leaves_the_old_cache(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CachedEmbedder(embedder, tmp_path)
    cache.embed_passages(["a"])
    before = cache.files[0].read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        cache.embed_passages(["b"])
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_a_full_disk_is_told_as_one(
    embedder: Embedder, tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    with short_files(16), pytest.raises(OSError, match=r"File too large: .*-000000\.safetensors"):
        CachedEmbedder(embedder, tmp_path).embed_passages(["a"])
    assert list(tmp_path.iterdir()) == []


def test_empty_text_is_refused(embedder: Embedder, tmp_path: Path) -> None:
    cache = CachedEmbedder(embedder, tmp_path)
    with pytest.raises(ValueError, match="text 1 of 2 is empty"):
        cache.embed_passages(["a", " \n"])
    assert cache.embed_passages([]).shape[0] == 0


def test_fingerprint_names_the_weights(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "1_Pooling" / "config.json").write_text("{}")
    weights = bytearray(np.random.default_rng(0).bytes(3 << 20))
    (model / "model.safetensors").write_bytes(weights)
    first = fingerprint_folder(model)
    shutil.copytree(model, tmp_path / "copy")
    assert fingerprint_folder(tmp_path / "copy") == first
    (model / "README.md").write_text("other")
    (model / ".cache").mkdir()
    (model / ".cache" / "x.json").write_text("other")
    assert fingerprint_folder(model) == first
    seen = {first}
    for place in (0, len(weights) - 1):
        weights[place] ^= 1
        (model / "model.safetensors").write_bytes(weights)
        seen.add(fingerprint_folder(model))
    (model / "1_Pooling" / "config.json").write_text('{"mode": "cls"}')
    seen.add(fingerprint_folder(model))
    assert len(seen) == 4


def test_no_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ModelError, match="no model in"):
            _ = SentenceEmbedder(path).name
    with pytest.raises(ModelError, match="no such folder"):
        SentenceEmbedder(tmp_path / "missing").embed_questions(["a"])


def test_damaged_model(minilm: Path, tmp_path: Path) -> None:
    model = shutil.copytree(minilm, tmp_path / "model")
    with (model / "model.safetensors").open("r+b") as stream:
        stream.truncate(1_000_000)
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceEmbedder(model).embed_passages(["a"])


@pytest.fixture(scope="module")
def real(minilm: Path) -> SentenceEmbedder:
    return SentenceEmbedder(minilm, device="cpu")


def test_real_model(real: SentenceEmbedder) -> None:
    texts = ["Oil the pump every day. " * 20, *TEXTS]
    vectors = real.embed_passages(texts)
    assert vectors.shape == (5, real.dimension) == (5, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    one_by_one = np.concatenate([real.embed_passages([text]) for text in texts])
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)
    question = real.embed_questions(["When must the pump be oiled?"])
    assert (vectors @ question[0]).argmax() in (0, 1)
    assert real.embed_questions([]).shape == real.embed_passages([]).shape == (0, 384)
    with pytest.raises(ValueError, match="text 0 of 1 is empty"):
        real.embed_questions([""])


def test_real_model_says_what_it_cuts(real: SentenceEmbedder) -> None:
    with pytest.warns(UserWarning, match="1 of 2 passages are longer than the 256 tokens"):
        real.embed_passages(["word " * 300, "word " * 200])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        real.embed_passages(["word " * 254])


def test_a_file_that_does_not_count_changes_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    before = fingerprint_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    assert fingerprint_folder(tmp_path, without="manifest.json") == before != fingerprint_folder(tmp_path)
