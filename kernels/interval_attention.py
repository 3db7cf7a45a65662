"""Attention in which every token sees two intervals of keys: its context, and its own branch up to itself.

The layout of a batch is planned once, on its device, into a few small integer tables that all layers share: the two
intervals of each query row, the key ranges that a block of rows needs, the keys that all of its rows see, and the
query rows that a block of keys needs. No dense mask is made, no key outside the ranges is read, and tiles that all rows
see in full skip the mask.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid.errors import TrainingError
from hybrid.kernels.dispatch import runs_triton

MAX_HEAD_DIM = 256


class Blocks(NamedTuple):
    """Granularity of a plan; powers of two of at least 16, of which the kernels' tiles are divisors.

    Attributes:
        query: Rows of a query block.
        key: Keys of a key block.
        step: Alignment of the key ranges; a divisor of `key`.
    """

    query: int
    key: int
    step: int


class Tile(NamedTuple):
    """Query rows and keys of a tile, warps of a program, and stages of its loop's pipeline."""

    rows: int
    keys: int
    warps: int
    stages: int


class Tiles(NamedTuple):
    """The tiles of the three kernels."""

    forward: Tile
    query: Tile
    key: Tile


class Intervals(NamedTuple):
    """Who sees whom in a row of `L` tokens, of which `M` are queries, for blocks of `Q` query rows and `K` keys.

    Attributes:
        segments_L3: int32 prefix start, prefix end, own start.
        position_L: int32.
        rows_M: int32 token of each query row, ascending.
        window: The window to which the tables below are narrowed, or None.
        blocks: Granularity of the tables.
        bounds_M4: int32; row m sees the keys [b0, b1) and [b2, b3). Both may be empty.
        query_blocks_Q4: int32; a block's rows see no key outside [b0, b1) and [b2, b3), which are ascending, disjoint
            and aligned; the last may end up to a step behind the last key.
        full_blocks_Q4: int32; all rows of a block see [b0, b1) and all see [b2, b3). Both may be empty.
        key_blocks_K2: int32; only query rows [r0, r1) may see a key of a block; r0 starts a query block.
    """

    segments_L3: Tensor
    position_L: Tensor
    rows_M: Tensor
    window: int | None
    blocks: Blocks
    bounds_M4: Tensor
    query_blocks_Q4: Tensor
    full_blocks_Q4: Tensor
    key_blocks_K2: Tensor


def choose_blocks(head_dim: int) -> Blocks:
    """Returns the granularity for a head dimension.

    Raises:
        TrainingError: Heads are wider than the kernels' tiles allow.
    """
    if head_dim > MAX_HEAD_DIM:
        raise TrainingError(
            f"the triton attention kernel takes heads of at most {MAX_HEAD_DIM} dimensions, this model has {head_dim}; "
            "set tune.attention to sdpa"
        )
    return Blocks(query=128, key=128, step=64) if head_dim <= 128 else Blocks(query=128, key=64, step=32)


def choose_tiles(head_dim: int, itemsize: int, shared_bytes: int) -> Tiles:
    """Returns the tiles for a head dimension and a GPU.

    No time was measured for this choice. It takes the largest tiles whose sums stay in registers and whose operands fit
    into shared memory, by the compiler's report for sm_90 and sm_89, and on Hopper those whose matrix products ptxas
    does not serialise; of heads of 256 it serialises all but dQ. On Hopper two stages would copy no tile ahead.

    Args:
        head_dim: At most 256.
        itemsize: Bytes of an input element; 4 does without tensor cores, and slowly.
        shared_bytes: Shared memory that one program may use.
    """
    if itemsize == 4:
        side = 32 if head_dim <= 128 else 16
        return Tiles(*[Tile(side, side, 4, 1)] * 3)
    if shared_bytes < 200 * 1024:  # all but Hopper and the large Blackwell
        if head_dim <= 128:
            return Tiles(Tile(64, 32, 4, 3), Tile(64, 32, 4, 3), Tile(32, 64, 4, 3))
        return Tiles(Tile(64, 32, 8, 2), Tile(64, 32, 8, 1), Tile(32, 32, 8, 2))
    if head_dim <= 128:
        return Tiles(Tile(128, 64, 8, 3), Tile(128, 64, 8, 3), Tile(64, 128, 8, 3))
    return Tiles(Tile(128, 32, 8, 3), Tile(128, 32, 8, 3), Tile(32, 64, 8, 3))


