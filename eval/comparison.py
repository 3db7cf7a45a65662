"""Arms that answered the same questions, scored and compared with a baseline arm question by question.

comparison = compare(questions, [ArmRun("rag", "…", replies), ArmRun("hybrid", "…", replies)], k=4)
comparison.summaries[1].vs_rag.low
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from hybrid.errors import EvaluationError
from hybrid.eval.answers import AnswerScore, score_answer
from hybrid.eval.clusters import clusters
from hybrid.eval.measures import Measure, measures
from hybrid.eval.summary import ArmSummary, summarise
from hybrid.types import Citation, Question

GroupedBy: TypeAlias = Literal["document", "passage"]


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
        tokens_in: Tokens of the prompt; 0 where nobody counted.
        tokens_out: Tokens of the answer, likewise.
        invalid_citations: Citations of the model's own that no passage stands for; they are left out.
        raw: What the model wrote, where that is more than `text`.
        confidence: Geometric mean of the probabilities of the tokens it wrote, the end included; None where unknown.
        cosine: Cosine of the question and the nearest passage retrieved; None where unknown.
        cut_off: Whether the longest answer allowed ended it.
    """

    question_id: str
    text: str
    abstained: bool
    documents: tuple[str, ...]
    contexts: tuple[str, ...]
    seconds: float
    citations: tuple[Citation, ...] = ()
    error: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    invalid_citations: int = 0
    raw: str = ""
    confidence: float | None = None
    cosine: float | None = None
    cut_off: bool = False


def restore_reply(values: Mapping[str, Any]) -> Reply:
    """A reply from what `asdict` made of it, by way of JSON.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is missing, unknown, or of another form.
    """
    documents, contexts = (tuple(values[name]) for name in ("documents", "contexts"))
    citations = tuple(Citation(**citation) for citation in values["citations"])
    return Reply(**{**values, "documents": documents, "contexts": contexts, "citations": citations})


@dataclass(frozen=True, slots=True)
class ArmRun:
    """The replies of one arm, in any order."""

    name: str
    description: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several arms on the same questions.

    Attributes:
        summaries: One per arm, in the order of `runs`.
        questions: The questions.
        runs: The arms, each with exactly one reply per question, in the order of `questions`.
        scores: Per arm, the score of each reply, in the order of `questions`.
        baseline: The arm that the others are compared with.
        metric: The field of AnswerScore that decides.
        k: Number of retrieved documents that recall looks at.
        seed: Seed of the resampling.
        groups: The cluster of every question: those about common documents or passages share one.
        grouped_by: Which of the two.
        further: Per arm, what was measured beside the scores.
    """

    summaries: tuple[ArmSummary, ...]
    questions: tuple[Question, ...]
    runs: tuple[ArmRun, ...]
    scores: Mapping[str, tuple[AnswerScore, ...]]
    baseline: str
    metric: str
    k: int
    seed: int
    groups: tuple[int, ...]
    grouped_by: GroupedBy = "document"
    further: Mapping[str, Sequence[Measure]] = field(default_factory=dict)


def compare(
    questions: Sequence[Question],
    runs: Sequence[ArmRun],
    *,
    baseline: str = "rag",
    metric: str = "f1",
    k: int,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    grouped_by: GroupedBy = "document",
    further: Sequence[Mapping[str, Measure]] = (),
    controls: Collection[str] = (),
) -> Comparison:
    """Scores every arm and tests it against the baseline, pairing by question id.

    Args:
        questions: The questions, with distinct ids.
        runs: The arms, with distinct names; a question without a reply counts as an error of that arm.
        baseline: Name of the arm to compare with; without it the summaries hold no differences.
        metric: The field of AnswerScore that decides.
        k: Number of retrieved documents that recall looks at.
        seed: Seed of the resampling.
        groups: A label per question id: questions of one label are taken for dependent. By default those are that name
            a common gold document.
        grouped_by: What questions of one label have in common.
        further: Further measures, each of every arm by its name; see `hybrid.eval.further`. Their values stand in the
            order of the questions.
        controls: Names of arms that nobody can build: p-values are adjusted for their number apart from the others.

    Raises:
        ValueError: k is below 1.
        EvaluationError: There is no question or no arm, an id is duplicate or unknown, an answerable question has no
            answer, a reply's time is not a number, or no answerable question has the metric.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not questions or not runs:
        raise EvaluationError(f"nothing to compare: {len(questions)} questions and {len(runs)} arms")
    _check_unique("question", (question.id for question in questions))
    _check_unique("arm", (run.name for run in runs))
    joined = tuple(_join(questions, run) for run in runs)
    scores = {run.name: _score(questions, run) for run in joined}
    _check_metric(metric, scores[joined[0].name])
    numbers = clusters(questions, groups)
    more = {run.name: [measure[run.name] for measure in further] for run in joined}
    measured = [
        [*measures(questions, run.replies, scores[run.name], metric=metric, k=k), *more[run.name]] for run in joined
    ]
    summaries = summarise(joined, measured, numbers, baseline=baseline, seed=seed, controls=controls)
    return Comparison(
        summaries, tuple(questions), joined, scores, baseline, metric, k, seed, tuple(numbers), grouped_by, more
    )


def _check_metric(metric: str, scores: Sequence[AnswerScore]) -> None:
    if metric not in AnswerScore._fields:
        raise EvaluationError(f"no metric is called {metric!r}; known are {', '.join(AnswerScore._fields)}")
    scored = [score._asdict() for score in scores if score.em is not None]
    if scored and all(score[metric] is None for score in scored):
        known = ", ".join(name for name in AnswerScore._fields if any(score[name] is not None for score in scored))
        raise EvaluationError(f"no question has the metric {metric!r}; set compare.metric to one of {known}")


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
    return score_answer(reply.text, question, reply.abstained or bool(reply.error))
