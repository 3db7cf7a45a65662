"""Attention of context trees by torch's scaled_dot_product_attention: for CPUs, and wherever Triton does not run."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hybrid.tuning.batch import TreeLayout, TreeSpan, positions, segments, visible_mask


def attend_by_tree(
    q: Tensor, k: Tensor, v: Tensor, layout: TreeLayout, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """One or two calls of SDPA a tree, where no window or soft cap forbids.

    The branches of a tree are padded to one batch `[G, s]` beside copies of the prefix keys: on two cores with P=450,
    s=40, G=12 this took half the time of one dense masked call, forward and backward, and a quarter of two flash
    passes merged by their log-sum-exp.
    """
    outputs = []
    for tree in layout.trees:
        narrow = window if window is not None and window < tree.prefix + max(tree.branches) else None
        if narrow is None and softcap is None:
            outputs.append(_attend(q, k, v, tree, scale))
        else:
            part = slice(tree.start, tree.start + tree.prefix + sum(tree.branches))
            mask_TT = _mask_of_tree(replace(tree, start=0), narrow, q.device)
            outputs.append(attend_densely(q[:, :, part], k[:, :, part], v[:, :, part], mask_TT, scale, softcap))
    return torch.cat(outputs, dim=2)


def attend_densely(q: Tensor, k: Tensor, v: Tensor, mask_MT: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Every score at once, for what the fused kernels cannot do; the mask says who sees whom."""
    groups = q.shape[1] // k.shape[1]
    keys_BHTD, values_BHTD = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    if softcap is None:
        return scaled_dot_product_attention(q, keys_BHTD, values_BHTD, attn_mask=mask_MT, scale=scale)
    scores_BHMT = q @ keys_BHTD.transpose(2, 3) * scale
    scores_BHMT = (softcap * torch.tanh(scores_BHMT / softcap)).masked_fill(~mask_MT, -torch.inf)
    # As in transformers: the softmax of low precision scores is taken in float32.
    wide = torch.promote_types(q.dtype, torch.float32)
    return scores_BHMT.softmax(dim=-1, dtype=wide).to(q.dtype) @ values_BHTD


def _attend(q: Tensor, k: Tensor, v: Tensor, tree: TreeSpan, scale: float) -> Tensor:
    start, fork = tree.start, tree.start + tree.prefix
    end = fork + sum(tree.branches)
    if not tree.prefix and len(tree.branches) == 1:
        return _causal(q[:, :, start:end], k[:, :, start:end], v[:, :, start:end], scale)
    prefix_BHPD = _causal(q[:, :, start:fork], k[:, :, start:fork], v[:, :, start:fork], scale)
    own_GHsD = _pad(q[:, :, fork:end], tree.branches)
    keys_GKTD = torch.cat([_repeat(k[:, :, start:fork], tree), _pad(k[:, :, fork:end], tree.branches)], dim=2)
    values_GKTD = torch.cat([_repeat(v[:, :, start:fork], tree), _pad(v[:, :, fork:end], tree.branches)], dim=2)
    if q.is_cuda:  # CUDA has no fused kernel for a mask together with grouped heads
        groups = q.shape[1] // k.shape[1]
        keys_GKTD, values_GKTD = keys_GKTD.repeat_interleave(groups, 1), values_GKTD.repeat_interleave(groups, 1)
    mask_sT = _branch_mask(tree.prefix, max(tree.branches), q.device)
    out_GHsD = scaled_dot_product_attention(
        own_GHsD, keys_GKTD, values_GKTD, attn_mask=mask_sT, scale=scale, enable_gqa=not q.is_cuda
    )
    return torch.cat([prefix_BHPD, _unpad(out_GHsD, tree.branches)], dim=2)


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


def _repeat(prefix_BKPD: Tensor, tree: TreeSpan) -> Tensor:
    return prefix_BKPD.expand(len(tree.branches), -1, -1, -1)


def _pad(heads_BHSD: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """[1, heads, sum of lengths, dim] -> [G, heads, longest, dim], padded with zeros."""
    rows_SHD = heads_BHSD[0].transpose(0, 1)
    grid = (len(lengths), max(lengths))
    if len(set(lengths)) > 1:
        empty = rows_SHD.new_zeros((grid[0] * grid[1], *rows_SHD.shape[1:]))
        rows_SHD = empty.index_copy(0, _slots(lengths, rows_SHD.device), rows_SHD)
    return rows_SHD.reshape(*grid, *rows_SHD.shape[1:]).transpose(1, 2)


def _unpad(heads_GHsD: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """The inverse of `_pad`."""
    rows_SHD = heads_GHsD.transpose(1, 2).flatten(0, 1)
    if len(set(lengths)) > 1:
        rows_SHD = rows_SHD.index_select(0, _slots(lengths, rows_SHD.device))
    return rows_SHD.transpose(0, 1).unsqueeze(0)


@lru_cache(maxsize=256)
def _slots(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Returns where each branch row lies in the padded grid; cached, as every layer of a step asks for the same."""
    longest = max(lengths)
    return torch.cat([torch.arange(n) + index * longest for index, n in enumerate(lengths)]).to(device)


@lru_cache(maxsize=256)
def _branch_mask(prefix: int, longest: int, device: torch.device) -> Tensor:
    """Returns the [s, P + s] mask of a branch; padding follows a branch's own tokens, so causality hides it."""
    return torch.ones(longest, prefix + longest, dtype=torch.bool, device=device).tril(prefix)


@lru_cache(maxsize=16)  # dense masks are large; these cover the trees of a row in both kinds of layer
def _mask_of_tree(tree: TreeSpan, window: int | None, device: torch.device) -> Tensor:
    """Returns the [T, T] mask of a tree that starts at 0, narrowed to a window of positions if there is one."""
    mask_TT = visible_mask(segments(tree).to(device))
    if window is None:
        return mask_TT
    position_T = positions(tree).to(device)
    return mask_TT & (position_T.unsqueeze(-1) - position_T < window)
