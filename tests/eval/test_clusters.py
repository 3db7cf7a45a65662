from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybrid.eval.clusters import clusters, count_clusters
from hybrid.types import Question

golds = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=12)


def questions(golds: list[list[str]]) -> list[Question]:
    return [Question(str(row), "?", gold=tuple(gold)) for row, gold in enumerate(golds)]


@given(golds)
def test_clusters_are_connected_components(golds: list[list[str]]) -> None:
    n = len(golds)
    edges = [pair for pair in combinations(range(n), 2) if set(golds[pair[0]]) & set(golds[pair[1]])]
    graph = coo_array(([1] * len(edges), tuple(zip(*edges, strict=True)) or ([], [])), shape=(n, n))
    count, labels = connected_components(graph, directed=False) if n else (0, [])
    numbers = clusters(questions(golds))
    assert count_clusters(numbers).clusters == count
    assert all((numbers[i] == numbers[j]) == (labels[i] == labels[j]) for i, j in combinations(range(n), 2))


def test_questions_without_gold_stand_alone() -> None:
    assert clusters(questions([["a"], [], ["a", "b"], [], ["b"]])) == [0, 1, 0, 2, 0]


def test_groups_go_before_gold() -> None:
    numbers = clusters(questions([["a"], ["a"], ["b"], ["c"]]), {"0": "x", "1": "y", "2": "x"})
    assert numbers == [0, 1, 0, 2]
    assert count_clusters(numbers) == (3, 2)


def test_the_name_of_a_question_is_no_document() -> None:
    assert clusters([Question("a", "?", gold=("b",)), Question("b", "?", gold=("c",))]) == [0, 1]
