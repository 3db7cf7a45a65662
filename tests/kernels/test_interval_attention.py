"""The same tests run by Triton's interpreter in test_interpreter.py, where float32 and float16 take the kernels."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.functional import scaled_dot_product_attention

from hybrid.errors import TrainingError
from hybrid.kernels.interval_attention import (
    Blocks,
    Intervals,
    choose_blocks,
    choose_tiles,
    interval_attention,
    narrow,
    plan_intervals,
    visible_keys,
)
from hybrid.kernels.interval_attention_flex import flex_interval_attention, plan_flex

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SMALL = Blocks(16, 16, 16)
no_kernel = pytest.mark.skipif(INTERPRETED, reason="runs no Triton kernel on a CPU")
Tree = tuple[int, tuple[int, ...]]  # tokens of the prefix and of each branch


class Row(NamedTuple):
    segments: Tensor
    positions: Tensor
    samples: list[Tensor]  # tokens of each sample: prefix and branch


class Case(NamedTuple):
    trees: Sequence[Tree]
    dim: int = 16
    heads: tuple[int, int] = (2, 1)
    blocks: Blocks | None = SMALL
    subset: bool = False
    window: int | None = None
    softcap: float | None = None


RAGGED: list[Tree] = [(15, (2, 24, 1, 3))]  # a block of 16 ends just behind the prefix; a branch lies in two blocks
SEVERAL: list[Tree] = [(13, (3, 9)), (0, (6,)), (1, (1, 1)), (0, (4, 3))]
CASES = {
    "ragged branches": Case(RAGGED),
    "several trees": Case(SEVERAL, 40, (4, 2), Blocks(32, 32, 16)),
    "one sample": Case([(0, (37,))], 16, (1, 1)),
    "predicting rows": Case(RAGGED, 96, subset=True),
    "window": Case([(30, (4,)), *RAGGED], 16, (1, 1), window=6),
    "soft cap": Case(SEVERAL, 64, (1, 1), softcap=2.0),
    "everything": Case([*SEVERAL, (18, (2, 2))], 40, (3, 1), Blocks(32, 16, 16), True, 9, 1.5),
    "blocks of the head dimension": Case([(40, (30, 5))], 24, (1, 1), None),
}


def layout(trees: Sequence[Tree]) -> Row:
    segments: list[tuple[int, int, int]] = []
    positions: list[int] = []
    samples = []
    for prefix, branches in trees:
        start = len(segments)
        fork = own = start + prefix
        segments += [(start, start, start)] * prefix
        positions += range(prefix)
        for tokens in branches:
            samples.append(torch.cat([torch.arange(start, fork), torch.arange(own, own + tokens)]))
            segments += [(start, fork, own)] * tokens
            positions += range(prefix, prefix + tokens)
            own += tokens
    return Row(torch.tensor(segments), torch.tensor(positions), samples)


def predicting(row: Row) -> Tensor:
    """Of each sample the last two thirds but not the very last."""
    return torch.unique(torch.cat([sample[len(sample) // 3 : -1] for sample in row.samples]))  # type: ignore[no-any-return]


def plan(case: Case, row: Row, device: str = "cpu") -> Intervals:
    rows = predicting(row).to(device) if case.subset else None
    segments, positions = row.segments.to(device), row.positions.to(device)
    return plan_intervals(segments, positions, rows, head_dim=case.dim, blocks=case.blocks)


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """Attention of one sample."""
    position = torch.arange(q.shape[2], device=q.device)
    distance = position[:, None] - position
    hidden = (distance < 0) | (distance >= (window or len(position)))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    if softcap is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scale)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * scale / softcap)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v


def separate(
    q: Tensor, k: Tensor, v: Tensor, row: Row, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """One call per sample; a prefix row is taken from the first of its tree."""
    outputs: list[Tensor] = []
    for sample in row.samples:
        tokens = sample.to(q.device)
        out = causal(q[:, :, tokens], k[:, :, tokens], v[:, :, tokens], scale, window, softcap)
        new = sample >= sum(part.shape[2] for part in outputs)
        outputs.append(out[:, :, new.to(q.device)])
    return torch.cat(outputs, dim=2)


def inputs(case: Case, row: Row, dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries of all tokens, keys, values and the output's gradient, each a slice of a buffer of NaN.

    Tokens come before heads in memory, as projections leave them.
    """
    torch.manual_seed(case.dim + len(row.segments))
    tensors = []
    for heads in (case.heads[0], case.heads[1], case.heads[1], case.heads[0]):
        buffer = torch.full((1, len(row.segments) + 2, heads + 1, case.dim), torch.nan, dtype=dtype, device=device)
        part = buffer[:, 1:-1, :heads]
        part[:] = torch.randn(part.shape, dtype=torch.float64).to(device, dtype)
        tensors.append(part.transpose(1, 2))
    q, k, v, dout = tensors
    return q, k, v, dout


