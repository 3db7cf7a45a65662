"""Entailment by tiny random classifiers: the class by its name, batches, cut sources, errors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybrid.errors import EvaluationError, ModelError
from hybrid.eval.entailment import Entailment, entailment_label

Build = Callable[..., Path]
PAIRS = [
    ("The pump was built in 1969 by the company.", "The pump is old."),
    ("Short.", "The pump was built."),
    ("The tank holds five litres of water. " * 3, "It holds water."),
]


@pytest.fixture
def classifier(tiny_embedder: Path, tmp_path: Path) -> Build:
    """A random BERT with two or three classes of given names."""

    def build(labels: list[str], positions: int = 256) -> Path:
        from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

        tokenizer = AutoTokenizer.from_pretrained(tiny_embedder)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=positions,
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        folder = tmp_path / "-".join(labels)
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.mark.parametrize(
    ("labels", "number"),
    [
        (["contradiction", "neutral", "entailment"], 2),
        (["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], 0),
        (["not_entailment", "entailment"], 1),
        (["REFUTED", "SUPPORTED"], 1),
    ],
)
def test_the_class_is_found_by_its_name(labels: list[str], number: int) -> None:
    assert entailment_label(dict(enumerate(labels))) == number


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["not_entailment", "neutral"], ["entails", "entailment"]])
def test_a_model_that_does_not_say_is_refused(labels: list[str]) -> None:
    with pytest.raises(ModelError, match="do not say which one is entailment"):
        entailment_label(dict(enumerate(labels)))


def test_scores_are_the_probabilities_of_that_class(classifier: Build) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier(["contradiction", "entailment", "neutral"])
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = [float(model(**tokenizer(*pair, return_tensors="pt")).logits.softmax(-1)[0, 1]) for pair in PAIRS]
    method = Entailment(folder, batch_size=2)
    assert method.score(PAIRS) == pytest.approx(expected, abs=1e-5)
    assert method.score(PAIRS[::-1]) == pytest.approx(expected[::-1], abs=1e-5)
    assert len({round(score, 4) for score in expected}) == len(PAIRS)
    assert method.cut == 0
    assert method.score([]) == []


def test_a_long_source_is_cut_and_counted_and_a_long_claim_refused(classifier: Build) -> None:
    method = Entailment(classifier(["entailment", "other"], positions=24))
    kept, longer = method.score([("water " * 15, "It holds."), ("water " * 15 + "and fire " * 90, "It holds.")])
    assert method.cut >= 1
    assert 0 <= kept <= 1 and 0 <= longer <= 1
    with pytest.raises(EvaluationError, match="leaves no room for its source: 'water water"):
        method.score([("It holds.", "water " * 90)])


def test_a_model_without_classes_is_refused(tiny_embedder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded|do not say"):
        Entailment(tiny_embedder).score(PAIRS)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Entailment(tmp_path).score(PAIRS)
