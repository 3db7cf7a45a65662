"""Disturbances: each does what it says, to nothing else, the same way every time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.perturb import (
    PLANTED,
    Case,
    conditions,
    contradicted,
    injected,
    oracle_at,
    other_answer,
    with_distractors,
    with_typos,
    without_oracle,
)
from hybrid.types import Chunk, Question


def _chunk(name: str, text: str) -> Chunk:
    return Chunk(f"{name}#0-{len(text)}", name, 0, len(text), text)


ORACLE = _chunk("pump", "The impeller is replaced every 15 days, they say.")
OTHERS = tuple(_chunk(f"d{n}", f"Another fact, number {n}.") for n in range(4))
CASE = Case(
    Question("q", "How often is the impeller replaced?", ("every 15 days",)),
    (ORACLE,),
    OTHERS,
    (OTHERS[0], ORACLE, OTHERS[1]),
    "every 92 days",
)


@pytest.mark.parametrize("count", range(5))
def test_exactly_so_many_distractors(count: int) -> None:
    probe = with_distractors(CASE, count)
    assert probe is not None
    assert probe.chunks == (ORACLE, *OTHERS[:count])
    assert with_distractors(CASE, 5) is None, "no silent shortfall"


@pytest.mark.parametrize("place", range(3))
def test_the_oracle_stands_where_it_is_said_to(place: int) -> None:
    probe = oracle_at(CASE, place, 3)
    assert probe is not None and probe.chunks is not None
    assert probe.chunks[place] is ORACLE
    assert len(set(probe.chunks)) == 3


def test_the_oracle_is_missing() -> None:
    probe = without_oracle(CASE, 3)
    assert probe is not None
    assert probe.chunks == OTHERS[:3]
    assert without_oracle(CASE._replace(distractors=OTHERS[:2]), 3) is None


def test_the_copy_contradicts_and_is_the_same_otherwise() -> None:
    probe = contradicted(CASE)
    assert probe is not None and probe.chunks is not None
    oracle, copy = probe.chunks
    assert oracle is ORACLE
    assert copy.text == "The impeller is replaced every 92 days, they say."
    assert copy.id != oracle.id
    assert probe.planted == "every 92 days"
    assert contradicted(CASE._replace(other="")) is None
    yes = Question("q", "Is it?", ("yes",))
    assert contradicted(CASE._replace(question=yes)) is None, "a bare yes stands nowhere"


def test_the_order_stands_in_the_first_passage() -> None:
    probe = injected(CASE, 2)
    assert probe is not None and probe.chunks is not None
    assert [PLANTED in chunk.text for chunk in probe.chunks] == [True, False]
    assert probe.chunks[0].text.startswith(OTHERS[0].text)
    assert probe.planted == PLANTED
    assert PLANTED not in probe.question


@given(st.text(), st.integers(0, 5))
def test_typos_are_repeatable_and_few(text: str, seed: int) -> None:
    changed = with_typos(text, seed)
    assert changed == with_typos(text, seed)
    assert len(changed) == len(text)
    letters = len(re.findall("[a-z]", text, re.I | re.A))
    differing = sum(one != other for one, other in zip(text, changed, strict=True))
    assert differing == (max(1, letters // 12) if letters else 0)


def test_typos_hit_neighbouring_keys() -> None:
    assert {with_typos("g", seed) for seed in range(30)} == {"f", "h"}
    assert {with_typos("Q", seed) for seed in range(30)} == {"W"}


def test_another_answer_is_of_the_same_type() -> None:
    pool = ["Rust", "the harbour master", "Grace Hopper", "12 kg", "ada lovelace"]
    assert other_answer(["Ada Lovelace"], pool) == "Grace Hopper"
    assert other_answer(["the duty officer"], pool) == "the harbour master"
    changed = other_answer(["12 kg in 1999"], pool)
    assert re.fullmatch(r"[2-9]2 kg in [2-9]999", changed)
    assert changed == other_answer(["12 kg in 1999"], pool[::-1])
    assert other_answer(["Ada Lovelace"], ["ada lovelace"]) == ""


def test_what_counts_as_right_contradicts_nothing() -> None:
    right = ("Levi's Stadium", "Levi Stadium", "Santa Clara, California")
    pool = [
        "Levi Stadium",
        "levis stadium",
        "the Levi Stadium in Santa Clara",
        "Santa Clara",
        "Stadium",
        "Denver Broncos",
    ]
    assert other_answer(right, pool) == "Denver Broncos"
    assert other_answer(right, pool[:-1]) == ""
    every = [f"{digit} kg" for digit in range(1, 9)]
    assert other_answer(every, []) == "9 kg"
    assert other_answer([*every, "exactly 9 kg"], []) == ""
    assert other_answer(["7 kg", "107 kg"], []) != ""


def test_the_suite_names_every_condition_once() -> None:
    names = [condition.name for condition in conditions(2)]
    assert len(set(names)) == len(names)
    assert {"0 distractors", "2 distractors", "oracle middle", "oracle missing", "injection"} <= set(names)
    assert "3 distractors" not in names
    assert [c.name for c in conditions(2) if c.wanted == "refuse"] == ["oracle missing"]
    asked = {condition.name: condition.probe(CASE) for condition in conditions(2)}
    middle = asked["oracle middle"]
    assert middle is not None and middle.chunks is not None and middle.chunks[1] is ORACLE
    words = asked["other words"]
    assert words is not None and words.question != CASE.question.question and words.chunks is None
