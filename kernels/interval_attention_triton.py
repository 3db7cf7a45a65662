"""Triton kernels of `hybrid.kernels.interval_attention`: forward, dQ, dK and dV; imported only where Triton runs.

The forward and the dQ kernel hold query rows and walk over the key ranges of their block. The dK/dV kernel holds keys
and walks over the query rows that may see them, head by head of the group. Every element has one writer and every sum
one order, so two runs are bit-equal.

Scores are kept in base 2. With s the score of a row for a key and ``lse = log2(sum(exp2(s)))``, the backward pass
(FlashAttention-2, arXiv:2307.08691, algorithm 2) is ``p = exp2(s - lse)``, ``delta = rowsum(dout * out)``,
``ds = p * (dout @ v.T - delta)``, ``dq = scale * ds @ k``, ``dk = scale * ds.T @ q`` and ``dv = p.T @ dout``.

The kernels take a matrix as ``(pointer, head stride, row stride)``, the plan as ``(bounds, query blocks, full blocks,
key blocks)`` and the score of a dot product x as three factors: ``f0 * x``, or ``f1 * tanh(f0 * x)`` with a soft cap;
f2 is the scale in the gradients.
"""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import math
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.interval_attention import Intervals, Tile, Tiles, choose_tiles

_LOG2_E = math.log2(math.e)
HOPPER_SHARED_BYTES = 227 * 1024
_kernel = triton.jit(do_not_specialize=["rows", "keys"])  # else some lengths would compile anew


