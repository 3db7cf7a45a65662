"""Measures of a comparison that replies alone do not give: groundedness, similarity, likelihood, a judge's grades.

Whoever measures hands over a value per reply and arm; means, intervals and differences come from the same machinery as
those of every other measure.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from hybrid.errors import EvaluationError
from hybrid.eval.measures import Measure
from hybrid.eval.resampling import Array

Values = Sequence[float | None]


def further_measure(
    name: str, values: Mapping[str, Values], weights: Mapping[str, Sequence[float]] | None = None
) -> dict[str, Measure]:
    """The same measure for every arm: the mean of the values that its replies have.

    Args:
        name: Its key in reports.
        values: Per arm one value per question; None where the reply has none, such as the groundedness of a refusal.
        weights: How much each value counts, such as the tokens that it is a mean over; by default all count the same.

    Raises:
        EvaluationError: The arms have different numbers of values, or a value is not finite.

    >>> found = further_measure("grounded", {"rag": [1.0, None], "base": [None, None]})
    >>> found["rag"].numerators, found["base"].denominators
    (array([1., 0.]), array([0., 0.]))
    """
    sizes = {len(own) for own in values.values()}
    if len(sizes) > 1:
        raise EvaluationError(f"{name}: every arm needs a value per question, found {sorted(sizes)} values")
    known = [value for value in chain.from_iterable(values.values()) if value is not None]
    if not np.isfinite(known).all():
        raise EvaluationError(f"{name}: a value is not finite")
    has = {arm: np.array([value is not None for value in own], dtype=np.bool_) for arm, own in values.items()}
    rows = np.logical_or.reduce(list(has.values()))
    found = {}
    for arm, own in values.items():
        counts: Array = np.array(weights[arm] if weights else [1.0] * len(own), dtype=np.float64)
        weight: Array = np.where(has[arm], counts, 0.0)
        found[arm] = Measure(name, rows, np.array([value or 0.0 for value in own]) * weight, weight)
    return found


def reply_values(measure: Measure) -> list[float | None]:
    """What each reply has of a measure.

    >>> reply_values(further_measure("grounded", {"rag": [0.5, None]})["rag"])
    [0.5, None]
    """
    pairs = zip(measure.numerators.tolist(), measure.denominators.tolist(), strict=True)
    return [top / bottom if bottom else None for top, bottom in pairs]
