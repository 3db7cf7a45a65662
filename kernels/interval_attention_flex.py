"""The operation of `hybrid.kernels.interval_attention` by FlexAttention, which compiles its own kernels on CUDA.

On a CPU, FlexAttention computes every score, and has no backward pass.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from hybrid.kernels.interval_attention import Blocks, Intervals, check_shapes, narrow, tabulate, touched_blocks

_BLOCK = 128  # what FlexAttention's tiles divide by default
_BLOCKS = Blocks(query=_BLOCK, key=_BLOCK, step=_BLOCK)


class FlexPlan(NamedTuple):
    """A plan of intervals and its form for FlexAttention."""

    intervals: Intervals
    block_mask: BlockMask


def plan_flex(intervals: Intervals) -> FlexPlan:
    """Reads a block mask off a plan, once for all layers of its window: no dense mask, no wait for the device."""
    intervals = tabulate(*intervals[:3], intervals.window, _BLOCKS)
    bounds_M4 = intervals.bounds_M4
    rows, keys = len(intervals.rows_M), len(intervals.segments_L3)

    def visible(batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        a, b, c, d = (bounds_M4[row, column] for column in range(4))
        return ((key >= a) & (key < b)) | ((key >= c) & (key < d))

    touched_QK = touched_blocks(intervals.query_blocks_Q4, keys, _BLOCK)
    full_QK = touched_QK & _full_blocks(intervals)
    ordered = (*_by_row(touched_QK & ~full_QK), *_by_row(full_QK))
    block_mask = BlockMask.from_kv_blocks(*ordered, BLOCK_SIZE=_BLOCK, mask_mod=visible, seq_lengths=(rows, keys))
    return FlexPlan(intervals, block_mask)


def _full_blocks(intervals: Intervals) -> Tensor:
    """Returns the boolean [Q, K] of blocks without a hidden key; a query block that the rows end in counts as none."""
    start_K = torch.arange(0, len(intervals.segments_L3), _BLOCK, device=intervals.rows_M.device)
    a, b, c, d = intervals.full_blocks_Q4.T.unsqueeze(-1)
    end_K = start_K + _BLOCK
    full_QK: Tensor = ((start_K >= a) & (end_K <= b)) | ((start_K >= c) & (end_K <= d))
    full_QK[len(intervals.rows_M) // _BLOCK :] = False
    return full_QK


def _by_row(blocks_QK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the number [1, 1, Q] of blocks of each row and, in front of the others, their indices [1, 1, Q, K]."""
    counts_Q = blocks_QK.sum(1, dtype=torch.int32)
    order_QK = blocks_QK.int().argsort(dim=1, descending=True, stable=True).int()
    return counts_Q[None, None], order_QK[None, None]


def flex_interval_attention(
    q_BHMD: Tensor,
    k_BKLD: Tensor,
    v_BKLD: Tensor,
    plan: FlexPlan,
    scale: float,
    *,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attends from the query rows to the keys they see; arguments, result and errors as `interval_attention`.

    A plan of another window is made anew on every call.
    """
    check_shapes(q_BHMD, k_BKLD, v_BKLD, plan.intervals)
    if window != plan.intervals.window:
        plan = plan_flex(narrow(plan.intervals, window))
    out_BHMD: Tensor = _flex_attention(q_BHMD.is_cuda)(
        q_BHMD,
        k_BKLD,
        v_BKLD,
        score_mod=None if softcap is None else _soft_cap(softcap),
        block_mask=plan.block_mask,
        scale=scale,
        enable_gqa=q_BHMD.shape[1] != k_BKLD.shape[1],
    )
    return out_BHMD


def _soft_cap(softcap: float) -> Callable[..., Tensor]:
    def cap(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


@lru_cache
def _flex_attention(compiled: bool) -> Any:  # noqa: ANN401
    return torch.compile(flex_attention) if compiled else flex_attention
