"""The index: an update equals a fresh build, and damage on disk is noticed."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.errors import ArtefactError, DocumentError
from hybrid.retrieval import CachedEmbedder, Chunker, Embedder, Index
from hybrid.retrieval.embed import Vectors
from hybrid.types import Chunk, Document

WORDS = [f"{name}.csc.index.npy" for name in ("data", "indices", "indptr")] + ["params.index.json", "vocab.index.json"]
FILES = ["vectors.safetensors", "chunks.jsonl", "documents.jsonl", "index.json", *(f"words/{name}" for name in WORDS)]


def documents(**texts: str) -> list[Document]:
    return [Document(key, text, key.upper(), {"path": key}) for key, text in texts.items()]


SOME = documents(b="Oil the pump every day. " * 12, a="Replace\u2028 the seal.", c="Ελληνικά 日本語")


def assert_same(one: Index, other: Index) -> None:
    assert one.chunks == other.chunks
    assert list(one.documents.items()) == list(other.documents.items())
    assert one.meta == other.meta
    np.testing.assert_array_equal(one.vectors, other.vectors)
    for question in ("oil", "the seal of Ελληνικά", "日本語"):
        assert one.bm25.search(question, 9) == other.bm25.search(question, 9)


def test_build(chunker: Chunker, embedder: Embedder) -> None:
    index = Index.build(SOME, chunker, embedder)
    assert list(index.documents) == ["a", "b", "c"]
    assert index.vectors.shape == (len(index.chunks), embedder.dimension)
    keys = [(chunk.document, chunk.start) for chunk in index.chunks]
    assert keys == sorted(keys)
    chunk = index.chunks[2]
    assert index.chunk(chunk.id) is chunk
    with pytest.raises(KeyError, match="no chunk 'x'"):
        index.chunk("x")
    assert_same(index, Index.build(SOME[::-1], chunker, embedder))


def test_a_full_disk_is_told_as_one(
    chunker: Chunker,
    embedder: Embedder,
    tmp_path: Path,
    short_files: Callable[[int], AbstractContextManager[None]],
) -> None:
    index = Index.build(SOME, chunker, embedder)
    with short_files(64), pytest.raises(OSError, match=f"File too large: '{tmp_path}/index"):
        index.save(tmp_path / "index")


def test_the_title_is_embedded(chunker: Chunker, embedder: Embedder) -> None:
    shown = Document("1", "Pump seal", title="Pump")
    index = Index.build([shown, Document("2", "seal", title="Pump")], chunker, embedder)
    np.testing.assert_array_equal(index.vectors, embedder.embed_passages(["Pump seal", "Pump seal"]))


@pytest.mark.parametrize("texts", [[], [Document("a", " \n")]])
def test_nothing_to_index(chunker: Chunker, embedder: Embedder, texts: list[Document]) -> None:
    with pytest.raises(DocumentError, match="nothing to index"):
        Index.build(texts, chunker, embedder)


def test_ids_are_unique(chunker: Chunker, embedder: Embedder) -> None:
    with pytest.raises(DocumentError, match="'a'"):
        Index.build([*SOME, Document("a", "again")], chunker, embedder)


contents = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from(["one", "two three", "four. " * 30, " "]), max_size=6
)


@given(before=contents, after=contents)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_update_equals_build(
    before: dict[str, str], after: dict[str, str], chunker: Chunker, embedder: Embedder
) -> None:
    base = {"kept": "stays as it is"}
    old, new = base | before, base | after
    update = Index.build(documents(**old), chunker, embedder).update(documents(**new), chunker, embedder)
    assert_same(update.index, Index.build(documents(**new), chunker, embedder))
    assert set(update.added) == new.keys() - old.keys()
    assert set(update.deleted) == old.keys() - new.keys()
    assert set(update.changed) == {key for key in old.keys() & new.keys() if old[key] != new[key]}
    assert set(update.unchanged) == {key for key in old.keys() & new.keys() if old[key] == new[key]}


def test_update_computes_only_what_changed(
    chunker: Chunker, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.build(SOME, chunker, embedder)
    cached = CachedEmbedder(embedder, tmp_path)
    chunked: list[str] = []
    chunk = Chunker.chunk

    def watched(self: Chunker, document: Document) -> list[Chunk]:
        chunked.append(document.id)
        return chunk(self, document)

    monkeypatch.setattr(Chunker, "chunk", watched)
    changed = [*documents(a="New words."), *SOME[:1], *SOME[2:]]
    update = index.update(changed, chunker, cached)
    assert (update.changed, update.unchanged) == (("a",), ("b", "c"))
    assert chunked == ["a"]
    assert cached.computed == 1
    assert index.update(SOME, chunker, cached).unchanged == ("a", "b", "c")
    assert cached.computed == 1


def test_a_new_title_or_new_settings_change_documents(words: Path, chunker: Chunker, embedder: Embedder) -> None:
    index = Index.build(SOME, chunker, embedder)
    renamed = [Document("a", SOME[1].text, "Other"), SOME[0], SOME[2]]
    assert index.update(renamed, chunker, embedder).changed == ("a",)
    other = Chunker(words, 32)
    update = index.update(SOME, other, embedder)
    assert update.changed == ("a", "b", "c")
    assert_same(update.index, Index.build(SOME, other, embedder))


def test_second_build_from_the_cache(chunker: Chunker, embedder: Embedder, tmp_path: Path) -> None:
    first = CachedEmbedder(embedder, tmp_path)
    index = Index.build(SOME, chunker, first)
    second = CachedEmbedder(embedder, tmp_path)
    assert_same(Index.build(SOME, chunker, second), index)
    assert first.computed > 0
    assert second.computed == 0


def _of_vectors(chunker: Chunker, embedder: Embedder, vectors: Vectors) -> Index:
    built = Index.build([Document(f"{number:04}", "text") for number in range(len(vectors))], chunker, embedder)
    return Index(built.documents, built.chunks, vectors, built.bm25, built.meta)


@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=120), k=st.integers(1, 30), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nearest_are_those_of_a_sort_of_all_chunks(
    rows: list[int], k: int, seed: int, chunker: Chunker, embedder: Embedder
) -> None:
    # Few vectors, so that many chunks tie; one is nearly another, within what float32 rounds.
    rng = np.random.default_rng(seed)
    some = rng.normal(size=(6, 8)).astype(np.float32)
    some[1] = some[0] + np.float32(1e-7)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    index = _of_vectors(chunker, embedder, some[rows])
    for asked, found in zip(some, index.nearest(some, k), strict=True):
        scores = (index.vectors.astype(float) * asked.astype(float)).sum(axis=1)
        best = np.argsort(-scores, kind="stable")[:k]
        assert found == (tuple(best), tuple(scores[best]))


def test_of_equal_chunks_few_are_scored(chunker: Chunker, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.eye(32, dtype=np.float32)[[7] * 900 + list(range(32))]
    index = _of_vectors(chunker, embedder, vectors)
    scored: list[int] = []
    cosines = Index.cosines

    def watched(self: Index, vector: Vectors, positions: Sequence[int]) -> npt.NDArray[np.float64]:
        scored.append(len(positions))
        return cosines(self, vector, positions)

    monkeypatch.setattr(Index, "cosines", watched)
    (found,) = index.nearest(vectors[:1], 5)
    assert found == ((0, 1, 2, 3, 4), (1.0,) * 5)
    assert scored[0] <= 5 + 31


def test_save_and_load(chunker: Chunker, embedder: Embedder, tmp_path: Path) -> None:
    index = Index.build(SOME, chunker, embedder)
    index.save(tmp_path / "deep" / "index")
    folder = tmp_path / "deep" / "index"
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(FILES)
    loaded = Index.load(folder)
    assert_same(loaded, index)
    assert loaded.update(SOME, chunker, embedder).unchanged == ("a", "b", "c")
    meta = json.loads((folder / "index.json").read_text())
    assert (meta["embedder"], meta["dimension"], meta["chunker"]["size"]) == ("hash", 32, 16)


def test_saving_twice_gives_the_same_bytes(chunker: Chunker, embedder: Embedder, tmp_path: Path) -> None:
    for name in ("one", "two"):
        Index.build(SOME, chunker, embedder).save(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped"])
def test_damage_is_noticed(chunker: Chunker, embedder: Embedder, tmp_path: Path, name: str, damage: str) -> None:
    Index.build(SOME, chunker, embedder).save(tmp_path)
    file = tmp_path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x80
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": bytes(content[:-20]), "empty": b"", "flipped": bytes(content)}[damage])
    with pytest.raises(ArtefactError, match=name.replace(".", r"\.")):
        Index.load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": 99}', '{"version": 1}', "null"])
def test_another_version(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"index\.json"):
        Index.load(tmp_path)
