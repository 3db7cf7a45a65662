"""Context trees: many questions on one context as branches of one sequence.

A tree is ``[prefix | branch 1 | ... | branch G]``. Every branch sees the prefix and itself, never another branch, and
its positions start at the length of the prefix, so each branch computes what its own sample would.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from hybrid.errors import TrainingError


class Example(NamedTuple):
    """One training example; examples of one `group` may share the start of their prompts.

    Attributes:
        id: Named in messages.
        group: What the examples have in common, such as a fingerprint of their context.
        prompt_ids: Tokens the model is given.
        answer_ids: Tokens it learns to produce, with the end-of-sequence token.
    """

    id: str
    group: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


class Branch(NamedTuple):
    """What one example adds to the prefix of its tree; `prompt_ids` may be empty if the prefix is the whole prompt."""

    id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of the branch."""
        return len(self.prompt_ids) + len(self.answer_ids)


class ContextTree(NamedTuple):
    """A shared prefix and its branches; a tree of one branch has an empty prefix."""

    group: str
    prefix_ids: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens with the prefix counted once."""
        return len(self.prefix_ids) + sum(branch.tokens for branch in self.branches)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest sample."""
        return len(self.prefix_ids) + max(branch.tokens for branch in self.branches)


Row = tuple[ContextTree, ...]


@dataclass(frozen=True, slots=True)
class TreeStats:
    """What sharing saves.

    Attributes:
        examples: Number of examples.
        trees: Number of trees.
        unique_tokens: Tokens computed per pass, shared ones counted once.
        separate_tokens: Tokens of the same examples one by one.
        answer_tokens: Tokens that carry the loss.
        mean_branches: Mean number of branches per tree (G).
    """

    examples: int
    trees: int
    unique_tokens: int
    separate_tokens: int
    answer_tokens: int
    mean_branches: float


def build_trees(
    examples: Iterable[Example], *, max_tokens: int, share: bool = True, min_shared_tokens: int = 1
) -> list[ContextTree]:
    """Groups examples into trees, in the order in which the groups first appear.

    The prefix is the longest common start of the group's prompts in tokens (text may not be split where a tokenizer
    merges). Each branch keeps at least one prompt token, unless all prompts of the group are equal.

    Args:
        examples: Examples with at least one prompt and one answer token.
        max_tokens: Largest tree; a larger one is split into several trees with the same prefix.
        share: False makes a tree of every example.
        min_shared_tokens: Shortest prefix that is shared.

    Raises:
        TrainingError: An example has no prompt or no answer, or does not fit into `max_tokens`; nothing is truncated.
    """
    groups: dict[object, list[Example]] = {}
    for index, example in enumerate(examples):
        _check_example(example, max_tokens)
        groups.setdefault(example.group if share else index, []).append(example)
    trees: list[ContextTree] = []
    for members in groups.values():
        shared = common_prefix([member.prompt_ids for member in members])
        if len(members) == 1 or shared < min_shared_tokens:
            trees.extend(_tree((), [_branch(member, 0)], member.group) for member in members)
        else:
            trees.extend(_split(members, shared, max_tokens))
    return trees


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Returns the length of the prefix that prompts share, leaving each at least one token unless all are equal.

    >>> common_prefix([(1, 2, 3, 4), (1, 2, 5)]), common_prefix([(1, 2), (1, 2, 3)]), common_prefix([(1, 2), (1, 2)])
    (2, 1, 2)
    """
    if all(prompt == prompts[0] for prompt in prompts):
        return len(prompts[0])
    equal = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
    return min(equal, min(map(len, prompts)) - 1)


def pack_rows(trees: Sequence[ContextTree], *, max_tokens: int, seed: int) -> list[Row]:
    """Packs trees into rows of at most `max_tokens` tokens: shuffled by `seed`, each into the first row with room.

    Args:
        trees: Trees of at most `max_tokens` tokens each.
        max_tokens: Tokens of a row, shared ones counted once.
        seed: Equal seeds give equal rows.
    """
    rows: list[list[ContextTree]] = []
    rooms = _Rooms(len(trees), max_tokens)
    for tree in random.Random(seed).sample(trees, len(trees)):
        place = rooms.take(tree.tokens)
        if place == len(rows):
            rows.append([])
        rows[place].append(tree)
    return [tuple(row) for row in rows]


class _Rooms:
    """The room of rows, those not begun included, as a binary tree in which a node holds the most below it."""

    def __init__(self, rows: int, room: int) -> None:
        self._leaves = 1 << max(0, rows - 1).bit_length()
        self._most = [room] * (2 * self._leaves)  # the root at 1, the children of `node` at 2 * node and one behind

    def take(self, tokens: int) -> int:
        """Takes room from the first row with enough of it, and returns that row's place."""
        most, node = self._most, 1
        while node < self._leaves:
            node *= 2
            node += most[node] < tokens
        row = node - self._leaves
        most[node] -= tokens
        while node := node // 2:
            most[node] = max(most[2 * node], most[2 * node + 1])
        return row


def tree_stats(trees: Iterable[ContextTree]) -> TreeStats:
    """Counts trees, branches and tokens."""
    kept = list(trees)
    examples = sum(len(tree.branches) for tree in kept)
    unique = sum(tree.tokens for tree in kept)
    repeated = sum(len(tree.prefix_ids) * (len(tree.branches) - 1) for tree in kept)
    return TreeStats(
        examples=examples,
        trees=len(kept),
        unique_tokens=unique,
        separate_tokens=unique + repeated,
        answer_tokens=sum(len(branch.answer_ids) for tree in kept for branch in tree.branches),
        mean_branches=examples / len(kept) if kept else 0.0,
    )


def _check_example(example: Example, max_tokens: int) -> None:
    if not example.prompt_ids:
        raise TrainingError(f"training example {example.id!r} has an empty prompt")
    if not example.answer_ids:
        raise TrainingError(f"training example {example.id!r} has no answer tokens")
    tokens = len(example.prompt_ids) + len(example.answer_ids)
    if tokens > max_tokens:
        raise TrainingError(
            f"training example {example.id!r} has {tokens} tokens, more than tune.max_tokens = {max_tokens}: "
            "raise the limit, or retrieve fewer or shorter passages"
        )


def _branch(example: Example, shared: int) -> Branch:
    return Branch(example.id, example.prompt_ids[shared:], example.answer_ids)


def _tree(prefix_ids: tuple[int, ...], branches: list[Branch], group: str) -> ContextTree:
    if len(branches) > 1:
        return ContextTree(group, prefix_ids, tuple(branches))
    # Alone, prefix and branch are one causal sequence, which attention computes in one piece.
    return ContextTree(group, (), (branches[0]._replace(prompt_ids=prefix_ids + branches[0].prompt_ids),))


def _split(members: Sequence[Example], shared: int, max_tokens: int) -> list[ContextTree]:
    prefix_ids, group = members[0].prompt_ids[:shared], members[0].group
    trees: list[ContextTree] = []
    pending: list[Branch] = []
    for branch in (_branch(member, shared) for member in members):
        if pending and shared + sum(other.tokens for other in pending) + branch.tokens > max_tokens:
            trees.append(_tree(prefix_ids, pending, group))
            pending = []
        pending.append(branch)
    return [*trees, _tree(prefix_ids, pending, group)]
