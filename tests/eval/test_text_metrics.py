"""Corpus scores against sacrebleu, perplexity and embedding similarity against their formulas."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu as reference_bleu
from sacrebleu import corpus_chrf as reference_chrf

from hybrid.errors import EvaluationError
from hybrid.eval.text_metrics import Vectors, corpus_bleu, corpus_chrf, embedding_similarity, perplexity

PREDICTIONS = ["the cat sat on the mat in the house", "replace the impeller every 200 hours", "no"]
GOLDS = [
    ["the cat sat on a mat in the house", "a cat was there"],
    ["every 200 hours the impeller is replaced"],
    ["no", "not so", "it is not"],
]
VECTORS = {"east": (1.0, 0.0), "north": (0.0, 1.0), "northeast": (math.sqrt(0.5), math.sqrt(0.5)), "west": (-1.0, 0.0)}


def embed(texts: Sequence[str]) -> Vectors:
    assert len(set(texts)) == len(texts)
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def test_corpus_scores_equal_sacrebleu() -> None:
    # sacrebleu itself takes None where a sentence has fewer references than others.
    columns: list[Sequence[str | None]] = [[some[i] if i < len(some) else None for some in GOLDS] for i in range(3)]
    assert corpus_bleu(PREDICTIONS, GOLDS) == pytest.approx(reference_bleu(PREDICTIONS, columns).score / 100)  # type: ignore[arg-type]
    assert corpus_chrf(PREDICTIONS, GOLDS) == pytest.approx(reference_chrf(PREDICTIONS, columns).score / 100)  # type: ignore[arg-type]
    assert 0 < corpus_bleu(PREDICTIONS, GOLDS) < 1


def test_corpus_bleu_sees_characters_of_unspaced_scripts() -> None:
    assert corpus_bleu(["中国的首都是北京"], [["中国的首都是北京"]]) == 1.0


@pytest.mark.parametrize("score", [corpus_bleu, corpus_chrf])
def test_corpus_scores_refuse_what_they_cannot_score(score: type) -> None:
    with pytest.raises(EvaluationError, match="at least one answer"):
        score([], [])
    with pytest.raises(EvaluationError, match="answer 1 has no gold answer"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(EvaluationError, match="2 answers, but gold answers for 1"):
        score(["a", "b"], [["a"]])


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=5), min_size=1, max_size=5))
def test_perplexity_is_that_of_torch(log_probs: list[list[float]]) -> None:
    flat = torch.tensor([value for text in log_probs for value in text], dtype=torch.float64)
    assert perplexity(log_probs) == pytest.approx(float(torch.exp(-flat.mean())))


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary() -> None:
    assert perplexity([[-math.log(50)] * 7, [-math.log(50)]]) == pytest.approx(50)


def test_perplexity_has_no_nan() -> None:
    assert perplexity([[-math.inf, -1.0]]) == math.inf
    assert perplexity([[-1e6]]) == math.inf
    with pytest.raises(EvaluationError, match=r"nan is not the logarithm of a probability \(place 1\)"):
        perplexity([[-1.0], [math.nan]])
    with pytest.raises(EvaluationError, match=r"0\.5 is not the logarithm"):
        perplexity([[0.5]])
    with pytest.raises(EvaluationError, match="at least one token"):
        perplexity([[], []])


def test_embedding_similarity_takes_the_nearest_gold_answer() -> None:
    found = embedding_similarity(["east", "east", "east", " "], [["north", "northeast"], ["west"], [], ["east"]], embed)
    assert found == pytest.approx([math.sqrt(0.5), -1.0, 0.0, 0.0])


def test_embedding_similarity_stays_within_bounds() -> None:
    assert embedding_similarity(["a"], [["a"]], lambda _: np.array([[1.00001, 0.0]], dtype=np.float32)) == [1.0]


def test_a_broken_embedder_is_named() -> None:
    with pytest.raises(EvaluationError, match="finite vectors"):
        embedding_similarity(["a"], [["a"]], lambda _: np.array([[math.nan, 1.0]], dtype=np.float32))
    with pytest.raises(EvaluationError, match="finite vectors"):
        embedding_similarity(["a"], [["b"]], lambda _: np.array([[0.0, 1.0]], dtype=np.float32))
