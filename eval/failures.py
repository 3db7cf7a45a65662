"""Why answers are wrong: retrieval that misses, a model that does not use what it is shown, or a refusal.

The causes are found by rules, without a judge, from the words of the reply and of the passages it was shown.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from hybrid.eval.answers import AnswerScore, accuracy, contains, tokens
from hybrid.eval.comparison import ArmRun, Comparison, Reply
from hybrid.eval.outcomes import PARTIAL_F1
from hybrid.eval.shares import share_interval
from hybrid.eval.statistics import Difference, mean_interval, paired_bootstrap
from hybrid.eval.summary import Estimate
from hybrid.types import Question, document_of

Cause = Literal["right", "format", "missed", "unused", "misused", "refused", "wrong", "made_up", "error"]

# Share of an answer's words that a passage must hold to count as its source, where it does not hold it word for word.
_HELD = 0.8
_LONG_ANSWER = 5
# Share of a wrong reply's words that stem from the right passage, for it to be called misused.
_TAKEN = 0.5


class Split(NamedTuple):
    """The metric over the questions whose oracle was shown, or was not.

    Attributes:
        mean: Of the arm; None without a question.
        versus: Difference to the baseline on the same questions; None for the baseline, or if it did not run.
    """

    mean: Estimate | None
    versus: Difference | None


@dataclass(frozen=True, slots=True)
class ArmFailures:
    """The causes of an arm's failures.

    Attributes:
        arm: The arm.
        causes: The cause of each reply, in the order of the questions.
        counts: Number of replies per cause; every cause is there.
        shares: Share of all questions per cause, with Wilson's interval.
        found: Answerable questions for which the arm was shown an oracle; for a closed-book arm, the baseline was.
        missed: The others of which this is known.
    """

    arm: str
    causes: tuple[Cause, ...]
    counts: Mapping[Cause, int]
    shares: Mapping[Cause, Estimate]
    found: Split
    missed: Split


def analyse(comparison: Comparison, passages: Mapping[str, str]) -> tuple[ArmFailures, ...]:
    """Finds the cause of every reply, and separates the errors of retrieval from those of the model.

    Causes, the first that fits:

    - `error`: the reply failed. `made_up`: an unanswerable question was answered.
    - `right`: the label is right, where the gold answer is one; else an exact match, a token F1 of at least 0.5, or a
      refusal of an unanswerable question. `format`: contains the answer, among so many words that it scores less.
    - `missed`: the arm retrieves, but was shown no oracle; a refusal then counts here, too.
    - `refused`: refused, though it was shown an oracle, or does not retrieve.
    - `misused`: at least half of the reply's words, without those of the question, stem from an oracle that was shown.
    - `unused`: an oracle was shown, and the reply's words come from elsewhere.
    - `wrong`: of an arm that retrieves nothing, or where no oracle is known.

    An oracle is a chunk of a gold document that holds an answer, or any chunk of these documents if none does; of a
    question that names no gold, a chunk that holds an answer. A label such as `yes` is held by no chunk.

    Args:
        comparison: The arms.
        passages: Text of chunks by id: at least those shown, better all of the index.
    """
    sources = _sources(comparison, passages)
    evidence = {run.name: _evidence(comparison, run, passages, sources) for run in comparison.runs}
    causes = {
        run.name: tuple(
            _cause(question, reply, score, oracles, passages)
            for question, reply, score, oracles in zip(
                comparison.questions, run.replies, comparison.scores[run.name], evidence[run.name], strict=True
            )
        )
        for run in comparison.runs
    }
    return tuple(_summary(comparison, run, causes[run.name], evidence) for run in comparison.runs)


def _sources(comparison: Comparison, passages: Mapping[str, str]) -> list[frozenset[str]]:
    """The oracles of every question that names gold documents; nothing for others."""
    shown = (chunk for run in comparison.runs for reply in run.replies for chunk in reply.contexts)
    chunks_of: dict[str, list[str]] = {}
    for chunk in dict.fromkeys([*passages, *shown]):
        chunks_of.setdefault(document_of(chunk), []).append(chunk)
    sources = []
    for question in comparison.questions:
        chunks = [chunk for document in question.gold for chunk in chunks_of.get(document, ())]
        holding = [chunk for chunk in chunks if _holds(passages.get(chunk, ""), question)]
        sources.append(frozenset(holding or chunks))
    return sources


def _evidence(
    comparison: Comparison, run: ArmRun, passages: Mapping[str, str], sources: Sequence[frozenset[str]]
) -> list[tuple[str, ...] | None]:
    """The oracles that the arm was shown, per question; None where nobody can say or it retrieves nothing."""
    if not any(reply.contexts for reply in run.replies):
        return [None] * len(run.replies)
    evidence: list[tuple[str, ...] | None] = []
    for question, reply, source in zip(comparison.questions, run.replies, sources, strict=True):
        if not question.answerable or (reply.error and not reply.contexts):
            evidence.append(None)
        elif question.gold:
            evidence.append(tuple(chunk for chunk in reply.contexts if chunk in source))
        elif _asks_for_a_label(question):
            evidence.append(None)
        else:
            evidence.append(tuple(chunk for chunk in reply.contexts if _holds(passages.get(chunk, ""), question)))
    return evidence


def _cause(
    question: Question,
    reply: Reply,
    score: AnswerScore,
    oracles: Sequence[str] | None,
    passages: Mapping[str, str],
) -> Cause:
    if reply.error:
        return "error"
    if not question.answerable:
        return "right" if reply.abstained else "made_up"
    if not reply.abstained and (said := _said(score)):
        return said
    if oracles is None:
        return "refused" if reply.abstained else "wrong"
    if not oracles:
        return "missed"
    if reply.abstained:
        return "refused"
    return "misused" if any(_stems_from(reply.text, question, passages.get(c, "")) for c in oracles) else "unused"


def _said(score: AnswerScore) -> Cause | None:
    if score.accuracy is not None:
        return "right" if score.accuracy else None
    if score.em or (score.f1 or 0.0) >= PARTIAL_F1:
        return "right"
    return "format" if score.contains else None


def _holds(text: str, question: Question) -> bool:
    if not text or _asks_for_a_label(question):
        return False
    return contains(text, question.answers) == 1.0 or any(_covers(text, answer) for answer in question.answers)


def _covers(text: str, answer: str) -> bool:
    """Whether the text has most words of a long answer, which a writer seldom takes over word for word."""
    words = Counter(tokens(answer))
    return words.total() >= _LONG_ANSWER and (words & Counter(tokens(text))).total() >= _HELD * words.total()


def _asks_for_a_label(question: Question) -> bool:
    return accuracy("", question.answers) is not None


def _stems_from(reply: str, question: Question, passage: str) -> bool:
    asked, held = set(tokens(question.question)), set(tokens(passage))
    words = [word for word in tokens(reply) if word not in asked]
    return bool(words) and sum(word in held for word in words) >= _TAKEN * len(words)


def _summary(
    comparison: Comparison,
    run: ArmRun,
    causes: tuple[Cause, ...],
    evidence: Mapping[str, Sequence[tuple[str, ...] | None]],
) -> ArmFailures:
    known = evidence[run.name]
    if not any(reply.contexts for reply in run.replies):
        known = evidence.get(comparison.baseline, known)
    scored = [row for row, value in enumerate(_values(comparison, run.name)) if value is not None]
    shares = {}
    for cause in get_args(Cause):
        hits = [float(own == cause) for own in causes]
        shares[cause] = Estimate(sum(hits) / len(hits), *share_interval(hits, comparison.groups), len(hits))
    return ArmFailures(
        run.name,
        causes,
        {cause: causes.count(cause) for cause in get_args(Cause)},
        shares,
        found=_split(comparison, run.name, [row for row in scored if known[row]]),
        missed=_split(comparison, run.name, [row for row in scored if known[row] == ()]),
    )


def _split(comparison: Comparison, arm: str, rows: Sequence[int]) -> Split:
    if not rows:
        return Split(None, None)
    groups = [comparison.groups[row] for row in rows]
    mine = _values(comparison, arm)
    values = [mine[row] or 0.0 for row in rows]
    interval = mean_interval(values, groups=groups, seed=comparison.seed)
    mean = Estimate(sum(values) / len(values), *interval, len(values))
    if arm == comparison.baseline or comparison.baseline not in comparison.scores:
        return Split(mean, None)
    baseline = _values(comparison, comparison.baseline)
    theirs = [baseline[row] or 0.0 for row in rows]
    return Split(mean, paired_bootstrap(values, theirs, groups=groups, seed=comparison.seed))


def _values(comparison: Comparison, arm: str) -> list[float | None]:
    return [score._asdict()[comparison.metric] for score in comparison.scores[arm]]
