"""Distractors that answer after all."""

import pytest

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.guard import Guard, Verdict
from hybrid.types import Chunk, Quote

FILLER = {f"f{n}": Chunk(f"f{n}", "f", 0, 9, f"Nothing about it in part {n}.") for n in range(60)}
PROOF = Quote("d", 0, 30, "Pump 3 was made in Bergen by hand.")


def _verdict(text: str, question: str, answer: str, title: str = "", *, common: str = "") -> Verdict:
    chunks = {
        **{name: Chunk(name, "f", 0, 9, f"{chunk.text} {common}") for name, chunk in FILLER.items()},
        "o": Chunk("o", "d", 0, 30, PROOF.text),
        "x": Chunk("x", "x", 0, 30, text, title),
    }
    return Guard(chunks).judge(Candidate("q", question, answer, ("o",), ("d",), (PROOF,), "test"), "x")


WHERE = "Where was pump 3 made?"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Nobody knows.", "distractor"),
        ("Bergen is a town.", "ambiguous"),
        ("They say that pump 3 was made at Bergen.", "oracle"),
        ("They say that pump 4 was made at Bergen.", "ambiguous"),  # another pump
        ("Pump 3: Bergen.", "ambiguous"),  # too few of the question's words
        ("As is said: pump 3 was made in Bergen by hand! True.", "oracle"),  # the proof, repeated
        ("Pump 3 was made in Bergenhus.", "distractor"),  # the answer is a whole word
    ],
)
def test_what_a_chunk_is_to_a_question(text: str, verdict: Verdict) -> None:
    assert _verdict(text, WHERE, "Bergen") == verdict


def test_the_title_counts_as_the_prompt_shows_it() -> None:
    assert _verdict("It was made in Bergen. Where? There.", WHERE, "Bergen", title="Pump 3") == "oracle"


def test_its_own_oracle_is_one() -> None:
    chunks = {"o": Chunk("o", "d", 0, 9, "Unlike anything")}
    assert Guard(chunks).judge(Candidate("q", WHERE, "Bergen", ("o",), ("d",), (), "test"), "o") == "oracle"


@pytest.mark.parametrize("answer", ["yes", "No", "maybe."])
@pytest.mark.parametrize("text", ["Was pump 3 made in Bergen? Yes, no, maybe.", "No.", "Pump 3 was made here."])
def test_a_yes_or_no_in_a_chunk_says_nothing(answer: str, text: str) -> None:
    assert _verdict(text, "Was pump 3 made in Bergen?", answer) == "distractor"


def test_a_yes_or_no_is_proved_by_its_quote() -> None:
    assert _verdict(f"See: {PROOF.text}", "Was pump 3 made in Bergen?", "yes") == "oracle"


@pytest.mark.parametrize("answer", ["5", "B", "1,200", "4.5"])
def test_a_lone_number_or_letter_is_everywhere(answer: str) -> None:
    question = "How many valves has pump 3 got?"
    assert _verdict(f"The price is {answer} crowns.", question, answer) == "distractor"
    assert _verdict(f"The pump 3 of valves costs {answer}.", question, answer) == "distractor"
    assert _verdict(f"How many valves pump 3 has got: {answer}.", question, answer) == "oracle"


def test_a_number_is_not_part_of_another() -> None:
    assert (
        _verdict("How many valves has pump 3 got? 4.5 or 15.", "How many valves has pump 3 got?", "5") == "distractor"
    )


def test_words_that_stand_in_many_chunks_prove_as_little() -> None:
    question = "What does pump 3 carry uphill?"
    assert _verdict("They drink water.", question, "water") == "ambiguous"
    assert _verdict("They drink water.", question, "water", common="There is water.") == "distractor"
    assert _verdict("What does pump 3 carry? Water.", question, "water", common="There is water.") == "oracle"


def test_a_short_quote_proves_nothing_elsewhere() -> None:
    chunks = {"x": Chunk("x", "x", 0, 9, "| Pump 3 | 800 |")}
    candidate = Candidate("q", "How much?", "yes", ("o",), ("d",), (Quote("d", 0, 9, "Pump 3 | 800"),), "test")
    assert Guard(chunks).judge(candidate, "x") == "distractor"


def test_a_refusal_is_stricter() -> None:
    chunks = {**{n: Chunk(n, "f", 0, 9, "There is water.") for n in FILLER}, "x": Chunk("x", "x", 0, 9, "5 litres")}
    guard = Guard(chunks)
    water = Candidate("q", "What does it carry?", "water", ("o",), (), (), "test")
    assert guard.judge(water, "f1") == "distractor"
    assert guard.may_answer(water, "f1")
    assert not guard.may_answer(Candidate("r", "How many?", "5", ("o",), (), (), "test"), "x")
    assert not guard.may_answer(Candidate("s", "Why?", "The refusal: water.", (), (), (), "test"), "f1")
