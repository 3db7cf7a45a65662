"""Candidates that ask what a comparison question asks."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.candidates import Candidate, words
from hybrid.pairs.gates.alike import QuestionVectors, Vectors, ask_differently
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


SAID = st.lists(st.sampled_from("how heavy is the pump 3 4 three HX HX-3 wird".split()), min_size=1, max_size=7).map(
    " ".join
)


class Lengths:
    """Vectors in the plane, turned by 20 degrees for every word."""

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        turns = [np.radians(20 * len(text.split())) for text in texts]
        return np.array([[np.cos(t), np.sin(t)] for t in turns], dtype=np.float32)


def _share_a_run(one: str, other: str, n: int) -> bool:
    length = min(n, len(words(one)), len(words(other)))
    runs = [{tuple(said[i : i + length]) for i in range(len(said) - length + 1)} for said in (words(one), words(other))]
    return words(one) == words(other) or (length >= min(4, n) and bool(runs[0] & runs[1]))


@given(
    asked=st.lists(SAID, min_size=1, max_size=8),
    questions=st.lists(SAID, min_size=1, max_size=8),
    run=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_what_is_found_is_what_a_comparison_of_all_with_all_finds(
    asked: list[str], questions: list[str], run: int
) -> None:
    candidates = [Candidate(f"q{n}", text, "a", ("c",), ("d",), (), "test") for n, text in enumerate(asked)]
    vectors = QuestionVectors(Lengths())
    cosines = vectors(asked) @ vectors(questions).T
    same = [[not ask_differently(one, other) for other in questions] for one in asked]
    in_words = {
        f"q{i}"
        for i, j in np.ndindex(*cosines.shape)
        if run and same[i][j] and _share_a_run(asked[i], questions[j], run)
    }
    near = {f"q{i}" for i, j in np.ndindex(*cosines.shape) if same[i][j] and cosines[i, j] >= 0.9}
    found = find_contaminated(candidates, questions, vectors, run=run, in_meaning=0.9)
    assert found == Contaminated(frozenset(in_words), frozenset(near - in_words))
