import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.tuning.batch import TreeSpan, collate, visible_mask
from hybrid.tuning.tree import Branch, ContextTree, Example, build_trees

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)


def test_lays_out_a_prefix_with_two_branches_and_a_tree_of_one() -> None:
    forked = ContextTree("g", (10, 11), (Branch("a", (12,), (13, 14)), Branch("b", (15, 16), (17,))))
    alone = ContextTree("h", (), (Branch("c", (20, 21), (22,)),))
    batch = collate((forked, alone))
    assert batch.input_ids.tolist() == [[10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3, 4, 0, 1, 2]]
    assert batch.layout.trees == (TreeSpan(0, 2, (3, 3)), TreeSpan(8, 0, (3,)))
    assert batch.rows.tolist() == [2, 3, 6, 9]
    assert batch.predict_index.tolist() == [0, 1, 2, 3]
    assert batch.targets.tolist() == [13, 14, 17, 22]
    assert batch.weights.tolist() == [1.0] * 4
    seen = [row.nonzero().flatten().tolist() for row in visible_mask(batch.segments)]
    assert seen[:8] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 5], [0, 1, 5, 6], [0, 1, 5, 6, 7]]
    assert seen[8:] == [[8], [8, 9], [8, 9, 10]]


def test_equal_prompts_predict_from_the_last_prefix_row() -> None:
    tree = ContextTree("g", (4, 5), (Branch("a", (), (6, 7)), Branch("b", (), (8,))))
    batch = collate((tree,))
    assert batch.rows.tolist() == [1, 2]
    assert batch.predict_index.tolist() == [0, 1, 0]
    assert batch.targets.tolist() == [6, 7, 8]


@given(st.lists(st.tuples(st.sampled_from("ab"), TOKENS, TOKENS), min_size=1, max_size=8))
def test_every_target_sees_exactly_its_own_sample(items: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> None:
    examples = [Example(str(index), *item) for index, item in enumerate(items)]
    batch = collate(tuple(build_trees(examples, max_tokens=100)))
    mask_LL = visible_mask(batch.segments)
    wanted = sorted(
        ((*e.prompt_ids, *e.answer_ids[:n]), answer) for e in examples for n, answer in enumerate(e.answer_ids)
    )
    seen = sorted(
        (tuple(batch.input_ids[0, mask_LL[row]].tolist()), target)
        for row, target in zip(batch.rows[batch.predict_index].tolist(), batch.targets.tolist(), strict=True)
    )
    assert torch.equal(visible_mask(batch.segments, batch.rows), mask_LL[batch.rows])
    assert seen == wanted
    visible_positions = [batch.position_ids[0, row_L].tolist() for row_L in mask_LL]
    assert all(positions == list(range(len(positions))) for positions in visible_positions)
    assert torch.equal(batch.weights, torch.ones(len(batch.targets)))
