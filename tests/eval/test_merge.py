"""Reports put together must say what one report of all their questions says."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.further import further_measure
from hybrid.eval.merge import Merged, check_fit, is_repeated, merge_parts
from hybrid.eval.report import report_data
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


def _data(comparison: Comparison, model: str = "m") -> dict[str, Any]:
    facts = {"Model": model, "Embedding model": "e"}
    data: dict[str, Any] = json.loads(json.dumps(report_data(comparison, facts=facts, verdict="", notes=())))
    return data


def _report(count: int = 6, *, model: str = "m", **given: Any) -> dict[str, Any]:
    return _data(_comparison([("no", "yes sir")] * count, **given), model)


def _compared(merged: Merged) -> Comparison:
    return compare(merged.questions, merged.runs, k=1, further=merged.further)


SAID = st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from(ANSWERS)), min_size=2, max_size=12)


@settings(max_examples=30, deadline=None)
@given(SAID, st.data())
def test_parts_of_a_comparison_say_what_the_whole_says(said: list[tuple[str, str]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(said) - 1))
    parts = {"a": _data(_comparison(said[:cut])), "b": _data(_comparison(said[cut:], first=cut))}
    check_fit(parts)
    assert not is_repeated(parts)
    whole, again = _comparison(said), _compared(merge_parts(parts))
    assert (again.questions, again.runs, again.groups) == (whole.questions, whole.runs, whole.groups)
    assert again.summaries == whole.summaries


def test_seeds_repeat_questions() -> None:
    reports = {"a": _report(), "b": _report(seed=1)}
    check_fit(reports)
    assert is_repeated(reports)


def test_only_arms_that_all_ran_are_kept() -> None:
    third = _report(first=6)
    third["arms"].append({**third["arms"][1], "name": "more"})
    for question in third["questions"]:
        question["replies"]["more"] = question["replies"]["hybrid"]
    reports = {"a": _report(), "b": third}
    check_fit(reports)
    assert [run.name for run in merge_parts(reports).runs] == ["rag", "hybrid"]


def test_measures_that_are_not_the_same_are_left_out() -> None:
    def measured(*methods: str) -> list[str]:
        reports = {method: _report(first=6 * n) for n, method in enumerate(methods)}
        for method, report in zip(methods, reports.values(), strict=True):
            report["grounding"] = {"method": method}
            for question in report["questions"]:
                question["replies"]["rag"]["further"]["gold_nll"] = 1.0
        return [measure["rag"].name for measure in merge_parts(reports).further]

    assert measured("facts", "judge") == []
    alike = {"a": _report(), "b": _report(first=6)}
    assert [measure["rag"].name for measure in merge_parts(alike).further] == ["grounded"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({}, "a and b both ask question 'q0' with seed 0"),
        ({"first": 6, "metric": "em"}, "different metric cannot be put together: 'f1' in a, 'em' in b"),
        ({"first": 6, "baseline": "hybrid"}, "different baseline"),
        (
            {"first": 6, "arms": ("rag", "tuned")},
            r"do not share 'rag' and another arm \(a: hybrid, rag; b: rag, tuned\)",
        ),
        ({"first": 6, "model": "other"}, "different Model cannot be put together: 'm' in a, 'other' in b"),
    ],
)
def test_comparisons_that_do_not_fit_are_refused(other: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        check_fit({"a": _report(), "b": _report(**other)})
    with pytest.raises(EvaluationError, match="at least two comparisons are put together, got a"):
        check_fit({"a": _report()})


@pytest.mark.parametrize(("field", "value"), [("question", "Else?"), ("answers", ["no"]), ("answerable", False)])
def test_a_question_that_is_another_is_refused(field: str, value: object) -> None:
    changed = _report(seed=1)
    changed["questions"][0][field] = value
    with pytest.raises(EvaluationError, match="question 'q0' is not the same in a and b"):
        check_fit({"a": _report(), "b": changed})


def test_an_arm_that_is_another_is_refused() -> None:
    changed = _report(seed=1)
    changed["arms"][1]["description"] = "another model"
    with pytest.raises(EvaluationError, match="different arms 'hybrid' cannot be put together"):
        check_fit({"a": _report(), "b": changed})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_report_is_named(data: st.DataObject) -> None:
    """Whatever is missing: a clear error, or it was not needed."""
    broken = _report(first=6)
    places = [broken, broken["facts"], broken["arms"][0], broken["questions"][0]]
    places += [broken["questions"][0]["replies"], broken["questions"][0]["replies"]["rag"]]
    place = data.draw(st.sampled_from(places))
    del place[data.draw(st.sampled_from(sorted(place)))]
    reports = {"a": _report(), "b": broken}
    try:
        check_fit(reports)
    except EvaluationError as error:
        assert str(error).startswith("b: its report.json is damaged or of an older version")
    else:
        _compared(merge_parts(reports))


@pytest.mark.parametrize("content", [{}, [], {"arms": []}, None])
def test_what_is_no_report_is_named(content: Any) -> None:
    with pytest.raises(EvaluationError, match=r"b: its report.json is damaged .*run: hybrid compare --force"):
        check_fit({"a": _report(), "b": content})
