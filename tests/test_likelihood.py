"""Log-probabilities in batches equal those of one text at a time."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from hybrid.errors import EvaluationError
from hybrid.eval.text_metrics import perplexity as of_log_probs
from hybrid.forgetting import perplexity, text_log_probs
from hybrid.likelihood import Sample, token_log_probs
from hybrid.models import load_tokenizer

SAMPLES = [Sample([5], [6, 7, 8]), Sample([9, 10, 11, 12], [13]), Sample([5, 6], []), Sample([8] * 9, [9] * 14)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_model)
    return loaded.eval()  # type: ignore[no-untyped-call, no-any-return]


def alone(model: PreTrainedModel, sample: Sample) -> list[float]:
    ids = torch.tensor([[*sample.prompt, *sample.target]])
    with torch.no_grad():
        values = model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(sample.prompt)
    return [float(values[first + i - 1, token]) for i, token in enumerate(sample.target)]


@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_batches_equal_one_by_one(model: PreTrainedModel, batch_tokens: int) -> None:
    found = token_log_probs(model, SAMPLES, batch_tokens=batch_tokens)
    for values, sample in zip(found, SAMPLES, strict=True):
        assert values == pytest.approx(alone(model, sample), abs=1e-4)


def test_the_prompt_matters_and_must_not_be_empty(model: PreTrainedModel) -> None:
    one, other = token_log_probs(model, [Sample([5], [6, 7]), Sample([8], [6, 7])])
    assert one != pytest.approx(other, abs=1e-3)
    with pytest.raises(ValueError, match="sample 1 has an empty prompt"):
        token_log_probs(model, [Sample([1], [2]), Sample([], [2])])
    assert token_log_probs(model, []) == []


def test_perplexity_of_texts_is_that_of_the_model_s_loss(model: PreTrainedModel, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    texts = ["The impeller is replaced every 200 hours.", "The tank holds five litres."]
    losses, tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            losses += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    expected = float(torch.exp(torch.tensor(losses / tokens)))
    assert perplexity(model, tokenizer, texts) == pytest.approx(expected, rel=1e-4)


def test_long_texts_are_read_in_windows(model: PreTrainedModel, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = "The impeller is replaced every 200 hours. " * 4
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (values,) = text_log_probs(model, tokenizer, [text], window=10)
    expected = [v for i in range(0, len(ids), 10) for v in alone(model, Sample(ids[i : i + 1], ids[i + 1 : i + 10]))]
    assert values == pytest.approx(expected, abs=1e-4)
    assert of_log_probs([values]) > 1


def test_nothing_to_read_is_an_error(model: PreTrainedModel, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    with pytest.raises(EvaluationError, match="at least one token"):
        perplexity(model, tokenizer, [""])
    with pytest.raises(EvaluationError, match="at least 2 tokens, got 1"):
        text_log_probs(model, tokenizer, ["text"], window=1)
