"""Greedy decoding: batches, shared prefixes and streams give what transformers' own generate gives."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.generate import encode_prefix, generate_batch, plan_batches, shared_prefix, stop_ids, stream_tokens
from hybrid.likelihood import Sample, token_log_probs
from hybrid.models import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STOP = 1


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _prompts(shared: int, tails: list[int]) -> list[list[int]]:
    draw = torch.Generator().manual_seed(shared + sum(tails))
    prefix = torch.randint(5, 300, (shared,), generator=draw).tolist()
    # The first token of every tail differs, so that the shared prefix is exactly as long as it says.
    return [
        [*prefix, 5 + row, *torch.randint(5, 300, (length - 1,), generator=draw).tolist()]
        for row, length in enumerate(tails)
    ]


def _reference(model: "PreTrainedModel", prompt: list[int], new: int, stops: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=stops or None,
        pad_token_id=0,
    )
    tokens = output[0, len(prompt) :].tolist()
    return next((tokens[:n] for n, token in enumerate(tokens) if token in stops), tokens)


def _generate(
    model: "PreTrainedModel", prompts: list[list[int]], *, max_new_tokens: int, stops: set[int], pad: int
) -> list[list[int]]:
    prefix = encode_prefix(model, prompts)
    made = generate_batch(model, prompts, prefix, max_new_tokens=max_new_tokens, stops=stops, pad=pad)
    return [output.ids for output in made]


@pytest.mark.parametrize(
    ("shared", "tails"),
    [(0, [9, 9, 9]), (0, [3, 17, 40]), (40, [4, 4]), (40, [1, 9, 30]), (5, [6, 2, 8]), (0, [7])],
    ids=["equal", "lengths", "prefix", "prefix and lengths", "short prefix", "one"],
)
def test_a_batch_equals_one_by_one_equals_transformers(shared: int, tails: list[int], model: "PreTrainedModel") -> None:
    prompts = _prompts(shared, tails)
    assert shared_prefix(prompts) == (shared if len(prompts) > 1 else len(prompts[0]) - 1)
    batched = _generate(model, prompts, max_new_tokens=10, stops=set(), pad=0)
    single = [_generate(model, [prompt], max_new_tokens=10, stops=set(), pad=0)[0] for prompt in prompts]
    assert batched == single == [_reference(model, prompt, 10, []) for prompt in prompts]
    assert [list(stream_tokens(model, prompt, max_new_tokens=10, stops=set())) for prompt in prompts] == batched
    assert all(len(output) == 10 for output in batched)


def test_batches_share_one_prefix(model: "PreTrainedModel") -> None:
    prompts = _prompts(40, [4, 9, 30, 2])
    prefix = encode_prefix(model, prompts)
    assert prefix.length == 40
    batches = [prompts[:1], prompts[1:3], prompts[3:]]
    outputs = [generate_batch(model, batch, prefix, max_new_tokens=9, stops=set(), pad=0) for batch in batches]
    assert [output.ids for batch in outputs for output in batch] == [_reference(model, p, 9, []) for p in prompts]


def test_one_stopping_does_not_stop_the_others(model: "PreTrainedModel") -> None:
    prompts = _prompts(20, [5, 11, 3])
    free = _generate(model, prompts, max_new_tokens=12, stops=set(), pad=0)
    stops = {free[0][2], free[1][7]}
    outputs = _generate(model, prompts, max_new_tokens=12, stops=stops, pad=0)
    for output, unstopped in zip(outputs, free, strict=True):
        end = next((n for n, token in enumerate(unstopped) if token in stops), len(unstopped))
        assert output == unstopped[:end], "up to the first stop token, without it"
    assert len(outputs[0]) <= 2
    assert outputs == [_reference(model, prompt, 12, sorted(stops)) for prompt in prompts]
    assert outputs == [list(stream_tokens(model, prompt, max_new_tokens=12, stops=stops)) for prompt in prompts]


@pytest.mark.parametrize("new", [1, 5])
def test_no_more_than_the_limit(new: int, model: "PreTrainedModel") -> None:
    outputs = _generate(model, _prompts(0, [4, 6]), max_new_tokens=new, stops=set(), pad=0)
    assert [len(output) for output in outputs] == [new, new]


def test_equal_prompts_give_equal_answers(model: "PreTrainedModel") -> None:
    prompt = _prompts(0, [30])[0]
    first, second = _generate(model, [prompt, prompt], max_new_tokens=6, stops=set(), pad=0)
    assert first == second == _reference(model, prompt, 6, [])


def test_stop_tokens_are_those_of_model_and_tokenizer(model: "PreTrainedModel", tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    assert model.generation_config is not None
    known = model.generation_config.eos_token_id
    try:
        model.generation_config.eos_token_id = [7, 8]
        assert stop_ids(model, tokenizer) == {7, 8, tokenizer.eos_token_id}
        model.generation_config.eos_token_id = None
        assert stop_ids(model, tokenizer) == {tokenizer.eos_token_id}
    finally:
        model.generation_config.eos_token_id = known


@given(lengths=st.lists(st.integers(1, 300)), limit=st.integers(1, 500))
def test_batches_hold_every_prompt_once_within_the_limit(lengths: list[int], limit: int) -> None:
    batches = plan_batches(lengths, limit)
    assert sorted(i for batch in batches for i in batch.indices) == list(range(len(lengths)))
    for batch in batches:
        padded = max(lengths[i] for i in batch.indices) * len(batch.indices)
        assert batch.tokens == padded
        assert padded <= limit or len(batch.indices) == 1


@given(prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=5))
def test_the_shared_prefix_is_shared_and_leaves_a_token(prompts: list[list[int]]) -> None:
    length = shared_prefix(prompts)
    assert all(prompt[:length] == prompts[0][:length] and len(prompt) > length for prompt in prompts)
    longer = length + 1
    assert not prompts or any(len(p) <= longer or p[:longer] != prompts[0][:longer] for p in prompts)


def test_log_probabilities_are_those_of_the_tokens(model: "PreTrainedModel") -> None:
    prompts = _prompts(20, [5, 11, 3])
    free = _generate(model, prompts, max_new_tokens=8, stops=set(), pad=0)
    stops = {free[0][2]}
    prefix = encode_prefix(model, prompts)
    for prompt, made in zip(
        prompts, generate_batch(model, prompts, prefix, max_new_tokens=8, stops=stops, pad=0), strict=True
    ):
        written = [*made.ids, *([] if len(made.ids) == 8 else stops)]
        (log_probs,) = token_log_probs(model, [Sample(prompt, written)])
        assert made.log_probs == pytest.approx(log_probs, rel=1e-4)


def test_the_lm_head_reads_contiguous_rows(model: "PreTrainedModel") -> None:
    """Or a frozen head is copied for every row of the batch: gigabytes with a large vocabulary."""
    seen: list[bool] = []
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    prompts = _prompts(0, [9, 17, 12])
    _generate(model, prompts, max_new_tokens=2, stops=set(), pad=0)
    token_log_probs(model, [Sample(prompt[:-3], prompt[-3:]) for prompt in prompts])
    hook.remove()
    assert len(seen) == 3
    assert all(seen)
