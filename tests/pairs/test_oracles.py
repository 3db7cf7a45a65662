"""The quote of a user's own question is an exact span of its chunk, however the answer was typed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.align import align
from hybrid.pairs.oracles import answer_span, find_support, verbatim_span
from hybrid.types import Chunk, Question


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("six tanks", "It has SIX\n  tanks.", "SIX\n  tanks"),
        ("waterproof coat", "Take a water-\nproof coat.", "water-\nproof coat"),
        ("water-proof coat", "Take a waterproof coat.", "waterproof coat"),
        ("café", "the cafe\u0301 opens", "cafe\u0301"),
        ("10-20 bar", "of 10\u201320\u00a0bar", "10\u201320\u00a0bar"),
        ("the so-called 'key'", "the so\u00adcalled \u2018key\u2019.", "the so\u00adcalled \u2018key\u2019"),
        ("two bold words", "has two **bold** words", "two **bold** words"),
        ("The ABC, Inc.", "It rains. The owner is ABC Inc. today. Yes.", "The owner is ABC Inc."),
    ],
)
def test_an_answer_is_found_whatever_its_form(answer: str, text: str, found: str) -> None:
    span = answer_span(text, answer)
    assert span is not None
    assert text[slice(*span)] == found


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("5", "15 litres"),
        ("yes", "Yes, it is."),
        ("six tanks", "six large tanks"),
        ("cafe", "café"),
        ("5 mg", "2.5 mg by mouth"),
        ("200 hours", "every 1,200 hours"),
        ("5 °C", "stored at -5 °C"),
    ],
)
def test_what_is_not_there_is_not_found(answer: str, text: str) -> None:
    assert answer_span(text, answer) is None


@given(words=st.lists(st.sampled_from(["naïve", "ﬁne", "co-op", "½", "“six”", "İ", "Straße", "x²"]), min_size=1))
def test_an_aligned_answer_is_always_found(words: list[str]) -> None:
    text = unicodedata.normalize("NFD", " \n".join(words))
    answer = " ".join(words)
    assert (answer_span(text, answer) is not None) >= (align(answer, text) is not None)


def test_a_chunk_that_holds_the_answer_by_chance_supports_nothing() -> None:
    texts = ["Replace the impeller every 7 months.", "Paint it blue.", "There are 7 days in a week."]
    chunks = [Chunk(f"d#{n}-{n}", "d", 0, len(text), text) for n, text in enumerate(texts)]
    week = Question("q", "How many days are in a week?", ("7",))
    assert find_support(week, [], chunks[:2]) is None
    assert find_support(Question("q", "Who wrote Hamlet?", ("it",)), [], chunks) is None
    found = find_support(week, [], chunks)
    assert found is not None
    assert found.chunk == chunks[2]
    # Who names the document of the answer is believed.
    assert find_support(week, chunks[:1], []) is not None


def test_a_number_within_another_supports_nothing() -> None:
    texts = ["Adults: the daily dose of Xalin for adults is 2.5 mg by mouth.", "Children take 5 mg."]
    chunks = [Chunk(f"m#{n}-{n}", "m", 0, len(text), text) for n, text in enumerate(texts)]
    support = find_support(Question("q", "What is the daily dose of Xalin for children?", ("5 mg",)), chunks, [])
    assert support is not None
    assert support.chunk == chunks[1]
    assert verbatim_span("The dose is 2.5 mg; later 5 mg", "5 mg") == (26, 30)


def test_the_support_of_a_question_is_a_span_of_its_chunk() -> None:
    chunk = Chunk("d#9-40", "d", 9, 40, "Take a water-\nproof coat along.")
    support = find_support(Question("q", "What to take?", ("a waterproof coat",)), [chunk], [])
    assert support is not None
    assert chunk.text[support.start : support.end] == "a water-\nproof coat"
