"""Candidates that ask what a comparison question asks."""

from collections.abc import Sequence

import numpy as np
import pytest

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import QuestionVectors, Vectors
from hybrid.pairs.gates.decontaminate import Contaminated, find_contaminated

EVALUATION = ["At what pressure does the relief valve of pump 3 open?", "Who keeps the keys?"]


class Angles:
    """Vectors in the plane, the comparison questions at 0 and 90 degrees, others 15 degrees up for every `!`."""

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        degrees = [15 * t.count("!") if t not in EVALUATION else 90 * EVALUATION.index(t) for t in texts]
        return np.array([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees], dtype=np.float32)


def _found(question: str, run: int = 6, in_meaning: float = 0.8) -> Contaminated:
    candidate = Candidate("q", question, "a", ("c",), ("d",), (), "test")
    return find_contaminated([candidate], EVALUATION, QuestionVectors(Angles()), run=run, in_meaning=in_meaning)


CLEAN = Contaminated(frozenset(), frozenset())
IN_WORDS = Contaminated(frozenset({"q"}), frozenset())
IN_MEANING = Contaminated(frozenset(), frozenset({"q"}))


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Say at what pressure does the relief valve let go!!!", IN_WORDS),
        ("Say at what pressure does the relief valve of pump 4 open!!!", CLEAN),
        ("When does the valve let go!", IN_MEANING),
        ("When does the valve of pump 4 let go!", CLEAN),
        ("When does the valve of pump 3 let go!", IN_MEANING),
        ("When does the valve let go!!!", CLEAN),
        ("Do tell me: who keeps the keys!!!", IN_WORDS),
    ],
)
def test_by_words_by_meaning_and_not_by_another_number(question: str, found: Contaminated) -> None:
    assert _found(question) == found


def test_the_thresholds_count() -> None:
    question = "Say at what pressure does the relief valve let go!!"
    assert _found(question, run=9, in_meaning=0.9) == CLEAN
    assert _found(question, run=0, in_meaning=0.9) == CLEAN
    assert _found(question, run=0, in_meaning=0.86) == IN_MEANING


def test_nothing_to_compare_is_clean() -> None:
    vectors = QuestionVectors(Angles())
    assert find_contaminated([], EVALUATION, vectors, run=6, in_meaning=0.8) == CLEAN
