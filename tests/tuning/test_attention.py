import pytest
import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3NextConfig,
)

from hybrid.errors import TrainingError
from hybrid.tuning.attention import Backend, TreeMask, check_length, check_supported, tree_attention
from hybrid.tuning.batch import TreeLayout, TreeSpan, positions, segments

LAYOUTS = {
    "one sample": TreeLayout((TreeSpan(0, 0, (9,)),)),
    "equal branches": TreeLayout((TreeSpan(0, 7, (4, 4, 4)),)),
    "ragged branches": TreeLayout((TreeSpan(0, 5, (1, 6, 3)),)),
    "no prefix": TreeLayout((TreeSpan(0, 0, (3, 2)),)),
    "several trees": TreeLayout((TreeSpan(0, 5, (2, 6)), TreeSpan(13, 0, (4,)), TreeSpan(17, 1, (1, 1)))),
}


def mask(layout: TreeLayout, rows_R: Tensor | None = None, backend: Backend = "sdpa") -> TreeMask:
    spans = layout.trees
    segments_L3 = torch.cat([segments(span) for span in spans])
    rows_R = torch.arange(len(segments_L3)) if rows_R is None else rows_R
    return TreeMask(layout, segments_L3, torch.cat([positions(span) for span in spans]), rows_R, backend)


def by_definition(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """Causal attention of one sample, score by score."""
    groups, position = q.shape[1] // k.shape[1], torch.arange(q.shape[2])
    scores = q @ k.repeat_interleave(groups, 1).transpose(2, 3) * scale
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    distance = position[:, None] - position
    hidden = (distance < 0) | (distance >= (window or len(position)))
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v.repeat_interleave(groups, 1)


def separate(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TreeLayout,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """One call per sample; a prefix row is taken from the first."""
    parts = []
    for tree in layout.trees:
        fork = tree.start + tree.prefix
        begin = fork
        for index, tokens in enumerate(tree.branches):
            rows = torch.cat([torch.arange(tree.start, fork), torch.arange(begin, begin + tokens)])
            out = by_definition(q[:, :, rows], k[:, :, rows], v[:, :, rows], scale, window, softcap)
            parts.append(out if index == 0 else out[:, :, tree.prefix :])
            begin += tokens
    return torch.cat(parts, dim=2)


def inputs(layout: TreeLayout, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    last = layout.trees[-1]
    tokens = last.start + last.prefix + sum(last.branches)
    # tokens before heads in memory, as a projection leaves them
    q, k, v = (torch.randn(1, tokens, n, 8, dtype=dtype).transpose(1, 2).requires_grad_() for n in (4, 2, 2))
    return q, k, v


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["64", "32"])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (9, None), (99, None), (None, 2.0), (6, 2.0)])
def test_equals_separate_samples_with_gradients(
    layout: TreeLayout, dtype: torch.dtype, tolerance: float, window: int | None, softcap: float | None
) -> None:
    tensors = inputs(layout, dtype)
    shared = tree_attention(*tensors, mask(layout), 0.3, window, softcap)
    alone = separate(*tensors, layout, 0.3, window, softcap)
    weight = torch.randn_like(shared)
    torch.testing.assert_close(shared, alone, rtol=tolerance, atol=tolerance)
    for a, b in zip(*(torch.autograd.grad(out, tensors, weight) for out in (shared, alone)), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (None, 2.0), (6, 2.0)])
def test_some_rows_are_those_of_all_rows_with_gradients(
    layout: TreeLayout, window: int | None, softcap: float | None
) -> None:
    q, k, v = inputs(layout, torch.float64)
    rows_R = torch.arange(q.shape[2])[2::3]
    some = tree_attention(q[:, :, rows_R], k, v, mask(layout, rows_R), 0.3, window, softcap)
    every = separate(q, k, v, layout, 0.3, window, softcap)[:, :, rows_R]
    weight = torch.randn_like(some)
    torch.testing.assert_close(some, every, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(out, (q, k, v), weight) for out in (some, every)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["triton", "flex"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("some", [False, True], ids=["all rows", "some rows"])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (6, 2.0)])
def test_the_other_backends_compute_the_same(
    backend: Backend, layout: TreeLayout, some: bool, window: int | None, softcap: float | None
) -> None:
    q, k, v = (x.detach() for x in inputs(layout, torch.float32))
    rows_R = torch.arange(q.shape[2])[2::3] if some else torch.arange(q.shape[2])
    tree = mask(layout, rows_R, backend)
    found = tree_attention(q[:, :, rows_R], k, v, tree, 0.3, window, softcap)
    wanted = separate(q, k, v, layout, 0.3, window, softcap)[:, :, rows_R]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert list(tree.plans) == [(some, window)]


@pytest.mark.parametrize("name", ["equal branches", "ragged branches"])
def test_a_changed_branch_leaves_the_others_bit_equal(name: str) -> None:
    (tree,) = LAYOUTS[name].trees
    q, k, v = (t.detach() for t in inputs(LAYOUTS[name], torch.float32))
    before = tree_attention(q, k, v, mask(LAYOUTS[name]), 0.3)
    changed = slice(tree.prefix + tree.branches[0], tree.prefix + sum(tree.branches[:2]))
    for t in (q, k, v):
        t[:, :, changed] = 1e3
    after = tree_attention(q, k, v, mask(LAYOUTS[name]), 0.3)
    kept = torch.ones(q.shape[2], dtype=torch.bool)
    kept[changed] = False
    assert torch.equal(before[:, :, kept], after[:, :, kept])
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(),
        Qwen2Config(),
        MistralConfig(sliding_window=64),
        Qwen2Config(use_sliding_window=True, sliding_window=32, max_window_layers=1),
        Gemma2Config(),
    ],
    ids=lambda config: config.model_type,
)
def test_models_with_full_or_sliding_attention_are_supported(config: PreTrainedConfig) -> None:
    check_supported(config)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (GraniteConfig(logits_scaling=8.0), "granite.*logits_scaling = 8.0"),
        (CohereConfig(logit_scale=0.0625), "cohere.*logit_scale = 0.0625"),
        (Qwen3NextConfig(), "qwen3_next.*layers of type linear_attention"),
        (LlamaConfig(attention_dropout=0.1), "llama.*attention_dropout = 0.1"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_other_models_are_refused_by_name(config: PreTrainedConfig, named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        check_supported(config)


_LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 48, "long_factor": [4.0] * 48}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "config",
    [
        Phi3Config(max_position_embeddings=256, original_max_position_embeddings=64, rope_parameters=_LONG),
        LlamaConfig(max_position_embeddings=64, rope_parameters=_DYNAMIC),
        Gemma3TextConfig(
            max_position_embeddings=64,
            rope_parameters={
                "full_attention": _DYNAMIC,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        ),
    ],
    ids=["longrope", "dynamic", "by kind of layer"],
)
def test_samples_with_frequencies_of_their_own_are_refused(config: PreTrainedConfig) -> None:
    check_length(config, 64)
    with pytest.raises(
        TrainingError, match=r"rope_type '(longrope|dynamic)' beyond their first 64 .* has 65: retrieve"
    ):
        check_length(config, 65)


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(rope_parameters=_YARN), Gemma3TextConfig(), GPT2Config()],
    ids=lambda config: config.model_type,
)
def test_other_embeddings_are_the_same_at_any_length(config: PreTrainedConfig) -> None:
    check_length(config, 10**6)
