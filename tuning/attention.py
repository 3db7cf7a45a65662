"""Attention of context trees, and its registration with transformers under the name `hybrid_tree`.

Who sees whom in a row reaches the attention function as a keyword argument of the model call:
``body(input_ids=..., position_ids=..., tree=tree_mask(batch, ...))``.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from hybrid.errors import TrainingError
from hybrid.kernels.interval_attention import Intervals, interval_attention, plan_intervals
from hybrid.kernels.interval_attention_flex import FlexPlan, flex_interval_attention, plan_flex
from hybrid.tuning.batch import TreeBatch, TreeLayout, visible_mask
from hybrid.tuning.sdpa import attend_by_tree, attend_densely
from hybrid.tuning.settings import AttentionBackend

NAME = "hybrid_tree"
Backend = Literal["sdpa", "flex", "triton"]


@dataclass(frozen=True, slots=True)
class TreeMask:
    """Who sees whom in a row; made once and used by every layer.

    Attributes:
        layout: Spans of the trees, which `sdpa` reads.
        segments: [L, 3] of `TreeBatch`, which the other backends read.
        positions: [L].
        rows: [R] tokens that predict.
        backend: What computes attention.
        plans: What the backend made of the segments, for each window and for all or the predicting rows; filled by the
            first layer that needs it.
    """

    layout: TreeLayout
    segments: Tensor
    positions: Tensor
    rows: Tensor
    backend: Backend
    plans: dict[tuple[bool, int | None], Intervals | FlexPlan] = field(default_factory=dict)


def resolve_backend(backend: AttentionBackend, device: torch.device) -> Backend:
    """Returns what "auto" stands for on a device."""
    if backend != "auto":
        return backend
    return "triton" if device.type == "cuda" else "sdpa"


def tree_mask(batch: TreeBatch, backend: Backend) -> TreeMask:
    """Returns who sees whom in a batch, on the device of the batch."""
    return TreeMask(batch.layout, batch.segments, batch.position_ids[0], batch.rows, backend)


def tree_attention(
    q_BHMD: Tensor,
    k_BKLD: Tensor,
    v_BKLD: Tensor,
    tree: TreeMask,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attends within each tree: prefix rows causally, branch rows to the prefix and causally to their own branch.

    Args:
        q_BHMD: Queries, [1, heads, L, dim], or [1, heads, R, dim] for the predicting rows alone.
        k_BKLD: Keys, [1, key-value heads, L, dim].
        v_BKLD: Values, as the keys.
        tree: Of a row of L tokens.
        scale: Factor of the scores.
        window: A token sees this many positions, itself included.
        softcap: Scores s become ``softcap * tanh(s / softcap)``.

    Returns:
        As the queries.
    """
    pruned = q_BHMD.shape[2] != k_BKLD.shape[2]
    if tree.backend != "sdpa":
        plan = _plan(tree, pruned, window, q_BHMD.shape[3])
        if isinstance(plan, FlexPlan):
            return flex_interval_attention(q_BHMD, k_BKLD, v_BKLD, plan, scale, window=window, softcap=softcap)
        return interval_attention(q_BHMD, k_BKLD, v_BKLD, plan, scale, window=window, softcap=softcap)
    if pruned:
        mask_RL = visible_mask(tree.segments, tree.rows)
        if window is not None:
            mask_RL &= tree.positions[tree.rows].unsqueeze(-1) - tree.positions < window
        return attend_densely(q_BHMD, k_BKLD, v_BKLD, mask_RL, scale, softcap)
    return attend_by_tree(q_BHMD, k_BKLD, v_BKLD, tree.layout, scale, window, softcap)


def _plan(tree: TreeMask, pruned: bool, window: int | None, head_dim: int) -> Intervals | FlexPlan:
    key = (pruned, window)
    if key not in tree.plans:
        rows = tree.rows if pruned else None
        intervals = plan_intervals(tree.segments, tree.positions, rows, head_dim=head_dim, window=window)
        tree.plans[key] = plan_flex(intervals) if tree.backend == "flex" else intervals
    return tree.plans[key]


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    tree: TreeMask,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Adapts `tree_attention` to transformers: heads before tokens in, tokens before heads out."""
    output_BHLD = tree_attention(query, key, value, tree, scaling, sliding_window, softcap)
    return output_BHLD.transpose(1, 2), None


def no_mask(*_: object, **__: object) -> None:
    """Builds no mask: the `tree` says who sees whom."""


def check_supported(config: PreTrainedConfig) -> None:
    """Refuses models whose attention or logits are not reproduced here.

    Raises:
        TrainingError: The model scales its logits, drops attention weights out, or has layers that are neither full nor
            sliding attention; the message names the setting.
    """
    values = config.to_dict()
    name = values.get("model_type")
    for key, neutral in (("logit_scale", 1), ("logits_scaling", 1), ("attention_dropout", 0)):
        if values.get(key) not in (None, neutral):
            raise TrainingError(f"tuning does not support {name!r} models with {key} = {values[key]!r} yet")
    others = sorted(set(values.get("layer_types") or ()) - {"full_attention", "sliding_attention"})
    if others:
        raise TrainingError(f"tuning does not support {name!r} models with layers of type {', '.join(others)} yet")


def check_length(config: PreTrainedConfig, longest: int) -> None:
    """Refuses samples so long that their rotary embedding would depend on what else is in the row.

    Args:
        config: Of the model.
        longest: Tokens of the longest sample.

    Raises:
        TrainingError: The model has other frequencies for long sequences, and a sample is one.
    """
    values = config.to_dict()
    rope = values.get("rope_parameters") or {}
    by_kind = [part for part in rope.values() if isinstance(part, dict)]  # some models have one for each kind of layer
    for part in by_kind or [rope]:
        if part.get("rope_type") not in ("longrope", "dynamic"):
            continue
        name = "original_max_position_embeddings"
        limit = part.get(name) or values.get(name) or values["max_position_embeddings"]
        if longest > limit:
            raise TrainingError(
                f"tuning does not support {values.get('model_type')!r} models with rope_type {part['rope_type']!r} "
                f"beyond their first {limit} positions, and the longest sample has {longest}: retrieve fewer or "
                "shorter passages"
            )


def register() -> None:
    """Makes `hybrid_tree` known to transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, no_mask)
