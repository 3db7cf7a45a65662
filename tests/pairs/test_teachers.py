"""From settings to a teacher: what the pairs depend on, and a whole stage with an endpoint."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.config import Config, TeacherConfig, config_from_dict
from hybrid.errors import ConfigError, ModelError
from hybrid.pairs.formats.export import read_pairs
from hybrid.pairs.offline.syntax import SyntaxTeacher
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.prompted import VERSION, PromptedTeacher
from hybrid.pairs.teachers import make_teacher, teacher_identity

ENDPOINT = {"model": "m", "base_url": "http://localhost:1/v1"}


def _config(teacher: str = "endpoint", **settings: Any) -> Config:
    return config_from_dict({"pairs": {"teacher": teacher, "teacher_model": {**ENDPOINT, **settings}}})


def test_each_name_gives_its_teacher(tmp_path: Path, tiny_model: Path) -> None:
    assert isinstance(make_teacher(Config(), tmp_path, tmp_path / "j", tmp_path / "d"), SyntaxTeacher)
    assert make_teacher(_config(), tmp_path, tmp_path / "j", tmp_path / "d").name == f"{VERSION} (m)"
    local = make_teacher(_config("model", model=str(tiny_model)), tmp_path, tmp_path / "j", tmp_path / "d")
    assert local.name == f"{VERSION} ({tiny_model.name})"
    own = replace(_config("model", model=None), model=str(tiny_model))
    assert make_teacher(own, tmp_path, tmp_path / "j", tmp_path / "d").name == local.name
    assert isinstance(local, PromptedTeacher)
    assert not (tmp_path / "j").exists()


def test_mistakes_are_found_before_anything_runs(tmp_path: Path) -> None:
    for check in (
        lambda c: teacher_identity(c, tmp_path),
        lambda c: make_teacher(c, tmp_path, tmp_path / "j", tmp_path / "d"),
    ):
        with pytest.raises(ConfigError, match=r"set pairs\.teacher_model\.base_url"):
            check(_config(base_url=None))
        with pytest.raises(ModelError, match="'nowhere' not found"):
            check(_config("model", model="nowhere"))


def test_the_identity_is_of_what_makes_the_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "one")
    first = teacher_identity(_config(key_env="A_KEY"), tmp_path)
    monkeypatch.setenv("A_KEY", "two")
    same: dict[str, Any] = {
        "base_url": "https://elsewhere/v1",
        "key_env": "B_KEY",
        "batch_tokens": 9,
        "concurrency": 3,
        "timeout": 9.0,
        "retries": 0,
        "requests_per_minute": 9,
        "price_in": 1.0,
        "price_out": 1.0,
        "max_cost": 1.0,
    }
    other: dict[str, Any] = {"model": "n", "questions_per_chunk": 9, "max_new_tokens": 99, "temperature": 1.0}
    assert {*same, *other} == {field for field in TeacherConfig.__dataclass_fields__}
    for name, value in same.items():
        priced = {"price_in": 1.0, name: value}
        assert teacher_identity(_config(**priced), tmp_path) == first
    for name, value in other.items():
        assert teacher_identity(_config(**{name: value}), tmp_path) != first


def test_a_local_model_counts_by_its_files(tmp_path: Path, tiny_model: Path, tiny_embedder: Path) -> None:
    own = replace(_config("model", model=None), model=str(tiny_model))
    assert teacher_identity(own, tmp_path) == teacher_identity(_config("model", model=str(tiny_model)), tmp_path)
    assert teacher_identity(own, tmp_path) != teacher_identity(_config("model", model=str(tiny_embedder)), tmp_path)


def _states(project: Project) -> dict[str, str]:
    return {state.stage: state.state for state in project.status()}


def test_a_stage_with_an_endpoint_counts_prints_and_goes_on(
    toy_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def generate(self: object, prompts: list[Messages]) -> Iterator[Reply]:
        for place, prompt in enumerate(prompts):
            passage = prompt[3]["content"].split("Passage:\n")[1].split("\n\nWrite ")[0]
            if len(asked) == stop_after[0]:
                raise KeyboardInterrupt
            asked.append(passage)
            found = re.search(r"([^.\n]*?)(\b\d+ \w+)[^.\n]*\.", passage)
            draft = {
                "kind": "number",
                "question": f"How much, with {len(asked)}, for {passage.split()[-1]}?",
                "answer": found[2] if found else "none",
                "quote": found[0] if found else "none",
            }
            yield Reply(place, json.dumps(draft) if len(prompt) == 4 else "NONE", 1000, 100)

    monkeypatch.setattr("hybrid.pairs.prompting.endpoint.Endpoint.generate", generate)
    settings = ["pairs.teacher=endpoint", "pairs.teacher_model.model=m", "pairs.teacher_model.concurrency=1"]
    settings += ["pairs.teacher_model.base_url=http://localhost:1/v1", "pairs.teacher_model.price_in=2"]
    settings += ["pairs.oracle_in_top=0", "pairs.p_absent=0"]
    project = Project.open(toy_project.folder, settings)
    stop_after = [5]
    with pytest.raises(KeyboardInterrupt):
        project.pairs()
    assert "teacher calls: 5, teacher tokens in: 5000, teacher tokens out: 500, teacher cost: 0.01" in (
        capsys.readouterr().err
    )
    assert _states(project)["pairs"] == "begun"
    stop_after = [-1]
    manifest = project.pairs().manifest
    repaired = manifest["dropped: quote not in the passage"] + manifest["dropped: answer not in its quote"]
    assert manifest["teacher calls"] == len(asked) == len(set(asked)) + repaired
    assert manifest["teacher cost"] == pytest.approx(0.002 * len(asked))
    assert manifest["train"] > 0
    assert f"teacher calls: {len(asked)}, " in capsys.readouterr().err
    assert {pair.source for pair in read_pairs(project.path("pairs") / "train.jsonl")} == {f"{VERSION} (m)"}
    assert _states(project)["pairs"] == "fresh"
    moved = Project.open(project.folder, [*settings, "pairs.teacher_model.base_url=http://other/v1"])
    assert _states(moved)["pairs"] == "fresh"
    assert _states(Project.open(project.folder, [*settings, "pairs.teacher_model.model=n"]))["pairs"] == "stale"
    assert _states(Project.open(project.folder))["pairs"] == "stale"
