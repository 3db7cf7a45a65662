"""The seed as a factor: what several runs of the same comparison, each trained with another seed, say together.

reports = [json.loads(path.read_text()) for path in sorted(Path(".").glob("seed-*/report.json"))]
merge_seeds(reports)["hybrid"]["f1"].mean
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybrid.errors import EvaluationError
from hybrid.eval.answers import AnswerScore
from hybrid.eval.clusters import clusters
from hybrid.eval.resampling import Array
from hybrid.eval.statistics import standard_error
from hybrid.types import Question

_CONFIDENCE = 0.95


class SeedEffect(NamedTuple):
    """A paired difference to the baseline, over questions and seeds.

    Attributes:
        mean: Mean difference over all questions and seeds.
        low: Lower end of the 95 % interval for other questions (by cluster) and other seeds.
        high: Upper end.
        p: Two-sided p-value: the level at which the interval reaches 0.
        per_seed: Mean difference of each seed.
        spread: Standard deviation between seeds; None for one seed.
        agree: Number of seeds whose difference has the sign of the mean.
        questions: Number of questions that all seeds answered.
    """

    mean: float
    low: float
    high: float
    p: float
    per_seed: tuple[float, ...]
    spread: float | None
    agree: int
    questions: int


def seed_effect(
    differences: Sequence[Sequence[float] | Array] | Array, *, groups: Sequence[int] | None = None
) -> SeedEffect:
    """Summarises differences with one row per seed and one column per question.

    Seeds and questions are both samples: others could have been used. The error of the mean is that over questions (of
    each question's mean over seeds, by cluster) and that over seeds, each with the t distribution of its own count, so
    that two seeds which differ say very little. Where nothing varies, or with fewer than two clusters, nothing is
    known: the interval is the mean itself and p is 1.

    Args:
        differences: Arm minus baseline.
        groups: One label per question; questions of one group are taken for dependent.

    Raises:
        ValueError: There is no value, or one is not finite.

    >>> seed_effect([[0.2, 0.3], [0.4, 0.3]]).per_seed
    (0.25, 0.35)
    """
    data = np.asarray(differences, dtype=np.float64)
    if data.ndim != 2 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"differences must be a finite table of seeds by questions, got shape {data.shape}")
    per_seed = data.mean(axis=1)
    mean, spread = float(per_seed.mean()), float(per_seed.std(ddof=1)) if len(data) > 1 else None
    error = standard_error(data.mean(axis=0), groups=groups)
    count = len(set(groups)) if groups is not None else data.shape[1]
    between = [(spread / math.sqrt(len(data)), len(data) - 1)] if spread is not None else []
    half, p = (0.0, 1.0) if error is None else _t_test(mean, [(error, count - 1), *between])
    agree = int(np.count_nonzero(np.sign(per_seed) == np.sign(mean)))
    return SeedEffect(mean, mean - half, mean + half, p, tuple(per_seed.tolist()), spread, agree, data.shape[1])


def _t_test(mean: float, parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Half the width of the interval, and p, of a mean whose error has parts with known degrees of freedom.

    Each part is widened by the quantile of its own t distribution before they are added in squares (Howe 1974,
    "Approximate Confidence Limits on the Mean of X + Y").
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    def half(level: float) -> float:
        return math.hypot(*(float(t.isf(level / 2, freedom)) * error for error, freedom in parts))

    if not any(error for error, _ in parts):
        return 0.0, 1.0
    low, high = 1e-12, 1.0
    p = low if half(low) < abs(mean) else float(brentq(lambda level: half(level) - abs(mean), low, high))
    return half(1 - _CONFIDENCE), p


def merge_seeds(
    reports: Sequence[Mapping[str, Any]], groups: Mapping[str, str] | None = None
) -> dict[str, dict[str, SeedEffect]]:
    """Joins report.json files of the same arms and questions by seed.

    Only questions that all reports ask count, and only arms and measures that all have.

    Args:
        reports: The content of each report.json, in any order.
        groups: A label per question id to take questions together by, in place of their gold documents.

    Returns:
        Per arm other than the baseline, and per metric of a reply, the difference over seeds.

    Raises:
        EvaluationError: There are no two reports, two have the same seed, or baselines or questions do not fit.
    """
    reports = sorted(reports, key=lambda report: int(report["seed"]))
    seeds, baselines = [report["seed"] for report in reports], {report["baseline"] for report in reports}
    if len(reports) < 2 or len(set(seeds)) < len(seeds):
        raise EvaluationError(f"seeds are merged from at least two reports, each of its own seed; got seeds {seeds}")
    if len(baselines) > 1:
        raise EvaluationError(f"reports with different baselines cannot be merged: {', '.join(sorted(baselines))}")
    (baseline,) = baselines
    asked = [{question["id"]: question for question in report["questions"]} for report in reports]
    common = [id_ for id_ in asked[0] if all(id_ in own for own in asked)]
    if not common:
        raise EvaluationError(f"the reports of seeds {seeds} have no question in common")
    arms = [arm["name"] for arm in reports[0]["arms"]]
    shared = [name for name in arms if all(name in own[common[0]]["replies"] for own in asked)]
    if baseline not in shared:
        raise EvaluationError(f"the baseline {baseline!r} did not run in all reports of seeds {seeds}")
    return {name: _effects(asked, common, (name, baseline), groups) for name in shared if name != baseline}


def by_seed(reports: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One report per seed, in their order, with these arms and the questions of all reports that have the seed."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for report in reports:
        found.setdefault(report["seed"], []).append(report)
    return [
        {**own[0], "arms": arms, "questions": [question for report in own for question in report["questions"]]}
        for _, own in sorted(found.items())
    ]


def _effects(
    asked: Sequence[Mapping[str, Any]], common: Sequence[str], arms: tuple[str, str], groups: Mapping[str, str] | None
) -> dict[str, SeedEffect]:
    effects = {}
    for name in AnswerScore._fields:
        ids = [id_ for id_ in common if all(_score(own, id_, side, name) is not None for own in asked for side in arms)]
        if ids:
            sides = [np.array([[_score(own, id_, side, name) for id_ in ids] for own in asked], float) for side in arms]
            numbers = clusters([Question(id_, "", gold=tuple(asked[0][id_]["gold"])) for id_ in ids], groups)
            effects[name] = seed_effect(sides[0] - sides[1], groups=numbers)
    return effects


def _score(questions: Mapping[str, Any], id_: str, arm: str, name: str) -> float | None:
    score: float | None = questions[id_]["replies"][arm].get(name)
    return score
