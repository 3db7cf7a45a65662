"""The scripts in benchmarks/: their tables and JSON, what they say without a GPU, and small real runs on a CPU."""

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl

from hybrid.tuning.memory import activation_bytes, largest_row
from hybrid.tuning.shape import adapter_parameters, load_shape

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
Row = dict[str, Any]

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU prints")


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS.parent)


# --- what all share ---------------------------------------------------------------------------------------------------


def test_table_is_aligned_and_says_what_is_not_measured(load: Callable[[str], ModuleType]) -> None:
    report = load("report")
    columns = (report.Column("G", "G"), report.Column("ms", "ms", ".2f"))
    assert report.table(columns, [{"G": 12, "ms": 3.14159}, {"G": 1, "ms": None}, {"G": 4}]).splitlines() == [
        " G            ms",
        "12          3.14",
        " 1  not measured",
        " 4  not measured",
    ]


def test_side_by_side_names_who_has_no_figure(load: Callable[[str], ModuleType]) -> None:
    report = load("report")
    ours, none = {"ms": 1.0}, {"reason": "why"}
    assert report.side_by_side(ours, "x", {"ms": 2.0}, ["ms"]) == {"peer": "x", "ms": 1.0, "peer_ms": 2.0}
    assert report.side_by_side(ours, "x", none, ["ms"]) == {"peer": "x", "ms": 1.0, "peer_ms": None, "reason": "x: why"}
    assert report.side_by_side(none, "x", none, ["ms"])["reason"] == "why"
    rows = [report.side_by_side(ours, "x", none, ["ms"])] * 2
    assert report.reasons(rows) == ["not measured: x: why"]


@pytest.mark.parametrize("name", sorted(script.stem for script in BENCHMARKS.glob("*.py")))
def test_every_script_fits_the_package(load: Callable[[str], ModuleType], name: str) -> None:
    assert load(name).__doc__, "says what it measures and how it is called"


def test_header_says_what_where_and_when(load: Callable[[str], ModuleType]) -> None:
    header = load("report").header("make demo", {"torch": "2"})
    assert list(header) == ["command", "date", "commit", "machine", "versions"]
    assert header["command"] == "make demo"
    assert f"{os.cpu_count()} cores" in header["machine"]


def test_seeds_are_counted_or_given(tmp_path: Path) -> None:
    done = _run("benchmarks/real_data.py", "squad", *f"--path x --work {tmp_path} --seeds 2 --set seed=5".split())
    assert done.returncode == 2
    assert "--seeds counts the seeds itself; leave out --set seed=" in done.stderr


def test_a_failing_process_gives_its_last_line(load: Callable[[str], ModuleType]) -> None:
    found = load("processes").run_child("kernels.py", ["--device", "abacus"])
    assert list(found) == ["reason"]
    assert "abacus" in found["reason"]


def test_the_script_kernels_does_not_hide_a_package_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("", encoding="utf-8")
    program = f"import sys; sys.path[0] = {str(BENCHMARKS)!r}; import report, kernels; print(kernels.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.strip() == str(tmp_path / "kernels" / "__init__.py")


