"""The plan of drafting: what is counted, against prompts that were really rendered."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid.config import Config, TeacherConfig, config_from_dict
from hybrid.models import load_tokenizer
from hybrid.pairs.drafts import chunk_hash
from hybrid.pairs.prompting.dialogue import ask
from hybrid.pairs.prompting.estimate import count_characters, plan_prompts, plan_syntax
from hybrid.pairs.teachers import measure_speed, plan_drafts
from hybrid.prompt import encode, to_text
from hybrid.types import Chunk

SETTINGS = TeacherConfig(price_in=1.0, price_out=3.0, concurrency=4)


def _chunks(count: int) -> list[Chunk]:
    return [Chunk(f"d#{n}-{n + 9}", "d", n, n + 9, "Some text with words. " * (n % 7 + 1)) for n in range(count)]


def test_tokens_are_those_of_the_real_prompts() -> None:
    chunks = _chunks(140)
    plan = plan_prompts("endpoint", 200, chunks, SETTINGS, count_characters)
    exact = sum(count_characters(ask(chunk, SETTINGS.questions_per_chunk)) for chunk in chunks)
    assert plan.tokens_in == pytest.approx(exact, rel=0.02)
    assert (plan.chunks, plan.missing, plan.calls) == (200, 140, 140)
    assert plan.cost == pytest.approx((plan.tokens_in + 3 * plan.tokens_out) / 1e6)
    assert 140 * 100 < plan.tokens_out < 140 * SETTINGS.max_new_tokens
    short = plan_prompts("endpoint", 200, chunks, replace(SETTINGS, max_new_tokens=20), count_characters)
    assert short.tokens_out == 140 * 20


def test_the_time_follows_the_limits_of_the_endpoint() -> None:
    chunks = _chunks(120)
    times = {
        name: plan_prompts("endpoint", 120, chunks, settings, count_characters).seconds
        for name, settings in {
            "four": SETTINGS,
            "eight": replace(SETTINGS, concurrency=8),
            "slow": replace(SETTINGS, requests_per_minute=2),
        }.items()
    }
    assert times["four"] == pytest.approx(2 * (times["eight"] or 0))
    assert times["slow"] == 60 * 60
    local = plan_prompts("model", 120, chunks, SETTINGS, count_characters, speed=100.0)
    assert local.seconds == pytest.approx(local.tokens_out / 100)
    assert plan_prompts("model", 120, chunks, SETTINGS, count_characters).seconds is None


def test_nothing_to_draft_costs_nothing() -> None:
    plan = plan_prompts("endpoint", 9, [], SETTINGS, count_characters)
    assert (plan.calls, plan.tokens_in, plan.tokens_out, plan.cost, plan.seconds) == (0, 0, 0, 0.0, 0.0)
    assert str(plan) == "questions about 0 of 9 chunks by the teacher `endpoint`: all are drafted"
    assert plan_syntax(9, _chunks(2)).calls == 0
    assert (plan_syntax(9, _chunks(2)).seconds or 0) > 0


def test_a_plan_leaves_out_what_is_drafted_and_counts_with_the_models_tokenizer(
    tmp_path: Path, tiny_model: Path
) -> None:
    chunks, drafts = _chunks(6), tmp_path / "drafts.jsonl"
    drafts.write_text(json.dumps({"chunk": chunk_hash(chunks[2]), "drafts": []}) + "\n", encoding="utf-8")
    config = config_from_dict({"pairs": {"teacher": "model", "teacher_model": {"model": str(tiny_model)}}})
    plan = plan_drafts(config, tmp_path, drafts, chunks)
    tokenizer = load_tokenizer(tiny_model)
    exact = sum(len(encode(to_text(ask(c, 6), tokenizer), tokenizer)) for c in [*chunks[:2], *chunks[3:]])
    assert (plan.missing, plan.tokens_in) == (5, exact)
    assert plan_drafts(Config(), tmp_path, drafts, chunks).teacher == "syntax"


def test_the_speed_of_a_local_model_is_measured(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from_dict({"pairs": {"teacher": "model", "teacher_model": {"model": str(tiny_model)}}})
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("hybrid.pairs.teachers.time.perf_counter", lambda: next(clock))
    speed = measure_speed(config, tmp_path, _chunks(3))
    assert speed is not None
    assert 0 < speed <= 3 * 24 / 2
    assert measure_speed(Config(), tmp_path, _chunks(3)) is None


def test_the_stage_says_it_before_the_first_call(
    toy_project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hybrid import Project

    said: list[str] = []

    def generate(self: object, prompts: object) -> Any:
        said.append(capsys.readouterr().err)
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid.pairs.prompting.endpoint.Endpoint.generate", generate)
    settings = ["pairs.teacher=endpoint", "pairs.teacher_model.model=m", "pairs.teacher_model.price_out=5"]
    settings += ["pairs.teacher_model.base_url=http://localhost:1/v1"]
    with pytest.raises(KeyboardInterrupt):
        Project.open(toy_project.folder, settings).pairs()
    assert "chunks by the teacher `endpoint`: " in said[0]
    assert "reply tokens, cost about 0.0" in said[0]


def test_a_project_plans_its_drafts_before_and_after(toy_project: Any, finished_project: Any) -> None:
    from hybrid import Project
    from hybrid.planning import plan_teacher

    before, after = plan_teacher(toy_project), plan_teacher(finished_project)
    assert before is not None
    assert after is not None
    assert before.teacher == after.teacher == "syntax"
    assert before.chunks == before.missing == after.chunks > 5
    assert after.missing == 0
    assert not (toy_project.folder / ".hybrid").exists()
    settings = ["pairs.teacher=endpoint", "pairs.teacher_model.model=m"]
    settings += ["pairs.teacher_model.base_url=http://localhost:1/v1"]
    asked = plan_teacher(Project.open(finished_project.folder, settings))
    assert f"{before.chunks} calls (at most twice as many with repairs)" in str(asked)
    own = Project.open(toy_project.folder, [f"pairs.file={toy_project.questions}"])
    assert plan_teacher(own) is None
