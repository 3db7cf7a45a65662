import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.outcomes import by_kind, outcome
from hybrid.eval.statistics import paired_bootstrap
from hybrid.types import Question

QUESTIONS = (
    Question("q1", "How often?", ("every 200 hours",), ("d1",), kind="interval"),
    Question("q2", "Which oil?", ("10W-40",), ("d2",), kind="fluid"),
    Question("q3", "Who?", ("Ada Lovelace",), ("d1", "d3"), kind="interval"),
    Question("q4", "Why?", answerable=False, kind="absent"),
    Question("q5", "Where?", answerable=False, kind="absent"),
)


def reply(id_: str, text: str, *documents: str, abstained: bool = False, error: str = "") -> Reply:
    return Reply(id_, text, abstained, documents, tuple(f"{name}#0-9" for name in documents), 0.5, (), error)


RAG = ArmRun(
    "rag",
    "top 2",
    (
        reply("q1", "Every 200 hours.", "d1", "d9"),
        reply("q2", "5W-30", "d2", "d9"),
        reply("q3", "Lovelace", "d3", "d9"),
        reply("q4", "No idea.", "d9", abstained=True),
        reply("q5", "In Paris.", "d9"),
    ),
)
BASE = ArmRun(
    "base", "closed book", (reply("q1", "yearly"), reply("q3", "Ada Lovelace", abstained=True), reply("q4", "So."))
)


def test_summary() -> None:
    summary = compare(QUESTIONS, [RAG], k=2).summaries[0]
    assert summary.n == 5
    assert summary.em == pytest.approx(1 / 3)
    assert summary.f1 == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert summary.contains == pytest.approx(1 / 3)
    assert summary.recall_at_k == pytest.approx((1 + 1 + 0.5) / 3)
    assert summary.abstained == pytest.approx(1 / 5)
    assert summary.refused_unanswerable == pytest.approx(1 / 2)
    assert summary.over_refused == 0.0
    assert summary.seconds == pytest.approx(0.5)
    assert summary.errors == 0
    assert summary.vs_rag is None
    assert summary.f1_interval.low <= summary.f1 <= summary.f1_interval.high


def test_missing_failed_and_abstained_replies_score_nothing() -> None:
    failed = replace(RAG, replies=(reply("q1", "every 200 hours", "d1", error="out of memory"), *RAG.replies[1:]))
    comparison = compare(QUESTIONS, [failed, BASE], k=2)
    rag, base = comparison.summaries
    assert (rag.errors, rag.em) == (1, 0.0)
    assert (base.errors, base.em) == (2, 0.0)
    assert base.over_refused == pytest.approx(1 / 3)
    assert base.recall_at_k is None
    assert base.refused_unanswerable == 0.0
    assert [r.error for r in comparison.runs[1].replies] == ["", "no reply", "", "", "no reply"]
    assert [r.question_id for r in comparison.runs[1].replies] == ["q1", "q2", "q3", "q4", "q5"]


def test_a_failed_reply_is_no_refusal() -> None:
    failed = ArmRun("x", "", tuple(reply(q.id, "", abstained=True, error="boom") for q in QUESTIONS))
    summary = compare(QUESTIONS, [failed], k=1).summaries[0]
    assert (summary.abstained, summary.refused_unanswerable, summary.over_refused) == (0.0, 0.0, 0.0)
    assert (summary.errors, summary.seconds) == (5, 0.0)


@settings(max_examples=20, deadline=None)
@given(st.randoms())
def test_replies_join_by_id_not_by_position(order: random.Random) -> None:
    shuffled = [replace(run, replies=tuple(order.sample(run.replies, len(run.replies)))) for run in (RAG, BASE)]
    assert compare(QUESTIONS, shuffled, k=2) == compare(QUESTIONS, [RAG, BASE], k=2)


