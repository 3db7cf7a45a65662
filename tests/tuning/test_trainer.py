import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel, TrainerCallback, TrainerState

from hybrid.errors import ConfigError, TrainingError
from hybrid.tuning import checkpoints
from hybrid.tuning.batch import TreeBatch
from hybrid.tuning.loss import row_loss
from hybrid.tuning.model import load_tuned
from hybrid.tuning.settings import AttentionBackend, Method, TuneSettings, Weights
from hybrid.tuning.trainer import TreeTrainer, TuneResult, _save, prepare_model, training_arguments, tune
from hybrid.tuning.tree import Example, build_trees, pack_rows

MakeExamples = Callable[..., list[Example]]
ModelFolder = Callable[[str], Path]


def fit(folder: Path, examples: list[Example], tmp_path: Path, name: str = "run", **options: object) -> TuneResult:
    values: dict[str, object] = {
        "method": "lora",
        "max_tokens": 40,
        "trees_per_step": 1,
        "min_shared_tokens": 4,
        "learning_rate": 1e-2,
        "epochs": 4,
        "rank": 4,
        "dtype": "float32",
    }
    return tune(
        examples,
        model_path=folder,
        output=tmp_path / name,
        settings=TuneSettings(**{**values, **options}),  # type: ignore[arg-type]
        seed=5,
        checkpoints=tmp_path / f"{name}-checkpoints",
        notes={"base": "tiny"},
    )


@pytest.mark.parametrize(
    ("method", "weights"), [("qlora", "nf4"), ("qlora", "resident"), ("lora", "auto"), ("full", "auto")]
)
def test_the_loss_falls(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path, method: Method, weights: Weights
) -> None:
    result = fit(model_folder("llama"), make_examples(), tmp_path, method=method, weights=weights)
    assert result.loss_last < result.loss_first - 0.2
    assert result.steps == 12
    assert result.stats.mean_branches == 3
    assert result.tokens == 4 * result.stats.unique_tokens
    assert result.answer_tokens == 4 * result.stats.answer_tokens
    assert result.kernels["attention"] == "hybrid_tree (sdpa)"
    assert result.kernels["layers"] == "fast_layers: 2 of 2; the last on predicting rows alone (torch)"
    assert result.kernels["checkpointing"].startswith("none (")
    assert result.weights == ("nf4" if weights == "nf4" else "resident")
    record = json.loads((tmp_path / "run" / "hybrid.json").read_text())
    assert record == {"method": method, "weights": result.weights, "dtype": "float32", "notes": {"base": "tiny"}}
    tuned = load_tuned(model_folder("llama"), tmp_path / "run", dtype="float32", device=torch.device("cpu"))
    assert tuned(input_ids=torch.arange(2, 9)[None]).logits.isfinite().all()


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_the_eight_bit_optimiser_learns_too(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path
) -> None:
    result = fit(model_folder("llama"), make_examples(), tmp_path, optimizer="paged_adamw_8bit")
    assert result.loss_last < result.loss_first - 0.2
    assert result.kernels["optimizer"] == "paged_adamw_8bit"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has these backends")