def test_gpu_script_names_its_stages(tmp_path: Path) -> None:
    script = str(BENCHMARKS / "gpu.sh")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    done = subprocess.run(["sh", script, "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tests, kernels, tuning, tiles, all or brief" in done.stderr
    stand_in = {**os.environ, "PYTHON": "echo", "RESULTS": str(tmp_path), "PACKAGES": str(tmp_path)}
    done = subprocess.run(["sh", script, "brief"], capture_output=True, text=True, check=False, env=stand_in)
    assert done.returncode == 0, done.stderr
    assert "-m gpu kernels tuning" in done.stdout
    assert "test_gated.py" in done.stdout
    written = [(tmp_path / f"{name}-cuda.json").read_text() for name in ("kernels", "tuning")]
    assert all("--device cuda --json" in command for command in written)


def test_wheels_are_trimmed_with_their_list_of_files(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    wheel, record = tmp_path / "demo-1-py3-none-any.whl", "demo-1.dist-info/RECORD"
    files = {"demo/kept.py": "a", "demo/large.so": "b" * 1000, record: "demo/kept.py,,1\ndemo/large.so,,1000\n"}
    with zipfile.ZipFile(wheel, "w") as whole:
        for name, content in files.items():
            whole.writestr(name, content)
    load("gpu_wheels").trim(wheel, lambda name: not name.endswith(".so"))
    with zipfile.ZipFile(wheel) as part:
        assert part.namelist() == ["demo/kept.py", record]
        assert part.read(record).decode() == "demo/kept.py,,1\n"
    assert [file.name for file in tmp_path.iterdir()] == [wheel.name]


def test_a_run_cut_short_counts_a_step_after_the_first(load: Callable[[str], ModuleType]) -> None:
    clock = load("tuning_systems").Clock(torch.device("cpu"), limit=15)
    control = TrainerControl()
    for seconds in (60.0, 20.0):
        assert not control.should_training_stop, "the first step compiles"
        clock.mark = time.perf_counter() - seconds
        clock.on_step_end(None, None, control)
    assert control.should_training_stop
    found = clock.figures(warmup=5)
    assert found["first_step_seconds"] == pytest.approx(60, abs=1)
    assert found["seconds"] == [pytest.approx(20, abs=1)]
    clock.seconds = [60.0, *[2.0] * 14]
    assert clock.figures(warmup=5)["seconds"] == [2.0] * 10
    assert clock.figures(warmup=0)["seconds"] == clock.seconds


# --- tuning.py --------------------------------------------------------------------------------------------------------


@without_gpu
def test_tuning_without_a_gpu(load: Callable[[str], ModuleType]) -> None:
    done = _run("benchmarks/tuning.py", "--device", "cuda", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"command", "machine", "date", "versions", "model", "rows"} <= set(result)
    shapes = {(row["P"], row["s"], row["G"]) for row in result["rows"]}
    assert {(3600, 200, 1), (3600, 200, 16), (15600, 400, 8)} <= shapes
    assert len(shapes) == 6
    assert {row["peer"] for row in result["rows"]} == set(load("tuning").SYSTEMS["cuda"]) - {"hybrid"}
    for row in result["rows"]:
        figures = ("pairs_per_second", "peer_pairs_per_second", "ratio", "peak_mb", "gradient_error")
        assert all(row[key] is None for key in figures)
        assert "no CUDA device" in row["reason"]
        assert row["same_objective"] == (not row["peer"].endswith("multi-turn"))
    table = done.stderr.splitlines()
    assert all("not measured" in line for line in table[1:])


@pytest.mark.parametrize("text", ["700/35", "700/35/x", "700/15/4", "700/35/5", "0/35/4"])
def test_a_row_that_cannot_be_is_refused(load: Callable[[str], ModuleType], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load("tuning").read_shape(text, answer=15, pairs=12)


def test_conversations_hold_the_context_once(load: Callable[[str], ModuleType]) -> None:
    work = load("tuning_work")
    shape = work.Shape(context=7, sample=5, per_context=3, answer=2)
    pairs = work.make_pairs(shape, contexts=2)
    apart = work.records(pairs, shape, multi_turn=False)
    talks = work.records(pairs, shape, multi_turn=True)
    assert [len(record["input_ids"]) for record in apart] == [12] * 6
    assert [len(record["input_ids"]) for record in talks] == [7 + 3 * 5] * 2
    for talk, members in zip(talks, (apart[:3], apart[3:]), strict=True):
        assert talk["input_ids"][:7] == members[0]["input_ids"][:7] == members[2]["input_ids"][:7]
        assert talk["input_ids"][7:] == [*chain.from_iterable(member["input_ids"][7:] for member in members)]
        assert talk["labels"] == [-100] * 7 + [*chain.from_iterable(member["labels"][7:] for member in members)]
        assert sum(label != -100 for label in talk["labels"]) == 6


def test_a_forward_pass_holds_a_divisor_of_the_step(load: Callable[[str], ModuleType]) -> None:
    work = load("tuning_work")
    shape = work.Shape(3600, 200, 8, 140)
    assert work.passes("hybrid", shape, 64, 21_000) == [4, 2, 1]  # trees of 5200 tokens, 8 of them
    assert work.passes("unsloth", shape, 64, 21_000) == [4, 2, 1]  # samples of 3800 tokens, 64 of them
    assert work.passes("trl multi-turn", shape, 64, 1) == [1]


FIGURES: Row = {
    "seconds": [4.0, 2.0, 2.0],
    "first_step_seconds": 9.0,
    "peak_mb": 100,
    "peak_reserved_mb": 200,
    "gradient_error": 0.01,
    "versions": {"torch": "2"},
}


class Machine:
    """Stands in for the processes: Hybrid is four times as fast, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fails: Callable[[Any], str | None] = lambda work: None

    def __call__(self, script: str, arguments: list[str], **_: object) -> Row:
        values = json.loads(arguments[1])
        self.asked.append(values)
        reason = self.fails(values)
        if reason:
            return {"reason": reason}
        return FIGURES if values[0] == "hybrid" else {**FIGURES, "seconds": [8.0], "peak_mb": 300}


@pytest.fixture
def machine(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Machine:
    load("tuning")  # which imports tuning_work
    machine = Machine()
    monkeypatch.setattr(sys.modules["tuning_work"], "run_child", machine)
    return machine


def _compare(tuning: ModuleType, folder: Path, *arguments: str) -> list[Row]:
    options = tuning.parse(["--device", "cuda", "--work", str(folder), *arguments])
    runs = tuning.Measurements(folder, options.runs, None, options.minutes)
    rows: list[Row] = tuning.compare(options, runs)
    return rows


def test_rows_hold_medians_and_ratios(load: Callable[[str], ModuleType], machine: Machine, tmp_path: Path) -> None:
    tuning = load("tuning")
    rows = _compare(
        tuning, tmp_path, "--rows", "3600/200/4", "3600/200/8", "--systems", "unsloth", "unsloth multi-turn"
    )
    assert [(row["G"], row["checkpointing"], row["peer"]) for row in rows] == [
        (per_context, checkpointing, peer)
        for per_context in (4, 8)
        for checkpointing in (False, True)
        for peer in ("unsloth", "unsloth multi-turn")
    ]
    row = rows[4]
    assert (row["pairs_per_second"], row["peer_pairs_per_second"], row["ratio"]) == (32.0, 8.0, 4.0)
    assert (row["peak_mb"], row["peer_peak_mb"], row["gradient_error"]) == (100, 300, 0.01)
    assert (row["tokens_per_second"], row["computed_tokens_per_second"]) == (32 * 3800, 32 * (3600 / 8 + 200))
    assert (row["pairs_per_pass"], row["peer_pairs_per_pass"]) == (32, 4)
    assert "reason" not in row
    assert "4.00" in tuning.table(rows)
    systems = [values[0] for values in machine.asked]
    # What computes every pair on its own does not depend on G.
    assert (systems.count("unsloth"), systems.count("unsloth multi-turn"), systems.count("hybrid")) == (2, 4, 4)


def test_what_fails_is_not_measured(load: Callable[[str], ModuleType], machine: Machine, tmp_path: Path) -> None:
    machine.fails = lambda values: "no module named 'unsloth'" if values[0] == "unsloth" else None
    arguments = ("--rows", "3600/200/8", "--systems", "unsloth", "--checkpointing", "yes")
    (row,) = _compare(load("tuning"), tmp_path, *arguments)
    assert (row["pairs_per_second"], row["peer_pairs_per_second"], row["ratio"]) == (32.0, None, None)
    assert row["reason"] == "unsloth: no module named 'unsloth'"
    assert "not measured: unsloth: no module" in load("tuning").table([row])


def test_memory_that_runs_out_makes_passes_smaller(
    load: Callable[[str], ModuleType], machine: Machine, tmp_path: Path
) -> None:
    machine.fails = lambda values: "torch.OutOfMemoryError: 99 GiB" if values[0] == "trl" and values[4] > 1 else None
    arguments = ("--rows", "3600/200/8", "--systems", "trl", "--checkpointing", "no")
    (row,) = _compare(load("tuning"), tmp_path, *arguments)
    assert (row["peer_pairs_per_pass"], row["ratio"]) == (1, 4.0)
    assert [values[4] for values in machine.asked if values[0] == "trl"] == [4, 2, 1]


def test_measurements_are_kept_and_failures_are_not(
    load: Callable[[str], ModuleType], machine: Machine, tmp_path: Path
) -> None:
    tuning = load("tuning")
    arguments = ("--rows", "3600/200/8", "--systems", "trl", "--runs", str(tmp_path / "runs.jsonl"))
    machine.fails = lambda values: "broken" if values[0] == "trl" else None
    first = _compare(tuning, tmp_path, *arguments)
    assert all(row["ratio"] is None for row in first)
    machine.fails = lambda values: "not again" if values[0] == "hybrid" else None
    assert [row["ratio"] for row in _compare(tuning, tmp_path, *arguments)] == [4.0, 4.0]
    machine.asked.clear()
    late = _compare(tuning, tmp_path, *arguments, "--minutes", "0")
    assert machine.asked == []
    assert all("--minutes" in row["reason"] for row in late)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_hybrid_trains_and_its_gradient_is_that_of_separate_samples(
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    one_thread: Callable[[], AbstractContextManager[None]],
    tiny_model: Path,
    tmp_path: Path,
    checkpointing: bool,
) -> None:
    systems = load("tuning_systems")
    work = sys.modules["tuning_work"]
    monkeypatch.setattr(work, "VOCABULARY", range(10, 250))
    shape, reference = work.Shape(40, 12, 3, 5), str(tmp_path / "gradient.pt")
    asked = work.Work(
        "hybrid", "cpu", shape, 6, 1, checkpointing, 1, 2, 0.0, str(tiny_model), str(tiny_model), reference
    )
    assert work.Work.from_json(asked.to_json()) == asked
    with one_thread():
        systems.write_reference(asked)
        found = systems.measure(asked)
    assert found["gradient_error"] < 1e-5
    assert len(found["seconds"]) == 2
    assert found["peak_mb"] > 0
    assert found["versions"]["torch"] == torch.__version__
    gradient = torch.load(reference, weights_only=True)
    name = next(iter(gradient))
    assert systems.relative_error({**gradient, name: gradient[name] + 1}, gradient) > 1e-3


def test_planned_memory_is_that_of_the_largest_row(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    systems = load("tuning_systems")
    work = sys.modules["tuning_work"]
    monkeypatch.setattr(work, "VOCABULARY", range(10, 250))
    shape = work.Shape(40, 12, 3, 5)
    pairs = work.make_pairs(shape, 4)
    job = systems.Job(tiny_model, torch.device("cpu"), shape, pairs, 1, 1, False, 1.0, TrainerCallback(), tmp_path)
    planned = [systems.planned_mb(job._replace(per_pass=trees), share=True) for trees in (1, 2, 3)]
    sizes, settings = load_shape(tiny_model), systems.hybrid_settings(job, 4)
    fixed = planned[0] - (planned[1] - planned[0])  # without activations
    assert planned[2] - planned[1] == pytest.approx(planned[1] - planned[0])
    assert planned[1] - planned[0] == pytest.approx(
        activation_bytes(sizes, largest_row(systems.hybrid_rows(job, share=True)), settings, 4, "none") / 2**20
    )
    weights = 4 * (sizes.parameters + 4 * adapter_parameters(sizes, settings)) / 2**20  # with gradients and moments
    assert weights <= fixed < weights + 1
    assert systems.planned_mb(job, share=False) < planned[0]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["hybrid unshared", "trl", "trl multi-turn"])
def test_peers_train_on_the_same_objective_or_not(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path, system: str
) -> None:
    if system.startswith("trl"):
        pytest.importorskip("trl")
    systems = load("tuning_systems")
    work = sys.modules["tuning_work"]
    monkeypatch.setattr(work, "VOCABULARY", range(10, 250))
    shape, reference = work.Shape(40, 12, 3, 5), str(tmp_path / "gradient.pt")
    asked = work.Work(system, "cpu", shape, 6, 2, False, 0, 1, 0.0, str(tiny_model), str(tiny_model), reference)
    systems.write_reference(asked)
    error = systems.measure(asked)["gradient_error"]
    assert error > 1e-2 if system.endswith("multi-turn") else error < 1e-5


def test_random_model_is_in_nf4(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    config = LlamaConfig(
        vocab_size=320,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    load("tuning_models").write_model(tmp_path, config, torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(packed) == 2 * 7
    for module in packed:
        assert module.weight.quant_state.nested
        weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
        assert weight.shape == (module.out_features, module.in_features)
        assert weight.float().std().item() == pytest.approx(0.02, rel=0.05)
    assert not isinstance(model.lm_head, Linear4bit)
    with torch.inference_mode():
        assert model(input_ids=torch.arange(8)[None]).logits.isfinite().all()
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token_id == 0


# --- kernels.py -------------------------------------------------------------------------------------------------------


@without_gpu
def test_kernels_without_a_gpu() -> None:
    done = _run("benchmarks/kernels.py", "--device", "cuda", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"command", "machine", "date", "versions", "roofline", "rows"} <= set(result)
    kernels = {row["kernel"].split()[0] for row in result["rows"]}
    assert kernels == {
        "dequantize_nf4",
        "linear_cross_entropy",
        "interval_attention",
        "rms_norm",
        "add_rms_norm",
        "rotate_",
        "gated",
        "gated_packed",
        "lora_linear",
        "stacked_lora_linear",
    }
    assert {row["peer"] for row in result["rows"]} >= {"torch", "liger", "unsloth", "bitsandbytes", "flash", "flex"}
    for row in result["rows"]:
        assert all(row[key] is None for key in ("milliseconds", "peer_milliseconds", "ratio", "share", "error"))
        assert "no CUDA device" in row["reason"]
    assert all("not measured" in line for line in done.stderr.splitlines()[1:])


def test_every_kernel_runs_on_a_cpu_and_is_right(
    load: Callable[[str], ModuleType], one_thread: Callable[[], AbstractContextManager[None]]
) -> None:
    kernels = load("kernels")
    sizes = load("kernel_case").Sizes(48, 64, 96, 500, 4, 2, 16, 4, 12, ((24, 8, 3),))
    with one_thread():
        found = {system: kernels.measure(system, "cpu", sizes, 1) for system in ("hybrid", "torch", "sdpa")}
    cases = kernels.cases("cpu", sizes)
    assert set(found["hybrid"]) == set(found["torch"]) == {case.name for case in cases}
    for figures in [*found["hybrid"].values(), *found["torch"].values(), *found["sdpa"].values()]:
        assert figures["milliseconds"] > 0
        assert figures["error"] < 1e-5

    found["roofline"] = {"roofline": {"bytes_per_second": 1e9, "flops_per_second": 1e9}}
    rows = kernels.make_rows(cases, found)
    assert len(rows) == len(cases) + 1
    for row in rows:
        assert row["ratio"] == pytest.approx(row["peer_milliseconds"] / row["milliseconds"], abs=1e-3)
        assert row["of"] == ("matrix" if {"lora", "cross", "attention"} & set(row["kernel"].split("_")) else "copy")
    norm = next(row for row in rows if row["kernel"] == "rms_norm")
    # Read x, write y; read x and dy, write dx: 5 * 48 * 64 * 4 bytes at 1e9 a second.
    assert norm["share"] == pytest.approx(5 * 48 * 64 * 4 / 1e9 / (norm["milliseconds"] / 1e3), abs=1e-3)
    assert "rms_norm" in kernels.table(rows)


def test_a_wrong_kernel_shows(load: Callable[[str], ModuleType]) -> None:
    kernels = load("kernels")
    sizes = load("kernel_case").Sizes(8, 16, 16, 50, 2, 1, 8, 2, 4, ((6, 3, 2),))
    case = next(case for case in kernels.cases("cpu", sizes) if case.kernel == "rms_norm")
    right = case.systems["torch"]
    systems = {**case.systems, "double": lambda given: lambda: tuple(2 * x for x in right(given)())}
    found = kernels.measure_case(case._replace(systems=systems), "double", "cpu", 1)
    assert found["error"] == pytest.approx(1.0)


def test_roofline_is_measured(load: Callable[[str], ModuleType]) -> None:
    rates = load("kernels").roofline("cpu", 1)
    assert set(rates) == {"bytes_per_second", "flops_per_second"}
    assert all(1e7 < rate < 1e16 for rate in rates.values())
