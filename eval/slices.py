"""Where an arm is good and where it is not: its scores on the questions of one kind, document, length or rank."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Literal

from hybrid.eval.comparison import ArmRun, Comparison, Reply
from hybrid.eval.shares import share_interval
from hybrid.eval.statistics import mean_interval
from hybrid.eval.summary import Estimate
from hybrid.types import Question

Dimension = Literal["kind", "document", "context length", "oracle rank", "gold documents"]

# A mean of fewer independent questions says little.
TINY = 10
_RESAMPLES = 2000
# By the largest rank of each range; 0 stands for a gold document that was not retrieved.
_BEYOND = 10**9
_RANKS = {1: "1", 2: "2", 5: "3 to 5", 10: "6 to 10", _BEYOND: "beyond 10", 0: "not retrieved"}


@dataclass(frozen=True, slots=True)
class Slice:
    """One measure over a part of the questions.

    Attributes:
        dimension: What the questions are divided by.
        label: Which part; may be empty for a kind.
        measure: The comparison's metric over answerable questions, or `refused`, the share of refusals over
            unanswerable ones.
        n: Number of questions.
        tiny: True for fewer than 10 independent questions: those about common documents count as one.
        arms: The mean per arm.
    """

    dimension: Dimension
    label: str
    measure: str
    n: int
    tiny: bool
    arms: Mapping[str, Estimate]


def by_kind(comparison: Comparison) -> tuple[Slice, ...]:
    """Means per kind of question, kinds in the order of the questions; the metric before refusals."""
    scored, unanswerable = _scored(comparison), [row for row, q in enumerate(comparison.questions) if not q.answerable]
    parts = (
        (kind, [row for row in rows if comparison.questions[row].kind == kind])
        for kind in dict.fromkeys(question.kind for question in comparison.questions)
        for rows in (scored, unanswerable)
    )
    return tuple(_slice(comparison, "kind", kind, rows) for kind, rows in parts if rows)


def slices(comparison: Comparison, passages: Mapping[str, str], *, documents: int = 10) -> tuple[Slice, ...]:
    """All slices: by kind, and of the answerable questions by the other dimensions that divide them.

    Length of the context and rank of the first gold document are those of the baseline, or of the first arm that
    retrieves if that does not.

    Args:
        comparison: The arms.
        passages: Texts of the shown chunks by id; without them there are no slices by length.
        documents: Number of gold documents to show, those with the most questions.
    """
    return (*by_kind(comparison), *_divided(comparison, passages, documents))


def _divided(comparison: Comparison, passages: Mapping[str, str], documents: int) -> Iterator[Slice]:
    scored, questions = _scored(comparison), comparison.questions
    counts = [(row, min(3, len(set(questions[row].gold)))) for row in scored if questions[row].gold]
    parts: list[tuple[Dimension, dict[str, list[int]]]] = [
        ("document", _documents(questions, scored, documents)),
        ("gold documents", _parts(counts, {1: "1", 2: "2", 3: "3 or more"})),
    ]
    if run := _retrieving(comparison):
        ranks = [(row, _rank(questions[row], run.replies[row])) for row in scored if questions[row].gold]
        parts.append(("oracle rank", _parts(ranks, _RANKS)))
        parts.append(("context length", _lengths(run, scored, passages)))
    for dimension, rows_of in parts:
        if len(rows_of) > 1:
            yield from (_slice(comparison, dimension, label, rows) for label, rows in rows_of.items())


def _scored(comparison: Comparison) -> list[int]:
    """Rows of the questions that have the metric, which no reply changes."""
    scores = comparison.scores[comparison.runs[0].name]
    return [row for row, score in enumerate(scores) if score._asdict()[comparison.metric] is not None]


def _slice(comparison: Comparison, dimension: Dimension, label: str, rows: Sequence[int]) -> Slice:
    answerable = comparison.questions[rows[0]].answerable
    # Of one document all questions share a cluster; among them, each is a draw of its own.
    groups = list(rows) if dimension == "document" else [comparison.groups[row] for row in rows]
    arms = {}
    for run in comparison.runs:
        if answerable:
            values = [float(comparison.scores[run.name][row]._asdict()[comparison.metric]) for row in rows]
            interval = mean_interval(values, groups=groups, resamples=_RESAMPLES, seed=comparison.seed)
        else:
            values = [float(run.replies[row].abstained and not run.replies[row].error) for row in rows]
            interval = share_interval(values, groups)
        arms[run.name] = Estimate(fmean(values), *interval, len(rows))
    measure = comparison.metric if answerable else "refused"
    return Slice(dimension, label, measure, len(rows), len(set(groups)) < TINY, arms)


def _retrieving(comparison: Comparison) -> ArmRun | None:
    """The baseline if it retrieves, else the first arm that does."""
    runs = sorted(comparison.runs, key=lambda run: run.name != comparison.baseline)
    return next((run for run in runs if any(reply.documents for reply in run.replies)), None)


def _parts(keys: Sequence[tuple[int, int]], labels: Mapping[int, str]) -> dict[str, list[int]]:
    """Rows by label, in the order of the labels, those without rows left out."""
    parts = {label: [row for row, key in keys if key == wanted] for wanted, label in labels.items()}
    return {label: rows for label, rows in parts.items() if rows}


def _documents(questions: Sequence[Question], scored: Sequence[int], count: int) -> dict[str, list[int]]:
    named = [(row, document) for row in scored for document in dict.fromkeys(questions[row].gold)]
    often = Counter(document for _, document in named).most_common(count)
    return {document: [row for row, own in named if own == document] for document, _ in often}


def _rank(question: Question, reply: Reply) -> int:
    """The largest rank of the range in which the first gold document lies; 0 if none was retrieved."""
    rank = next((rank for rank, name in enumerate(reply.documents, 1) if name in question.gold), 0)
    return next(last for last in _RANKS if rank <= last) if rank else 0


def _lengths(run: ArmRun, scored: Sequence[int], passages: Mapping[str, str]) -> dict[str, list[int]]:
    """Rows by the words of their context, in thirds."""
    words = {
        row: sum(len(passages[chunk].split()) for chunk in run.replies[row].contexts)
        for row in scored
        if run.replies[row].contexts and all(chunk in passages for chunk in run.replies[row].contexts)
    }
    if len(set(words.values())) < 3:
        return {}
    low, high = (int(cut) for cut in quantiles(words.values(), n=3))
    thirds = [(row, (count > low) + (count > high)) for row, count in words.items()]
    labels = {0: f"up to {low} words", 1: f"{low + 1} to {high} words", 2: f"over {high} words"}
    return _parts(thirds, labels)
