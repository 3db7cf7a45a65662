"""The comparison with arms of every sort: the same questions for all, failures listed, and what each cost."""

import json
import shutil
from collections import Counter
from typing import Any

import pytest

from hybrid.arms import ARMS, Arm, Runner, select_arms
from hybrid.artefacts import digest_file, open_work
from hybrid.config import ArmConfig
from hybrid.errors import ArtefactError, ConfigError
from hybrid.external import EndpointAnswerer
from hybrid.pairs.prompting.generator import Reply
from hybrid.project import Project
from hybrid.stages import compare
from hybrid.stages.answering import load_groups
from hybrid.stages.serve import answerer_identity, load_answerer, load_assistant, other_arms
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

    monkeypatch.setattr("hybrid.stages.serve.load_runner", _forbidden)
    monkeypatch.setattr("hybrid.generate.generate_batch", _forbidden)
    _, again = _compare(many, mine=lambda question, hits: "now")
    before, after = (_texts(found) for found in (report, again))
    assert after.pop("mine") == ["now"] * LIMIT, "nobody knows whether a function is still the same"
    del before["mine"]
    assert after == before
    for cost in again["costs"]:
        if cost["arm"] != "mine":
            kept = ("tokens_in", "tokens_out", "peak_memory_mb", "training_seconds")
            assert {name: cost[name] for name in kept} == {name: costs[cost["arm"]][name] for name in kept}


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("loaded or asked again")


def _texts(report: dict[str, Any]) -> dict[str, list[str]]:
    names = [arm["name"] for arm in report["arms"]]
    return {name: [question["replies"][name]["text"] for question in report["questions"]] for name in names}


