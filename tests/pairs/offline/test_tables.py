"""Tables: which columns are asked for, and in which words."""

import re

import pytest

from hybrid.pairs.offline.tables import split_tables, table_drafts


def _asked(text: str, title: str = "") -> dict[str, str]:
    _, tables = split_tables(text)
    drafts = [draft for lines in tables for draft in table_drafts(text, lines, title)]
    for draft in drafts:
        assert draft.quote_start <= draft.start < draft.end <= draft.quote_end
    return {draft.question: text[draft.start : draft.end] for draft in drafts}


@pytest.mark.parametrize(
    ("header", "row", "question"),
    [
        ("Pump | Power", "Feed pump | 15 kW", "What is the power of the feed pump?"),
        ("Vehicle | Seats", "Bergan 420 carrier | 6", "How many seats does the Bergan 420 carrier have?"),
        ("Quantity | Instrument", "Snow depth | Stake field", "What is the instrument for the snow depth?"),
        ("Cabinet | Contents", "Red | Solvents", "What are the contents for the red cabinet?"),
        ("Class | Lamp", "A | Flashing", "What is the lamp for class A?"),
        ("Channel | Use", "VHF 16 | Distress calls", "What is VHF 16 used for?"),
        ("Sound | Meaning", "Continuous bell | Fire", "What does a continuous bell mean?"),
        ("Animal | Nearest approach", "Fur seals | 20 m", "What is the nearest approach for fur seals?"),
    ],
)
def test_a_column_that_names_an_attribute_is_asked_for(header: str, row: str, question: str) -> None:
    assert _asked(f"| {header} |\n|---|---|\n| {row} |") == {question: row.rpartition("| ")[2]}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Reading | Normal", "Feed pressure | 58"),
        ("Limit | Under ice", "Maximum depth | 18 m"),
        ("Grade | How soon", "Cut finger | Same day"),
        ("Hours | Work", "250 | Change filters"),
        ("Item | Place", "Gas | none"),
        ("Item | Place", "Rope (old) | Shed"),
        ("Item | Place", "Rope | –"),
        ("Phase | Area", "Area | 2 km"),
    ],
)
def test_what_makes_no_question_is_left_out(header: str, row: str) -> None:
    assert _asked(f"| {header} |\n|---|---|\n| {row} |", "Stores") == {}


def test_the_title_stands_in_front_of_what_might_be_anything() -> None:
    table = "| Item | Limit |\n|---|---|\n| Cloud point | −30 °C |\n| Fuel colour | 5 |\n| Tank T12 | 3 |"
    assert _asked(table, "Fuel quality") == {
        "About Fuel quality: what is the limit for the cloud point?": "−30 °C",
        "What is the limit for the fuel colour?": "5",
        "What is the limit for Tank T12?": "3",
    }
    assert all(re.match("What", question) for question in _asked(table, "Before you begin"))
