"""Questions that are asked again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import QuestionVectors, Vectors, ask_differently
from hybrid.pairs.gates.minhash import shingles, similar_sets
from hybrid.pairs.gates.near_duplicates import Repeats, answers_agree, find_repeats
from hybrid.types import Quote


class Planted:
    """Questions of one meaning have one vector; all others are orthogonal."""

    def __init__(self, meanings: Mapping[str, int]) -> None:
        self._meanings = meanings

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        return np.stack([np.eye(64, dtype=np.float32)[self._meanings[text]] for text in texts])


def _candidates(*asked: tuple[str, str] | tuple[str, str, Quote]) -> list[Candidate]:
    return [
        Candidate(f"q{n}", question, answer, ("c",), ("d",), tuple(quote), "test")
        for n, (question, answer, *quote) in enumerate(asked)
    ]


def _repeats(candidates: list[Candidate], meanings: Sequence[int] = (), **settings: Any) -> Repeats:
    numbers = meanings or range(len(candidates))
    planted = Planted({c.question: number for c, number in zip(candidates, numbers, strict=True)})
    values = {"in_words": 0.6, "in_meaning": 0.8, "paraphrases": 2, **settings}
    return find_repeats(candidates, QuestionVectors(planted), **values)


LONG = "How many litres of water does the {} tank of the station hold when it is full"


def test_the_first_of_two_nearly_equal_questions_is_kept() -> None:
    found = _candidates((LONG.format("big"), "900 litres"), (LONG.format("large"), "900 litres."), ("Who?", "Ada"))
    assert _repeats(found) == Repeats(frozenset({"q1"}), frozenset())
    assert _repeats(found[::-1], (0, 1, 2)).reworded == {"q0"}


def test_the_threshold_of_words_counts() -> None:
    found = _candidates((LONG.format("big"), "900 litres"), (LONG.format("large"), "900 litres"))
    assert _repeats(found, in_words=0.9).reworded == frozenset()


def test_two_questions_that_differ_in_a_number_or_a_name_are_no_duplicates() -> None:
    # Even their answers agree; and their vectors are equal.
    for one, other in (("3", "4"), ("Ada", "Grace"), ("RO-A", "RO-B"), ("second", "third")):
        found = _candidates((LONG.format(one), "900 litres"), (LONG.format(other), "900 litres"))
        assert _repeats(found, (0, 0), paraphrases=1) == Repeats(frozenset(), frozenset())


def test_two_questions_with_other_answers_are_no_duplicates() -> None:
    found = _candidates((LONG.format("big"), "900 litres"), (LONG.format("large"), "800 litres"))
    assert _repeats(found, (0, 0), paraphrases=1) == Repeats(frozenset(), frozenset())


def test_so_many_wordings_are_kept() -> None:
    asked = ["How deep is it?", "What depth has the tank?", "Tell me the depth", "Down to where does the tank go?"]
    found = _candidates(*((question, "3 m") for question in asked), ("Where is the boat?", "the shed"))
    for most, surplus in ((1, {"q1", "q2", "q3"}), (2, {"q2", "q3"}), (3, {"q3"}), (4, set())):
        assert _repeats(found, (0, 0, 0, 0, 1), paraphrases=most) == Repeats(frozenset(), frozenset(surplus))


def test_a_yes_agrees_only_about_the_same_passage() -> None:
    near, far = Quote("d", 10, 30, "is red"), Quote("d", 50, 70, "is blue")
    asked = ("Is the lamp lit by day and by night?", "yes")
    again = ("Is the lamp lit by day and at night?", "yes")
    assert _repeats(_candidates((*asked, near), (*again, near))).reworded == {"q1"}
    assert _repeats(_candidates((*asked, near), (*again, far)), (0, 0)) == Repeats(frozenset(), frozenset())


def test_no_candidates_no_repeats() -> None:
    assert _repeats([]) == Repeats(frozenset(), frozenset())


def _same(one: Candidate, other: Candidate) -> bool:
    if ask_differently(one.question, other.question) or not answers_agree(one.answer, other.answer):
        return False
    return one.answer != "yes" or one.quotes == other.quotes


def _of_all_with_all(candidates: list[Candidate], vectors: Vectors, most: int) -> Repeats:
    reworded: set[int] = set()
    sets = [shingles(c.question, 2) for c in candidates]
    near = {(first, second) for first, second, _ in similar_sets(sets, 0.6)}
    for second, candidate in enumerate(candidates):
        if any(
            (first, second) in near and first not in reworded and _same(candidates[first], candidate)
            for first in range(second)
        ):
            reworded.add(second)
    question: dict[int, int] = {}
    wordings: dict[int, list[int]] = {}
    surplus: set[int] = set()
    others = [place for place in range(len(candidates)) if place not in reworded]
    for second in others:
        firsts = (
            place
            for place in others
            if place < second
            and vectors[place] @ vectors[second] >= 0.8
            and _same(candidates[place], candidates[second])
        )
        first = next((place for place in firsts if place not in surplus), None)
        question[second] = second if first is None else question[first]
        kept = wordings.setdefault(question[second], [])
        if first is not None and len(kept) >= most:
            surplus.add(second)
        else:
            kept.append(second)
    return Repeats(*(frozenset(candidates[place].id for place in some) for some in (reworded, surplus)))


@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(["How heavy is {}?", "How heavy then is {}?", "What does {} weigh?", "Wie schwer ist {}?"]),
            st.sampled_from(["it", "pump 3", "pump 4", "pump three", "the HX", "the HX-3", "pump 3 of RO-A"]),
            st.sampled_from(["3 kg", "4 kg", "yes"]),
            st.sampled_from([Quote("d", 0, 9, "one"), Quote("d", 20, 29, "other")]),
        ),
        max_size=16,
        unique_by=lambda drawn: drawn[:2],
    ),
    meanings=st.lists(st.integers(0, 3), min_size=16, max_size=16),
    most=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_repeats_are_those_of_a_comparison_of_all_with_all(
    asked: list[tuple[str, str, str, Quote]], meanings: list[int], most: int
) -> None:
    found = _candidates(*((form.format(of), answer, quote) for form, of, answer, quote in asked))
    vectors = np.eye(4)[meanings[: len(found)]].astype(np.float32)
    if found:
        assert _repeats(found, meanings[: len(found)], paraphrases=most) == _of_all_with_all(found, vectors, most)


def test_questions_about_other_things_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def watched(one: str, other: str) -> bool:
        compared.append(one)
        return False

    monkeypatch.setattr("hybrid.pairs.gates.near_duplicates.answers_agree", watched)
    forms = ("How heavy is the pump {}?", "What does the pump {} weigh?")
    found = _candidates(*((form.format(f"HX-{1000 + n}"), "3 kg") for n in range(200) for form in forms))
    _repeats(found, [0] * len(found))
    assert 0 < len(compared) <= 2 * 200
