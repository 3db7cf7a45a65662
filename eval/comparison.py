"""Arms that answered the same questions, scored and compared with a baseline arm question by question.

comparison = compare(questions, [ArmRun("rag", "…", replies), ArmRun("hybrid", "…", replies)], k=4)
comparison.summaries[1].vs_rag.low
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.errors import EvaluationError
from hybrid.eval.answers import UNSCORED, WRONG, AnswerScore, score_answer
from hybrid.eval.retrieval import recall_at_k
from hybrid.eval.statistics import (
    Array,
    Difference,
    Interval,
    detectable_difference,
    holm,
    mean_interval,
    paired_bootstrap,
)
from hybrid.types import Citation, Question


@dataclass(frozen=True, slots=True)
class Reply:
    """What an arm said to one question.

    Attributes:
        question_id: Id of the question.
        text: The answer.
        abstained: True if the arm declined to answer.
        documents: Ids of the retrieved documents, best first; empty for a closed-book arm.
        contexts: Ids of the chunks in the prompt, in order.
        seconds: Wall time of the answer.
        citations: Supporting spans.
        error: Why there is no answer; such a reply counts as wrong.
    """

    question_id: str
    text: str
    abstained: bool
    documents: tuple[str, ...]
    contexts: tuple[str, ...]
    seconds: float
    citations: tuple[Citation, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ArmRun:
    """The replies of one arm, in any order."""

    name: str
    description: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """The scores of one arm; means are over the answerable questions, 0 without any.

    An answerable question that failed or was abstained from counts 0.

    Attributes:
        name: The arm.
        description: What it is made of.
        n: Number of questions, answerable or not.
        em: Mean exact match.
        f1: Mean token F1.
        rouge_l: Mean ROUGE-L.
        contains: Share of answers that contain a gold answer.
        recall_at_k: Mean recall of the gold documents; None if the arm retrieves nothing or no question names gold.
        abstained: Share of abstentions, over all questions.
        refused_unanswerable: Share of abstentions over unanswerable questions, None without any.
        over_refused: Share of abstentions over answerable questions.
        seconds: Mean seconds per question, over the replies without error.
        errors: Number of questions without a reply, or with one that failed.
        f1_interval: 95 % bootstrap interval of the mean F1.
        vs_rag: Paired difference in F1 to the baseline arm; None for that arm itself, or if it did not run.
        vs_rag_em: The same in exact match.
        vs_rag_rouge_l: The same in ROUGE-L.
        p_holm: p-value of `vs_rag`, adjusted for the number of arms.
        detectable: Smallest true difference in F1 to the baseline that as many questions would show 4 times of 5.
    """

    name: str
    description: str
    n: int
    em: float
    f1: float
    rouge_l: float
    contains: float
    recall_at_k: float | None
    abstained: float
    refused_unanswerable: float | None
    over_refused: float
    seconds: float
    errors: int
    f1_interval: Interval
    vs_rag: Difference | None = None
    vs_rag_em: Difference | None = None
    vs_rag_rouge_l: Difference | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several arms on the same questions.

    Attributes:
        summaries: One per arm, in the order of `runs`.
        questions: The questions.
        runs: The arms, each with exactly one reply per question, in the order of `questions`.
        scores: Per arm, the score of each reply, in the order of `questions`.
        baseline: The arm that the others are compared with.
        k: Number of retrieved documents that recall looks at.
        seed: Seed of the resampling.
    """

    summaries: tuple[ArmSummary, ...]
    questions: tuple[Question, ...]
    runs: tuple[ArmRun, ...]
    scores: Mapping[str, tuple[AnswerScore, ...]]
    baseline: str
    k: int
    seed: int


