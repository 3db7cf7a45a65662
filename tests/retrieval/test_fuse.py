"""Fusing rankings: means of relative scores."""

from hypothesis import given
from hypothesis import strategies as st

from hybrid.retrieval.fuse import Nearest, fuse


def rankings() -> st.SearchStrategy[Nearest]:
    def ranked(scores: dict[int, float]) -> Nearest:
        order = sorted(scores, key=lambda position: (-scores[position], position))
        return Nearest(tuple(order), tuple(scores[position] for position in order))

    scores = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 3))
    return st.dictionaries(st.integers(0, 20), scores, max_size=15).map(ranked)


@given(st.lists(rankings(), min_size=1, max_size=3), st.integers(1, 30))
def test_what_is_fused(given: list[Nearest], k: int) -> None:
    fused = fuse(given, k)
    named = {position for ranking in given for position in ranking.positions}
    assert len(fused.positions) == min(k, len(named))
    assert set(fused.positions) <= named
    assert list(fused.scores) == sorted(fused.scores, reverse=True)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in fused.scores)


@given(rankings(), st.sampled_from([0.25, 3.0, 50.0]), st.integers(-5, 5))
def test_the_scale_of_a_ranking_does_not_matter(ranking: Nearest, factor: float, shift: int) -> None:
    other = Nearest((3, 1), (0.9, 0.1))
    scaled = Nearest(ranking.positions, tuple(factor * score + shift for score in ranking.scores))
    first, second = (dict(zip(*fuse([one, other], 40), strict=True)) for one in (ranking, scaled))
    assert first.keys() == second.keys()
    assert all(abs(first[position] - second[position]) < 1e-6 for position in first)


def test_one_that_both_name_beats_the_first_of_either() -> None:
    assert fuse([Nearest((1, 2, 3), (9, 8, 0)), Nearest((4, 2, 5), (7, 6, 1))], 1).positions == (2,)


def test_nothing() -> None:
    assert fuse([Nearest((), ()), Nearest((), ())], 3) == ((), ())
