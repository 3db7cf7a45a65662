import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TrainingError
from hybrid.tuning.tree import Branch, ContextTree, Example, build_trees, common_prefix, pack_rows, tree_stats

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
EXAMPLES = st.lists(st.tuples(st.sampled_from("abc"), TOKENS, TOKENS), max_size=12).map(
    lambda items: [Example(str(index), *item) for index, item in enumerate(items)]
)


def unfold(trees: list[ContextTree]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted(
        (branch.id, tree.prefix_ids + branch.prompt_ids + branch.answer_ids)
        for tree in trees
        for branch in tree.branches
    )


@given(EXAMPLES, st.integers(16, 40), st.booleans(), st.integers(1, 4))
def test_every_example_comes_back_whole(examples: list[Example], max_tokens: int, share: bool, shortest: int) -> None:
    trees = build_trees(examples, max_tokens=max_tokens, share=share, min_shared_tokens=shortest)
    assert unfold(trees) == sorted((e.id, e.prompt_ids + e.answer_ids) for e in examples)
    answers = {e.id: e.answer_ids for e in examples}
    assert all(branch.answer_ids == answers[branch.id] for tree in trees for branch in tree.branches)


@given(EXAMPLES, st.integers(16, 40))
def test_trees_and_rows_keep_the_limit_and_the_counts(examples: list[Example], max_tokens: int) -> None:
    trees = build_trees(examples, max_tokens=max_tokens)
    stats = tree_stats(trees)
    assert all(tree.tokens <= max_tokens for tree in trees)
    assert stats.examples == len(examples)
    assert stats.separate_tokens == sum(len(e.prompt_ids) + len(e.answer_ids) for e in examples)
    assert stats.unique_tokens == sum(tree.tokens for tree in trees) <= stats.separate_tokens
    assert stats.answer_tokens == sum(len(e.answer_ids) for e in examples)
    rows = pack_rows(trees, max_tokens=max_tokens, seed=3)
    assert sorted(tree for row in rows for tree in row) == sorted(trees)
    assert all(sum(tree.tokens for tree in row) <= max_tokens for row in rows)
    assert rows == pack_rows(trees, max_tokens=max_tokens, seed=3)


@given(EXAMPLES)
def test_branches_keep_a_prompt_token_unless_all_prompts_are_equal(examples: list[Example]) -> None:
    for tree in build_trees(examples, max_tokens=100):
        bare = [not branch.prompt_ids for branch in tree.branches]
        assert all(bare) or not any(bare)


@given(EXAMPLES)
def test_without_sharing_every_example_is_a_tree(examples: list[Example]) -> None:
    trees = build_trees(examples, max_tokens=100, share=False)
    assert [len(tree.branches) for tree in trees] == [1] * len(examples)
    assert not any(tree.prefix_ids for tree in trees)


def test_groups_are_not_mixed_even_if_their_prompts_are_equal() -> None:
    trees = build_trees([Example("x", "g", (1, 2), (3,)), Example("y", "h", (1, 2), (3,))], max_tokens=10)
    assert len(trees) == 2


def test_a_large_tree_is_split_with_its_prefix() -> None:
    examples = [Example(str(n), "g", (5, 6, 7, 8, n), (1,)) for n in range(5)]
    trees = build_trees(examples, max_tokens=8)
    assert [(tree.prefix_ids, len(tree.branches)) for tree in trees] == [((5, 6, 7, 8), 2), ((5, 6, 7, 8), 2), ((), 1)]


def test_a_short_prefix_is_not_shared() -> None:
    examples = [Example(str(n), "g", (5, 6, n), (1,)) for n in range(2)]
    assert [tree.prefix_ids for tree in build_trees(examples, max_tokens=8, min_shared_tokens=3)] == [(), ()]


def test_one_prompt_inside_another_leaves_it_a_token() -> None:
    assert common_prefix([(1, 2, 3), (1, 2)]) == 1


@pytest.mark.parametrize(
    "example", [Example("e7", "g", (1,) * 9, (2,)), Example("e7", "g", (), (2,)), Example("e7", "g", (1,), ())]
)
def test_an_unusable_example_is_named(example: Example) -> None:
    with pytest.raises(TrainingError, match="e7"):
        build_trees([example], max_tokens=9)


def test_seeds_give_different_rows() -> None:
    trees = build_trees([Example(str(n), str(n), (n,), (1,)) for n in range(20)], max_tokens=8)
    assert pack_rows(trees, max_tokens=8, seed=0) != pack_rows(trees, max_tokens=8, seed=1)


@given(st.lists(st.integers(1, 39), max_size=80), st.integers(0, 3))
def test_rows_are_filled_first_fit(sizes: list[int], seed: int) -> None:
    trees = [ContextTree(str(n), (), (Branch(str(n), (1,) * size, (2,)),)) for n, size in enumerate(sizes)]
    rows: list[list[ContextTree]] = []
    for tree in random.Random(seed).sample(trees, len(trees)):
        room = (row for row in rows if sum(other.tokens for other in row) + tree.tokens <= 40)
        row = next(room, None)
        if row is None:
            rows.append([tree])
        else:
            row.append(tree)
    assert pack_rows(trees, max_tokens=40, seed=seed) == [tuple(row) for row in rows]
