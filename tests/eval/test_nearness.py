"""What the nearest passage tells of unanswerable questions, against scikit-learn and by brute force."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.nearness import nearness
from hybrid.types import Question

COSINES = st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.4, 0.55, 0.7, 0.9]), min_size=24, max_size=40)


def _comparison(cosines: Sequence[float | None], answerable: Sequence[bool], documents: int = 1000) -> Comparison:
    questions = [
        Question(f"q{n}", "?", ("yes",) if known else (), (f"d{n % documents}",) if known else (), known)
        for n, known in enumerate(answerable)
    ]
    blind = tuple(Reply(question.id, "yes", False, (), (), 0.1) for question in questions)
    seeing = tuple(replace(reply, cosine=cosine) for reply, cosine in zip(blind, cosines, strict=True))
    return compare(questions, [ArmRun("base", "", blind), ArmRun("rag", "", seeing)], k=1)


@settings(max_examples=40, deadline=None)
@given(COSINES, st.data())
def test_the_curve_and_its_best_point_are_those_of_scikit_learn(cosines: list[float], data: st.DataObject) -> None:
    size = len(cosines)
    absent = data.draw(st.sets(st.integers(0, size - 1), min_size=10, max_size=size - 10))
    answerable = [place not in absent for place in range(size)]
    found = nearness(_comparison(cosines, answerable))
    assert found
    positive, near = ~np.array(answerable), np.array(cosines)
    assert found.auroc == pytest.approx(roc_auc_score(positive, -near))
    for least, refused, over_refused in found.curve:
        assert refused == pytest.approx((near[positive] < least).mean())
        assert over_refused == pytest.approx((near[~positive] < least).mean())
    assert found.curve[0][1:] == (0.0, 0.0)
    assert found.curve[-1][1:] == (1.0, 1.0)
    x, y = ([point[column] for point in found.curve] for column in (2, 1))
    assert np.trapezoid(y, x) == pytest.approx(found.auroc)
    assert found.auroc_low <= found.auroc <= found.auroc_high
    best = max(f1_score(positive, near < least) for least in np.linspace(0, 1, 201))
    assert f1_score(positive, near < found.best) == pytest.approx(best)


def test_questions_are_judged_by_others() -> None:
    """Cosines without a meaning: the best value on the questions themselves scores more than one chosen on others."""
    rng = np.random.default_rng(3)
    cosines = rng.random(200)
    answerable = rng.random(200) < 0.5
    found = nearness(_comparison(cosines.tolist(), answerable.tolist()))
    assert found
    refused = cosines < found.best
    assert found.f1 <= f1_score(~answerable, refused)
    assert (found.refused, found.over_refused) != (refused[~answerable].mean(), refused[answerable].mean())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=20, max_size=30))
def test_every_value_can_be_set(cosines: list[float]) -> None:
    found = nearness(_comparison(cosines, [place % 2 == 0 for place in range(20)] + [True] * (len(cosines) - 20)))
    assert found
    for least in (found.best, *(point.cosine for point in found.curve)):
        assert 0 <= least <= 1
        assert least == round(least, 4), "what is measured is what is printed"


def test_questions_about_one_document_are_judged_together() -> None:
    cosines = [0.45] * 20 + [0.4] * 12 + [0.5] * 8
    answerable = [True] * 20 + [False] * 20
    apart, together = (nearness(_comparison(cosines, answerable, documents=count)) for count in (1000, 1))
    assert apart
    assert together
    assert apart.best == together.best == pytest.approx(0.425)
    assert (apart.refused, apart.over_refused) == (0.6, 0.0)
    assert together.over_refused == 1.0, "no answerable question of another document shows where they lie"


def test_where_nothing_can_be_said() -> None:
    answerable = [True] * 20 + [False] * 9
    assert nearness(_comparison([0.5] * 29, answerable)) is None, "too few unanswerable questions"
    answerable = [True] * 20 + [False] * 20
    assert nearness(_comparison([0.5] * 39 + [None], answerable)) is None, "a cosine is not known"
    assert nearness(_comparison([0.5] * 40, answerable)) is not None
