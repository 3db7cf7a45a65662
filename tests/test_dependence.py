"""Questions about a single document are grouped by passage, all others by document."""

import pytest

from hybrid.advice import decide
from hybrid.dependence import dependence_notes, grouped_by, passage_groups
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.types import Chunk, Question

TEXTS = [f"Pump {n} is oiled every {n + 2} weeks." for n in range(10)]
CHUNKS = [Chunk(f"manual#{50 * n}-{50 * n + 40}", "manual", 50 * n, 50 * n + 40, text) for n, text in enumerate(TEXTS)]


def _questions(document: str) -> list[Question]:
    return [
        Question(f"{n}{part}", f"How often is pump {n} {part}?", (f"every {n + 2} weeks",), (document.format(n=n),))
        for n in range(10)
        for part in ("oiled", "cleaned")
    ]


def test_one_manual_is_grouped_by_passage_and_can_be_judged() -> None:
    questions = _questions("manual")
    groups = passage_groups(questions, CHUNKS)
    assert groups == {question.id: CHUNKS[int(question.id[0])].id for question in questions}
    right = tuple(Reply(q.id, q.answers[0], False, (), (), 0.1) for q in questions)
    wrong = tuple(Reply(q.id, "no", False, (), (), 0.1) for q in questions)
    runs = [ArmRun("rag", "", wrong), ArmRun("hybrid", "", right)]
    by_document, by_passage = (
        compare(questions, runs, k=1, groups=labels, grouped_by=grouped_by(labels)) for labels in (None, groups)
    )
    assert by_document.summaries[1].versus["f1"].p == 1.0
    assert by_passage.summaries[1].versus["f1"].p == pytest.approx(2 / 2**10)
    (note,) = dependence_notes(questions, groups)
    assert "passage are taken together" in note
    assert "on 20 questions in 10 groups of common passages" in decide(by_passage).text


def test_many_documents_are_grouped_by_document() -> None:
    chunks = [Chunk(f"d{n}#0-40", f"d{n}", 0, 40, text) for n, text in enumerate(TEXTS)]
    questions = _questions("d{n}")
    assert passage_groups(questions, chunks) is None
    assert dependence_notes(questions, None) == []


def test_a_gold_document_that_is_not_in_the_index_is_a_group() -> None:
    lost = Question("lost", "How often?", ("daily",), ("elsewhere",))
    assert (passage_groups([*_questions("manual"), lost], CHUNKS) or {})["lost"] == "elsewhere"


def test_questions_without_gold_are_named() -> None:
    questions = [Question("1", "?", ("a",)), Question("2", "?", ("b",), ("d",)), Question("3", "?", answerable=False)]
    assert passage_groups(questions[:1], CHUNKS) is None
    assert dependence_notes(questions, None) == [
        "1 of 2 answerable questions name no gold document and are taken for independent of each other."
    ]


@pytest.mark.parametrize(("documents", "tests", "by_passage"), [(6, 1, False), (6, 3, True), (7, 3, False)])
def test_more_arms_need_more_documents(documents: int, tests: int, by_passage: bool) -> None:
    questions = [Question(f"{n}", f"How often is pump {n} oiled?", ("?",), (f"d{n % documents}",)) for n in range(20)]
    assert (passage_groups(questions, CHUNKS, tests) is not None) is by_passage
