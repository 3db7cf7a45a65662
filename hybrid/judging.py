"""The answers of all arms before a judge: grades by a rubric, or every arm against the baseline in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from hybrid.eval.answers import score_answer
from hybrid.eval.comparison import Reply
from hybrid.eval.further import Values
from hybrid.eval.judge import LOWEST, Case, Comparisons, PairCase, TextGenerator, calibration, grade, prefer
from hybrid.judge_settings import JudgeConfig
from hybrid.types import Question

# What a verdict is worth to the first answer; one that cannot be read favours nobody.
_WORTH = {"first": 1.0, "tie": 0.5, "failed": 0.5, "second": 0.0}


class Judged(NamedTuple):
    """What a judge said.

    Attributes:
        values: Per arm one value per question: its mean grade from 1 to 5, or 1, 0.5 or 0 for a win, a tie or a loss
            against the baseline; None where nobody was asked.
        figures: Failures, ties, spread and calibration, as plain values for report.json.
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
    values: dict[str, Values] = {
        arm: [
            (means[cases[arm, place]] if (arm, place) in cases else float(LOWEST)) if place in exact[arm] else None
            for place in range(len(questions))
        ]
        for arm in replies
    }
    given = [(means[case], exact[arm][place]) for (arm, place), case in cases.items()]
    arms = {arm: {"failures": sum(failed[case] for (name, _), case in cases.items() if name == arm)} for arm in replies}
    return Judged(values, {**_figures(places, arms, given), "spread": grades.spread})


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
    given = []
    for arm in replies:
        if arm == baseline or baseline not in replies:
            continue
        sides = [(replies[arm][place], replies[baseline][place]) for place in places]
        found = _verdicts(judge, [questions[place] for place in places], sides)
        worth = {place: _WORTH[verdict] for place, verdict in zip(places, found.verdicts, strict=True)}
        values[arm] = [worth.get(place) for place in range(len(questions))]
        given += [(worth[place], exact[arm][place] - exact[baseline][place]) for place in places]
        arms[arm] = {
            "wins": found.count("first"),
            "losses": found.count("second"),
            "ties": found.count("tie"),
            "inconsistent": found.inconsistent,
            "failures": found.count("failed"),
        }
    return Judged(values, {**_figures(places, arms, given), "spread": None})


def _verdicts(judge: TextGenerator, questions: Sequence[Question], sides: Sequence[tuple[Reply, Reply]]) -> Comparisons:
    """One verdict per pair; the judge sees only those that differ and have not failed."""
    asked = [
        place
        for place, (mine, theirs) in enumerate(sides)
        if not (mine.error or theirs.error) and mine.text != theirs.text
    ]
    cases = [
        PairCase(questions[place].question, questions[place].answers, *(side.text for side in sides[place]))
        for place in asked
    ]
    found = prefer(judge, cases)
    said = dict(zip(asked, found.verdicts, strict=True))
    verdicts = []
    for place, (mine, theirs) in enumerate(sides):
        lead = bool(theirs.error) - bool(mine.error)
        verdicts.append(said.get(place) or ("first" if lead > 0 else "second" if lead < 0 else "tie"))
    return Comparisons(tuple(verdicts), found.inconsistent)


def _figures(
    places: Sequence[int], arms: Mapping[str, Mapping[str, int]], given: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    judged, metric = [pair[0] for pair in given], [pair[1] for pair in given]
    return {
        "questions": len(places),
        "arms": {arm: dict(counts) for arm, counts in arms.items()},
        "failures": sum(counts["failures"] for counts in arms.values()),
        "calibration": {"spearman": calibration(judged, metric), "n": len(given)},
    }


def _exact(metric: str, reply: Reply, question: Question) -> float:
    """The score of a reply by the metric; 0 where the question does not have it."""
    return getattr(score_answer(reply.text, question, reply.abstained or bool(reply.error)), metric) or 0.0
