import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from hybrid.eval.shares import mcnemar, share_interval, wilson_interval
from hybrid.eval.statistics import paired_bootstrap

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
outcomes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels(count: tuple[int, int], confidence: float) -> None:
    reference = proportion_confint(*count, alpha=1 - confidence, method="wilson")
    assert wilson_interval(*count, confidence=confidence) == pytest.approx(reference, abs=1e-12)


@given(counts)
def test_wilson_holds_the_share_and_stays_within_0_and_1(count: tuple[int, int]) -> None:
    low, high = wilson_interval(*count)
    assert 0 <= low <= count[0] / count[1] <= high <= 1


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 4), (float("nan"), 4)])
def test_wilson_refuses_impossible_counts(successes: float, trials: float) -> None:
    with pytest.raises(ValueError, match="successes must lie between"):
        wilson_interval(successes, trials)


def test_nothing_counted_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert share_interval([], []) == (0.0, 1.0)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=50))
def test_independent_outcomes_have_wilsons_interval(hits: list[int]) -> None:
    assert share_interval(hits, range(len(hits))) == pytest.approx(wilson_interval(sum(hits), len(hits)))


@given(st.lists(st.integers(0, 1), min_size=3, max_size=20), st.integers(2, 5))
def test_repeated_outcomes_are_worth_what_they_were_once(hits: list[int], times: int) -> None:
    once = share_interval(hits, range(len(hits)))
    repeated = share_interval(hits * times, list(range(len(hits))) * times)
    assert repeated == pytest.approx(once, abs=0.06)
    assert repeated[1] - repeated[0] > 0.85 * (once[1] - once[0])


def test_groups_that_balance_each_other_are_worth_all_their_outcomes() -> None:
    balanced = share_interval([1, 0] * 50, [n // 2 for n in range(100)])
    assert balanced == pytest.approx(wilson_interval(50, 100))


@settings(deadline=None)
@given(outcomes)
def test_mcnemar_agrees_with_statsmodels(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    table = [[sum(pair == (x, y) for pair in pairs) for y in (1, 0)] for x in (1, 0)]
    ours = mcnemar(a, b)
    assert (ours.gained, ours.lost) == (table[0][1], table[1][0])
    assert ours.p_exact == pytest.approx(reference_mcnemar(table, exact=True).pvalue)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mid_p_counts_outcomes_as_likely_by_half(gained: int, lost: int) -> None:
    n = gained + lost
    spread = [abs(k - n / 2) for k in range(n + 1)]
    chance = [math.comb(n, k) / 2**n for k in range(n + 1)]
    at = abs(gained - n / 2)
    wanted = sum(c * (0.5 if s == at else 1.0) for s, c in zip(spread, chance, strict=True) if s >= at) if n else 1.0
    assert mcnemar([1] * gained + [0] * lost, [0] * gained + [1] * lost).p_mid == pytest.approx(wanted)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=13))
def test_exact_mcnemar_is_the_permutation_test_of_binary_outcomes(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    assert mcnemar(a, b).p_exact == pytest.approx(paired_bootstrap(a, b, resamples=2**13).p)


def test_thousands_of_discordant_questions_do_not_overflow() -> None:
    result = mcnemar([1] * 3000 + [0] * 2800, [0] * 3000 + [1] * 2800)
    assert result.p_exact == pytest.approx(reference_mcnemar([[0, 3000], [2800, 0]], exact=True).pvalue)
    assert mcnemar([1] * 3000, [0] * 3000).p_exact == 0.0


def test_mid_p_keeps_the_level() -> None:
    p = [
        mcnemar(a, b).p_mid
        for a, b in product(product([0, 1], repeat=6), repeat=2)
        if all(x != y for x, y in zip(a, b, strict=True))
    ]
    assert np.mean(np.asarray(p) <= 0.05) <= 0.06


@pytest.mark.parametrize(("a", "b", "message"), [([1], [1, 0], "1 and 2 values"), ([0.5], [1], "0 or 1, got 0.5")])
def test_mcnemar_refuses_what_is_not_paired_or_binary(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar(a, b)
