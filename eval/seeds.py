"""The seed as a factor: what several runs of the same comparison, each trained with another seed, say together.

reports = [json.loads(path.read_text()) for path in sorted(Path(".").glob("seed-*/report.json"))]
merge_seeds(reports)["hybrid"]["f1"].mean
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybrid.errors import EvaluationError
from hybrid.eval.answers import AnswerScore
from hybrid.eval.clusters import clusters
from hybrid.eval.resampling import Array, bootstrap_totals, group_sums, ratios
from hybrid.eval.statistics import RESAMPLES
from hybrid.types import Question

_CONFIDENCE = 0.95


class SeedEffect(NamedTuple):
    """A paired difference to the baseline, over questions and seeds.

    Attributes:
        mean: Mean difference over all questions and seeds.
        low: Lower end of the 95 % interval that draws both questions (by cluster) and seeds.
        high: Upper end.
        per_seed: Mean difference of each seed.
        spread: Standard deviation between seeds; None for one seed.
        agree: Number of seeds whose difference has the sign of the mean.
        questions: Number of questions that all seeds answered.
    """

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]
    spread: float | None
    agree: int
    questions: int


def seed_effect(
    differences: Sequence[Sequence[float] | Array] | Array,
    *,
    groups: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SeedEffect:
    """Summarises differences with one row per seed and one column per question.

    The interval is the percentile interval of a bootstrap that draws seeds and questions independently, as both are
    samples: other seeds and other questions could have been used (Owen 2007, the pigeonhole bootstrap). It errs
    towards being too wide. With two or three seeds their spread is poorly known, so look at `per_seed` too.

    Args:
        differences: Arm minus baseline.
        groups: One label per question; questions of one group are drawn together.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same result.

    Raises:
        ValueError: There is no value, or one is not finite.

    >>> seed_effect([[0.2, 0.2], [0.4, 0.4]]).per_seed
    (0.2, 0.4)
    """
    data = np.asarray(differences, dtype=np.float64)
    if data.ndim != 2 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"differences must be a finite table of seeds by questions, got shape {data.shape}")
    sums = group_sums(np.column_stack([data.T, np.ones(data.shape[1])]), groups)
    drawn = bootstrap_totals(sums, resamples=resamples, seed=seed)
    rng = np.random.default_rng([seed, 2])
    weights = rng.multinomial(len(data), np.full(len(data), 1 / len(data)), size=resamples) / len(data)
    means = ratios((drawn[:, :-1] * weights).sum(axis=1), drawn[:, -1])
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    per_seed = data.mean(axis=1)
    mean = float(per_seed.mean())
    return SeedEffect(
        mean,
        min(float(low), mean),
        max(float(high), mean),
        tuple(per_seed.tolist()),
        float(per_seed.std(ddof=1)) if len(data) > 1 else None,
        int(np.count_nonzero(np.sign(per_seed) == np.sign(mean))),
        data.shape[1],
    )


def merge_seeds(reports: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, SeedEffect]]:
    """Joins report.json files of the same arms and questions by seed.

    Only questions that all reports ask count, and only arms and measures that all have.

    Args:
        reports: The content of each report.json, in any order.
        seed: Seed of the resampling.

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
    return {name: _effects(asked, common, (name, baseline), seed) for name in shared if name != baseline}


def _effects(
    asked: Sequence[Mapping[str, Any]], common: Sequence[str], arms: tuple[str, str], seed: int
) -> dict[str, SeedEffect]:
    effects = {}
    for name in AnswerScore._fields:
        ids = [id_ for id_ in common if all(_score(own, id_, side, name) is not None for own in asked for side in arms)]
        if ids:
            sides = [np.array([[_score(own, id_, side, name) for id_ in ids] for own in asked], float) for side in arms]
            groups = clusters([Question(id_, "", gold=tuple(asked[0][id_]["gold"])) for id_ in ids])
            effects[name] = seed_effect(sides[0] - sides[1], groups=groups, seed=seed)
    return effects


def _score(questions: Mapping[str, Any], id_: str, arm: str, name: str) -> float | None:
    score: float | None = questions[id_]["replies"][arm].get(name)
    return score
