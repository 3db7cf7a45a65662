"""The comparison with arms of every sort: the same questions for all, failures listed, and what each cost."""

import json
import shutil
from collections import Counter
from typing import Any

import pytest

from hybrid.arms import ARMS, Arm, Runner, select_arms
from hybrid.artefacts import open_work
from hybrid.config import ArmConfig
from hybrid.errors import ConfigError
from hybrid.project import Project
from hybrid.stages import compare
from hybrid.stages.answering import load_groups
from hybrid.stages.serve import load_answerer, load_assistant, other_arms
from hybrid.types import Hit

LIMIT = 4


def _names(groups: list[list[Arm]]) -> list[list[str]]:
    return [[arm.name for arm in group] for group in groups]


def test_nothing_is_loaded_twice_and_what_loads_nothing_comes_first() -> None:
    entries: list[str | ArmConfig] = [
        *ARMS,
        ArmConfig("big", model="a/b"),
        ArmConfig("far", model="m", base_url="http://h/v1"),
        ArmConfig("big_closed", model="a/b", context="none"),
        ArmConfig("adapted", model="a/b", adapter="x"),
    ]
    assert _names(load_groups(select_arms(entries, ["mine"]))) == [
        ["far"],
        ["mine"],
        ["base", "rag", "rag_oracle"],
        ["tuned", "tuned_rag"],
        ["hybrid", "hybrid_closed", "hybrid_oracle", "hybrid_distractors"],
        ["big", "big_closed"],
        ["adapted"],
    ]


@pytest.fixture
def many(finished_copy: Project) -> Project:
    """A finished project whose comparison lists every sort of arm, with an adapter from elsewhere."""
    shutil.copytree(finished_copy.path("tune/hybrid"), finished_copy.folder / "elsewhere")
    arms = [
        "rag",
        "tuned_rag",
        "hybrid",
        "hybrid_closed",
        "rag_oracle",
        "hybrid_distractors",
        {"name": "copy", "adapter": "elsewhere"},
        {"name": "far", "model": "m", "base_url": "http://127.0.0.1:9/v1", "retries": 0, "price_in": 1.0},
    ]
    overrides = [f"compare.arms={json.dumps(arms)}", f"compare.limit={LIMIT}", "compare.price_hour=3.6"]
    return Project.open(finished_copy.folder, overrides)


def _compare(project: Project, **functions: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    work = open_work(project.store / "work" / "compare", "test")
    (work / "result").mkdir(exist_ok=True)
    counts = compare.compare_arms(project, work, functions)
    return counts, json.loads((work / "result" / "report.json").read_text(encoding="utf-8"))


def test_every_arm_answers_the_same_questions(many: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def mine(question: str, hits: list[Hit]) -> str:
        seen.append(len(hits))
        if len(seen) == 2:
            raise ValueError("no idea")
        return hits[0].chunk.text

    counts, report = _compare(many, mine=mine)
    names = [*(arm if isinstance(arm, str) else arm.name for arm in many.config.compare.arms), "mine"]
    assert counts["arms"] == names == [arm["name"] for arm in report["arms"]]
    assert counts["failed answers"] == LIMIT + 1
    assert seen == [many.config.prompt.k] * LIMIT
    errors = Counter(name for q in report["questions"] for name, reply in q["replies"].items() if reply["error"])
    assert errors == {"far": LIMIT, "mine": 1}
    assert all(set(question["replies"]) == set(names) for question in report["questions"])
    listed = [note for note in report["notes"] if "failed and count as wrong" in note]
    assert len(listed) == 2
    assert any("ValueError: no idea" in note for note in listed)
    for question in report["questions"]:
        replies = question["replies"]
        assert replies["copy"]["text"] == replies["hybrid"]["text"], "the same adapter answers the same"
        assert replies["hybrid_closed"]["contexts"] == []
        assert replies["rag"]["documents"] == replies["hybrid"]["documents"], "whatever the prompt of rag shows"
        assert replies["tuned_rag"]["contexts"] == replies["hybrid"]["contexts"]
        if question["gold"]:
            oracle = {chunk.rpartition("#")[0] for chunk in replies["rag_oracle"]["contexts"]}
            distractors = {chunk.rpartition("#")[0] for chunk in replies["hybrid_distractors"]["contexts"]}
            assert oracle == set(question["gold"])
            assert not distractors & set(question["gold"])

    costs = {cost["arm"]: cost for cost in report["costs"]}
    assert list(costs) == names
    for name in ("rag", "hybrid", "copy"):
        assert costs[name]["tokens_in"] > 0 < costs[name]["seconds_p50"] <= costs[name]["seconds_p95"]
        assert costs[name]["price"] > 0
    assert costs["hybrid"]["training_seconds"] > 0
    assert costs["rag"]["training_seconds"] is None
    assert costs["far"]["price"] is None

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("answered again")

    with monkeypatch.context() as patch:
        patch.setattr("hybrid.generate.generate_batch", forbidden)
        _, again = _compare(many, mine=lambda question, hits: "now")
    texts = [{name: reply["text"] for name, reply in question["replies"].items()} for question in again["questions"]]
    before = [{name: reply["text"] for name, reply in question["replies"].items()} for question in report["questions"]]
    changed = [(n, name) for n, now in enumerate(texts) for name, text in now.items() if text != before[n][name]]
    assert changed == [(1, "mine")], "what failed is asked again, and nothing else"


def test_a_folder_without_an_adapter_is_refused(finished_project: Project) -> None:
    project = Project.open(finished_project.folder, ["compare.arms=[{name: x, adapter: nowhere}]"])
    with pytest.raises(ConfigError, match=r"x\.adapter is 'nowhere', but .* holds no adapter_config\.json"):
        other_arms(project)
    with pytest.raises(ConfigError, match="holds no adapter_config"):
        load_answerer(project, select_arms(project.config.compare.arms)[0])


def test_another_model_is_loaded(finished_project: Project) -> None:
    arms = [{"name": "same", "model": str(finished_project.model), "context": "none"}]
    project = Project.open(finished_project.folder, [f"compare.arms={json.dumps(arms)}"])
    (arm,) = select_arms(project.config.compare.arms)
    assert isinstance(load_answerer(project, arm), Runner)
    assert list(other_arms(project)) == ["same"]
    assert project.stage_inputs("compare")["other arms"] == other_arms(project)
    assert "other arms" not in finished_project.stage_inputs("compare")


def test_nobody_is_served_by_an_arm_that_knows_the_answers(finished_project: Project) -> None:
    with pytest.raises(ConfigError, match="'rag_oracle' is for comparisons alone"):
        load_assistant(finished_project, ARMS["rag_oracle"])
    assert load_assistant(finished_project, ARMS["hybrid_closed"]).retriever is None