@pytest.mark.parametrize(
    "setting",
    [
        "weights={latency: 1.0}",
        "price_hour=2.0",
        "grounding=lexical",
        "metric=rouge_l",
        "arms=[rag, hybrid]",
        "limit=5",
    ],
)
def test_a_setting_that_decides_no_answer_asks_nobody(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    before = finished_copy.report().data
    monkeypatch.setattr("hybrid.stages.compare.load_answerer", _forbidden)
    changed = Project.open(finished_copy.folder, [f"compare.{setting}"])
    assert not changed.compare().skipped
    after = changed.report().data
    old = {question["id"]: question["replies"] for question in before["questions"]}
    for question in after["questions"]:
        for name, reply in question["replies"].items():
            assert reply["text"] == old[question["id"]][name]["text"]
    figures = {cost["arm"]: cost["peak_memory_mb"] for cost in before["costs"]}
    assert all(figures[cost["arm"]] == cost["peak_memory_mb"] for cost in after["costs"])


def _asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the questions that models are asked from now on, by adapter."""
    seen: Counter[str] = Counter()
    answer, load = Runner.answer, load_answerer
    adapter = ""

    def loaded(project: Project, arm: Arm) -> Any:
        nonlocal adapter
        adapter = arm.adapter or "none"
        return load(project, arm)

    def counted(self: Runner, questions: Any, *rest: Any, done: Any, **named: Any) -> Any:
        seen[adapter] += sum(question.id not in done for question in questions)
        return answer(self, questions, *rest, done=done, **named)

    monkeypatch.setattr("hybrid.stages.compare.load_answerer", loaded)
    monkeypatch.setattr(Runner, "answer", counted)
    return seen


def test_only_what_changed_is_asked(finished_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _asked(monkeypatch)
    Project.open(finished_copy.folder, ["compare.arms=[rag, hybrid, hybrid_closed]"]).compare()
    assert seen == {"hybrid": 8}, "a new arm answers, and no other"
    seen.clear()
    file = finished_copy.questions
    assert file is not None
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines[0]["question"] += " Tell me."
    lines[1]["answers" if "answers" in lines[1] else "answer"] = "another answer"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    project = Project.open(finished_copy.folder, ["compare.arms=[rag, hybrid]"])
    project.compare()
    assert seen == {"none": 1, "hybrid": 1}, "the edited question is asked again, and no other"
    seen.clear()
    Project.open(finished_copy.folder, ["compare.arms=[hybrid]", "compare.max_new_tokens=5"]).compare()
    assert seen == {"hybrid": 8}
    seen.clear()
    project.compare(force=True)
    assert seen["hybrid"] == 8 < seen["none"], "rag is asked on the training side, too"


def test_every_seed_asks_the_same_questions(finished_copy: Project) -> None:
    asked = []
    for seed in (0, 3):
        project = Project.open(finished_copy.folder, [f"seed={seed}", "compare.limit=4", "compare.arms=[rag]"])
        work = open_work(project.store / "work" / "compare", f"seed {seed}")
        (work / "result").mkdir(exist_ok=True)
        compare.compare_arms(project, work)
        report = json.loads((work / "result" / "report.json").read_text(encoding="utf-8"))
        asked.append([question["id"] for question in report["questions"]])
    assert asked[0] == asked[1]
    assert len(asked[0]) == 4


def test_replies_belong_to_what_decides_them(finished_copy: Project) -> None:
    def identity(name: str, *overrides: str, **settings: Any) -> dict[str, Any] | None:
        arms = json.dumps(["rag", "hybrid", {"name": "far", "model": "m", "base_url": "http://here/v1", **settings}])
        project = Project.open(finished_copy.folder, [f"compare.arms={arms}", *overrides])
        (arm,) = (arm for arm in select_arms(project.config.compare.arms, ["mine"]) if arm.name == name)
        return answerer_identity(project, arm)

    assert identity("mine") is None, "nothing tells one function from another"
    assert identity("far") == identity("far", price_in=1.0, concurrency=1, timeout=1.0, retries=0, key_env="KEY")
    assert identity("far") == identity("far", "compare.batch_tokens=5")
    assert identity("far") != identity("far", model="n")
    assert identity("far") != identity("far", base_url="http://there/v1")
    assert identity("far") != identity("far", "compare.max_new_tokens=5")
    assert identity("rag") != identity("rag", "compare.batch_tokens=5")
    assert identity("rag") != identity("rag", "prompt.refusal=No.")
    assert identity("rag") == identity("rag", "compare.metric=em", "compare.price_hour=3", "seed=4")
    before = identity("hybrid")
    assert before != identity("rag")
    manifest = finished_copy.path("tune/hybrid") / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"seconds": ', '"seconds": 1'), encoding="utf-8")
    assert identity("hybrid") == before, "an adapter that was trained to the same weights answers the same"
    weights = finished_copy.path("tune/hybrid") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtefactError, match=r"adapter_model\.safetensors is damaged: .*run: hybrid tune .*--force"):
        identity("hybrid")
    values = json.loads(manifest.read_text(encoding="utf-8"))
    values["files"][weights.name] = digest_file(weights)
    manifest.write_text(json.dumps(values), encoding="utf-8")
    assert identity("hybrid") != before


def test_failed_answers_are_asked_again_by_the_next_run(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ["rag", {"name": "far", "model": "m", "base_url": "http://127.0.0.1:9/v1", "retries": 0}]
    project = Project.open(finished_copy.folder, [f"compare.arms={json.dumps(arms)}"])
    assert project.compare().manifest["failed answers"] == 8
    (note,) = [note for note in project.report().data["notes"] if "failed and count as wrong" in note]
    assert note.endswith("To ask these again, and no others, run: hybrid compare")
    status = {state.stage: state for state in project.status()}["compare"]
    assert (status.state, status.reason) == ("stale", "8 answers failed; run it again to ask for them")

    class Server:
        asked = 0

        def generate(self, prompts: Any) -> Any:
            for place, _ in enumerate(prompts):
                Server.asked += 1
                if Server.asked == 3:
                    yield Reply(place, "busy", None, None, "refused")
                else:
                    yield Reply(place, "42", 5, 1)

    monkeypatch.setattr("hybrid.stages.serve.load_runner", _forbidden)
    monkeypatch.setattr(
        "hybrid.stages.serve.endpoint_answerer", lambda arm, prompt, longest: EndpointAnswerer(Server(), prompt, 4)
    )
    assert project.compare().manifest["failed answers"] == 1
    assert project.compare().manifest["failed answers"] == 0
    assert Server.asked == 9, "the one that failed, and no other"
    assert project.compare().skipped


def test_an_interrupted_function_is_asked_everything_again(finished_copy: Project) -> None:
    project = Project.open(finished_copy.folder, ["compare.arms=[hybrid]"])
    calls: list[str] = []

    def broken(question: str, hits: list[Hit]) -> str:
        calls.append(question)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return "the old mistake"

    with pytest.raises(KeyboardInterrupt):
        project.compare(extra_arms={"mine": broken})
    for answer in ("new", "newer"):
        project.compare(extra_arms={"mine": lambda question, hits, said=answer: said})  # type: ignore[misc]
        assert set(_texts(project.report().data)["mine"]) == {answer}


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
