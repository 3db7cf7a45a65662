"""The plan: counts against real models, the memory formula against what autograd saves, and the advice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hybrid.errors import ModelError
from hybrid.plan import (
    Machine,
    Plan,
    Workload,
    estimate_flops,
    estimate_memory,
    make_plan,
)
from hybrid.planning import plan_project
from hybrid.tuning.memory import RowSize
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import adapter_parameters, load_shape, read_shape

if TYPE_CHECKING:
    from hybrid import Project

SMOL_CONFIG = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
SMOL_LAYER = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
    "input_layernorm": (576,),
    "post_attention_layernorm": (576,),
}
SMOL = read_shape(
    SMOL_CONFIG,
    {
        "model.embed_tokens.weight": (49152, 576),
        "model.norm.weight": (576,),
        **{f"model.layers.{n}.{name}.weight": shape for n in range(30) for name, shape in SMOL_LAYER.items()},
    },
)
CPU = Machine("cpu", "float32", free_mb=16_000, runtime_mb=600, flops=1e11)
WORK = Workload("hybrid", 800, 42, 38_000, 210_000, 4_900, RowSize(1_000, 4_000), exact=True)


def test_the_embedded_model_has_its_known_size() -> None:
    assert SMOL.parameters == 134_515_008
    assert (SMOL.layers, SMOL.query, SMOL.key, len(SMOL.linears)) == (30, 576, 192, 210)
    assert adapter_parameters(SMOL, TuneSettings(rank=16)) == 4_884_480


@pytest.mark.parametrize(
    "target", ["all-linear", ("q_proj", "down_proj"), ("self_attn.q_proj",), r".*layers\.1\..*_proj", ("v",)]
)
def test_adapter_parameters_are_those_of_peft(tiny_model: Path, target: str | tuple[str, ...]) -> None:
    from transformers import AutoModelForCausalLM

    from hybrid.errors import TrainingError
    from hybrid.tuning.lora import attach_adapter

    settings = TuneSettings(rank=3, target_modules=target)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    counted = adapter_parameters(load_shape(tiny_model), settings)
    try:
        peft = attach_adapter(model, settings)
    except TrainingError:
        assert counted == 0
    else:
        assert counted == sum(p.numel() for p in peft.parameters() if p.requires_grad)


def test_parameters_are_those_of_the_model(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert load_shape(tiny_model).parameters == sum(p.numel() for p in model.parameters())


def test_memory_of_known_numbers() -> None:
    settings = TuneSettings(method="lora", dtype="float32")
    memory, checkpointing = estimate_memory(SMOL, WORK, settings, CPU)
    assert checkpointing == "none"
    assert memory.base == pytest.approx(134_515_008 * 4 / 2**20)
    assert memory.adapter == memory.gradients == pytest.approx(4_884_480 * 4 / 2**20)
    assert memory.optimiser == 2 * memory.adapter
    assert memory.runtime == 600
    layer = 4 * (4 * 576 + 3 * 576 + 2 * 192 * 5 + 3 * 1536 + 16 * 7)
    assert memory.activations == pytest.approx(31 * layer * 1000 / 2**20)
    assert memory.total == pytest.approx(sum(getattr(memory, name) for name in memory.__slots__ if name != "loading"))


def test_files_count_while_they_are_converted() -> None:
    short = replace(WORK, row=RowSize(1))
    settings, stored = TuneSettings(method="lora"), replace(SMOL, stored_bytes=134_515_008 * 4)
    same, _ = estimate_memory(stored, short, replace(settings, dtype="float32"), CPU)
    assert same.loading == 0, "what is stored as it is computed with stays where it is"
    converted, _ = estimate_memory(stored, short, settings, replace(CPU, dtype="bfloat16"))
    assert converted.peak == pytest.approx(600 + 134_515_008 * (2 + 4) / 2**20)
    assert converted.total == pytest.approx(converted.peak - converted.loading)
    assert estimate_memory(stored, short, settings, replace(CPU, dtype="bfloat16", device="cuda"))[0].loading == 0


def test_packed_weights_take_half_a_byte() -> None:
    settings = TuneSettings(method="qlora", weights="nf4")
    packed = estimate_memory(SMOL, WORK, settings, replace(CPU, dtype="bfloat16"))[0].base
    linears = 134_515_008 - 49152 * 576 - 576 * 61
    # 4.127 bits a weight: Dettmers et al. 2023, "QLoRA", section 3, double quantisation
    assert packed * 2**20 == pytest.approx(linears * 4.127 / 8 + (134_515_008 - linears) * 2, rel=1e-4)


def test_full_tuning_keeps_gradients_and_two_moments_in_float32() -> None:
    memory, _ = estimate_memory(SMOL, WORK, TuneSettings(method="full"), replace(CPU, dtype="bfloat16"))
    assert memory.adapter == 0
    assert memory.base == memory.gradients == memory.optimiser / 2 == pytest.approx(134_515_008 * 4 / 2**20)


def test_an_eight_bit_optimiser_takes_a_quarter() -> None:
    plain, paged = (
        estimate_memory(SMOL, WORK, TuneSettings(optimizer=name), CPU)[0] for name in ("adamw", "paged_adamw_8bit")
    )
    assert paged.optimiser == plain.optimiser / 4


def test_less_memory_means_more_is_computed_again() -> None:
    found = []
    for free in (16_000, 2900, 2100):
        memory, checkpointing = estimate_memory(SMOL, WORK, TuneSettings(), replace(CPU, free_mb=free))
        found.append((checkpointing, memory.activations, estimate_flops(SMOL, WORK, TuneSettings(), checkpointing)))
    ways, activations, flops = zip(*found, strict=True)
    assert ways == ("none", "selective", "full")
    assert activations[2] < activations[1] / 2 < activations[0] / 2
    assert flops[0] < flops[1] < flops[2] < 1.6 * flops[0]


def _plan(work: Workload = WORK, free: float = 16_000, **tune: Any) -> Plan:
    return make_plan("smol", SMOL, (work,), TuneSettings(**tune), replace(CPU, free_mb=free))


def test_the_time_follows_the_measured_rate() -> None:
    slow = make_plan("smol", SMOL, (WORK,), TuneSettings(), CPU)
    fast = make_plan("smol", SMOL, (WORK,), TuneSettings(), replace(CPU, flops=2e11))
    assert slow.seconds == pytest.approx(2 * fast.seconds)
    assert slow.seconds == pytest.approx(1.8e2, rel=0.2)


@pytest.mark.parametrize(("pairs", "said"), [(99, True), (100, False)])
def test_too_few_pairs_are_said(pairs: int, said: bool) -> None:
    assert ("too few pairs to fine-tune on" in " ".join(_plan(replace(WORK, pairs=pairs)).advice)) is said


def test_the_advice_follows_the_memory() -> None:
    assert "tune.method=lora" in " ".join(_plan(method="full", free=3000).advice)
    assert "tune.weights=nf4" in " ".join(_plan(method="lora", weights="nf4", free=1500).advice)
    assert "choose a smaller model" in " ".join(_plan(free=900).advice)
    assert "The model's weights alone take 513 MB: choose a smaller model." in _plan(free=100).advice
    assert _plan(method="full").advice[0].startswith("full as configured fits")


def test_the_plan_says_what_to_start_from_and_what_to_train() -> None:
    rich, poor = _plan(), _plan(free=1500)
    assert (rich.choice.method, poor.choice.method) == ("lora", "qlora")
    assert rich.advice[-2:] == rich.choice.reasons


def test_a_project_is_planned_before_and_after_its_pairs(toy_project: "Project", finished_project: "Project") -> None:
    before, after = plan_project(toy_project), plan_project(finished_project)
    assert {work.exact for work in before.workloads} == {False}
    assert {work.exact for work in after.workloads} == {True}
    assert [work.adapter for work in after.workloads] == ["tuned", "hybrid"]
    for work in after.workloads:
        path = finished_project.path(f"tune/{work.adapter}") / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        assert work.pairs == manifest["pairs"]
        assert work.tokens == manifest["stats"]["unique_tokens"]
        assert work.answer_tokens == manifest["stats"]["answer_tokens"]
    assert before.workloads[1].tokens > 0
    assert not (toy_project.folder / ".hybrid").exists()


def test_pairs_that_are_stale_are_not_counted(finished_project: "Project") -> None:
    fewer = type(finished_project).open(finished_project.folder, ["pairs.total=4"])
    assert {(work.exact, work.pairs) for work in plan_project(fewer).workloads} == {(False, 4)}


def test_the_command_prints_one_json_object(toy_project: "Project", hybrid_command: Callable[..., Any]) -> None:
    done = hybrid_command("plan", "--project", toy_project.folder, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["peak_mb"] == pytest.approx(sum(plan["memory"].values()))
    assert plan["peak_mb"] >= plan["total_mb"]
    assert plan["choice"]["start"] == "instruct"
    assert plan["drafts"]["missing"] == plan["drafts"]["chunks"] > 0
    shown = hybrid_command("plan", "--project", toy_project.folder)
    assert "too few pairs" in shown.stdout
    assert "\npairs    questions about " in shown.stdout


def test_a_damaged_model_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks a size"):
        load_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMOL_CONFIG))
    with pytest.raises(ModelError, match="no safetensors"):
        load_shape(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 30)
    with pytest.raises(ModelError, match="cannot be read"):
        load_shape(tmp_path)