def plan_intervals(
    segments_L3: Tensor,
    position_L: Tensor,
    rows_M: Tensor | None = None,
    *,
    head_dim: int,
    window: int | None = None,
    blocks: Blocks | None = None,
) -> Intervals:
    """Plans a row; made once per batch and used by every layer. Nothing waits for the device.

    Args:
        segments_L3: Prefix start, prefix end and own start of each token, all in [0, L]: it sees [prefix start, prefix
            end) and from its own start to itself. A token whose own start lies behind it, with an empty prefix, sees
            nothing.
        position_L: Position of each token. With a window they must rise by one within a prefix and within a branch.
        rows_M: Ascending tokens that are queries; all by default.
        head_dim: Chooses the blocks.
        window: Narrows the plan to layers with this sliding window; see `narrow`.
        blocks: Granularity, for tests.

    Raises:
        TrainingError: The head dimension is too large.
    """
    blocks = blocks or choose_blocks(head_dim)
    if rows_M is None:
        rows_M = torch.arange(len(segments_L3), device=segments_L3.device)
    return tabulate(segments_L3.int(), position_L.int(), rows_M.int(), window, blocks)


def narrow(intervals: Intervals, window: int | None) -> Intervals:
    """Returns the plan of the same rows for a window; layers of one window should share one.

    Args:
        intervals: Plan with or without a window.
        window: A token sees only keys whose position is less than this behind its own; None sees all.
    """
    if window == intervals.window:
        return intervals
    return tabulate(*intervals[:3], window, intervals.blocks)


