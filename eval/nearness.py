"""How well search tells what the documents do not answer: by the cosine of a question and the nearest passage."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hybrid.eval.comparison import Comparison, Reply
from hybrid.eval.grounding import auroc, auroc_interval
from hybrid.eval.resampling import Array

Rows: TypeAlias = npt.NDArray[np.bool_]

_FOLDS = 10
_DIGITS = 4
_LEAST = 10  # questions of either sort


class NearnessPoint(NamedTuple):
    """What a least cosine refuses.

    Attributes:
        cosine: Questions whose nearest passage lies below are refused.
        refused: Share of the unanswerable questions that it refuses.
        over_refused: Share of the answerable ones.
    """

    cosine: float
    refused: float
    over_refused: float


class Nearness(NamedTuple):
    """How far the nearest passage tells unanswerable questions from others.

    Attributes:
        auroc: Chance that an unanswerable question lies farther from its nearest passage than an answerable one.
        auroc_low: Lower end of its 95 % interval, by group.
        auroc_high: Upper end.
        best: The least cosine with the highest F1 of refusals on all questions.
        f1: F1 of refusals where each question is judged by the best cosine of questions of other groups.
        refused: Share of the unanswerable questions that are refused that way.
        over_refused: Share of the answerable ones.
        curve: The least cosines that make a difference, from none refused to all, to four decimals.
    """

    auroc: float
    auroc_low: float
    auroc_high: float
    best: float
    f1: float
    refused: float
    over_refused: float
    curve: tuple[NearnessPoint, ...]


def nearness(comparison: Comparison) -> Nearness | None:
    """Measures what the retrieved passages of the first arm that knows their cosines tell.

    None without such an arm, or with fewer than ten questions of either sort.
    """
    known = next((cosines for run in comparison.runs if (cosines := _cosines(run.replies)) is not None), None)
    answerable = np.array([question.answerable for question in comparison.questions], dtype=np.bool_)
    if known is None or min(answerable.sum(), (~answerable).sum()) < _LEAST:
        return None
    ranked = (~answerable).tolist(), (-known).tolist()
    refused = _judged_by_others(known, answerable, comparison.groups, comparison.seed)
    return Nearness(
        auroc(*ranked),
        *auroc_interval(*ranked, list(map(str, comparison.groups)), seed=comparison.seed),
        _best(known, answerable),
        _f1(refused, answerable),
        float(refused[~answerable].mean()),
        float(refused[answerable].mean()),
        tuple(_curve(known, answerable)),
    )


def _cosines(replies: Sequence[Reply]) -> Array | None:
    found = [reply.cosine for reply in replies]
    return None if None in found else np.array(found, dtype=np.float64)


def _curve(cosines: Array, answerable: Rows) -> Iterator[NearnessPoint]:
    for least in _leasts(cosines).tolist():
        refused = cosines < least
        yield NearnessPoint(least, float(refused[~answerable].mean()), float(refused[answerable].mean()))


def _leasts(cosines: Array) -> Array:
    """Values between the cosines that occur, as a setting holds and a report prints them, from none refused to all."""
    values = np.unique(cosines)
    between = np.round((values[:-1] + values[1:]) / 2, _DIGITS)
    return np.unique(np.clip(np.concatenate([[0.0], between, [1.0]]), 0.0, 1.0))


def _best(cosines: Array, answerable: Rows) -> float:
    """The least cosine with the highest F1 of refusals; of several the lowest."""
    leasts = _leasts(cosines)
    f1 = [_f1(cosines < least, answerable) for least in leasts]
    return float(leasts[int(np.argmax(f1))])


def _judged_by_others(cosines: Array, answerable: Rows, groups: Sequence[int], seed: int) -> Rows:
    """Which questions are refused, each by the best cosine of the other folds, into which whole groups are drawn."""
    numbers, members = np.unique(groups, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(numbers))[members] % _FOLDS
    refused = np.zeros(len(cosines), dtype=np.bool_)
    for fold in np.unique(folds):
        here = folds == fold
        if not here.all():
            refused[here] = cosines[here] < _best(cosines[~here], answerable[~here])
    return refused


def _f1(refused: Rows, answerable: Rows) -> float:
    right, counted = (refused & ~answerable).sum(), refused.sum() + (~answerable).sum()
    return float(2 * right / counted) if counted else 0.0
