"""Whether citations point where they should: precision and recall by span, and quotes found in their passages."""

from collections.abc import Sequence
from typing import NamedTuple

from hybrid.types import Citation, Quote

Span = Citation | Quote


class CitationScore(NamedTuple):
    """Scores of the citations of one answer, in 0..1, or all None where there is nothing to cite.

    Attributes:
        precision: Share of the citations that meet a gold span; 0 without citations.
        recall: Share of the gold spans that a citation meets.
        f1: Their harmonic mean.
    """

    precision: float | None
    recall: float | None
    f1: float | None


def score_citations(citations: Sequence[Span], gold: Sequence[Span], *, overlap: float = 0.5) -> CitationScore:
    """Compares citations with gold quotes, or with the spans of the oracle chunks.

    A citation meets a gold span of the same document if they share at least `overlap` of the shorter of the two, so
    that a sentence within an oracle chunk is right, and so is a sentence that holds a quoted phrase. Equal spans count
    once.

    Args:
        citations: What was cited.
        gold: What should have been.
        overlap: Least share of the shorter span, above 0.

    Raises:
        ValueError: `overlap` is not above 0 and at most 1.

    >>> cited = [Quote("a", 0, 10, ""), Quote("b", 0, 10, "")]
    >>> score_citations(cited, [Quote("a", 4, 40, "")])
    CitationScore(precision=0.5, recall=1.0, f1=0.6666666666666666)
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap must lie above 0 and at most at 1, got {overlap}")
    wanted = _distinct(gold)
    if not wanted:
        return CitationScore(None, None, None)
    cited = _distinct(citations)
    met = [[_shared(one, other) >= overlap for other in wanted] for one in cited]
    precision = sum(map(any, met)) / len(met) if met else 0.0
    recall = sum(any(row[column] for row in met) for column in range(len(wanted))) / len(wanted)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    return CitationScore(precision, recall, f1)


def verbatim_share(citations: Sequence[Citation], passages: Sequence[str]) -> float | None:
    """Share of the quotes that stand word for word in the passage that they name; None without citations.

    White space may differ. An empty quote, or a number that no passage has, is not verbatim.

    Args:
        citations: What was cited.
        passages: The texts of the prompt, in order; citations number them from 1.

    >>> verbatim_share([Citation(1, "a", 0, 8, "The pump"), Citation(2, "b", 0, 4, "pump")], ["The pump."])
    0.5
    """
    if not citations:
        return None
    return sum(_is_verbatim(citation, passages) for citation in citations) / len(citations)


def _is_verbatim(citation: Citation, passages: Sequence[str]) -> bool:
    quote = " ".join(citation.quote.split())
    if not quote or not 1 <= citation.number <= len(passages):
        return False
    return quote in " ".join(passages[citation.number - 1].split())


def _distinct(spans: Sequence[Span]) -> list[tuple[str, int, int]]:
    return list(dict.fromkeys((span.document, span.start, span.end) for span in spans))


def _shared(one: tuple[str, int, int], other: tuple[str, int, int]) -> float:
    """Share of the shorter span that both have; 0 for an empty one."""
    shorter = min(one[2] - one[1], other[2] - other[1])
    if one[0] != other[0] or shorter <= 0:
        return 0.0
    return max(0, min(one[2], other[2]) - max(one[1], other[1])) / shorter