def tabulate(segments_L3: Tensor, position_L: Tensor, rows_M: Tensor, window: int | None, blocks: Blocks) -> Intervals:
    """Returns a plan from its first fields."""
    bounds_M4 = _bounds(segments_L3, position_L, rows_M, window)
    rows, query_blocks = len(rows_M), -(-len(rows_M) // blocks.query)
    # The last block is filled up with copies of its last row, which change neither a hull nor an intersection.
    row_QB = torch.arange(query_blocks * blocks.query, device=rows_M.device).clamp(max=rows - 1)
    bounds_QB22 = bounds_M4[row_QB].view(query_blocks, blocks.query, 2, 2)
    query_blocks_Q4 = _query_blocks(bounds_QB22, blocks.step)
    full_blocks_Q4 = _full_blocks(bounds_QB22)
    key_blocks_K2 = _key_blocks(query_blocks_Q4, rows, len(segments_L3), blocks)
    return Intervals(
        segments_L3, position_L, rows_M, window, blocks, bounds_M4, query_blocks_Q4, full_blocks_Q4, key_blocks_K2
    )


def _bounds(segments_L3: Tensor, position_L: Tensor, rows_M: Tensor, window: int | None) -> Tensor:
    """Returns the two intervals of each row; as positions rise by one, a window only moves their starts."""
    token_M = rows_M.long()
    start_M, end_M, own_M = segments_L3[token_M].unbind(1)
    if window is not None:
        first_position_M = position_L[start_M.clamp(max=len(position_L) - 1).long()]
        start_M = torch.maximum(start_M, start_M + position_L[token_M] - first_position_M - window + 1)
        own_M = torch.maximum(own_M, rows_M - window + 1)
    return torch.stack([start_M, end_M, own_M, rows_M + 1], dim=1)


def _query_blocks(bounds_QB22: Tensor, step: int) -> Tensor:
    """Returns two disjoint ascending aligned ranges that hold both intervals of every row of a block.

    They are the hull of the blocks' prefixes and the hull of their branches, or one range where these overlap.
    """
    start_QB2, end_QB2 = bounds_QB22.unbind(-1)
    empty_QB2 = start_QB2 >= end_QB2
    start_Q2 = start_QB2.masked_fill(empty_QB2, torch.iinfo(torch.int32).max).amin(1) // step * step
    end_Q2 = (end_QB2.masked_fill(empty_QB2, 0).amax(1) + step - 1) // step * step
    # An empty hull becomes a copy of the other, with which it then overlaps; two become [0, 0).
    empty_Q2 = start_Q2 >= end_Q2
    end_Q2 = torch.where(empty_Q2, end_Q2.flip(1), end_Q2)
    start_Q2 = torch.where(empty_Q2, start_Q2.flip(1), start_Q2).minimum(end_Q2)
    low_Q, high_Q = start_Q2.amin(1), end_Q2.amax(1)
    gap_start_Q, gap_end_Q = end_Q2.amin(1), start_Q2.amax(1)
    gap_Q = gap_start_Q < gap_end_Q
    return torch.stack(
        [low_Q, torch.where(gap_Q, gap_start_Q, high_Q), torch.where(gap_Q, gap_end_Q, high_Q), high_Q], dim=1
    )


def _full_blocks(bounds_QB22: Tensor) -> Tensor:
    """Returns two ranges that all rows of a block see.

    A row without a prefix counts by its branch there: rows of a prefix and of its branches see its start alike.
    """
    prefix_QB2, branch_QB2 = bounds_QB22.unbind(2)
    alone_QB1 = prefix_QB2[..., :1] >= prefix_QB2[..., 1:]
    start_QB2, end_QB2 = torch.stack([torch.where(alone_QB1, branch_QB2, prefix_QB2), branch_QB2], dim=2).unbind(-1)
    return torch.stack([start_QB2.amax(1), end_QB2.amin(1)], dim=-1).flatten(1)


def touched_blocks(query_blocks_Q4: Tensor, keys: int, key_block: int) -> Tensor:
    """Returns the boolean [Q, K] of which query blocks' ranges reach into which key blocks."""
    start_K = torch.arange(0, keys, key_block, device=query_blocks_Q4.device)
    a, b, c, d = query_blocks_Q4.T.unsqueeze(-1)
    end_K = start_K + key_block
    touched_QK: Tensor = (torch.maximum(a, start_K) < torch.minimum(b, end_K)) | (
        torch.maximum(c, start_K) < torch.minimum(d, end_K)
    )
    return touched_QK


def _key_blocks(query_blocks_Q4: Tensor, rows: int, keys: int, blocks: Blocks) -> Tensor:
    untouched_QK = (~touched_blocks(query_blocks_Q4, keys, blocks.key)).int()
    first_K = untouched_QK.cumprod(0).sum(0)
    last_K = len(query_blocks_Q4) - untouched_QK.flip(0).cumprod(0).sum(0)
    end_K = (last_K * blocks.query).clamp(max=rows)
    return torch.stack([torch.minimum(first_K * blocks.query, end_K), end_K], dim=1).int()


def interval_attention(
    q_BHMD: Tensor,
    k_BKLD: Tensor,
    v_BKLD: Tensor,
    intervals: Intervals,
    scale: float,
    *,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attends from the query rows to the keys they see.

    Args:
        q_BHMD: Queries, [1, heads, M, dim], with any strides.
        k_BKLD: Keys, [1, key-value heads, L, dim]; the heads are a multiple of these.
        v_BKLD: Values, as the keys.
        intervals: Plan of the M rows among the L tokens. One of another window is narrowed first, at the cost of some
            small operations per call.
        scale: Factor of the scores.
        window: A token sees this many positions, itself included.
        softcap: Scores s become ``softcap * tanh(s / softcap)``.

    Returns:
        As the queries, in their dtype. A row that sees nothing is 0 and gives no gradient.

    Raises:
        ValueError: Shapes do not fit each other or the plan.
    """
    check_shapes(q_BHMD, k_BKLD, v_BKLD, intervals)
    if not runs_triton(q_BHMD):
        return interval_attention_torch(q_BHMD, k_BKLD, v_BKLD, intervals, scale, window=window, softcap=softcap)
    out_BHMD: Tensor = _IntervalAttention.apply(  # type: ignore[no-untyped-call]
        q_BHMD, k_BKLD, v_BKLD, narrow(intervals, window), scale, softcap
    )
    return out_BHMD


def check_shapes(q_BHMD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor, intervals: Intervals) -> None:
    """Raises a ValueError if the shapes do not fit each other or the plan."""
    batch, heads, rows, head_dim = q_BHMD.shape
    expected = (batch, k_BKLD.shape[1], len(intervals.segments_L3), head_dim)
    if batch != 1 or rows != len(intervals.rows_M) or k_BKLD.shape != expected or v_BKLD.shape != expected:
        raise ValueError(
            f"queries {list(q_BHMD.shape)}, keys {list(k_BKLD.shape)} and values {list(v_BKLD.shape)} do not fit a "
            f"plan of {len(intervals.rows_M)} rows among {len(intervals.segments_L3)} tokens"
        )
    if heads % k_BKLD.shape[1]:
        raise ValueError(f"{heads} query heads are no multiple of {k_BKLD.shape[1]} key-value heads")


class _IntervalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q_BHMD: Tensor,
        k_BKLD: Tensor,
        v_BKLD: Tensor,
        intervals: Intervals,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        from hybrid.kernels.interval_attention_triton import forward_triton

        q_BHMD, k_BKLD, v_BKLD = (x if x.stride(-1) == 1 else x.contiguous() for x in (q_BHMD, k_BKLD, v_BKLD))
        out_BHMD, lse_HM = forward_triton(q_BHMD, k_BKLD, v_BKLD, intervals, scale, softcap)
        ctx.save_for_backward(q_BHMD, k_BKLD, v_BKLD, out_BHMD, lse_HM)
        ctx.intervals, ctx.scale, ctx.softcap = intervals, scale, softcap
        return out_BHMD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BHMD: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        from hybrid.kernels.interval_attention_triton import backward_triton

        dout_BHMD = dout_BHMD if dout_BHMD.stride(-1) == 1 else dout_BHMD.contiguous()
        q, k, v, out, lse = ctx.saved_tensors
        gradients = backward_triton(q, k, v, out, lse, dout_BHMD, ctx.intervals, ctx.scale, ctx.softcap)
        return *gradients, None, None, None


def interval_attention_torch(
    q_BHMD: Tensor,
    k_BKLD: Tensor,
    v_BKLD: Tensor,
    intervals: Intervals,
    scale: float,
    *,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The torch twin of `interval_attention`: every score at once, masked by the definition; it reads no table."""
    wide = torch.promote_types(q_BHMD.dtype, torch.float32)
    groups = q_BHMD.shape[1] // k_BKLD.shape[1]
    keys_BHLD, values_BHLD = (x.to(wide).repeat_interleave(groups, dim=1) for x in (k_BKLD, v_BKLD))
    scores_BHML = q_BHMD.to(wide) @ keys_BHLD.transpose(2, 3) * scale
    if softcap is not None:
        scores_BHML = softcap * torch.tanh(scores_BHML / softcap)
    hidden_ML = ~visible_keys(intervals, window)
    # Finite scores keep rows that see nothing free of NaN; the second filling makes them 0.
    weights_BHML = scores_BHML.masked_fill(hidden_ML, torch.finfo(wide).min).softmax(-1).masked_fill(hidden_ML, 0)
    return (weights_BHML @ values_BHLD).to(q_BHMD.dtype)


def visible_keys(intervals: Intervals, window: int | None = None) -> Tensor:
    """Returns the boolean [M, L] of which keys each row sees: the definition."""
    position_L = intervals.position_L
    key_L = torch.arange(len(position_L), device=position_L.device)
    token_M = intervals.rows_M.long()
    start, end, own = intervals.segments_L3[token_M].T.unsqueeze(-1)
    in_prefix_ML = (key_L >= start) & (key_L < end)
    in_branch_ML = (key_L >= own) & (key_L <= token_M.unsqueeze(-1))
    visible_ML: Tensor = in_prefix_ML | in_branch_ML
    if window is not None:
        visible_ML &= position_L[token_M].unsqueeze(-1) - position_L < window
    return visible_ML
