from dataclasses import replace

import pytest

from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.shares import wilson_interval
from hybrid.eval.slices import TINY, Slice, by_kind, slices
from hybrid.eval.statistics import mean_interval
from hybrid.types import Question

QUESTIONS = (
    *(Question(f"a{i}", "?", ("x",), (f"d{i % 3}",), kind="fact") for i in range(12)),
    *(Question(f"b{i}", "?", ("x",), ("d0", "e"), kind="both") for i in range(4)),
    Question("n", "?", ("x",), kind="fact"),
    *(Question(f"u{i}", "?", answerable=False, kind="absent") for i in range(2)),
)


def run(name: str, right: int) -> ArmRun:
    replies = []
    for row, question in enumerate(QUESTIONS):
        found = question.gold[:1] if row % 2 else ()
        documents = (*(f"o{i}" for i in range(row % 5)), *found)
        contexts = (f"c{row}",) if name == "rag" else ()
        replies.append(Reply(question.id, "x" if row < right else "y", row == 17, documents, contexts, 0.1))
    return ArmRun(name, "", tuple(replies))


@pytest.fixture(scope="module")
def data() -> Comparison:
    return compare(QUESTIONS, [run("base", 2), run("rag", 9)], k=2)


def of(data: Comparison, dimension: str) -> dict[str, Slice]:
    passages = {f"c{row}": "word " * (row + 1) for row in range(19)}
    return {part.label: part for part in slices(data, passages) if part.dimension == dimension}


def test_by_kind(data: Comparison) -> None:
    parts = by_kind(data)
    assert [(part.label, part.measure, part.n) for part in parts] == [
        ("fact", "f1", 13),
        ("both", "f1", 4),
        ("absent", "refused", 2),
    ]
    assert parts[0].arms["rag"].value == pytest.approx(9 / 13)
    groups = [0, 1, 2] * 4 + [3]
    wanted = mean_interval([1.0] * 9 + [0.0] * 4, groups=groups, resamples=2000)
    assert parts[0].arms["rag"][1:3] == pytest.approx(wanted, abs=0.02)
    assert parts[2].arms["base"][:3] == pytest.approx((0.5, *wilson_interval(1, 2)))
    assert parts == slices(data, {})[:3]


def test_tiny_slices_are_marked(data: Comparison) -> None:
    questions = [Question(str(i), "?", ("x",), (f"d{i % 11}",), kind="few" if i % 11 < 2 else "") for i in range(77)]
    parts = by_kind(compare(questions, [ArmRun("rag", "", ())], k=1))
    # 14 questions about 2 documents, 63 about 9, and none of their own.
    assert [(part.n, part.tiny) for part in parts] == [(14, True), (63, True)]
    alone = by_kind(compare(questions, [ArmRun("rag", "", ())], k=1, groups={}))
    assert [part.tiny for part in alone] == [False, False]
    assert [part.tiny for part in by_kind(data)] == [True, True, True]


def test_questions_of_one_document_are_draws_of_their_own(data: Comparison) -> None:
    part = of(data, "document")["d0"]
    assert part.tiny == (part.n < TINY)
    low, high = part.arms["rag"][1:3]
    assert low < part.arms["rag"].value < high


def test_documents_with_the_most_questions_first(data: Comparison) -> None:
    assert [(label, part.n) for label, part in of(data, "document").items()] == [
        ("d0", 8),
        ("d1", 4),
        ("d2", 4),
        ("e", 4),
    ]
    assert sum(part.dimension == "document" for part in slices(data, {}, documents=2)) == 2


def test_gold_documents(data: Comparison) -> None:
    assert {label: part.n for label, part in of(data, "gold documents").items()} == {"1": 12, "2": 4}


def test_oracle_rank(data: Comparison) -> None:
    ranks = {row: row % 5 + 1 if row % 2 else 0 for row in range(16)}
    wanted = {
        "1": sum(rank == 1 for rank in ranks.values()),
        "2": sum(rank == 2 for rank in ranks.values()),
        "3 to 5": sum(rank in {3, 4, 5} for rank in ranks.values()),
        "not retrieved": 8,
    }
    assert {label: part.n for label, part in of(data, "oracle rank").items()} == wanted


def test_context_length_in_thirds(data: Comparison) -> None:
    parts = of(data, "context length")
    assert sum(part.n for part in parts.values()) == 17
    assert max(part.n for part in parts.values()) - min(part.n for part in parts.values()) <= 1
    assert [label.split()[0] for label in parts] == ["up", "7", "over"]
    assert not [part for part in slices(data, {}) if part.dimension == "context length"]


def test_what_divides_nothing_is_left_out() -> None:
    questions = [Question(str(i), "?", ("x",), ("d",)) for i in range(3)]
    replies = tuple(Reply(q.id, "x", False, (), (), 0.1) for q in questions)
    parts = slices(compare(questions, [ArmRun("base", "", replies)], k=1), {})
    assert [(part.dimension, part.label, part.n) for part in parts] == [("kind", "", 3)]


def test_only_questions_that_have_the_metric_count() -> None:
    questions = (Question("a", "Is it?", ("yes",)), Question("b", "Who?", ("Ada",)))
    replies = (Reply("a", "yes", False, (), (), 0.1), Reply("b", "Ada", False, (), (), 0.1))
    data = compare(questions, [ArmRun("rag", "", replies)], metric="accuracy", k=1)
    assert [(part.measure, part.n) for part in by_kind(data)] == [("accuracy", 1)]
    assert by_kind(replace(data, metric="f1"))[0].n == 2