@settings(deadline=None)
@given(st.permutations([False, False, False, True]))
def test_mean_of_one_right_answer_in_four_is_a_quarter(right: list[bool]) -> None:
    questions = [Question(str(row), "?", ("yes",)) for row in range(4)]
    replies = tuple(reply(str(row), "yes" if hit else "no") for row, hit in enumerate(right))
    summary = compare(questions, [ArmRun("a", "", replies)], k=1).summaries[0]
    assert summary.em == summary.f1 == summary.rouge_l == summary.contains == 0.25


def test_difference_is_paired_over_answerable_questions() -> None:
    comparison = compare(QUESTIONS, [BASE, RAG], k=2, seed=4)
    base = comparison.summaries[0]
    assert base.vs_rag == paired_bootstrap([0, 0, 0], [1, 0, 2 / 3], seed=4)
    assert base.vs_rag_em == paired_bootstrap([0, 0, 0], [1, 0, 0], seed=4)
    assert base.vs_rag_rouge_l is not None
    assert (comparison.k, comparison.seed, comparison.baseline) == (2, 4, "rag")


def test_another_baseline_or_none() -> None:
    other = compare(QUESTIONS, [BASE, RAG], baseline="base", k=2).summaries
    assert other[0].vs_rag is None
    assert other[1].vs_rag is not None
    assert all(summary.vs_rag is None for summary in compare(QUESTIONS, [BASE], k=2).summaries)


def test_no_unanswerable_and_no_answerable_question() -> None:
    answerable = compare(QUESTIONS[:3], [replace(RAG, replies=RAG.replies[:3])], k=2).summaries[0]
    assert answerable.refused_unanswerable is None
    refusals = compare(QUESTIONS[3:], [replace(RAG, replies=RAG.replies[3:])], k=2).summaries[0]
    assert (refusals.em, refusals.over_refused, refusals.refused_unanswerable) == (0.0, 0.0, 0.5)
    assert refusals.recall_at_k is None


@pytest.mark.parametrize(
    ("questions", "runs", "message"),
    [
        ((), [RAG], "0 questions and 1 arms"),
        (QUESTIONS, [], "5 questions and 0 arms"),
        ((*QUESTIONS, QUESTIONS[0]), [RAG], "question ids must be unique, got 'q1'"),
        (QUESTIONS, [RAG, RAG], "arm ids must be unique, got 'rag'"),
        (QUESTIONS, [replace(RAG, replies=(*RAG.replies, RAG.replies[0]))], "arm 'rag': reply ids must be unique"),
        (QUESTIONS[1:], [RAG], "arm 'rag' answers unknown questions: 'q1'"),
        ([Question("q1", "?")], [ArmRun("a", "", (reply("q1", "x"),))], "'q1' has no answers"),
        (QUESTIONS, [ArmRun("a", "", (replace(RAG.replies[0], seconds=float("nan")),))], "seconds is nan"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    questions: tuple[Question, ...], runs: list[ArmRun], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare(questions, runs, k=2)


def test_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="got 0"):
        compare(QUESTIONS, [RAG], k=0)


def test_outcomes() -> None:
    comparison = compare(QUESTIONS, [RAG, BASE], k=2)
    named = {
        run.name: [
            outcome(q, r, s) for q, r, s in zip(QUESTIONS, run.replies, comparison.scores[run.name], strict=True)
        ]
        for run in comparison.runs
    }
    assert named["rag"] == ["exact", "wrong", "partial", "refused", "answered"]
    assert named["base"] == ["wrong", "error", "abstained", "answered", "error"]


def test_slices_by_kind() -> None:
    slices = by_kind(compare(QUESTIONS, [RAG, BASE], k=2))
    assert [(s.kind, s.measure, s.n) for s in slices] == [
        ("interval", "F1", 2),
        ("fluid", "F1", 1),
        ("absent", "refused", 2),
    ]
    assert slices[0].values == {"rag": pytest.approx(5 / 6), "base": 0.0}
    assert slices[2].values == {"rag": 0.5, "base": 0.0}