def compare(
    questions: Sequence[Question], runs: Sequence[ArmRun], *, baseline: str = "rag", k: int, seed: int = 0
) -> Comparison:
    """Scores every arm and tests it against the baseline, pairing by question id.

    Args:
        questions: The questions, with distinct ids.
        runs: The arms, with distinct names; a question without a reply counts as an error of that arm.
        baseline: Name of the arm to compare with; without it the summaries hold no differences.
        k: Number of retrieved documents that recall looks at.
        seed: Seed of the resampling.

    Raises:
        ValueError: k is below 1.
        EvaluationError: There is no question or no arm, an id is duplicate or unknown, an answerable question has no
            answer, or a reply's time is not a number.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not questions or not runs:
        raise EvaluationError(f"nothing to compare: {len(questions)} questions and {len(runs)} arms")
    _check_unique("question", (question.id for question in questions))
    _check_unique("arm", (run.name for run in runs))
    joined = tuple(_join(questions, run) for run in runs)
    scores = {run.name: _score(questions, run) for run in joined}
    summaries = [_summarise(questions, run, scores[run.name], k, seed) for run in joined]
    if baseline in scores:
        summaries = [
            summary if summary.name == baseline else _versus(summary, scores[summary.name], scores[baseline], seed)
            for summary in summaries
        ]
        summaries = _adjusted(summaries)
    return Comparison(tuple(summaries), tuple(questions), joined, scores, baseline, k, seed)


def _check_unique(what: str, ids: Iterable[str]) -> None:
    repeated = sorted(id_ for id_, count in Counter(ids).items() if count > 1)
    if repeated:
        raise EvaluationError(f"{what} ids must be unique, got {', '.join(map(repr, repeated[:5]))} more than once")


def _join(questions: Sequence[Question], run: ArmRun) -> ArmRun:
    """Returns the run with one reply per question, in the order of the questions."""
    _check_unique(f"arm {run.name!r}: reply", (reply.question_id for reply in run.replies))
    replies = {reply.question_id: reply for reply in run.replies}
    unknown = sorted(replies.keys() - {question.id for question in questions})
    if unknown:
        raise EvaluationError(f"arm {run.name!r} answers unknown questions: {', '.join(map(repr, unknown[:5]))}")
    for reply in run.replies:
        if not math.isfinite(reply.seconds):
            raise EvaluationError(f"arm {run.name!r}, question {reply.question_id!r}: seconds is {reply.seconds}")
    missing = Reply("", "", abstained=False, documents=(), contexts=(), seconds=0.0, error="no reply")
    ordered = (replies.get(question.id, replace(missing, question_id=question.id)) for question in questions)
    return replace(run, replies=tuple(ordered))


def _score(questions: Sequence[Question], run: ArmRun) -> tuple[AnswerScore, ...]:
    return tuple(_score_reply(question, reply) for question, reply in zip(questions, run.replies, strict=True))


def _score_reply(question: Question, reply: Reply) -> AnswerScore:
    if reply.error:
        return WRONG if question.answerable else UNSCORED
    return score_answer(reply.text, question, reply.abstained)


def _summarise(
    questions: Sequence[Question], run: ArmRun, scores: Sequence[AnswerScore], k: int, seed: int
) -> ArmSummary:
    em, f1, rouge, contained = _columns(scores)
    refused_unanswerable = _refusals(questions, run.replies, answerable=False)
    over_refused = _refusals(questions, run.replies, answerable=True)
    return ArmSummary(
        name=run.name,
        description=run.description,
        n=len(questions),
        em=_mean(em),
        f1=_mean(f1),
        rouge_l=_mean(rouge),
        contains=_mean(contained),
        recall_at_k=_recall(questions, run.replies, k),
        abstained=_mean(over_refused + refused_unanswerable),
        refused_unanswerable=_mean(refused_unanswerable) if refused_unanswerable else None,
        over_refused=_mean(over_refused),
        seconds=_mean([reply.seconds for reply in run.replies if not reply.error]),
        errors=sum(bool(reply.error) for reply in run.replies),
        f1_interval=mean_interval(f1, seed=seed),
    )


def _versus(
    summary: ArmSummary, scores: Sequence[AnswerScore], baseline: Sequence[AnswerScore], seed: int
) -> ArmSummary:
    em, f1, rouge = (
        paired_bootstrap(mine, theirs, seed=seed)
        for mine, theirs in zip(_columns(scores)[:3], _columns(baseline)[:3], strict=True)
    )
    detectable = detectable_difference(_columns(scores)[1] - _columns(baseline)[1])
    return replace(summary, vs_rag=f1, vs_rag_em=em, vs_rag_rouge_l=rouge, detectable=detectable)


def _adjusted(summaries: Sequence[ArmSummary]) -> list[ArmSummary]:
    """The summaries with the p-values of their F1 differences adjusted for the number of arms."""
    p_values = iter(holm([summary.vs_rag.p for summary in summaries if summary.vs_rag]))
    return [replace(summary, p_holm=next(p_values)) if summary.vs_rag else summary for summary in summaries]


def _columns(scores: Sequence[AnswerScore]) -> Array:
    """Returns one row per field of AnswerScore, with one value per answerable question."""
    scored = [score for score in scores if score.em is not None]
    return np.array(scored, dtype=np.float64).reshape(-1, len(AnswerScore._fields)).T


def _refusals(questions: Sequence[Question], replies: Sequence[Reply], answerable: bool) -> list[bool]:
    return [
        reply.abstained and not reply.error
        for question, reply in zip(questions, replies, strict=True)
        if question.answerable is answerable
    ]


def _recall(questions: Sequence[Question], replies: Sequence[Reply], k: int) -> float | None:
    if not any(reply.documents for reply in replies):
        return None
    recalls = [
        recall_at_k(reply.documents, question.gold, k)
        for question, reply in zip(questions, replies, strict=True)
        if question.gold
    ]
    return _mean(recalls) if recalls else None


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0