def results(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], tensors: Sequence[Tensor], rows: Tensor | None = None
) -> list[Tensor]:
    """Output and gradients; with rows, those of the queries alone."""
    q, k, v, dout = tensors
    q, dout = (q, dout) if rows is None else (q[:, :, rows], dout[:, :, rows])
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, dout)]


def truth(case: Case, row: Row, tensors: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    scale, rows = case.dim**-0.5, predicting(row).to(tensors[0].device) if case.subset else None
    q, k, v, dout = (x.to(dtype) for x in tensors)
    keep = slice(None) if rows is None else rows
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = separate(leaves[0], leaves[1], leaves[2], row, scale, case.window, case.softcap)[:, :, keep]
    dq, dk, dv = torch.autograd.grad(out, leaves, dout[:, :, keep])
    return [out.detach(), dq[:, :, keep], dk, dv]


def ours(case: Case, row: Row, tensors: Sequence[Tensor]) -> list[Tensor]:
    intervals = plan(case, row, tensors[0].device.type)
    rows = predicting(row).to(tensors[0].device) if case.subset else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return interval_attention(q, k, v, intervals, case.dim**-0.5, window=case.window, softcap=case.softcap)

    return results(attend, tensors, rows)


def errors(values: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(values, expected, strict=True)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_as_close_to_separate_samples_as_ordinary_attention(case: Case) -> None:
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float32)
    expected = truth(case, row, tensors)
    mine = errors(ours(case, row, tensors), expected)
    ordinary = errors(truth(case, row, tensors, torch.float32), expected)
    assert all(a <= b + 2e-7 for a, b in zip(mine, ordinary, strict=True)), (mine, ordinary)


@pytest.mark.skipif(INTERPRETED, reason="float64 always takes the twin")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float64_equals_separate_samples(case: Case) -> None:
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float64)
    assert max(errors(ours(case, row, tensors), truth(case, row, tensors))) < 1e-14


def test_float16_is_as_close_to_separate_samples_as_ordinary_attention() -> None:
    case = CASES["everything"]
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float16)
    expected = truth(case, row, tensors)
    mine = errors(ours(case, row, tensors), expected)
    ordinary = errors(truth(case, row, tensors, torch.float16), expected)
    assert all(a <= b + 2e-4 for a, b in zip(mine, ordinary, strict=True)), (mine, ordinary)


def test_a_changed_branch_leaves_the_others_bit_equal() -> None:
    case = Case(RAGGED, heads=(1, 1))
    row = layout(case.trees)
    intervals = plan(case, row)
    q, k, v, _ = inputs(case, row, torch.float32)
    before = interval_attention(q, k, v, intervals, 0.3)
    changed = slice(17, 41)
    for x in (q, k, v):
        x[:, :, changed] = 1e3
    after = interval_attention(q, k, v, intervals, 0.3)
    kept = torch.ones(len(row.segments), dtype=torch.bool)
    kept[changed] = False
    assert torch.equal(before[:, :, kept], after[:, :, kept])
    assert not torch.equal(before, after)


def test_rows_that_see_nothing_are_zero_and_give_no_gradient() -> None:
    case = Case([(9, (4, 6))], heads=(2, 1))
    row = layout(case.trees)
    tokens = len(row.segments)
    padding = torch.tensor([[0, 0, tokens + 14]]).expand(14, -1)  # ends in a block of nothing else
    row = row._replace(
        segments=torch.cat([row.segments, padding]), positions=torch.cat([row.positions, torch.zeros(14)])
    )
    tensors = inputs(case, row, torch.float32)
    expected = truth(case, row, [x[:, :, :tokens] for x in tensors])
    for mine, part in zip(ours(case, row, tensors), expected, strict=True):
        assert torch.equal(mine[:, :, tokens:], torch.zeros_like(mine[:, :, tokens:]))
        assert errors([mine[:, :, :tokens]], [part])[0] < 1e-6


