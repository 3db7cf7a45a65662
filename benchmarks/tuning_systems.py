"""How each system of tuning.py trains: Hybrid, Unsloth, and TRL with PEFT, plain and with Liger's kernels.

All train LoRA of rank 16 on all linear layers with AdamW, on the same token ids, an epoch being one optimiser step;
everything else is left as the system has it. What a model computes in is NF4 and bfloat16 on a GPU, float32 on a CPU.
"""

import gc
import json
import math
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from tuning_work import Pair, Shape, Work, make_pairs, records, shares

from hybrid.plan import Machine, count_rows, estimate_memory
from hybrid.tuning.memory import peak_memory_mb
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import read_shape
from hybrid.tuning.tree import Example, Row, build_trees

RANK, ALPHA, LEARNING_RATE = 16, 32, 1e-4
PACKAGES = ("torch", "triton", "transformers", "peft", "bitsandbytes", "trl", "liger-kernel", "unsloth", "unsloth-zoo")

Figures = dict[str, Any]
Gradient = dict[str, Tensor]


class Job(NamedTuple):
    """One training run: `epochs` optimiser steps on the pairs."""

    model: Path
    device: torch.device
    shape: Shape
    pairs: Sequence[Pair]
    per_pass: int
    epochs: int
    checkpointing: bool
    max_grad_norm: float
    callback: TrainerCallback
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the model is in NF4 and bfloat16, too."""
        return self.device.type == "cuda"


def measure(work: Work) -> Figures:
    """Trains with a system and returns its figures, with the error of its gradient if there is a reference."""
    device = device_of(work)
    contexts = work.pairs // work.shape.per_context
    clock = Clock(device, work.seconds)
    job = Job(
        Path(work.model),
        device,
        work.shape,
        make_pairs(work.shape, contexts),
        work.per_pass,
        work.warmup + work.steps,
        work.checkpointing,
        1.0,
        clock,
        Path(),
    )
    _warm_up(job)
    _train(work.system, job)
    figures = clock.figures(work.warmup)
    if work.system.startswith("hybrid") and job.on_gpu:
        figures["planned_mb"] = round(planned_mb(job, share=shares(work.system)))
    if work.reference:
        try:
            figures["gradient_error"] = gradient_error(work, job)
        except Exception as error:  # the times that were measured are not to be lost
            figures["gradient_reason"] = repr(error)[:300]
    return {**figures, "versions": report.installed(PACKAGES)}


def gradient_error(work: Work, job: Job) -> float:
    """The relative difference of a system's gradient to the reference."""
    _free()
    collected = Gradients()
    few = make_pairs(work.shape, compared_contexts(work))
    small = job._replace(model=Path(work.small), pairs=few, per_pass=1, epochs=1, max_grad_norm=0.0)
    _train(work.system, small._replace(callback=collected))
    return relative_error(collected.found, torch.load(work.reference, weights_only=True))


def device_of(work: Work) -> torch.device:
    """The CPU, or the first GPU."""
    return torch.device("cuda", 0) if work.device == "cuda" else torch.device("cpu")


def compared_contexts(work: Work) -> int:
    """Contexts of the pairs whose gradient is compared: on a CPU those that are timed, on a GPU two."""
    return work.pairs // work.shape.per_context if work.device == "cpu" else 2


def _train(system: str, job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = job._replace(folder=Path(folder))
        if system.startswith("hybrid"):
            train_hybrid(job, share=shares(system))
        elif system.startswith("unsloth"):
            train_unsloth(job, multi_turn=shares(system))
        else:
            train_trl(job, multi_turn=shares(system), liger=system.endswith("liger"))


def _warm_up(job: Job) -> None:
    """On a CPU, where the first step counts, a small forward pass, so that none pays for the first use of a library."""
    if not job.on_gpu:
        with torch.inference_mode():
            AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)(input_ids=torch.arange(100, 164)[None])


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# --- the systems ------------------------------------------------------------------------------------------------------


def train_hybrid(job: Job, *, share: bool) -> None:
    """Trains on context trees, `per_pass` of them in a row."""
    from hybrid.tuning.trainer import TreeTrainer, training_arguments

    rows = hybrid_rows(job, share=share)
    trees = sum(map(len, rows))
    settings = hybrid_settings(job, trees)
    with hybrid_model(job, settings) as model:
        trainer = TreeTrainer(model, training_arguments(settings, 0, job.folder, len(rows), trees), rows)
        trainer.add_callback(job.callback)
        trainer.train()
        trainer.progress.close()


