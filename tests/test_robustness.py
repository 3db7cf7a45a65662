"""The robustness suite on a project, and its scores."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pytest

from hybrid.arms import select_arms
from hybrid.errors import ConfigError
from hybrid.eval.comparison import Reply
from hybrid.eval.shares import wilson_interval
from hybrid.perturb import Condition, Probe, conditions
from hybrid.project import Project
from hybrid.robustness import Robustness, _arms, markdown, run_robustness, score, write
from hybrid.types import Question

QUESTIONS = [Question(f"q{n}", "How often?", ("every day",)) for n in range(4)]
TEXTS = ("every day", "pineapple", "refused", "every day pineapple")
REPLIES = [Reply(f"q{n}", text, text == "refused", (), (), 0.1) for n, text in enumerate(TEXTS)]


def _probes(planted: str) -> dict[Question, Probe]:
    return {question: Probe(question.question, None, planted) for question in QUESTIONS}


def test_answers_are_scored_by_the_metric_and_by_what_was_planted() -> None:
    found = score("a", Condition("injection", "answer", lambda _: None), _probes("pineapple"), REPLIES, "em", 0)
    assert (found.n, found.score, found.refused, found.misled) == (4, 0.25, 0.25, 0.5)
    assert found.low <= found.score <= found.high
    assert score("a", Condition("x", "answer", lambda _: None), _probes(""), REPLIES, "em", 0).misled is None


def _about(*documents: str) -> dict[Question, Probe]:
    return {
        Question(f"q{n}", "How often?", ("every day",), (document,)): Probe("How often?", None, "pineapple")
        for n, document in enumerate(documents)
    }


def test_questions_about_one_document_are_worth_fewer() -> None:
    replies = [Reply(f"q{n}", "every day" if n < 10 else "pineapple", n >= 10, (), (), 0.1) for n in range(20)]
    alone, together = (
        score("a", Condition("x", "answer", lambda _: None), probes, replies, "f1", 0)
        for probes in (_about(*map(str, range(20))), _about(*(str(n // 5) for n in range(20))))
    )
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    for narrow, wide in (
        (alone.refused_interval, together.refused_interval),
        (alone.misled_interval, together.misled_interval),
    ):
        assert narrow is not None and wide is not None
        assert narrow.high - narrow.low < wide.high - wide.low
    assert alone.refused_interval == wilson_interval(10, 20)


def test_questions_about_one_manual_are_taken_together_by_their_labels() -> None:
    replies = [Reply(f"q{n}", "every day" if n < 10 else "pineapple", False, (), (), 0.1) for n in range(20)]
    manual, labels = _about(*["manual"] * 20), {f"q{n}": str(n // 2) for n in range(20)}
    condition = Condition("x", "answer", lambda _: None)
    without, found = (score("a", condition, manual, replies, "f1", 0, given) for given in (None, labels))
    assert without.low == without.high
    assert found.low < found.score < found.high


@pytest.mark.parametrize(("wanted", "metric"), [("refuse", "f1"), ("answer", "em")])
def test_shares_without_an_exception_are_not_certain(wanted: Literal["answer", "refuse"], metric: str) -> None:
    replies = [Reply(f"q{n}", "every day", wanted == "refuse", (), (), 0.1) for n in range(5)]
    found = score("a", Condition("x", wanted, lambda _: None), _about(*"abcde"), replies, metric, 0)
    assert (found.low, found.high) == wilson_interval(found.score * 5, 5)
    assert found.high - found.low > 0.4
    assert found.misled_interval == wilson_interval(0, 5)
    low, high = found.misled_interval
    assert f"| 0.00 ({low:.2f} to {high:.2f}) |" in markdown(Robustness(metric, 5, 0, (found,)))


def test_refusals_are_the_score_where_the_answer_is_missing() -> None:
    missing = Condition("oracle missing", "refuse", lambda _: None)
    assert score("a", missing, _probes(""), REPLIES, "em", 0).score == 0.25
    failed = [Reply(f"q{n}", "", True, (), (), 0.0, error="down") for n in range(4)]
    found = score("a", missing, _probes(""), failed, "em", 0)
    assert (found.score, found.errors) == (0.0, 4), "a failure is no refusal"


def test_arms_must_show_what_they_retrieve() -> None:
    arms = select_arms(["base", "rag", "hybrid", "hybrid_oracle"])
    assert [arm.name for arm in _arms(arms, [])] == ["rag", "hybrid"]
    assert [arm.name for arm in _arms(arms, ["hybrid"])] == ["hybrid"]
    with pytest.raises(ConfigError, match=r"found base; of compare\.arms these are rag, hybrid"):
        _arms(arms, ["base", "rag"])
    with pytest.raises(ConfigError, match="found none"):
        _arms(select_arms(["base"]), [])


def test_a_write_that_fails_leaves_the_last_result(
    tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    write(Robustness("f1", 5, 0, ()), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = score("a", Condition("x", "answer", lambda _: None), _probes(""), REPLIES, "em", 0)
    with short_files(100), pytest.raises(OSError, match="File too large"):
        write(Robustness("f1", 6, 0, (found,)), tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_the_suite_runs_on_a_project_and_goes_on(finished_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.open(finished_copy.folder)
    result = run_robustness(project, ["rag", "hybrid"], sample=3)
    assert result.questions == 3
    by_arm = {arm: [row for row in result.scores if row.arm == arm] for arm in ("rag", "hybrid")}
    assert [row.condition for row in by_arm["rag"]] == [row.condition for row in by_arm["hybrid"]]
    names = {condition.name for condition in conditions(project.config.prompt.k)}
    assert {"as asked", "0 distractors", "oracle missing", "typos", "injection"} <= {
        row.condition for row in by_arm["rag"]
    }
    assert {row.condition for row in by_arm["rag"]} <= names
    for row in result.scores:
        assert 1 <= row.n <= 3
        assert row.errors == 0
        assert all(math.isfinite(value) for value in (row.score, row.low, row.high, row.refused))
        assert (row.misled is not None) == (row.condition in {"contradicted", "injection"})
    folder = project.store / "runs" / "robustness"
    assert json.loads((folder / "robustness.json").read_text()) == json.loads(json.dumps(asdict(result)))
    report = project.report()
    assert report.data["robustness"] == json.loads(json.dumps(asdict(result)))
    assert "How arms stand up to disturbance" in (report.folder / "report.html").read_text(encoding="utf-8")
    table = (folder / "robustness.md").read_text()
    assert table == markdown(result)
    assert table.count("\n| hybrid |") == len(by_arm["hybrid"])

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("answered again")

    monkeypatch.setattr("hybrid.robustness.load_answerer", forbidden)
    project = Project.open(finished_copy.folder, ["compare.weights.latency=1", "compare.price_hour=2"])
    assert run_robustness(project, ["rag", "hybrid"], sample=3) == result
    with pytest.raises(AssertionError, match="answered again"):
        run_robustness(project, ["rag", "hybrid"], sample=3, force=True)


def test_the_sample_does_not_decide_how_questions_are_grouped(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouped: list[int] = []
    monkeypatch.setattr("hybrid.robustness.passage_groups", lambda questions, *_: grouped.append(len(questions)))
    assert run_robustness(finished_copy, ["rag"], 2).questions == 2
    assert grouped == [len(finished_copy.report().data["questions"])]
