"""Reports put together must say what one report of all their questions says."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.further import further_measure
from hybrid.eval.merge import Merged, merge_reports
from hybrid.eval.report import report_data
from hybrid.eval.seeds import merge_seeds
from hybrid.types import Citation, Question

ANSWERS = ("yes sir", "no", "yes", "")


def _reply(question: Question, answer: str) -> Reply:
    cited = (Citation(1, "d", 0, 3, "yes"),) if answer == "yes" else ()
    return Reply(
        question.id,
        answer,
        abstained=not answer,
        documents=("d1", "d0"),
        contexts=("d1#0-9",),
        seconds=0.5,
        citations=cited,
        error="down" if answer == "no" else "",
        tokens_in=7,
        confidence=0.25,
    )


def _comparison(
    said: list[tuple[str, str]],
    *,
    first: int = 0,
    seed: int = 0,
    arms: tuple[str, str] = ("rag", "hybrid"),
    **given: Any,
) -> Comparison:
    """Questions in pairs about one document, the first with the number `first`."""
    numbers = range(first, first + len(said))
    questions = [
        Question(f"q{n}", f"Is it {n}?", ("yes sir",), (f"d{n // 2}",), kind="odd" if n % 2 else "", quotes=("yes",))
        for n in numbers
    ]
    runs = [
        ArmRun(arm, f"arm {arm}", tuple(_reply(q, pair[side]) for q, pair in zip(questions, said, strict=True)))
        for side, arm in enumerate(arms)
    ]
    grounded = further_measure("grounded", {arm: [0.1 * (n % 7) for n in numbers] for arm in arms})
    return compare(questions, runs, k=1, seed=seed, further=[grounded], **given)


def _data(comparison: Comparison) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(report_data(comparison, facts={}, verdict="", notes=())))
    return data


def _report(count: int = 6, **given: Any) -> dict[str, Any]:
    return _data(_comparison([("no", "yes sir")] * count, **given))


def _compared(merged: Merged, seed: int = 0) -> Comparison:
    return compare(merged.questions, merged.runs, k=merged.k, seed=seed, groups=merged.groups, further=merged.further)


SAID = st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from(ANSWERS)), min_size=2, max_size=12)


@settings(max_examples=30, deadline=None)
@given(SAID, st.data())
def test_parts_of_a_comparison_say_what_the_whole_says(said: list[tuple[str, str]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(said) - 1))
    parts = {"a": _data(_comparison(said[:cut])), "b": _data(_comparison(said[cut:], first=cut))}
    whole, merged = _comparison(said), merge_reports(parts)
    assert merged.seeds is None
    assert merged.rows == {"a": [f"q{n}" for n in range(cut)], "b": [f"q{n}" for n in range(cut, len(said))]}
    again = _compared(merged)
    assert (again.questions, again.runs, again.groups) == (whole.questions, whole.runs, whole.groups)
    assert again.summaries == whole.summaries


def test_a_second_seed_with_the_same_answers_makes_nothing_surer() -> None:
    said = [("no", "yes sir"), ("yes", "yes sir"), ("yes sir", "yes"), ("", "yes sir"), ("no", "no"), ("no", "yes")] * 3
    reports = {"a": _data(_comparison(said)), "b": _data(_comparison(said, seed=1))}
    merged = merge_reports(reports)
    assert [question.id for question in merged.questions[:2]] == ["q0 (seed 0)", "q1 (seed 0)"]
    assert merged.rows["b"][0] == "q0 (seed 1)"
    assert merged.seeds == merge_seeds(list(reports.values()))
    once, twice = (comparison.summaries[1].versus["f1"] for comparison in (_comparison(said), _compared(merged)))
    assert twice.difference == pytest.approx(once.difference)
    assert (twice.low, twice.high, twice.p) == pytest.approx((once.low, once.high, once.p))


def test_questions_without_documents_are_dependent_on_themselves_under_another_seed() -> None:
    reports = {str(seed): _report(seed=seed) for seed in (0, 1)}
    for report in reports.values():
        for question in report["questions"]:
            question["gold"] = []
    assert len(set(merge_reports(reports).groups.values())) == 6


def test_questions_are_grouped_as_the_caller_says() -> None:
    merged = merge_reports({"a": _report(), "b": _report(first=6)}, {f"q{n}": "one" for n in range(12)})
    assert len(set(merged.groups.values())) == 1


def test_folds_of_several_seeds_are_folds_within_each_seed() -> None:
    said = [("no", "yes sir"), ("yes", "no"), ("no", "yes"), ("yes sir", "yes sir")]
    reports = {
        f"{first}-{seed}": _data(_comparison(said, first=first, seed=seed)) for first in (0, 4) for seed in (0, 1)
    }
    merged = merge_reports(reports)
    assert len(merged.questions) == 16
    assert merged.seeds is not None
    effect = merged.seeds["hybrid"]["f1"]
    assert (effect.questions, len(effect.per_seed)) == (8, 2)
    assert effect.mean == pytest.approx(_compared(merged).summaries[1].versus["f1"].difference)


def test_only_arms_that_all_ran_are_kept() -> None:
    other = _report(first=6, arms=("rag", "tuned"))
    third = _report(first=6)
    third["arms"].append({**third["arms"][1], "name": "more"})
    for question in third["questions"]:
        question["replies"]["more"] = question["replies"]["hybrid"]
    assert [run.name for run in merge_reports({"a": _report(), "b": third}).runs] == ["rag", "hybrid"]
    with pytest.raises(EvaluationError, match=r"no arm in common beside 'rag' \(a: hybrid, rag; b: rag, tuned\)"):
        merge_reports({"a": _report(), "b": other})


def test_likelihoods_are_left_out_as_their_weights_are_not_in_reports() -> None:
    report = _report()
    for question in report["questions"]:
        question["replies"]["rag"]["further"]["gold_nll"] = 1.0
    measures = merge_reports({"a": report, "b": _report(first=6)}).further
    assert [measure["rag"].name for measure in measures] == ["grounded"]


def test_comparisons_that_do_not_fit_are_refused() -> None:
    first = _report()
    for reports, message in (
        ({"a": first}, "at least two comparisons are put together, got a"),
        ({"a": first, "b": first}, "a and b both ask question 'q0' with seed 0"),
        (
            {"a": first, "b": _report(first=6, metric="em")},
            "different metric cannot be put together: 'f1' in a, 'em' in b",
        ),
        ({"a": first, "b": _report(first=6, baseline="hybrid")}, "different baseline"),
    ):
        with pytest.raises(EvaluationError, match=message):
            merge_reports(reports)
    changed = _report(seed=1)
    changed["questions"][0]["question"] = "Is it something else?"
    with pytest.raises(
        EvaluationError, match=r"b: question 'q0' is 'Is it something else.', but 'Is it 0.' in another"
    ):
        merge_reports({"a": first, "b": changed})
