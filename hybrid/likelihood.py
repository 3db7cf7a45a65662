"""How likely a model finds given texts: log-probabilities of tokens, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from hybrid.generate import plan_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Sample(NamedTuple):
    """Token ids that a model has read, at least one, and those whose probability is asked for."""

    prompt: Sequence[int]
    target: Sequence[int]


@torch.inference_mode()
def token_log_probs(
    model: PreTrainedModel, samples: Sequence[Sample], *, batch_tokens: int = 4096
) -> list[list[float]]:
    """Natural logarithm of the probability of each token of each target, given the prompt and the tokens before it.

    Args:
        model: A causal language model, in evaluation mode.
        samples: What to score.
        batch_tokens: Padded tokens computed together; a single sample may exceed it.

    Raises:
        ValueError: A prompt is empty: the first token of a text has no probability of its own.
    """
    for place, sample in enumerate(samples):
        if not sample.prompt:
            raise ValueError(f"sample {place} has an empty prompt; give the first token of the text as prompt")
    found: list[list[float]] = [[] for _ in samples]
    asked = [place for place, sample in enumerate(samples) if sample.target]
    lengths = [len(samples[place].prompt) + len(samples[place].target) for place in asked]
    for batch in plan_batches(lengths, batch_tokens):
        places = [asked[index] for index in batch.indices]
        for place, values in zip(places, _batch(model, [samples[place] for place in places]), strict=True):
            found[place] = values
    return found


def _batch(model: PreTrainedModel, samples: Sequence[Sample]) -> list[list[float]]:
    texts = [[*sample.prompt, *sample.target] for sample in samples]
    width, longest = max(map(len, texts)), max(len(sample.target) for sample in samples)
    # Padding stands in front, so that the targets end in the last column and few logits are needed.
    ids = torch.tensor([[0] * (width - len(text)) + text for text in texts], device=model.device)
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts], device=model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    # As a tensor: the slice that a number gives is not contiguous, and a frozen LM head is then copied for every row.
    kept = torch.arange(-longest - 1, 0, device=model.device)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept
    ).logits[:, :-1]
    values = logits.float().log_softmax(-1).gather(2, ids[:, -longest:, None])[..., 0]
    return [row[longest - len(sample.target) :].tolist() for row, sample in zip(values, samples, strict=True)]
