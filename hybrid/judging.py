"""The answers of all arms before a judge: grades by a rubric, or every arm against the baseline in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from hybrid.eval.answers import score_answer
from hybrid.eval.comparison import Reply
from hybrid.eval.further import Values
from hybrid.eval.judge import LOWEST, Case, PairCase, TextGenerator, Verdict, calibration, grade, prefer
from hybrid.judge_settings import JudgeConfig
from hybrid.types import Question

# What a verdict is worth to the first answer; one that cannot be read favours nobody.
_WORTH = {"first": 1.0, "tie": 0.5, "failed": 0.5, "second": 0.0}

# Below this, chance alone gives two rankings that have nothing to do with each other correlations of .6 and more.
_FEWEST = 10


class Judged(NamedTuple):
    """What a judge said.

    Attributes:
        values: Per arm one value per question: its mean grade from 1 to 5, or 1, 0.5 or 0 for a win, a tie or a loss
            against the baseline; None where nobody was asked.
        figures: Failures, ties, spread and calibration, as plain values for report.json. `asked` counts the answers or
            pairs that the judge saw, `identical` those it did not as they equal another or each other, `failed_replies`
            those it did not as a reply failed. `calibration` is of those it saw and gave a verdict on that can be read.
    """

    values: dict[str, Values]
    figures: dict[str, Any]


def judge_arms(
    judge: TextGenerator,
    settings: JudgeConfig,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    *,
    baseline: str,
    metric: str,
    seed: int,
) -> Judged:
    """Has the answers to a sample of the answerable questions judged; equal answers to a question are judged once.

    A reply that failed gets the lowest grade and loses, without a call; in pairs of two failures nobody wins.

    Args:
        judge: Who judges.
        settings: Says how; `mode` is not `off`.
        questions: The questions.
        replies: Per arm one reply per question, in their order.
        baseline: The arm that `pairwise` sets the others against; without it nothing is judged.
        metric: The field of AnswerScore that the judge is calibrated against.
        seed: Seed of the sample.
    """
    answerable = [place for place, question in enumerate(questions) if question.answerable]
    few = 0 < settings.sample < len(answerable)
    places = sorted(Random(seed).sample(answerable, settings.sample)) if few else answerable
    exact = {
        arm: {place: _exact(metric, own[place], questions[place]) for place in places} for arm, own in replies.items()
    }
    if settings.mode == "pairwise":
        return _pairs(judge, questions, replies, places, exact, baseline)
    return _grades(judge, settings.repeats, questions, replies, places, exact)


def _grades(
    judge: TextGenerator,
    repeats: int,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    places: Sequence[int],
    exact: Mapping[str, Mapping[int, float]],
) -> Judged:
    cases = {
        (arm, place): Case(questions[place].question, questions[place].answers, own[place].text)
        for arm, own in replies.items()
        for place in places
        if not own[place].error
    }
    distinct = list(dict.fromkeys(cases.values()))
    grades = grade(judge, distinct, repeats=repeats)
    means = dict(zip(distinct, grades.means, strict=True))
    failed = {case: some.count(None) for case, some in zip(distinct, grades.scores, strict=True)}
    exacts = {case: exact[arm][place] for (arm, place), case in cases.items()}
    readable = [
        (fmean(read), exacts[case])
        for case, some in zip(distinct, grades.scores, strict=True)
        if (read := [score for score in some if score is not None])
    ]
    values: dict[str, Values] = {
        arm: [
            (means[cases[arm, place]] if (arm, place) in cases else float(LOWEST)) if place in exact[arm] else None
            for place in range(len(questions))
        ]
        for arm in replies
    }
    arms = {arm: {"failures": sum(failed[case] for (name, _), case in cases.items() if name == arm)} for arm in replies}
    seen = {
        "asked": len(distinct),
        "identical": len(cases) - len(distinct),
        "failed_replies": len(places) * len(replies) - len(cases),
    }
    return Judged(values, {**_figures(places, arms, readable), **seen, "spread": grades.spread})


def _pairs(
    judge: TextGenerator,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    places: Sequence[int],
    exact: Mapping[str, Mapping[int, float]],
    baseline: str,
) -> Judged:
    values: dict[str, Values] = {arm: [None] * len(questions) for arm in replies}
    arms: dict[str, dict[str, int]] = {}
    readable: list[tuple[float, float]] = []
    for arm in replies:
        if arm == baseline or baseline not in replies:
            continue
        sides = {place: (replies[arm][place], replies[baseline][place]) for place in places}
        settled = {place: verdict for place, pair in sides.items() if (verdict := _settled(*pair))}
        asked = [place for place in places if place not in settled]
        found = prefer(judge, [_case(questions[place], *sides[place]) for place in asked])
        said = dict(zip(asked, found.verdicts, strict=True))
        worth = {place: _WORTH[verdict] for place, verdict in (settled | said).items()}
        values[arm] = [worth.get(place) for place in range(len(questions))]
        readable += [
            (worth[place], exact[arm][place] - exact[baseline][place])
            for place, verdict in said.items()
            if verdict != "failed"
        ]
        verdicts = [*settled.values(), *found.verdicts]
        broken = sum(bool(mine.error or theirs.error) for mine, theirs in sides.values())
        arms[arm] = {
            "wins": verdicts.count("first"),
            "losses": verdicts.count("second"),
            "ties": verdicts.count("tie"),
            "inconsistent": found.inconsistent,
            "failures": verdicts.count("failed"),
            "asked": len(asked),
            "identical": len(settled) - broken,
            "failed_replies": broken,
        }
    seen = {name: sum(counts[name] for counts in arms.values()) for name in ("asked", "identical", "failed_replies")}
    return Judged(values, {**_figures(places, arms, readable), **seen, "spread": None})


def _settled(mine: Reply, theirs: Reply) -> Verdict | None:
    """The verdict that needs no judge: a failed reply loses, and equal ones tie; None if one has to be asked."""
    lead = bool(theirs.error) - bool(mine.error)
    if lead:
        return "first" if lead > 0 else "second"
    return "tie" if mine.error or mine.text == theirs.text else None


def _case(question: Question, mine: Reply, theirs: Reply) -> PairCase:
    return PairCase(question.question, question.answers, mine.text, theirs.text)


def _figures(
    places: Sequence[int], arms: Mapping[str, Mapping[str, int]], readable: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    judged, metric = [pair[0] for pair in readable], [pair[1] for pair in readable]
    spearman = calibration(judged, metric) if len(readable) >= _FEWEST else None
    return {
        "questions": len(places),
        "arms": {arm: dict(counts) for arm, counts in arms.items()},
        "failures": sum(counts["failures"] for counts in arms.values()),
        "calibration": {"spearman": spearman, "n": len(readable)},
    }


def _exact(metric: str, reply: Reply, question: Question) -> float:
    """The score of a reply by the metric; 0 where the question does not have it."""
    return getattr(score_answer(reply.text, question, reply.abstained or bool(reply.error)), metric) or 0.0
