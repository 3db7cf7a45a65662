"""What training shares with the questions that judge it."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.gates.alike import QuestionVectors, Vectors, ask_differently
from hybrid.pairs.gates.leaks import LeakReport, find_leaks
from hybrid.types import Chunk, Pair, Question, Quote

CHUNKS = {
    f"{document}#{n}": Chunk(
        f"{document}#{n}", document, 40 * n, 40 * n + 40, f"Text {n} of {document} and nothing else."
    )
    for document in ("a", "b", "c")
    for n in range(3)
}
CHUNKS["b#copy"] = Chunk("b#copy", "b", 200, 240, CHUNKS["a#0"].text)


class Angles:
    """Vectors in the plane: the first letter is one of 26 directions that are 13 degrees apart, all within 325."""

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        turns = [np.radians(13 * (ord(text.lower()[0]) - ord("a"))) for text in texts]
        return np.array([[np.cos(t), np.sin(t)] for t in turns], dtype=np.float32)


def _pair(key: str, question: str, oracle: str = "", start: int = 0, end: int = 30, text: str = "") -> Pair:
    if not oracle:
        return Pair(key, question, "-", ("c#2",), (), (), "absent")
    quote = Quote(CHUNKS[oracle].document, start, end, text or f"proof of {key} in four words")
    return Pair(key, question, "-", (oracle, "c#2"), (oracle,), (quote,))


def _report(
    train: Sequence[Pair], dev: Sequence[Pair] = (), evaluation: Sequence[Question] = (), **settings: Any
) -> LeakReport:
    values = {"run": 5, "in_meaning": 0.99, "own": False, **settings}
    return find_leaks(train, dev, evaluation, CHUNKS, QuestionVectors(Angles()), **values)


TRAIN = [_pair("t0", "Are the pumps new?", "a#0"), _pair("t1", "Does the tank leak?", "a#1", 45, 60)]


def test_pairs_of_other_documents_with_other_questions_are_clean() -> None:
    report = _report(
        TRAIN, [_pair("d0", "Rust is what?", "b#1", 45, 60)], [Question("e0", "Gulls eat what?", ("x",), ("c",))]
    )
    assert report.clean
    assert (report.dev.documents, report.dev.passages, report.dev.shared_runs, report.dev.similar) == ((), 0, 0, 0)
    assert report.dev.cosine == pytest.approx(np.cos(np.radians(13 * 17)), abs=1e-4)
    assert not [line for line in report.lines() if "LEAKS" in line]


def test_a_document_on_both_sides_is_a_leak() -> None:
    report = _report(TRAIN, [_pair("d0", "Rust is what?", "a#2", 90, 99)])
    assert not report.clean
    assert (report.dev.documents, report.dev.passages) == (("a",), 0)
    assert any("shared: a" in line for line in report.lines())


@pytest.mark.parametrize(
    ("dev", "passages"),
    [
        (_pair("d0", "Rust is what?", "b#copy", 200, 230), 1),  # the oracle's text again, in another document
        (_pair("d0", "Rust is what?", "b#1", 45, 60, "Proof of t0 in  four words!"), 1),  # the proof's text again
        (_pair("d0", "Rust is what?", "a#2", 25, 50), 1),  # overlapping proofs
        (_pair("d0", "Rust is what?", "b#1", 45, 60), 0),
    ],
)
def test_a_passage_on_both_sides_is_a_leak(dev: Pair, passages: int) -> None:
    report = _report(TRAIN, [dev])
    assert report.dev.passages == passages
    assert report.clean == (not passages)


def test_distractors_that_answer_too_are_not_what_a_pair_is_about() -> None:
    promoted = Pair("t0", "Are the pumps new?", "-", ("a#0", "b#1"), ("a#0", "b#1"), TRAIN[0].quotes)
    assert _report([promoted], [_pair("d0", "Rust is what?", "b#2", 90, 99)]).clean


def test_the_teachers_questions_share_documents_with_the_comparison() -> None:
    evaluation = [Question("e0", "Gulls eat what?", ("x",), ("a",))]
    report = _report(TRAIN, (), evaluation)
    assert report.clean
    assert report.comparison.documents == ("a",)
    assert "as intended" in report.lines()[1]
    assert not _report(TRAIN, (), evaluation, own=True).clean


@pytest.mark.parametrize(
    ("asked", "shared", "similar"),
    [
        ("Zebras ask: does the tank leak?", 0, 0),  # four words of a question that has four
        ("Z: does the tank leak badly now?", 0, 0),
        ("Describe how it leaks.", 0, 1),
        ("Describe how tank 4 leaks.", 0, 1),
        ("Gulls eat what?", 0, 0),
    ],
)
def test_questions_alike_are_a_leak(asked: str, shared: int, similar: int) -> None:
    comparison = _report(TRAIN, (), [Question("e0", asked, ("x",))], run=6).comparison
    shared += "does the tank leak" in asked.lower()
    assert (comparison.shared_runs, comparison.similar) == (shared, similar)
    assert comparison.clean == (not shared and not similar)
    assert comparison.worst[0].is_leak == (not comparison.clean)


def test_another_number_is_another_question() -> None:
    train = [_pair("t", "Does tank 3 of the station leak?", "a#1", 45, 60)]
    other = _report(train, (), [Question("e", "Does tank 4 of the station leak?", ("x",))]).comparison
    assert other.clean
    assert other.cosine == 1.0
    # The question that asks the same is found behind one that is as near.
    both = _report([*train, _pair("u", "Do tanks leak?")], (), [Question("e", "Does tank 4 leak?", ("x",))]).comparison
    assert (both.similar, both.worst[0].trained) == (1, "u")


SAID = st.tuples(
    st.sampled_from("ABCDEF"), st.lists(st.sampled_from("the tank pump 3 4 three HX HX-3".split()), max_size=4)
).map(lambda drawn: " ".join([drawn[0], *drawn[1]]))


@given(trained=st.lists(SAID, min_size=1, max_size=12), asked=SAID, limit=st.sampled_from([0.6, 0.9, 0.97, 1.01]))
@settings(max_examples=60, deadline=None)
def test_the_nearest_is_that_of_a_walk_from_the_nearest_on(trained: list[str], asked: str, limit: float) -> None:
    vectors = QuestionVectors(Angles())
    cosines = vectors(trained) @ vectors([asked])[0]
    walk = sorted(range(len(trained)), key=lambda place: (-cosines[place], place))
    alike = [place for place in walk if cosines[place] >= limit and not ask_differently(asked, trained[place])]
    train = [_pair(f"t{place}", question) for place, question in enumerate(trained)]
    leaks = _report(train, (), [Question("e", asked, ("x",))], in_meaning=limit, run=0).comparison
    expected = [*alike, *walk][0]
    assert (leaks.worst[0].trained, leaks.worst[0].is_leak) == (f"t{expected}", bool(alike))
    assert leaks.worst[0].cosine == pytest.approx(cosines[expected], abs=1e-4)


def test_the_worst_are_named_first() -> None:
    evaluation = [Question(f"e{letter}", f"{letter}ll of it?", ("x",)) for letter in "BCEFGHA"]
    comparison = _report(TRAIN, (), evaluation, in_meaning=0.9999).comparison
    assert [worst.judged for worst in comparison.worst][:1] == ["eA"]
    assert len(comparison.worst) == 5
    assert [worst.is_leak for worst in comparison.worst] == [True, False, False, False, False]
    cosines = [worst.cosine for worst in comparison.worst[1:]]
    assert cosines == sorted(cosines, reverse=True)
    assert "1.00  trained 'Are the pumps new?', asked 'All of it?'" in "\n".join(_report(TRAIN, (), evaluation).lines())


def test_the_report_is_json() -> None:
    values = _report(TRAIN, [_pair("d0", "Rust is what?", "a#2", 90, 99)]).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert (values["clean"], values["dev"]["clean"], values["comparison"]["clean"]) == (False, False, True)
    assert values["dev"]["documents"] == ["a"]


def test_nothing_to_compare_is_clean() -> None:
    assert _report([], []).clean
    assert _report(TRAIN).lines() == [
        "training and dev: no questions to compare",
        "training and comparison: no questions to compare",
    ]
