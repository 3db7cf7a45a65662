"""Fusing rankings: means of relative scores."""

from hypothesis import given
from hypothesis import strategies as st

from hybrid.retrieval.fuse import Nearest, Ranking, fuse


def rankings() -> st.SearchStrategy[Ranking]:
    def ranked(scores: dict[int, float], low: float, width: float) -> Ranking:
        order = sorted(scores, key=lambda position: (-scores[position], position))
        return Ranking(Nearest(tuple(order), tuple(scores[position] for position in order)), low, low + width)

    scores = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 3))
    named = st.dictionaries(st.integers(0, 20), scores, max_size=15)
    return st.builds(ranked, named, scores, st.sampled_from([0.0, 0.5, 4.0]))


@given(st.lists(rankings(), min_size=1, max_size=3))
def test_what_is_fused(given: list[Ranking]) -> None:
    fused = fuse(given)
    assert sorted(fused.positions) == sorted({place for ranking in given for place in ranking.nearest.positions})
    assert list(fused.scores) == sorted(fused.scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in fused.scores)


@given(rankings().filter(lambda ranking: ranking.high > ranking.low), st.sampled_from([0.25, 3.0, 50.0]))
def test_the_scale_of_a_ranking_does_not_matter(ranking: Ranking, factor: float) -> None:
    other = Ranking(Nearest((3, 1), (0.9, 0.1)), 0.0, 1.0)
    stretched = Nearest(ranking.nearest.positions, tuple(factor * score + 2 for score in ranking.nearest.scores))
    scaled = Ranking(stretched, factor * ranking.low + 2, factor * ranking.high + 2)
    first, second = (dict(zip(*fuse([one, other]), strict=True)) for one in (ranking, scaled))
    assert first.keys() == second.keys()
    assert all(abs(first[position] - second[position]) < 1e-6 for position in first)


def test_one_that_both_name_beats_the_first_of_either() -> None:
    first, second = Nearest((1, 2, 3), (9, 8, 0)), Nearest((4, 2, 5), (7, 6, 1))
    assert fuse([Ranking(first, 0, 9), Ranking(second, 1, 7)]).positions[0] == 2


def test_nothing() -> None:
    assert fuse([Ranking(Nearest((), ()), 0, 0)]) == ((), ())
