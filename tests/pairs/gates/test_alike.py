"""What makes two questions alike, and what tells them apart."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.gates.alike import QuestionVectors, SharedRuns, Vectors, ask_differently, near_vectors, particulars


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("How deep is tank 3?", "How deep is tank 4?", True),
        ("How deep is tank three?", "How deep is tank four?", True),
        ("How deep is tank 3?", "How deep is the tank?", False),
        ("Where was Ada born?", "Where was Grace born?", True),
        ("Where was Ada born?", "Ada was born where?", False),
        ("Where was Ada Lovelace born?", "Where was Ada born?", False),
        ("Which is RO-A?", "Which is RO-B?", True),
        ("Is it at 4.5 bar?", "Is it at 5.4 bar?", True),
        ("Is it due in May?", "Is it due in June?", True),
        ("who is the king?", "who is the queen?", False),
        ("In welchem Abstand wird das Öl gewechselt?", "Wie oft ist ein Ölwechsel fällig?", False),
        ("Wo steht die Pumpe von Ventil A?", "Wo ist die Pumpe von Ventil B?", True),
        ("Wie viele Boote gibt es seit 1999?", "Wie viele Boote gibt es seit 2001?", True),
        ("What Is The Depth Of The Tank?", "How Deep Is The Basin?", False),
        ("What Is the Depth of Tank 3?", "What Is the Depth of Tank 4?", True),
        ("WHERE IS THE BOAT?", "WHERE IS THE SHIP?", False),
        ("Who was Grace Hopper?", "Who was Alan Turing?", True),
        ("Where is The Hague?", "Where is The Wash?", True),
        ("Where is Mies van der Rohe buried?", "Where is Ada buried?", True),
        ("Where did Will go?", "Where did Can go?", True),
    ],
)
def test_numbers_and_names_tell_questions_apart(one: str, other: str, differ: bool) -> None:
    assert ask_differently(one, other) == differ
    assert ask_differently(other, one) == differ
    assert not ask_differently(one, one)


def test_the_capital_of_the_first_word_is_no_name() -> None:
    assert particulars("Where is it?") == frozenset()
    assert particulars("NASA and B2 are where?") == {"nasa", "b2"}


WORDS = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


def _shares(one: str, other: str, n: int) -> bool:
    """All runs against all runs."""
    if one.split() == other.split():
        return True
    length = min(n, len(one.split()), len(other.split()))
    if length < min(4, n):
        return False
    runs = [
        {tuple(said[i : i + length]) for i in range(len(said) - length + 1)} for said in (one.split(), other.split())
    ]
    return bool(runs[0] & runs[1])


@given(questions=st.lists(WORDS, max_size=6), asked=WORDS, n=st.integers(1, 7))
def test_shared_runs_are_those_of_a_comparison_of_all_with_all(questions: list[str], asked: str, n: int) -> None:
    found = SharedRuns(questions, n).find(asked)
    assert found == [place for place, question in enumerate(questions) if _shares(question, asked, n)]


def test_a_short_question_inside_a_longer_one_is_shared() -> None:
    runs = SharedRuns(["How high is the mast", "Why"], 8)
    assert runs.find("Do you know how high is the mast of the station?") == [0]
    assert runs.find("Why is the mast so high?") == []
    assert runs.find("WHY?") == [1]


class Counting:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return np.array([[1.0, len(text)] for text in texts], dtype=np.float32)


def test_a_question_is_embedded_once() -> None:
    embedder = Counting()
    vectors = QuestionVectors(embedder)
    assert vectors(["a", "bb", "a"])[:, 1].tolist() == [1, 2, 1]
    assert vectors(["bb", "ccc"])[:, 1].tolist() == [2, 3]
    assert embedder.asked == ["a", "bb", "ccc"]


@pytest.mark.parametrize("cells", [1, 40, 1 << 24])
def test_near_vectors_are_found_block_by_block(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.pairs.gates.alike._CELLS", cells)
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(n, 3)).astype(np.float32) for n in (17, 11))
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    cosines = left @ right.T
    found = list(near_vectors(left, right, 0.5))
    assert [near[:2] for near in found] == [(i, j) for i, j in np.ndindex(17, 11) if cosines[i, j] >= 0.5]
    assert all(near.cosine == pytest.approx(cosines[near.left, near.right]) for near in found)


def test_words_are_not_cut_out_of_numbers() -> None:
    assert not re.search("4", " ".join(particulars("the flow of 5.5 l")))
