"""Citations against gold spans, and quotes against passages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.eval.citation_scores import CitationScore, score_citations, verbatim_share
from hybrid.types import Citation, Quote


def quote(document: str, start: int, end: int) -> Quote:
    return Quote(document, start, end, "")


@pytest.mark.parametrize(
    ("cited", "gold", "expected"),
    [
        ([quote("a", 0, 9)], [quote("a", 0, 9)], (1.0, 1.0)),
        ([quote("a", 40, 60)], [quote("a", 0, 500)], (1.0, 1.0)),  # a sentence within the oracle chunk
        ([quote("a", 0, 100)], [quote("a", 40, 45)], (1.0, 1.0)),  # a sentence around the quoted phrase
        ([quote("b", 0, 9)], [quote("a", 0, 9)], (0.0, 0.0)),
        ([quote("a", 0, 10)], [quote("a", 5, 15)], (1.0, 1.0)),
        ([quote("a", 0, 10)], [quote("a", 6, 16)], (0.0, 0.0)),
        ([quote("a", 0, 10)], [quote("a", 10, 20)], (0.0, 0.0)),
        ([quote("a", 3, 3)], [quote("a", 0, 9)], (0.0, 0.0)),
        ([], [quote("a", 0, 9)], (0.0, 0.0)),
        ([quote("a", 0, 9), quote("b", 0, 9)], [quote("a", 0, 9)], (0.5, 1.0)),
        ([quote("a", 0, 9)], [quote("a", 0, 9), quote("b", 0, 9), quote("c", 0, 9)], (1.0, 1 / 3)),
        ([quote("a", 0, 9)] * 3 + [quote("b", 0, 9)], [quote("a", 0, 9)] * 2, (0.5, 1.0)),
    ],
)
def test_precision_and_recall(cited: list[Quote], gold: list[Quote], expected: tuple[float, float]) -> None:
    precision, recall = expected
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    assert score_citations(cited, gold) == pytest.approx((precision, recall, f1))


def test_nothing_to_cite_has_no_score() -> None:
    assert score_citations([quote("a", 0, 9)], []) == CitationScore(None, None, None)


def test_overlap_is_of_the_shorter_span() -> None:
    assert score_citations([quote("a", 0, 10)], [quote("a", 6, 16)], overlap=0.4).f1 == 1.0
    for overlap in (0.0, 1.1):
        with pytest.raises(ValueError, match="overlap must lie above 0"):
            score_citations([], [], overlap=overlap)


spans = st.lists(st.builds(quote, st.sampled_from("ab"), st.integers(0, 20), st.integers(20, 40)), max_size=5)


@given(spans, spans)
def test_precision_of_one_side_is_recall_of_the_other(cited: list[Quote], gold: list[Quote]) -> None:
    one, other = score_citations(cited, gold), score_citations(gold, cited)
    if cited and gold:
        assert (one.precision, one.recall) == (other.recall, other.precision)
        assert one.f1 == pytest.approx(other.f1)


def test_quotes_must_stand_in_the_passage_they_name() -> None:
    passages = ["The pump was\nbuilt in 1969.", "The tank holds 5 litres."]
    cited = [
        Citation(1, "a", 0, 20, "pump was built"),
        Citation(2, "b", 0, 20, "pump was built"),
        Citation(2, "b", 0, 20, "The tank holds 6"),
        Citation(0, "b", 0, 20, "litres"),
        Citation(3, "b", 0, 20, "litres"),
        Citation(1, "a", 0, 0, " "),
        Citation(1, "a", 0, 9, "the pump"),
    ]
    assert [verbatim_share([citation], passages) for citation in cited] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert verbatim_share(cited[:2], passages) == 0.5
    assert verbatim_share([], passages) is None
