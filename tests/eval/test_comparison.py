import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.outcomes import outcome
from hybrid.eval.statistics import paired_bootstrap
from hybrid.eval.summary import ArmSummary
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
        reply("q2", "5W-30", "d9", "d2"),
        reply("q3", "Lovelace", "d3", "d9"),
        reply("q4", "No idea.", "d9", abstained=True),
        reply("q5", "In Paris.", "d9"),
    ),
)
BASE = ArmRun(
    "base", "closed book", (reply("q1", "yearly"), reply("q3", "Ada Lovelace", abstained=True), reply("q4", "So."))
)


def values(summary: ArmSummary, *names: str) -> tuple[float | None, ...]:
    return tuple(summary.value(name) for name in names)


def test_summary() -> None:
    summary = compare(QUESTIONS, [RAG], k=2).summaries[0]
    assert summary.n == 5
    assert values(summary, "em", "f1", "contains") == pytest.approx((1 / 3, (1 + 0 + 2 / 3) / 3, 1 / 3))
    assert summary.value("recall_at_k") == pytest.approx((1 + 1 + 0.5) / 3)
    assert summary.value("gold_shown") == pytest.approx((1 + 1 + 0.5) / 3)
    assert summary.value("mrr") == pytest.approx((1 + 1 / 2 + 1) / 3)
    second = 1 / math.log2(3)
    assert summary.value("ndcg_at_k") == pytest.approx((1 + second + 1 / (1 + second)) / 3)
    assert values(summary, "abstained", "refused_unanswerable", "over_refused") == pytest.approx((1 / 5, 1 / 2, 0))
    assert summary.value("seconds") == pytest.approx(0.5)
    assert (summary.errors, summary.failed) == (0, ())
    assert (summary.vs_rag, summary.versus) == (None, {})
    f1 = summary.scores["f1"]
    assert f1.low <= f1.value <= f1.high
    assert f1.n == 3


def test_missing_failed_and_abstained_replies_score_nothing() -> None:
    failed = replace(RAG, replies=(reply("q1", "every 200 hours", "d1", error="out of memory"), *RAG.replies[1:]))
    comparison = compare(QUESTIONS, [failed, BASE], k=2)
    rag, base = comparison.summaries
    assert (rag.errors, rag.failed, rag.value("em")) == (1, ("q1",), 0.0)
    assert (base.errors, base.failed, base.value("em")) == (2, ("q2", "q5"), 0.0)
    assert base.value("over_refused") == pytest.approx(1 / 3)
    assert values(base, "recall_at_k", "gold_shown", "mrr", "ndcg_at_k") == (None, None, None, None)
    assert base.value("refused_unanswerable") == 0.0
    assert [r.error for r in comparison.runs[1].replies] == ["", "no reply", "", "", "no reply"]
    assert [r.question_id for r in comparison.runs[1].replies] == ["q1", "q2", "q3", "q4", "q5"]


def test_a_failed_reply_is_no_refusal_and_no_answer() -> None:
    failed = ArmRun("x", "", tuple(reply(q.id, "", abstained=True, error="boom") for q in QUESTIONS))
    summary = compare(QUESTIONS, [failed], k=1).summaries[0]
    assert values(summary, "abstained", "refused_unanswerable", "over_refused", "coverage") == (0.0, 0.0, 0.0, 0.0)
    assert (summary.errors, summary.value("seconds"), summary.value("answered_precision")) == (5, None, None)


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
    assert values(summary, "em", "f1", "rouge_l", "contains") == (0.25, 0.25, 0.25, 0.25)


def test_difference_is_paired_over_answerable_questions_by_cluster() -> None:
    comparison = compare(QUESTIONS, [BASE, RAG], k=2, seed=4)
    base = comparison.summaries[0]
    assert comparison.groups == (0, 1, 0, 2, 3)
    for name, theirs in (("f1", [1, 0, 2 / 3]), ("em", [1, 0, 0])):
        assert base.versus[name][:4] == pytest.approx(paired_bootstrap([0, 0, 0], theirs, groups=[0, 1, 0], seed=4))
    assert base.vs_rag == base.versus["f1"]
    assert (comparison.k, comparison.seed, comparison.baseline, comparison.metric) == (2, 4, "rag", "f1")
    alone = compare(QUESTIONS, [BASE, RAG], k=2, seed=4, groups={})
    assert alone.groups == (0, 1, 2, 3, 4)
    assert alone.summaries[0].versus["f1"][:4] == pytest.approx(paired_bootstrap([0, 0, 0], [1, 0, 2 / 3], seed=4))


def test_another_baseline_or_none() -> None:
    other = compare(QUESTIONS, [BASE, RAG], baseline="base", k=2).summaries
    assert other[0].vs_rag is None
    assert other[1].vs_rag is not None
    assert all(summary.vs_rag is None for summary in compare(QUESTIONS, [BASE], k=2).summaries)


def test_no_unanswerable_and_no_answerable_question() -> None:
    answerable = compare(QUESTIONS[:3], [replace(RAG, replies=RAG.replies[:3])], k=2).summaries[0]
    assert answerable.value("refused_unanswerable") is None
    refusals = compare(QUESTIONS[3:], [replace(RAG, replies=RAG.replies[3:])], k=2).summaries[0]
    assert values(refusals, "em", "over_refused", "refused_unanswerable", "recall_at_k") == (None, None, 0.5, None)


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


def test_another_metric_decides() -> None:
    questions = [Question("a", "Is it?", ("yes",)), Question("b", "Who?", ("Ada",))]
    run = ArmRun("rag", "", (reply("a", "Yes, it is."), reply("b", "Ada")))
    comparison = compare(questions, [run], metric="accuracy", k=1)
    assert comparison.metric == "accuracy"
    assert comparison.summaries[0].scores["accuracy"].n == 1
    with pytest.raises(EvaluationError, match=r"no question has the metric 'accuracy'; set compare.metric"):
        compare(questions[1:], [replace(run, replies=run.replies[1:])], metric="accuracy", k=1)
    with pytest.raises(EvaluationError, match="no metric is called 'f2'; known are em, f1"):
        compare(questions, [run], metric="f2", k=1)
