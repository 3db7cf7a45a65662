"""From a row of context trees to the tensors of one forward pass."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.tuning.tree import Row


@dataclass(frozen=True, slots=True)
class TreeSpan:
    """Where one tree lies in its row.

    Attributes:
        start: First token.
        prefix: Number of prefix tokens; may be 0.
        branches: Number of tokens of each branch; they follow the prefix without gaps.
    """

    start: int
    prefix: int
    branches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Spans of all trees of a row, as host integers: slicing by them makes no device wait."""

    trees: tuple[TreeSpan, ...]


class TreeBatch(NamedTuple):
    """One row of `L` tokens with `M` predictions.

    Attributes:
        input_ids: [1, L].
        position_ids: [1, L]; each branch starts at the length of its prefix.
        segments: [L, 3] prefix start, prefix end, own start: a token sees [prefix start, prefix end) and from its own
            start to itself.
        rows: [R] tokens that predict one or more targets, ascending.
        predict_index: [M] which of `rows` predicts each target; a prefix row that starts several answers repeats.
        targets: [M] token to predict.
        weights: [M] float32 weight of each prediction.
        layout: The same spans as host integers.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    rows: Tensor
    predict_index: Tensor
    targets: Tensor
    weights: Tensor
    layout: TreeLayout


def collate(row: Row) -> TreeBatch:
    """Lays the trees of a row out one after another."""
    ids_L: list[int] = []
    predict_M: list[int] = []
    targets_M: list[int] = []
    spans: list[TreeSpan] = []
    for tree in row:
        start, prefix = len(ids_L), len(tree.prefix_ids)
        spans.append(TreeSpan(start, prefix, tuple(branch.tokens for branch in tree.branches)))
        ids_L += tree.prefix_ids
        for branch in tree.branches:
            own = len(ids_L)
            ids_L += branch.prompt_ids + branch.answer_ids
            # Without prompt tokens of its own, the branch's first answer token is predicted by the prefix's last row.
            first = own + len(branch.prompt_ids) - 1 if branch.prompt_ids else start + prefix - 1
            predict_M += [first, *range(own + len(branch.prompt_ids), own + branch.tokens - 1)]
            targets_M += branch.answer_ids
    rows_R, predict_index_M = torch.unique(torch.tensor(predict_M), return_inverse=True)
    return TreeBatch(
        input_ids=torch.tensor([ids_L]),
        position_ids=torch.cat([positions(span) for span in spans]).unsqueeze(0),
        segments=torch.cat([segments(span) for span in spans]),
        rows=rows_R,
        predict_index=predict_index_M,
        targets=torch.tensor(targets_M),
        weights=torch.ones(len(targets_M)),
        layout=TreeLayout(tuple(spans)),
    )


def positions(span: TreeSpan) -> Tensor:
    """Returns the [T] positions of a tree's tokens; each branch starts at the length of the prefix."""
    return torch.cat([torch.arange(span.prefix), *(span.prefix + torch.arange(n) for n in span.branches)])


def segments(span: TreeSpan) -> Tensor:
    """Returns the [T, 3] segments of a tree's tokens, as `TreeBatch` holds them."""
    own = fork = span.start + span.prefix
    rows = [(span.start, span.start, span.start)] * span.prefix
    for tokens in span.branches:
        rows += [(span.start, fork, own)] * tokens
        own += tokens
    return torch.tensor(rows)


def to_device(batch: TreeBatch, device: torch.device) -> TreeBatch:
    """Moves the tensors of a batch."""
    ids, positions, segments, rows, index, targets, weights = (tensor.to(device) for tensor in batch[:-1])
    return TreeBatch(ids, positions, segments, rows, index, targets, weights, batch.layout)


def visible_mask(segments_L3: Tensor, rows_R: Tensor | None = None) -> Tensor:
    """Returns the boolean [R, L] mask of what each token, or each of some, sees: the definition of tree attention."""
    key_L = torch.arange(len(segments_L3), device=segments_L3.device)
    token_R = key_L if rows_R is None else rows_R
    prefix_start, prefix_end, own = segments_L3[token_R].T.unsqueeze(-1)
    in_prefix_RL: Tensor = (key_L >= prefix_start) & (key_L < prefix_end)
    in_branch_RL: Tensor = (key_L >= own) & (key_L <= token_R.unsqueeze(-1))
    return in_prefix_RL | in_branch_RL