def hybrid_rows(job: Job, *, share: bool) -> list[Row]:
    """The pairs as context trees, `per_pass` of them in a row."""
    examples = [Example(str(n), str(pair.context), pair.prompt, pair.answer) for n, pair in enumerate(job.pairs)]
    trees = build_trees(examples, max_tokens=10**9, share=share, min_shared_tokens=16)
    return [tuple(trees[start : start + job.per_pass]) for start in range(0, len(trees), job.per_pass)]


def hybrid_settings(job: Job, trees: int) -> TuneSettings:
    """One optimiser step on all trees, and what the systems have in common."""
    return TuneSettings(
        method="qlora" if job.on_gpu else "lora",
        dtype="bfloat16" if job.on_gpu else "float32",
        rank=RANK,
        alpha=ALPHA,
        learning_rate=LEARNING_RATE,
        epochs=job.epochs,
        max_grad_norm=job.max_grad_norm,
        trees_per_step=trees,
        min_steps=1,
        checkpointing="full" if job.checkpointing else "none",
        kernels="required",
    )


def planned_mb(job: Job, *, share: bool) -> float:
    """The peak that `hybrid plan` foresees for Hybrid's training, less what libraries take."""
    config = AutoConfig.from_pretrained(job.model)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).named_parameters()  # type: ignore[no-untyped-call]
    sizes = read_shape(config.to_dict(), {name: tuple(parameter.shape) for name, parameter in parameters})
    rows = hybrid_rows(job, share=share)
    settings = hybrid_settings(job, sum(map(len, rows)))
    machine = Machine("cuda" if job.on_gpu else "cpu", settings.dtype, math.inf, 0.0, 1.0)
    return estimate_memory(sizes, count_rows("hybrid", rows), settings, machine)[0].total


@contextmanager
def hybrid_model(job: Job, settings: Any) -> Iterator[nn.Module]:  # noqa: ANN401
    """The model with adapters, inside the block on the fast paths of `hybrid tune`, all of which must engage."""
    from hybrid.tuning.fast_paths import fast_paths
    from hybrid.tuning.model import compute_dtype
    from hybrid.tuning.trainer import prepare_model

    model = prepare_model(job.model, settings, compute_dtype(settings.dtype, job.device), job.device)
    with fast_paths(model, settings) as runs:
        sys.stderr.write(f"{json.dumps(runs)}\n")
        yield model


def train_trl(job: Job, *, multi_turn: bool, liger: bool) -> None:
    """Trains with TRL's SFTTrainer and PEFT."""
    if liger:
        import_module("liger_kernel")  # before the model is loaded: a run without it is of no use
    options: Figures = {"dtype": torch.float32}
    if job.on_gpu:  # config.json says that the weights are NF4
        options = {"dtype": torch.bfloat16, "device_map": {"": job.device}}
    model = AutoModelForCausalLM.from_pretrained(job.model, **options)
    _sft(job, model, AutoTokenizer.from_pretrained(job.model), multi_turn, liger=liger, lora=_lora())


def train_unsloth(job: Job, *, multi_turn: bool) -> None:
    """Trains with Unsloth on TRL's SFTTrainer; `unsloth` must have been imported before transformers."""
    loader = import_module("unsloth").FastLanguageModel
    # Its checkpointing is layer by layer, with the layers' inputs in the host's memory.
    checkpointing: str | bool = "unsloth" if job.checkpointing else False
    longest = max(len(record["input_ids"]) for record in records(job.pairs, job.shape, multi_turn=multi_turn))
    base, tokenizer = loader.from_pretrained(
        str(job.model), max_seq_length=longest, load_in_4bit=True, use_gradient_checkpointing=checkpointing
    )
    model = loader.get_peft_model(
        base, r=RANK, lora_alpha=ALPHA, use_gradient_checkpointing=checkpointing, random_state=0
    )
    runs = model.get_base_model().model.layers[0].self_attn.apply_qkv.__name__
    if runs != "apply_lora_qkv":
        raise RuntimeError(f"Unsloth did not engage its fast path, which would make it slow: layers run {runs}")
    _sft(job, model, tokenizer, multi_turn)


def _sft(
    job: Job,
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    multi_turn: bool,
    *,
    liger: bool = False,
    lora: Any = None,  # noqa: ANN401
) -> None:
    from datasets import Dataset

    trl = import_module("trl")
    data = records(job.pairs, job.shape, multi_turn=multi_turn)
    arguments = trl.SFTConfig(
        output_dir=str(job.folder),
        per_device_train_batch_size=job.per_pass,
        gradient_accumulation_steps=len(data) // job.per_pass,
        num_train_epochs=job.epochs,
        learning_rate=LEARNING_RATE,
        optim="adamw_torch_fused",
        max_grad_norm=job.max_grad_norm,
        gradient_checkpointing=job.checkpointing,
        use_liger_kernel=liger,
        bf16=job.on_gpu,
        max_length=max(len(record["input_ids"]) for record in data),
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not job.on_gpu,
        seed=0,
    )
    trl.SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[job.callback],
        peft_config=lora,
    ).train()


