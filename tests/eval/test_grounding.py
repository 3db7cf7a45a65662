"""Groundedness: each method on cases with a known answer, AUROC against scikit-learn, and the public sets."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hybrid.errors import EvaluationError
from hybrid.eval.grounding import (
    Facts,
    Grounding,
    Lexical,
    Similarity,
    auroc,
    auroc_interval,
    inverse_document_frequency,
    sentences,
)
from hybrid.eval.text_metrics import Vectors

# By an implementation of their own, as published with the sets.
REFERENCE = {"fever_symmetric_dev": 0.654, "scifact_train": 0.711, "halueval_qa_oneturn": 0.907}


def letters(texts: Sequence[str]) -> Vectors:
    """A stand-in for an embedder: the counts of letters, or that there are none, at length 1."""
    assert len(set(texts)) == len(texts) and all(text.strip() for text in texts)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    counts = np.array([[text.lower().count(letter) for letter in alphabet] for text in texts])
    counts = np.column_stack([counts, counts.sum(axis=1) == 0])
    vectors: Vectors = (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)
    return vectors


@pytest.mark.parametrize(
    ("source", "claim", "share"),
    [
        ("The pump is new.", "the pump", 1.0),
        ("The pump is new.", "An old pump", 1 / 3),
        ("The pump is new.", "pump pump old", 2 / 3),
        ("A state-of-the-art pump", "state of the art", 1.0),
        ("北京是首都", "北京", 1.0),
        ("The pump", "", 0.0),
        ("", "The pump", 0.0),
        ("The pump", "...", 0.0),
    ],
)
def test_share_of_words(source: str, claim: str, share: float) -> None:
    assert Lexical().score([(source, claim)]) == [pytest.approx(share)]


def test_rare_words_weigh_more() -> None:
    sources = ["the pump is new", "the tank is new", "the pump is old", "the tank is full"]
    weights = inverse_document_frequency(sources)
    assert weights["the"] == pytest.approx(math.log(1 + 0.5 / 4.5))
    assert weights["pump"] == pytest.approx(math.log(1 + 2.5 / 2.5))
    assert inverse_document_frequency([*sources, *sources]) == weights
    missing_rare, missing_common = Lexical(weights).score([("the", "the pump"), ("pump", "the pump")])
    assert missing_rare == pytest.approx(weights["the"] / (weights["the"] + weights["pump"]))
    assert missing_rare < 0.5 < missing_common
    # A word that no source has is as rare as the rarest.
    assert Lexical(weights).score([("full", "full valve")]) == [pytest.approx(0.5)]


@pytest.mark.parametrize(
    ("source", "claim", "taken_off"),
    [
        ("It holds 5 litres.", "It holds 5 litres.", 0.0),
        ("It holds 5 or 6 litres.", "It holds 5 7 litres.", 0.125),
        ("It costs 1,000.", "It costs 1,000.", 0.0),
        ("It is new. It was not sold.", "It is new.", 0.0),
        ("It is new. It was not sold.", "It was sold.", 0.25),
        ("It is new.", "It isn't new.", 0.25),
        ("It never runs.", "It does not run.", 0.0),
        ("It notes nobles.", "It notes nobles.", 0.0),
        ("", "It is not new in 1969.", 0.5),
    ],
)
def test_numbers_and_negations_are_taken_off(source: str, claim: str, taken_off: float) -> None:
    (share,), (score,) = Lexical().score([(source, claim)]), Facts().score([(source, claim)])
    assert score == pytest.approx(share - taken_off)


def test_similarity_is_the_cosine_of_the_source_or_of_its_nearest_sentence() -> None:
    pairs = [("aab. ccd.", "ccd"), ("aab", "aab"), ("", "aab"), ("aab", " ")]
    whole = Similarity(letters, by_sentence=False).score(pairs)
    nearest = Similarity(letters, by_sentence=True).score(pairs)
    assert whole == pytest.approx([5 / math.sqrt(10 * 5), 1.0, 0.0, 0.0], abs=1e-6)
    assert nearest == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-6)


def test_sentences() -> None:
    assert sentences(" One.\nTwo\n\nThree? Four 2.5! ") == ["One.", "Two", "Three?", "Four 2.5!"]
    assert sentences(" \n ") == []


METHODS: list[Grounding] = [
    Lexical(),
    Lexical({"a": 2.0, "b": 1.0}),
    Facts(),
    Similarity(letters, by_sentence=True),
]


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.text("ab1. not", max_size=12), st.text("ab1. not", max_size=12)), max_size=4))
@example([(". 1", "")])
def test_scores_are_finite_and_each_by_its_own_pair(method: Grounding, pairs: list[tuple[str, str]]) -> None:
    pairs = [(f"x {source}", f"x {claim}") for source, claim in pairs]
    scores = method.score(pairs)
    assert len(scores) == len(pairs)
    assert all(-1.0 <= score <= 1.0 for score in scores)
    assert method.score(pairs[::-1]) == pytest.approx(scores[::-1], abs=1e-6)


scored = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30)


@settings(deadline=None)
@given(scored.filter(lambda rows: len({label for label, _ in rows}) == 2))
def test_auroc_equals_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in rows], [float(score) for _, score in rows]
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_refuses_what_has_no_area() -> None:
    with pytest.raises(EvaluationError, match="2 of 2 claims are supported; AUROC needs both sorts"):
        auroc([True, True], [0.1, 0.2])
    with pytest.raises(EvaluationError, match="1 of them NaN"):
        auroc([True, False], [math.nan, 0.2])


def test_interval_holds_the_value_and_is_wider_by_group() -> None:
    rng = np.random.default_rng(0)
    labels = [bool(i % 2) for i in range(60)]
    scores = [float(label) + rng.normal() for label in labels for _ in range(5)]
    repeated = [label for label in labels for _ in range(5)]
    alone = auroc_interval(repeated, scores, [str(i) for i in range(300)], resamples=300)
    copies = auroc_interval(repeated * 4, scores * 4, [str(i) for i in range(300)] * 4, resamples=300)
    naive = auroc_interval(repeated * 4, scores * 4, [str(i) for i in range(1200)], resamples=300)
    assert alone[0] < auroc(repeated, scores) < alone[1]
    assert copies == pytest.approx(alone, abs=0.02)
    assert naive[1] - naive[0] < 0.7 * (copies[1] - copies[0])
    assert auroc_interval(repeated, scores, [str(i) for i in range(300)], resamples=300) == alone


@pytest.mark.parametrize("name", REFERENCE)
def test_public_sets_give_the_published_figures(data_folder: Path, name: str) -> None:
    file = data_folder / "ground" / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} does not exist")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    pairs = [(row["source"], row["claim"]) for row in rows]
    labels = [row["label"] == 1 for row in rows]
    plain = auroc(labels, Lexical().score(pairs))
    assert plain == pytest.approx(REFERENCE[name], abs=0.01)
    if name != "halueval_qa_oneturn":
        weights = inverse_document_frequency([source for source, _ in pairs])
        weighted = auroc(labels, Lexical(weights).score(pairs))
        assert plain < weighted < auroc(labels, Facts(weights).score(pairs))
