"""Reranking: what a cross-encoder says decides the first places, and nothing else changes."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from hybrid.errors import ModelError
from hybrid.retrieval import Chunker, CrossEncoderReranker, Embedder, Index, Retriever
from hybrid.retrieval.fuse import Nearest
from hybrid.retrieval.index import passage_text
from hybrid.retrieval.rerank import Read, reorder
from hybrid.types import Document, Search

WORDS = "oil pump seal motor valve filter daily weekly replace check clean".split()
QUESTIONS = ["how often oil the pump", "replace seal"]


@pytest.fixture(scope="module")
def cross_encoder(tiny_cross_encoder: Callable[..., Path]) -> Path:
    return tiny_cross_encoder()


def corpus(size: int) -> list[Document]:
    random = np.random.default_rng(0)
    return [Document(f"d{number:03}", " ".join(random.choice(WORDS, 8))) for number in range(size)]


def logits_of(folder: Path, pairs: Sequence[Read]) -> NDArray[np.float64]:
    """By transformers alone, one pair at a time."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    with torch.no_grad():
        values = [
            model(**tokenizer(*pair, truncation=True, max_length=256, return_tensors="pt")).logits.item()
            for pair in pairs
        ]
    return np.array(values)


def test_scores_are_those_of_the_model(cross_encoder: Path) -> None:
    pairs = [Read(question, document.text) for question in QUESTIONS for document in corpus(20)]
    pairs.append(Read("oil", "pump " * 300))
    reranker = CrossEncoderReranker(cross_encoder, batch_size=7, device="cpu")
    with pytest.warns(UserWarning, match="1 of 41 passages are, with their question, longer than the 256 tokens"):
        scores = reranker.score(pairs)
    np.testing.assert_allclose(scores, logits_of(cross_encoder, pairs), atol=2e-4)
    assert np.std(scores) > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reranker.score(pairs[:1]).tolist() == scores[:1].tolist()
    assert reranker.score([]).shape == (0,)


@pytest.mark.parametrize("by", get_args(Search))
def test_the_best_of_a_search_are_ordered_by_the_model(
    chunker: Chunker, embedder: Embedder, cross_encoder: Path, by: Search
) -> None:
    index = Index.build(corpus(150), chunker, embedder)
    reranker = CrossEncoderReranker(cross_encoder, device="cpu")
    plain, reranked = Retriever(index, embedder, by), Retriever(index, embedder, by, reranker, depth=20)
    before, after = plain.search(QUESTIONS, 150), reranked.search(QUESTIONS, 150)
    for question, hits, found in zip(QUESTIONS, before, after, strict=True):
        scores = logits_of(cross_encoder, [Read(question, passage_text(hit.chunk)) for hit in hits[:20]]).round(4)
        expected = [hits[place].chunk.id for place in np.argsort(-scores, kind="stable")]
        assert [hit.chunk.id for hit in found[:20]] == expected
        assert [hit.chunk.id for hit in found[:20]] != [hit.chunk.id for hit in hits[:20]]
        assert [hit.chunk.id for hit in found[20:]] == [hit.chunk.id for hit in hits[20:]]
        np.testing.assert_allclose(
            [hit.score for hit in found[:20]], np.sort(1 / (1 + np.exp(-scores)))[::-1], atol=1e-4
        )
        assert [hit.rank for hit in found] == list(range(1, 151))
        assert {hit.chunk.id: hit.cosine for hit in found} == {hit.chunk.id: hit.cosine for hit in hits}
    # However many are asked for, the same ones are read.
    assert [found[:3] for found in after] == reranked.search(QUESTIONS, 3)
    assert reranked.search(QUESTIONS[:1], 30) == [after[0][:30]]


def test_neighbours_are_those_of_the_vectors(chunker: Chunker, embedder: Embedder, cross_encoder: Path) -> None:
    index = Index.build(corpus(20), chunker, embedder)
    reranked = Retriever(index, embedder, "fused", CrossEncoderReranker(cross_encoder, device="cpu"))
    ids = [index.chunks[3].id]
    assert reranked.neighbours(ids, 5) == Retriever(index, embedder).neighbours(ids, 5)


@given(scores=st.lists(st.integers(-3, 3), max_size=8), rest=st.integers(0, 3))
def test_reordering_keeps_every_passage_once(scores: list[int], rest: int) -> None:
    size = len(scores) + rest
    nearest = Nearest(tuple(range(10, 10 + size)), tuple(float(size - place) for place in range(size)))
    found = reorder(nearest, [float(score) for score in scores])
    assert sorted(found.positions) == list(nearest.positions)
    assert found.positions[len(scores) :] == nearest.positions[len(scores) :]
    assert list(found.scores) == sorted(found.scores, reverse=True)
    read = [scores[position - 10] for position in found.positions[: len(scores)]]
    assert read == sorted(read, reverse=True)
    for first, second in zip(found.positions, found.positions[1:], strict=False):
        if second - 10 < len(scores) and scores[first - 10] == scores[second - 10]:
            assert first < second, "equal scores keep their order"


@pytest.mark.parametrize("score", [-1e6, 1e6])
def test_extreme_logits_stay_scores(score: float) -> None:
    assert 0 <= reorder(Nearest((1,), (0.5,)), [score]).scores[0] <= 1


def test_models_that_are_no_rerankers(tiny_cross_encoder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives 3 values for a passage; a reranker gives one"):
        CrossEncoderReranker(tiny_cross_encoder(labels=3), device="cpu").score([Read("a", "b")])
    with pytest.raises(ModelError, match="cannot be loaded"):
        CrossEncoderReranker(tmp_path / "missing").score([Read("a", "b")])
    damaged = tiny_cross_encoder()
    (damaged / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot be loaded"):
        CrossEncoderReranker(damaged).score([Read("a", "b")])
