"""Questions that are asked again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import QuestionVectors, Vectors
from hybrid.pairs.gates.near_duplicates import Repeats, find_repeats
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