def test_no_query_rows_give_no_gradient() -> None:
    case = Case(RAGGED)
    row = layout(case.trees)
    intervals = plan_intervals(row.segments, row.positions, torch.zeros(0, dtype=torch.long), head_dim=16, blocks=SMALL)
    q, k, v, dout = inputs(case, row, torch.float32)
    out, dq, dk, dv = results(
        lambda q, k, v: interval_attention(q, k, v, intervals, 0.3), (q[:, :, :0], k, v, dout[:, :, :0])
    )
    assert out.numel() == dq.numel() == 0
    assert not dk.any()
    assert not dv.any()


@pytest.fixture
def empty_tensors_hold_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("empty_tensors_hold_nan")
def test_every_element_is_written_twice_the_same() -> None:
    assert torch.empty(1).isnan()
    case = Case(RAGGED, 24, (2, 1), Blocks(32, 32, 16), subset=True)
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float32)
    first, second = ours(case, row, tensors), ours(case, row, tensors)
    for a, b in zip(first, second, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


@pytest.mark.parametrize(("factor", "tolerance"), [(30, 1e-5), (1e4, torch.inf)])
def test_large_scores_stay_finite(factor: float, tolerance: float) -> None:
    case = Case(RAGGED, heads=(1, 1))
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float32)
    tensors[0].mul_(factor)
    mine, expected = ours(case, row, tensors), truth(case, row, tensors)
    ordinary = truth(case, row, tensors, torch.float32)
    assert all(x.isfinite().all() for x in mine)
    pairs = zip(errors(mine, expected), errors(ordinary, expected), strict=True)
    assert all(a <= b + tolerance for a, b in pairs), (errors(mine, expected), errors(ordinary, expected))


def test_an_expanded_gradient_is_read_by_its_strides() -> None:
    case = Case(RAGGED, heads=(1, 1))
    row = layout(case.trees)
    *tensors, dout = inputs(case, row, torch.float32)
    same = torch.ones(1).expand(dout.shape)
    assert max(errors(ours(case, row, [*tensors, same]), truth(case, row, [*tensors, same]))) < 1e-6


def test_shapes_that_do_not_fit_are_refused() -> None:
    row = layout(RAGGED)
    intervals = plan_intervals(row.segments, row.positions, head_dim=16)
    q, k = torch.zeros(1, 3, 45, 16), torch.zeros(1, 2, 45, 16)
    with pytest.raises(ValueError, match="3 query heads are no multiple of 2"):
        interval_attention(q, k, k, intervals, 1.0)
    with pytest.raises(ValueError, match=r"queries \[1, 3, 44, 16\].*plan of 45 rows among 45 tokens"):
        interval_attention(q[:, :, 1:], k, k, intervals, 1.0)
    with pytest.raises(TrainingError, match=r"at most 256 dimensions, this model has 320; set tune\.attention to sdpa"):
        plan_intervals(row.segments, row.positions, head_dim=320)


# plans


@no_kernel
def test_a_plan_skips_what_lies_between_prefix_and_branch() -> None:
    row = layout([(64, (16, 16, 16))])
    intervals = plan_intervals(row.segments, row.positions, head_dim=16, blocks=SMALL)
    assert intervals.query_blocks_Q4.tolist() == [
        [0, 16, 16, 16],
        [0, 32, 32, 32],
        [0, 48, 48, 48],
        [0, 64, 64, 64],
        [0, 80, 80, 80],
        [0, 64, 80, 96],
        [0, 64, 96, 112],
    ]
    assert intervals.full_blocks_Q4.tolist()[-1] == [0, 64, 96, 97]
    assert intervals.key_blocks_K2.tolist() == [[16 * i, 112] for i in range(4)] + [[64, 80], [80, 96], [96, 112]]
    narrowed = narrow(intervals, 20)
    assert narrowed.query_blocks_Q4.tolist()[-1] == [32, 64, 96, 112]
    assert narrow(narrowed, None).query_blocks_Q4.tolist() == intervals.query_blocks_Q4.tolist()