@pytest.mark.parametrize("backend", ["flex", "triton"])
def test_a_backend_of_gpus_is_refused_on_a_cpu(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path, backend: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tune\.attention is '{backend}', which needs a CUDA GPU"):
        fit(model_folder("llama"), make_examples(), tmp_path, attention=backend)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_checkpointing_trains_the_same_adapter(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path, checkpointing: str
) -> None:
    for name in ("none", checkpointing):
        result = fit(model_folder("llama"), make_examples(), tmp_path, name, checkpointing=name, epochs=1)
        assert result.kernels["checkpointing"].startswith(name)
    assert_equal_adapters(tmp_path / "none", tmp_path / checkpointing)


@pytest.mark.parametrize(
    ("trees", "rows", "contexts_per_step"),
    [(1000, 1000, 8), (256, 256, 8), (96, 96, 3), (20, 20, 1), (1000, 100, 10), (96, 24, 4), (3, 1, 3)],
)
def test_a_step_takes_eight_contexts_where_enough_steps_remain(
    tmp_path: Path, trees: int, rows: int, contexts_per_step: int
) -> None:
    arguments = training_arguments(TuneSettings(), 0, tmp_path, rows, trees)
    assert arguments.gradient_accumulation_steps * trees / rows == contexts_per_step


def test_every_epoch_takes_the_rows_in_another_order(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(model: PreTrainedModel, batch: TreeBatch, backend: AttentionBackend) -> torch.Tensor:
        seen.append(int(batch.input_ids[0, 0]))
        return row_loss(model, batch, backend)

    monkeypatch.setattr("hybrid.tuning.trainer.row_loss", note)
    fit(model_folder("llama"), make_examples(groups=8), tmp_path, epochs=2)
    first, second = seen[:8], seen[8:]
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(("epochs", "rows"), [(1.0, 8), (1.5, 12), (3.0, 24)])
def test_later_epochs_may_have_other_examples(
    model_folder: ModelFolder,
    make_examples: MakeExamples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: float,
    rows: int,
) -> None:
    seen: list[int] = []

    def note(model: PreTrainedModel, batch: TreeBatch, backend: AttentionBackend) -> torch.Tensor:
        seen.append(int(batch.input_ids[0, 0]))
        return row_loss(model, batch, backend)

    def later(epoch: int) -> list[Example]:
        return [example._replace(prompt_ids=(epoch, *example.prompt_ids[1:])) for example in make_examples(groups=8)]

    monkeypatch.setattr("hybrid.tuning.trainer.row_loss", note)
    settings = TuneSettings(
        method="lora", max_tokens=40, trees_per_step=1, min_shared_tokens=4, epochs=epochs, rank=4, dtype="float32"
    )
    tune(
        make_examples(groups=8),
        later=later,
        model_path=model_folder("llama"),
        output=tmp_path / "run",
        settings=settings,
        seed=5,
        checkpoints=tmp_path / "checkpoints",
    )
    assert len(seen) == rows
    assert set(seen[8:16]) <= {1}
    assert set(seen[16:]) <= {2}


def test_packed_and_resident_weights_train_the_same(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path
) -> None:
    for weights in ("nf4", "resident"):
        fit(model_folder("qwen2"), make_examples(), tmp_path, weights, method="qlora", weights=weights, epochs=1)
    assert_equal_adapters(tmp_path / "nf4", tmp_path / "resident")


def test_sharing_and_row_size_change_nothing(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path
) -> None:
    """All contexts in each step: the same optimiser steps whether tokens are shared, packed or accumulated."""
    runs: dict[str, dict[str, object]] = {"one": {"max_tokens": 400}, "many": {}, "separate": {"share_contexts": False}}
    results = {
        name: fit(
            model_folder("llama"), make_examples(), tmp_path, name, trees_per_step=99, min_steps=1, epochs=2, **options
        )
        for name, options in runs.items()
    }
    assert {result.steps for result in results.values()} == {2}
    first = results["one"].loss_first
    assert all(abs(result.loss_first - first) < 1e-5 for result in results.values())
    for name in ("many", "separate"):
        assert_equal_adapters(tmp_path / "one", tmp_path / name, 1e-4)


def test_plain_peft_loads_the_adapter(model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path) -> None:
    fit(model_folder("llama"), make_examples(), tmp_path, epochs=1)
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    ids = torch.arange(2, 12)[None]
    before = base(input_ids=ids).logits
    after = PeftModel.from_pretrained(base, tmp_path / "run")(input_ids=ids).logits
    ours = load_tuned(model_folder("llama"), tmp_path / "run", dtype="float32", device=torch.device("cpu"))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(ours(input_ids=ids).logits, after)


KILLED = """
import os, signal, sys
from hybrid.tuning import trainer
save = trainer.TreeTrainer._save_checkpoint
def save_and_die(self, model, trial):
    last = self.state.global_step == 8
    if last and sys.argv[1] == "before":
        trainer.Trainer._save_checkpoint(self, model, trial)  # written, but not yet declared complete
    else:
        save(self, model, trial)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
trainer.TreeTrainer._save_checkpoint = save_and_die
"""


def killed_at_a_checkpoint(folder: Path, examples: list[Example], tmp_path: Path, when: str) -> None:
    """Has `fit(folder, examples, tmp_path, "cut", save_steps=4)` die before or after its second checkpoint counts."""
    code = f"""{KILLED}
import torch
from pathlib import Path
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.tree import Example
torch.set_num_threads(1)
trainer.tune({examples!r},
    model_path=Path({str(folder)!r}), output=Path({str(tmp_path / "cut")!r}),
    settings=TuneSettings(method="lora", max_tokens=40, trees_per_step=1, min_shared_tokens=4, learning_rate=1e-2,
    epochs=4, rank=4, dtype="float32", save_steps=4), seed=5, checkpoints=Path({str(tmp_path / "cut-checkpoints")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code, when], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "cut").exists()
    assert {path.name for path in (tmp_path / "cut-checkpoints").glob("checkpoint-*")} == {
        "checkpoint-4",
        "checkpoint-8",
    }


def test_a_killed_run_continues_to_the_same_adapter(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path
) -> None:
    whole = fit(model_folder("llama"), make_examples(), tmp_path, "whole", save_steps=4)
    killed_at_a_checkpoint(model_folder("llama"), make_examples(), tmp_path, "before")
    kept = tmp_path / "cut-checkpoints" / "checkpoint-4"
    spent = checkpoints.spent_until(kept)
    assert 0 < spent.tokens < whole.tokens
    checkpoints.mark_complete(kept, spent._replace(seconds=1000.0))
    resumed = fit(model_folder("llama"), make_examples(), tmp_path, "cut", save_steps=4)
    assert resumed.steps == whole.steps == 12
    assert resumed.seconds > 1000 > whole.seconds  # it did continue
    assert (resumed.tokens, resumed.answer_tokens) == (whole.tokens, whole.answer_tokens)
    assert (resumed.loss_first, resumed.loss_last) == (whole.loss_first, whole.loss_last)
    assert_equal_adapters(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_with_a_wrong_bit_is_not_continued(
    model_folder: ModelFolder,
    make_examples: MakeExamples,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit(model_folder("llama"), make_examples(), tmp_path, "whole", save_steps=4)
    killed_at_a_checkpoint(model_folder("llama"), make_examples(), tmp_path, "after")
    file = tmp_path / "cut-checkpoints" / "checkpoint-8" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    fit(model_folder("llama"), make_examples(), tmp_path, "cut", save_steps=4)
    assert "checkpoint-8 is damaged" in capsys.readouterr().err
    assert_equal_adapters(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(("size", "missing"), [(1 << 13, "adapter_model.safetensors"), (1 << 16, "scheduler.pt")])
def test_a_full_disk_is_told_as_one(
    model_folder: ModelFolder,
    make_examples: MakeExamples,
    tmp_path: Path,
    short_files: Callable[[int], AbstractContextManager[None]],
    size: int,
    missing: str,
) -> None:
    base = model_folder("llama")
    with short_files(size), pytest.raises(OSError, match=r"File too large: .*checkpoint-4") as raised:
        fit(base, make_examples(), tmp_path, save_steps=4)
    assert raised.value.errno == errno.EFBIG
    written = {path.name for path in (tmp_path / "run-checkpoints" / "checkpoint-4").iterdir()}
    assert "README.md" in written
    assert not {missing, "complete"} & written


def test_stdout_stays_empty(
    model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(model_folder("llama"), make_examples(), tmp_path, epochs=1)
    assert capfd.readouterr().out == ""


def test_no_examples_are_an_error(model_folder: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training example"):
        fit(model_folder("llama"), [], tmp_path)


def test_an_unknown_logger_is_named(model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuchlogger"):
        fit(model_folder("llama"), make_examples(), tmp_path, loggers=("nosuchlogger",))


def test_a_diverging_run_stops(model_folder: ModelFolder, make_examples: MakeExamples, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is nan"):
        fit(model_folder("llama"), make_examples(), tmp_path, learning_rate=1e38, epochs=9, max_grad_norm=0.0)


class Spoil(TrainerCallback):
    """Writes infinity into a gradient of the last step."""

    def on_step_begin(self, args: object, state: TrainerState, control: object, **given: Any) -> None:
        if state.global_step == state.max_steps - 1:
            next(p for p in given["model"].parameters() if p.requires_grad).register_hook(lambda g: g + math.inf)


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_leaves_no_adapter(
    model_folder: ModelFolder,
    make_examples: MakeExamples,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    max_grad_norm: float,
) -> None:
    make = TreeTrainer.__init__

    def spoiled(self: TreeTrainer, *arguments: Any) -> None:
        make(self, *arguments)
        self.add_callback(Spoil())

    monkeypatch.setattr(TreeTrainer, "__init__", spoiled)
    with pytest.raises(TrainingError, match="the size of the gradient is inf at step 12"):
        fit(model_folder("llama"), make_examples(), tmp_path, max_grad_norm=max_grad_norm)
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_is_not_finite_is_not_written(model_folder: ModelFolder, tmp_path: Path) -> None:
    settings = TuneSettings(method="lora", rank=4)
    model = prepare_model(model_folder("llama"), settings, torch.float32, torch.device("cpu"))
    next(p for p in model.parameters() if p.requires_grad).data[0, 0] = math.nan
    with pytest.raises(TrainingError, match=r"1 tensors with values that are not finite, such as .*lora_A"):
        _save(model, model_folder("llama"), tmp_path / "adapter", settings)
    assert not (tmp_path / "adapter").exists()


def test_a_mean_over_many_tokens_keeps_its_gradient_in_float16(model_folder: ModelFolder, tmp_path: Path) -> None:
    draw = random.Random(0)
    examples = [Example(str(n), str(n), (2, 3, 4 + n), tuple(draw.choices(range(2, 60), k=200))) for n in range(30)]
    found: dict[str, torch.Tensor] = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: object, state: object, control: object, **given: Any) -> None:
            parts = [p.grad.flatten() for p in given["model"].parameters() if p.requires_grad]
            found[name] = torch.cat(parts).double()

    losses = {}
    for name in ("float32", "float16"):
        settings = TuneSettings(method="lora", rank=4, max_grad_norm=0.0, trees_per_step=30, min_steps=1)
        torch.manual_seed(0)
        model = prepare_model(model_folder("llama"), settings, getattr(torch, name), torch.device("cpu"))
        rows = pack_rows(build_trees(examples, max_tokens=1024), max_tokens=1024, seed=0)
        trainer = TreeTrainer(model, training_arguments(settings, 0, tmp_path, len(rows), len(examples)), rows)
        trainer.add_callback(Keep())
        trainer.train()
        trainer.progress.close()
        losses[name] = trainer.state.log_history[0]["loss"]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=1e-2)
    assert (found["float16"] - found["float32"]).norm() < 0.02 * found["float32"].norm()  # 1.5 times its size without


def assert_equal_adapters(one: Path, other: Path, tolerance: float = 1e-6) -> None:
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tolerance)