@triton.jit
def _tile(matrix, head, start, stop, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Points at rows [start, start + BLOCK) of a head, and marks what lies before `stop` and within the head."""
    pointer, head_stride, row_stride = matrix
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, BLOCK_D)[None, :]
    # Only the origin of a tile can lie beyond 2**31.
    origin = pointer + tl.cast(head, tl.int64) * head_stride + tl.cast(start, tl.int64) * row_stride
    inside = start + row < stop
    if HEAD_DIM < BLOCK_D:
        inside = inside & (column < HEAD_DIM)
    return origin + row * row_stride + column, inside


@triton.jit
def _load(matrix, head, start, stop, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    pointers, inside = _tile(matrix, head, start, stop, BLOCK, HEAD_DIM, BLOCK_D)
    return tl.load(pointers, mask=inside, other=0.0)


@triton.jit
def _store(matrix, head, start, stop, values, HEAD_DIM: tl.constexpr):
    pointers, inside = _tile(matrix, head, start, stop, values.shape[0], HEAD_DIM, values.shape[1])
    tl.store(pointers, values.to(matrix[0].dtype.element_ty), mask=inside)


@triton.jit
def _load_four(table, entry, inside=True):
    first = table + entry * 4
    a = tl.load(first, mask=inside, other=0)
    b = tl.load(first + 1, mask=inside, other=0)
    c = tl.load(first + 2, mask=inside, other=0)
    d = tl.load(first + 3, mask=inside, other=0)
    return a, b, c, d


@triton.jit
def _key_start(step, ranges, BLOCK: tl.constexpr):
    """Returns where the keys of a step begin: one loop walks over both ranges."""
    first = (ranges[1] - ranges[0]) // BLOCK
    return tl.where(step < first, ranges[0] + step * BLOCK, ranges[2] + (step - first) * BLOCK)


@triton.jit
def _sees(intervals, start, stop):
    """Returns whether all keys [start, stop) lie within one of two intervals."""
    return ((start >= intervals[0]) & (stop <= intervals[1])) | ((start >= intervals[2]) & (stop <= intervals[3]))


@triton.jit
def _tanh(x):
    """Returns tanh to a few units in the last place: near 0, where the other form cancels, its Padé approximant."""
    square = x * x
    near = x * (945.0 + square * (105.0 + square)) / (945.0 + square * (420.0 + square * 15.0))
    return tl.where(square < 0.5, near, 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0))


@triton.jit
def _scores(a, b, factors, SOFTCAP: tl.constexpr):
    """Returns the base-2 scores of the rows of a with the rows of b."""
    scores = tl.dot(a, tl.trans(b), input_precision="ieee") * factors[0]
    if SOFTCAP:
        scores = factors[1] * _tanh(scores)
    return scores


@triton.jit
def _online_softmax(scores_MN, top_M, total_M):
    """Returns the powers of a tile, the factor for earlier sums, and each row's new maximum and sum of powers."""
    new_top_M = tl.maximum(top_M, tl.max(scores_MN, 1))
    # While a row has seen nothing, -inf - -inf would be NaN.
    shift_M = tl.where(new_top_M == -float("inf"), 0.0, new_top_M)
    p_MN = tl.exp2(scores_MN - shift_M[:, None])
    shrink_M = tl.exp2(top_M - shift_M)
    return p_MN, shrink_M, new_top_M, total_M * shrink_M + tl.sum(p_MN, 1)


@triton.jit
def _score_gradient(p, dp, delta, scores, factors, SOFTCAP: tl.constexpr):
    ds = p * (dp - delta)
    if SOFTCAP:
        tanh = scores / factors[1]
        ds = ds * (1.0 - tanh * tanh)
    return ds


@_kernel
def _forward(
    q,
    k,
    v,
    out,
    lse,
    plan,
    rows,
    keys,
    factors,
    GROUP: tl.constexpr,
    SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    row_start = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M  # the last rows see most keys and start first
    head = tl.program_id(1)
    row = row_start + tl.arange(0, BLOCK_M)
    q_MD = _load(q, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
    bounds = _load_four(plan[0], row[:, None], row[:, None] < rows)
    ranges = _load_four(plan[1], row_start // QUERY_BLOCK)
    full = _load_four(plan[2], row_start // QUERY_BLOCK)

    out_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    top_M = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total_M = tl.zeros([BLOCK_M], tl.float32)
    for step in range((ranges[1] - ranges[0] + ranges[3] - ranges[2]) // BLOCK_N):
        start = _key_start(step, ranges, BLOCK_N)
        k_ND = _load(k, head // GROUP, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores_MN = _scores(q_MD, k_ND, factors, SOFTCAP)
        if not _sees(full, start, start + BLOCK_N):
            key = start + tl.arange(0, BLOCK_N)[None, :]
            scores_MN = tl.where(_sees(bounds, key, key + 1), scores_MN, -float("inf"))
        p_MN, shrink_M, top_M, total_M = _online_softmax(scores_MN, top_M, total_M)
        v_ND = _load(v, head // GROUP, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
        out_MD = tl.dot(p_MN.to(v_ND.dtype), v_ND, out_MD * shrink_M[:, None], input_precision="ieee")

    seen_M = total_M > 0
    total_M = tl.where(seen_M, total_M, 1.0)
    _store(out, head, row_start, rows, out_MD / total_M[:, None], HEAD_DIM)
    tl.store(lse + head * rows + row, tl.where(seen_M, top_M, 0.0) + tl.log2(total_M), mask=row < rows)


@_kernel
def _backward_q(
    q,
    k,
    v,
    out,
    dout,
    dq,
    lse,
    delta,
    plan,
    rows,
    keys,
    factors,
    GROUP: tl.constexpr,
    SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    row_start = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M
    head = tl.program_id(1)
    row = row_start + tl.arange(0, BLOCK_M)
    q_MD = _load(q, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
    dout_MD = _load(dout, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
    out_MD = _load(out, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
    delta_M = tl.sum(dout_MD.to(tl.float32) * out_MD.to(tl.float32), 1)
    tl.store(delta + head * rows + row, delta_M, mask=row < rows)
    lse_M = tl.load(lse + head * rows + row, mask=row < rows, other=0.0)
    bounds = _load_four(plan[0], row[:, None], row[:, None] < rows)
    ranges = _load_four(plan[1], row_start // QUERY_BLOCK)
    full = _load_four(plan[2], row_start // QUERY_BLOCK)

    dq_MD = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for step in range((ranges[1] - ranges[0] + ranges[3] - ranges[2]) // BLOCK_N):
        start = _key_start(step, ranges, BLOCK_N)
        k_ND = _load(k, head // GROUP, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
        v_ND = _load(v, head // GROUP, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores_MN = _scores(q_MD, k_ND, factors, SOFTCAP)
        p_MN = tl.exp2(scores_MN - lse_M[:, None])
        if not _sees(full, start, start + BLOCK_N):
            key = start + tl.arange(0, BLOCK_N)[None, :]
            p_MN = tl.where(_sees(bounds, key, key + 1), p_MN, 0.0)
        dp_MN = tl.dot(dout_MD, tl.trans(v_ND), input_precision="ieee")
        ds_MN = _score_gradient(p_MN, dp_MN, delta_M[:, None], scores_MN, factors, SOFTCAP)
        dq_MD = tl.dot(ds_MN.to(k_ND.dtype), k_ND, dq_MD, input_precision="ieee")
    _store(dq, head, row_start, rows, dq_MD * factors[2], HEAD_DIM)


@_kernel
def _backward_kv(
    q,
    k,
    v,
    dout,
    dk,
    dv,
    lse,
    delta,
    plan,
    rows,
    keys,
    factors,
    GROUP: tl.constexpr,
    SOFTCAP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    start, kv_head = tl.program_id(0) * BLOCK_N, tl.program_id(1)
    key = start + tl.arange(0, BLOCK_N)[:, None]
    k_ND = _load(k, kv_head, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
    v_ND = _load(v, kv_head, start, keys, BLOCK_N, HEAD_DIM, BLOCK_D)
    first_row = tl.load(plan[3] + start // KEY_BLOCK * 2)
    steps = tl.cdiv(tl.load(plan[3] + start // KEY_BLOCK * 2 + 1) - first_row, BLOCK_M)
    dk_ND = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv_ND = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for step in range(GROUP * steps):  # the rows of one head after those of another
        head = kv_head * GROUP + step // tl.maximum(steps, 1)  # the pipeline computes this even for an empty loop
        row_start = first_row + step % tl.maximum(steps, 1) * BLOCK_M
        row = row_start + tl.arange(0, BLOCK_M)[None, :]
        q_MD = _load(q, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
        dout_MD = _load(dout, head, row_start, rows, BLOCK_M, HEAD_DIM, BLOCK_D)
        lse_1M = tl.load(lse + head * rows + row, mask=row < rows, other=0.0)
        delta_1M = tl.load(delta + head * rows + row, mask=row < rows, other=0.0)
        full = _load_four(plan[2], row_start // QUERY_BLOCK)
        scores_NM = _scores(k_ND, q_MD, factors, SOFTCAP)
        p_NM = tl.exp2(scores_NM - lse_1M)
        if not _sees(full, start, start + BLOCK_N):
            bounds = _load_four(plan[0], row, row < rows)
            p_NM = tl.where(_sees(bounds, key, key + 1), p_NM, 0.0)
        dv_ND = tl.dot(p_NM.to(dout_MD.dtype), dout_MD, dv_ND, input_precision="ieee")
        dp_NM = tl.dot(v_ND, tl.trans(dout_MD), input_precision="ieee")
        ds_NM = _score_gradient(p_NM, dp_NM, delta_1M, scores_NM, factors, SOFTCAP)
        dk_ND = tl.dot(ds_NM.to(q_MD.dtype), q_MD, dk_ND, input_precision="ieee")
    _store(dk, kv_head, start, keys, dk_ND * factors[2], HEAD_DIM)
    _store(dv, kv_head, start, keys, dv_ND, HEAD_DIM)


def forward_triton(
    q_BHMD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor, intervals: Intervals, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Returns the output, laid out in memory as the queries, and the base-2 log-sum-exp [H, M] of its rows.

    The last dimension of the inputs must be contiguous.
    """
    heads, rows = q_BHMD.shape[1:3]
    out_BHMD = torch.empty_like(q_BHMD)
    lse_HM = torch.empty((heads, rows), dtype=torch.float32, device=q_BHMD.device)
    if rows:
        tile = _tiles(q_BHMD, intervals).forward
        _forward[triton.cdiv(rows, tile.rows), heads](
            *map(_matrix, (q_BHMD, k_BKLD, v_BKLD, out_BHMD)),
            lse_HM,
            *_problem(intervals, scale, softcap),
            **_constants(q_BHMD, k_BKLD, intervals, softcap, tile),
        )
    return out_BHMD, lse_HM


def backward_triton(
    q_BHMD: Tensor,
    k_BKLD: Tensor,
    v_BKLD: Tensor,
    out_BHMD: Tensor,
    lse_HM: Tensor,
    dout_BHMD: Tensor,
    intervals: Intervals,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of queries, keys and values from what `forward_triton` took and returned."""
    heads, rows = q_BHMD.shape[1:3]
    kv_heads, keys = k_BKLD.shape[1:3]
    dq_BHMD, dk_BKLD, dv_BKLD = (torch.empty_like(x) for x in (q_BHMD, k_BKLD, v_BKLD))
    delta_HM = torch.empty_like(lse_HM)
    tiles, problem = _tiles(q_BHMD, intervals), _problem(intervals, scale, softcap)
    if rows:
        _backward_q[triton.cdiv(rows, tiles.query.rows), heads](
            *map(_matrix, (q_BHMD, k_BKLD, v_BKLD, out_BHMD, dout_BHMD, dq_BHMD)),
            lse_HM,
            delta_HM,
            *problem,
            **_constants(q_BHMD, k_BKLD, intervals, softcap, tiles.query),
        )
    if keys:
        _backward_kv[triton.cdiv(keys, tiles.key.keys), kv_heads](
            *map(_matrix, (q_BHMD, k_BKLD, v_BKLD, dout_BHMD, dk_BKLD, dv_BKLD)),
            lse_HM,
            delta_HM,
            *problem,
            **_constants(q_BHMD, k_BKLD, intervals, softcap, tiles.key),
        )
    return dq_BHMD, dk_BKLD, dv_BKLD


def _matrix(x: Tensor) -> tuple[Tensor, int, int]:
    return x, x.stride(1), x.stride(2)


def _problem(intervals: Intervals, scale: float, softcap: float | None) -> tuple[object, ...]:
    """Returns the arguments that all kernels end with: plan, rows, keys, factors."""
    plan = (intervals.bounds_M4, intervals.query_blocks_Q4, intervals.full_blocks_Q4, intervals.key_blocks_K2)
    factors = (scale * _LOG2_E, 1.0, scale) if softcap is None else (scale / softcap, softcap * _LOG2_E, scale)
    return plan, len(intervals.rows_M), len(intervals.segments_L3), factors


def _constants(
    q_BHMD: Tensor, k_BKLD: Tensor, intervals: Intervals, softcap: float | None, tile: Tile
) -> dict[str, Any]:
    head_dim = q_BHMD.shape[3]
    return {
        "GROUP": q_BHMD.shape[1] // k_BKLD.shape[1],
        "SOFTCAP": softcap is not None,
        "HEAD_DIM": head_dim,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "BLOCK_M": tile.rows,
        "BLOCK_N": tile.keys,
        "QUERY_BLOCK": intervals.blocks.query,
        "KEY_BLOCK": intervals.blocks.key,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "enable_fp_fusion": True,
    }


def _tiles(q_BHMD: Tensor, intervals: Intervals) -> Tiles:
    """Returns the tiles, made smaller where the plan is finer."""
    blocks = intervals.blocks
    shared_bytes = _shared_bytes(q_BHMD.get_device()) if q_BHMD.is_cuda else HOPPER_SHARED_BYTES
    forward, query, key = (
        tile._replace(rows=min(tile.rows, blocks.query), keys=min(tile.keys, finest))
        for tile, finest in zip(
            choose_tiles(q_BHMD.shape[3], q_BHMD.element_size(), shared_bytes),
            (blocks.step, blocks.step, blocks.key),
            strict=True,
        )
    )
    return Tiles(forward, query, key)


@lru_cache
def _shared_bytes(device: int) -> int:
    return int(triton.runtime.driver.active.utils.get_device_properties(device)["max_shared_mem"])
