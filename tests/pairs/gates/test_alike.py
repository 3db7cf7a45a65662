"""What makes two questions alike, and what tells them apart."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.gates.alike import (
    Alike,
    QuestionVectors,
    SharedRuns,
    Subjects,
    Vectors,
    ask_differently,
    near_vectors,
    particulars,
    pieces,
)


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
        ("Wo steht der Kompressor?", "Wo befindet sich der Verdichter?", False),
        ("Was prüft der Techniker am Ventil?", "Was kontrolliert der Monteur am Ventil?", False),
        ("Wer darf den Kessel öffnen?", "Wer darf den Behälter aufmachen?", False),
        ("When did Premier Wen Jiabao visit the city of Berlin?", "When did Premier Wen Jiabao visit London?", True),
        ("How many cups did Michelle Wie win in Ohio?", "How many cups did Michelle Wie win in Texas?", True),
        ("Who sang Could You Be Loved?", "Who sang Would I Lie To You?", True),
        ("Where did Ursula von der Leyen speak in Paris?", "Where did Ursula von der Leyen speak in Rome?", True),
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


ASKED = st.lists(
    st.sampled_from("what is how tank 3 three 4 Ada King RO-A a A is wird Wie Is Oil 12 7".split()), max_size=6
).map(" ".join)
DIGITS = {"three": "3"}


def _asks_differently(one: str, other: str) -> bool:
    """The rule for two questions."""

    def lacks(one: str, other: str) -> bool:
        said = {DIGITS.get(word.lower(), word.lower()) for word in pieces(other)}
        return any(len(mark) == 1 or mark not in said for mark in particulars(one) - particulars(other))

    return lacks(one, other) and lacks(other, one)


@given(questions=st.lists(ASKED, max_size=12), asked=ASKED, places=st.sets(st.integers(0, 11)))
def test_subjects_are_those_of_a_comparison_of_all_with_all(questions: list[str], asked: str, places: set[int]) -> None:
    same = {place for place, question in enumerate(questions) if not _asks_differently(asked, question)}
    found = Subjects(questions).find(asked)
    assert found.among(range(12)) == same
    assert found.among(places) == same & places
    assert [ask_differently(asked, question) for question in questions] == [
        _asks_differently(asked, question) for question in questions
    ]


def test_questions_about_other_things_are_not_looked_at() -> None:
    asked = "How heavy is the pump HX-{}?"
    subjects = Subjects([asked.format(1000 + n // 10) for n in range(5000)])
    assert sum(map(len, subjects.find(asked.format(1007)).parts)) == 20  # by what each of the two holds


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


@given(questions=st.lists(WORDS, max_size=6), asked=WORDS, n=st.integers(1, 7), alike=st.sets(st.integers(0, 5)))
def test_shared_runs_are_those_of_a_comparison_of_all_with_all(
    questions: list[str], asked: str, n: int, alike: set[int]
) -> None:
    found = SharedRuns(questions, n).find(asked, Alike([alike]))
    assert found == {place for place, question in enumerate(questions) if _shares(question, asked, n)} & alike


def test_a_short_question_inside_a_longer_one_is_shared() -> None:
    runs = SharedRuns(["How high is the mast", "Why"], 8)
    both = Alike([{0}, {1}])
    assert runs.find("Do you know how high is the mast of the station?", both) == {0}
    assert runs.find("Why is the mast so high?", both) == set()
    assert runs.find("WHY?", both) == {1}


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
    found = [near.tolist() for near in near_vectors(left, right, 0.5)]
    assert found == [[column for column in range(11) if cosines[row, column] >= 0.5] for row in range(17)]


def test_words_are_not_cut_out_of_numbers() -> None:
    assert not re.search("4", " ".join(particulars("the flow of 5.5 l")))
