"""What fine-tuning cost elsewhere: the perplexity of general text that has nothing to do with the documents.

before = text_log_probs(base, tokenizer, general_texts())
after = text_log_probs(tuned, tokenizer, general_texts())
forgetting(before, after).change
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid.errors import EvaluationError
from hybrid.eval import text_metrics

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> float:
    """Perplexity of the texts, over all their tokens; see `text_log_probs`.

    Raises:
        EvaluationError: The texts are too short to have a token that follows another.
    """
    return text_metrics.perplexity(text_log_probs(model, tokenizer, texts))


def text_log_probs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    window: int = 512,
    batch_tokens: int = 4096,
) -> list[list[float]]:
    """Log-probability of each token of each text, given the tokens before it.

    A text starts with the tokenizer's token for that, if it has one; otherwise its first token is not scored. A text
    longer than the window is read in windows that do not overlap, each started anew.

    Args:
        model: A causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        texts: The texts, without a chat template.
        window: Most tokens read at once.
        batch_tokens: Padded tokens computed together.

    Raises:
        EvaluationError: The window is below 2 tokens.
    """
    # Imported here so that `hybrid.forgetting` loads no torch.
    from hybrid.likelihood import Sample, token_log_probs

    if window < 2:
        raise EvaluationError(f"a window needs at least 2 tokens, got {window}")
    start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    samples, owners = [], []
    for number, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        step = window - len(start)
        for first in range(0, len(ids), step):
            part = [*start, *ids[first : first + step]]
            samples.append(Sample(part[:1], part[1:]))
            owners.append(number)
    found: list[list[float]] = [[] for _ in texts]
    for number, values in zip(owners, token_log_probs(model, samples, batch_tokens=batch_tokens), strict=True):
        found[number] += values
    return found