@st.composite
def plans(draw: st.DrawFn) -> tuple[Intervals, int | None]:
    branches = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple)
    row = layout(draw(st.lists(st.tuples(st.integers(0, 60), branches), min_size=1, max_size=5)))
    tokens = len(row.segments)
    drawn = draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens))
    padding = draw(st.integers(0, 20))
    row.segments[tokens - padding :] = torch.tensor([0, 0, tokens])
    step = draw(st.sampled_from([16, 32]))
    blocks = Blocks(draw(st.sampled_from([16, 32, 64])), step * draw(st.sampled_from([1, 2])), step)
    rows = torch.tensor(drawn).nonzero().squeeze(1) if draw(st.booleans()) else None
    window = draw(st.none() | st.integers(1, 80))
    return plan_intervals(row.segments, row.positions, rows, head_dim=64, window=window, blocks=blocks), window


@no_kernel
@given(plans())
@settings(max_examples=40, deadline=None)
def test_plans_cover_what_is_visible(drawn: tuple[Intervals, int | None]) -> None:
    intervals, window = drawn
    visible_ML = visible_keys(intervals, window)
    key_L = torch.arange(visible_ML.shape[1])

    def within(tables: Tensor) -> Tensor:
        a, b, c, d = tables.T.unsqueeze(-1)
        inside: Tensor = ((key_L >= a) & (key_L < b)) | ((key_L >= c) & (key_L < d))
        return inside

    query, key, step = intervals.blocks
    assert torch.equal(within(intervals.bounds_M4), visible_ML)
    for block, ranges in enumerate(intervals.query_blocks_Q4.tolist()):
        part, (a, b, c, d) = visible_ML[block * query :][:query], ranges
        assert a <= b <= c <= d
        assert all(end % step == 0 for end in ranges)
        inside = within(intervals.query_blocks_Q4[block, None])
        assert not part[:, ~inside[0]].any()
        for start, stop in ((a, b), (c, d)):  # no idle step at the ends of a range
            assert start == stop or (part[:, start : start + step].any() and part[:, stop - step : stop].any())
        assert part[:, within(intervals.full_blocks_Q4[block, None])[0]].all()
    for block, (first, end) in enumerate(intervals.key_blocks_K2.tolist()):
        part = visible_ML.T[block * key :][:key]
        assert 0 <= first <= end <= len(visible_ML)
        assert first % query == 0 or first == end
        assert not part[:, :first].any()
        assert not part[:, end:].any()


