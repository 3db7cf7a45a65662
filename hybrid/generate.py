"""Greedy decoding in batches, with the tokens that all prompts share computed once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MIN_SHARED = 16


class Batch(NamedTuple):
    """Positions of prompts that are generated together."""

    indices: list[int]
    tokens: int


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[Batch]:
    """Groups prompts of similar length so that a padded batch holds at most `batch_tokens`.

    >>> plan_batches([5, 9, 4], 10)
    [Batch(indices=[2, 0], tokens=10), Batch(indices=[1], tokens=9)]
    """
    batches: list[Batch] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        last = batches[-1] if batches else None
        if last and (len(last.indices) + 1) * lengths[index] <= batch_tokens:
            last.indices.append(index)
            batches[-1] = Batch(last.indices, len(last.indices) * lengths[index])
        else:
            batches.append(Batch([index], lengths[index]))
    return batches


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix, at least one token short of every prompt.

    >>> shared_prefix([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    columns = zip(*prompts, strict=False)
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return max(0, min(common, min(map(len, prompts)) - 1)) if prompts else 0


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer: the model's and the tokenizer's end tokens."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    ids = set(ends) if isinstance(ends, list) else {ends} if ends is not None else set()
    return {int(i) for i in ids | {tokenizer.eos_token_id} if i is not None}


class Continuation(NamedTuple):
    """What a model wrote.

    Attributes:
        ids: Token ids, without the stop token.
        log_probs: Natural logarithms of their probabilities, and of the stop token's, if it came to one.
    """

    ids: list[int]
    log_probs: list[float]


class Prefix(NamedTuple):
    """The tokens that open every prompt, and their keys and values."""

    length: int
    cache: DynamicCache


@torch.inference_mode()
def encode_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prefix:
    """Computes what all prompts have in common; nothing if that is too short to be worth it."""
    length = shared_prefix(prompts) if len(prompts) > 1 else 0
    length = length if length >= _MIN_SHARED else 0
    cache = DynamicCache(config=model.config)
    if length:
        ids = torch.tensor([list(prompts[0][:length])], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(length, cache)


@torch.inference_mode()
def stream_tokens(
    model: PreTrainedModel, prompt: Sequence[int], *, max_new_tokens: int, stops: set[int]
) -> Iterator[int]:
    """Yields the new token ids of one prompt as they are decoded."""
    device = model.device
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(prompt)], device=device)
    for _ in range(max_new_tokens):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = int(logits[0, -1].argmax())
        if token in stops:
            return
        yield token
        ids = torch.tensor([[token]], device=device)


@torch.inference_mode()
def generate_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    prefix: Prefix,
    *,
    max_new_tokens: int,
    stops: set[int],
    pad: int,
) -> list[Continuation]:
    """Continues every prompt greedily until a stop token or `max_new_tokens`.

    Args:
        model: The model.
        prompts: Token ids of each; they open with the prefix.
        prefix: Of these prompts or of more.
        max_new_tokens: Longest continuation.
        stops: Tokens that end one.
        pad: Any token id; it is masked out.

    Returns:
        The continuation of each prompt.
    """
    device, size, shared = model.device, len(prompts), prefix.length
    cache = copy.deepcopy(prefix.cache)
    if shared:
        cache.batch_repeat_interleave(size)
    tails = [list(prompt[shared:]) for prompt in prompts]
    width = max(map(len, tails))
    # Padding stands between the shared prefix and each tail, masked out, so that all prompts end in the last column.
    ids = torch.tensor([[pad] * (width - len(tail)) + tail for tail in tails], device=device)
    mask = torch.tensor([[1] * shared + [0] * (width - len(tail)) + [1] * len(tail) for tail in tails], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    written: list[list[tuple[int, float]]] = [[] for _ in prompts]  # tokens, the stop among them, and log-probabilities
    rows, running = list(range(size)), set(range(size))  # rows of the batch, and those that have not ended
    # As a tensor: the slice that a number gives is not contiguous, and a frozen LM head is then copied for every row.
    last = torch.tensor([-1], device=device)
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits
        tokens = logits[:, -1].argmax(-1)
        chosen = logits[:, -1].float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        for row, token, log_prob in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            if row in running:
                written[row].append((token, log_prob))
            if token in stops:
                running.discard(row)
        if not running:
            break
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        positions = positions[:, -1:] + 1
        if 2 * len(running) <= len(rows):  # most have ended: go on with the others
            kept = torch.tensor([place for place, row in enumerate(rows) if row in running], device=device)
            cache.batch_select_indices(kept)
            ids, mask, positions = ids[kept], mask[kept], positions[kept]
            rows = [row for row in rows if row in running]
    return [_continuation(own, stops) for own in written]


def _continuation(written: Sequence[tuple[int, float]], stops: set[int]) -> Continuation:
    return Continuation([token for token, _ in written if token not in stops], [log_prob for _, log_prob in written])
