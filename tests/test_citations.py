"""Citations: every quote is at its span, and supports the answer."""

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.citations import cite
from hybrid.types import Chunk, Hit

if TYPE_CHECKING:
    from hybrid import Project

DOCUMENT = (
    "# Pumps\n\nThe impeller is replaced every 4,000 hours. It costs 3.5 euros!\n"
    "Is it heavy? The feed pump\nstands in bay 7 (north). Ünal Ågren services it."
)


def _hits(text: str, cuts: list[int]) -> list[Hit]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    spans = list(pairwise(edges))
    chunks = [Chunk(f"d#{start}-{end}", "d", start, end, text[start:end]) for start, end in spans]
    return [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(chunks, 1)]


def test_the_sentence_around_the_answer_is_cited() -> None:
    (citation,) = cite("every 4,000 hours", _hits(DOCUMENT, []))
    assert citation.quote == "The impeller is replaced every 4,000 hours."
    assert citation.number == 1


def test_an_answer_is_found_across_a_line_break_and_case() -> None:
    (citation,) = cite("The Feed Pump stands in bay 7", _hits(DOCUMENT, []))
    assert "feed pump\nstands in bay 7" in citation.quote


def test_an_answer_is_found_as_whole_words_only() -> None:
    assert cite("4", _hits("Room 14 has 40 beds.", [])) == ()


def test_the_number_is_that_of_the_passage_in_the_prompt() -> None:
    hits = _hits("Red is warm. Blue is cold.", [13])
    (citation,) = cite("cold", hits)
    assert (citation.number, citation.quote, citation.start) == (2, "Blue is cold.", 13)


def test_a_paraphrase_cites_the_closest_sentence() -> None:
    (citation,) = cite("the impeller must be replaced every 4,000 hours", _hits(DOCUMENT, []))
    assert citation.quote.startswith("The impeller is replaced")


def test_what_nothing_supports_is_not_cited() -> None:
    assert cite("a blue whale in Patagonia", _hits(DOCUMENT, [])) == ()
    assert cite("...", _hits(DOCUMENT, [])) == ()
    assert cite("", _hits(DOCUMENT, [])) == ()
    assert cite("the impeller", []) == ()


def test_no_more_citations_than_the_limit() -> None:
    hits = _hits("pump a. pump b. pump c. pump d. ", [8, 16, 24])
    assert [citation.number for citation in cite("pump", hits)] == [1, 2, 3]
    assert len(cite("pump", hits, limit=1)) == 1


TEXTS = st.one_of(st.text(max_size=120), st.text(st.sampled_from("ab .!?\n3,İß\u2028"), max_size=120))


@given(
    text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=4), pick=st.tuples(st.integers(0, 200), st.integers(1, 40))
)
def test_every_quote_is_at_its_span(text: str, cuts: list[int], pick: tuple[int, int]) -> None:
    hits = _hits(text, cuts) if text else []
    start = pick[0] % (len(text) + 1)
    for citation in cite(text[start : start + pick[1]], hits):
        chunk = hits[citation.number - 1].chunk
        assert text[citation.start : citation.end] == citation.quote
        assert chunk.start <= citation.start < citation.end <= chunk.end
        assert citation.quote == citation.quote.strip()
        assert citation.document == "d"


def test_the_citations_of_a_comparison_are_in_the_documents(finished_project: "Project") -> None:
    from hybrid.retrieval.index import Index

    documents = Index.load(finished_project.path("index")).documents
    replies = [
        reply for question in finished_project.report().data["questions"] for reply in question["replies"].values()
    ]
    assert replies
    for reply in replies:
        assert not (reply["abstained"] and reply["citations"])
        for citation in reply["citations"]:
            assert documents[citation["document"]].text[citation["start"] : citation["end"]] == citation["quote"]


@pytest.mark.parametrize("answer", ["no", "Yes.", "Yes, no"])
def test_a_bare_yes_or_no_cites_nothing(answer: str) -> None:
    chunk = Chunk("d#0-40", "d", 0, 40, "There is no fixed life. Yes, there is one.")
    assert cite(answer, [Hit(chunk, 1.0, 1)]) == ()


@pytest.mark.parametrize(
    ("answer", "text", "quote"),
    [
        ("每三百小时", "船可以载六个人。水泵必须每三百小时更换一次。发动机是柴油机。", "水泵必须每三百小时更换一次。"),
        ("300時間", "ポンプは300時間ごとに交換します。船は六人乗りです。", "ポンプは300時間ごとに交換します。"),
        ("तीन सौ घंटे", "पंप लाल है। पंप तीन सौ घंटे चलता है।", "पंप तीन सौ घंटे चलता है।"),
    ],
)
def test_languages_with_other_full_stops_are_cited(answer: str, text: str, quote: str) -> None:
    (citation,) = cite(answer, [Hit(Chunk("d#0-9", "d", 0, len(text), text), 1.0, 1)])
    assert citation.quote == quote