@no_kernel
@pytest.mark.parametrize("shared_bytes", [99 * 1024, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("dim", [16, 64, 80, 128, 192, 256])
def test_tiles_divide_the_blocks_and_fit(dim: int, itemsize: int, shared_bytes: int) -> None:
    blocks, tiles = choose_blocks(dim), choose_tiles(dim, itemsize, shared_bytes)
    assert all(blocks.query % tile.rows == 0 for tile in tiles)
    assert blocks.key % blocks.step == blocks.step % tiles.forward.keys == blocks.step % tiles.query.keys == 0
    assert blocks.key % tiles.key.keys == 0


# FlexAttention


@no_kernel
@pytest.mark.parametrize("subset", [False, True])
def test_the_flex_block_mask_holds_what_is_visible(subset: bool) -> None:
    case = Case([(20, (150,)), (300, (40, 100))], subset=subset)
    intervals = plan(case, layout(case.trees))
    ours = plan_flex(intervals).block_mask
    visible_ML = visible_keys(intervals)
    rows, keys = visible_ML.shape
    theirs = create_block_mask(lambda b, h, m, n: visible_ML[m, n], None, None, rows, keys, device="cpu")
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.equal(full_blocks(ours), full_blocks(theirs))
    assert full_blocks(ours).any()


def full_blocks(mask: BlockMask) -> Tensor:
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_indices is not None
    return BlockMask.from_kv_blocks(mask.full_kv_num_blocks, mask.full_kv_indices).to_dense()


@no_kernel
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("changes", [{}, {"subset": True, "window": 50}, {"softcap": 2.0}], ids=str)
def test_flex_equals_separate_samples(changes: dict[str, Any]) -> None:
    case = Case([(200, (40, 100)), (20, (50,))], 16, (4, 2))._replace(**changes)
    row = layout(case.trees)
    q, k, v, dout = inputs(case, row, torch.float32)
    expected = truth(case, row, (q, k, v, dout))[0]
    q = q[:, :, predicting(row)] if case.subset else q
    out = flex_interval_attention(q, k, v, plan_flex(plan(case, row)), 0.25, window=case.window, softcap=case.softcap)
    assert errors([out], [expected])[0] < 1e-6


# on a GPU

LONG: list[Tree] = [(1100, (40,) * 12), (0, (300,)), (300, (1, 200, 35))]
GPU_CASES = {
    "64": Case(LONG, 64, (8, 2), None),
    "80, window": Case(LONG, 80, (4, 4), None, window=130),
    "128": Case(LONG, 128, (8, 2), None),
    "128, predicting rows": Case(LONG, 128, (8, 1), None, subset=True),
    "256, soft cap": Case(LONG, 256, (4, 2), None, softcap=20.0),
    "256, everything": Case(LONG, 256, (4, 2), None, True, 200, 20.0),
    "a long row": Case([(9000, (500, 2000)), (3000, (50,) * 8)], 64, (2, 1), None),
}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", GPU_CASES.values(), ids=GPU_CASES)
def test_gpu_is_as_close_to_separate_samples_as_ordinary_attention(case: Case, dtype: torch.dtype) -> None:
    row = layout(case.trees)
    tensors = inputs(case, row, dtype, "cuda")
    expected, mine = truth(case, row, tensors), ours(case, row, tensors)
    ordinary = errors(truth(case, row, tensors, dtype), expected)
    assert all(a <= 1.5 * b + 1e-4 for a, b in zip(errors(mine, expected), ordinary, strict=True)), (
        errors(mine, expected),
        ordinary,
    )
    assert all(torch.equal(a, b) for a, b in zip(mine, ours(case, row, tensors), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [40, 128, 256])
def test_gpu_float32_is_as_close_to_separate_samples_as_ordinary_attention(dim: int) -> None:
    case = Case([(150, (20, 60)), (3, (9,))], dim, (4, 2), None)
    row = layout(case.trees)
    tensors = inputs(case, row, torch.float32, "cuda")
    expected = truth(case, row, tensors)
    mine = errors(ours(case, row, tensors), expected)
    ordinary = errors(truth(case, row, tensors, torch.float32), expected)
    assert all(a <= b + 1e-6 for a, b in zip(mine, ordinary, strict=True)), (mine, ordinary)


@pytest.mark.gpu
def test_gpu_offsets_beyond_int32() -> None:
    """The last of many equal trees lies beyond 2**31 elements in every tensor; alone it gives the same bits."""
    trees = [(128, (64, 64))] * 1025
    row, alone = layout(trees), layout(trees[:1])
    tokens, last = len(row.segments), slice(-256, None)
    tensors = [torch.randn(1, tokens, 64, 128, dtype=torch.bfloat16, device="cuda").transpose(1, 2) for _ in range(4)]
    assert tensors[0].numel() > 2**31
    many = ours(Case(trees, 128, (64, 64), None), row, tensors)
    one = ours(Case(trees[:1], 128, (64, 64), None), alone, [x[:, :, last] for x in tensors])
    assert all(torch.equal(a[:, :, last], b) for a, b in zip(many, one, strict=True))


@pytest.mark.gpu
def test_gpu_plans_do_not_wait_for_the_device() -> None:
    row = layout(LONG)
    segments, positions, rows = row.segments.cuda(), row.positions.cuda(), predicting(row).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        intervals = plan_intervals(segments, positions, rows, head_dim=128)
        narrow(intervals, 100)
        plan_flex(intervals)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["64", "128, predicting rows", "256, everything"])
def test_gpu_flex_is_as_close_to_separate_samples_as_ordinary_attention(name: str) -> None:
    case = GPU_CASES[name]
    row = layout(case.trees)
    tensors = inputs(case, row, torch.bfloat16, "cuda")
    expected = truth(case, row, tensors)
    flex = plan_flex(narrow(plan(case, row, "cuda"), case.window))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flex_interval_attention(q, k, v, flex, case.dim**-0.5, window=case.window, softcap=case.softcap)

    mine = errors(results(attend, tensors, predicting(row).cuda() if case.subset else None), expected)
    ordinary = errors(truth(case, row, tensors, torch.bfloat16), expected)
    assert all(a <= 1.5 * b + 1e-3 for a, b in zip(mine, ordinary, strict=True)), (mine, ordinary)
