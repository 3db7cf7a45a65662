"""Statistics of yes-or-no outcomes: the interval of a share, and the test of two shares on the same questions."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from hybrid.eval.statistics import Interval, design_effect


class McNemar(NamedTuple):
    """The test of McNemar (1947) of two sides that answered the same questions.

    Attributes:
        gained: Questions that only the first side got.
        lost: Questions that only the second side got.
        p_exact: Two-sided p by the binomial distribution.
        p_mid: The same with the mid-p correction (Fagerland, Lydersen and Laake 2013), which is less conservative.
    """

    gained: int
    lost: int
    p_exact: float
    p_mid: float


def wilson_interval(successes: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """Interval of a share (Wilson 1927), from 0 to 1 without any trial.

    Counts may be fractions: dependent answers are worth fewer trials (`design_effect`).

    Raises:
        ValueError: More successes than trials, a negative count, or confidence outside (0, 1).

    >>> [round(bound, 3) for bound in wilson_interval(0, 10)]
    [0.0, 0.278]
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and {trials} trials, got {successes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if not trials:
        return Interval(0.0, 1.0)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = successes / trials
    centre = share + z2 / (2 * trials)
    spread = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials)
    scale = 1 + z2 / trials
    # At 0 and 1 the bound equals the share but for rounding.
    low = 0.0 if share == 0 else (centre - spread) / scale
    return Interval(low, 1.0 if share == 1 else (centre + spread) / scale)


def share_interval(outcomes: Sequence[float], groups: Sequence[int], *, confidence: float = 0.95) -> Interval:
    """Wilson's interval of the share of ones, for as many independent outcomes as the grouped ones are worth.

    These are n / design effect, at most n; the number of groups where all outcomes are equal.

    >>> [round(bound, 2) for bound in share_interval([1, 1, 0, 0], [1, 1, 2, 2])]
    [0.07, 0.93]
    """
    effect = design_effect(outcomes, groups)
    worth = len(outcomes) / max(1.0, effect) if effect is not None else len(set(groups))
    share = sum(outcomes) / len(outcomes) if len(outcomes) else 0.0
    return wilson_interval(share * worth, worth, confidence=confidence)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> McNemar:
    """Tests whether two sides got equally many of the same questions right; values are 0 or 1.

    Only questions that one side alone got count; without any, p is 1. Questions must be independent: where several
    share a document, the permutation test of `paired_bootstrap` by groups is the one to trust.

    Raises:
        ValueError: The lengths differ, or a value is neither 0 nor 1.

    >>> mcnemar([1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1])
    McNemar(gained=4, lost=0, p_exact=0.125, p_mid=0.0625)
    """
    if len(a) != len(b):
        raise ValueError(f"a and b must pair up, got {len(a)} and {len(b)} values")
    if strange := [value for value in (*a, *b) if value not in {0, 1}]:
        raise ValueError(f"values must be 0 or 1, got {strange[0]}")
    gained = sum(x > y for x, y in zip(a, b, strict=True))
    lost = sum(x < y for x, y in zip(a, b, strict=True))
    discordant, fewer = gained + lost, min(gained, lost)
    if not discordant:
        return McNemar(0, 0, 1.0, 1.0)
    # Whole numbers: exact, and 2**n does not overflow.
    at, tail = 1, 1
    for count in range(fewer):
        at = at * (discordant - count) // (count + 1)
        tail += at
    outcomes = 2**discordant
    # Outcomes as far from even as the observed one count half; at an even split there is only one such outcome.
    mid = (2 * outcomes - at) / (2 * outcomes) if gained == lost else (2 * tail - at) / outcomes
    return McNemar(gained, lost, min(1.0, 2 * tail / outcomes), mid)