def _lora() -> Any:  # noqa: ANN401
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


# --- what is observed -------------------------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """Seconds from the end of one optimiser step to that of the next, data loading included, and the peak memory."""

    def __init__(self, device: torch.device, limit: float) -> None:
        self.device = device
        self.limit = limit
        self.seconds: list[float] = []
        self.mark: float | None = None

    def on_train_begin(self, *_: object, **__: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.mark = self.mark or self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> Any:  # noqa: ANN401
        now = self._now()
        self.seconds.append(now - (self.mark or now))
        self.mark = now
        # Without the first step, in which kernels are compiled: there is always one that counts.
        control.should_training_stop |= 0 < self.limit < sum(self.seconds[1:])
        return control

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def figures(self, warmup: int) -> Figures:
        """The steps that count: those after the warm-up, of which a run cut short has a third of its steps, or one."""
        skipped = min(warmup, max(1, len(self.seconds) // 3))
        figures: Figures = {"seconds": self.seconds[skipped:], "first_step_seconds": self.seconds[0]}
        if self.device.type != "cuda":
            return {**figures, "peak_mb": round(peak_memory_mb()), "peak_reserved_mb": None}
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {**figures, "peak_mb": round(allocated / 2**20), "peak_reserved_mb": round(reserved / 2**20)}


class Gradients(TrainerCallback):
    """Gives the adapters known values before the first step and keeps the gradient of that step."""

    def __init__(self) -> None:
        self.found: Gradient = {}

    def on_train_begin(self, *_: object, **given: Any) -> None:  # noqa: ANN401
        set_adapters(given["model"])

    def on_pre_optimizer_step(self, *_: object, **given: Any) -> None:  # noqa: ANN401
        self.found = gradients(given["model"])


def set_adapters(model: nn.Module) -> None:
    """Draws each adapter by its name; PEFT's start, B = 0, would leave A without a gradient."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            drawn = torch.randn(parameter.shape, generator=generator).mul_(0.02)
            parameter.data.copy_(drawn.bfloat16())  # the same in whatever dtype a system keeps its adapters


def gradients(model: nn.Module) -> Gradient:
    """The gradients of a model's parameters by name."""
    return {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}


def relative_error(found: Gradient, wanted: Gradient) -> float:
    """Returns |found - wanted| / |wanted| over all adapters."""
    if found.keys() != wanted.keys():
        raise ValueError(f"other adapters than in the reference: {sorted(found.keys() ^ wanted.keys())[:4]}")
    ours, theirs = (torch.cat([part[name].double().flatten() for name in wanted]) for part in (found, wanted))
    return float((ours - theirs).norm() / theirs.norm())


def reference_gradient(model_path: Path, pairs: Sequence[Pair], device: torch.device) -> Gradient:
    """The gradient of the mean loss per answer token in fp32, sample by sample through transformers and PEFT.

    Packed weights are first unpacked to the bfloat16 that every system computes with.
    """
    from peft import get_peft_model

    base: Any = AutoModelForCausalLM.from_pretrained(model_path, device_map={"": device})
    if base.config.to_dict().get("quantization_config"):
        base = base.dequantize()
    model = get_peft_model(base.float(), _lora())
    set_adapters(model)
    answers = sum(len(pair.answer) for pair in pairs)
    for pair in pairs:
        ids_L = torch.tensor([*pair.prompt, *pair.answer], device=device)
        logits_NV = model(input_ids=ids_L[None], use_cache=False, logits_to_keep=len(pair.answer) + 1).logits[0, :-1]
        (cross_entropy(logits_NV, ids_L[len(pair.prompt) :], reduction="sum") / answers).backward()  # type: ignore[no-untyped-call]
    return gradients(model)


def write_reference(work: Work) -> Figures:
    """Writes the gradient that systems are compared with to `work.reference`."""
    pairs = make_pairs(work.shape, compared_contexts(work))
    torch.save(reference_gradient(Path(work.small), pairs, device_of(work)), work.reference)
    return {}


def write_models(work: Work) -> Figures:
    """Writes the models of a GPU run that are not there yet."""
    from tuning_models import SMALL_LAYERS, llama_8b, write_model

    for folder, config in ((Path(work.model), llama_8b()), (Path(work.small), llama_8b(SMALL_LAYERS))):
        if not (folder / "config.json").exists():
            write_model(folder, config, device_of(work))
            _free()
    return {}
