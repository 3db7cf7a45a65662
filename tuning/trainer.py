"""Trains a model on context trees: `tune` is the whole stage, `TreeTrainer` the loop of transformers for tree rows."""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments, set_seed

from hybrid.errors import ConfigError, TrainingError, writing
from hybrid.tuning import attention
from hybrid.tuning import checkpoints as saved
from hybrid.tuning.batch import TreeBatch, collate
from hybrid.tuning.fast_paths import fast_paths
from hybrid.tuning.lora import attach_adapter
from hybrid.tuning.loss import causal_lm, check_parity, parity_tree, row_loss, separate_gradients, shared_gradients
from hybrid.tuning.memory import (
    HEADROOM,
    Choice,
    choose_checkpointing,
    free_memory_mb,
    largest_row,
    optimizer_bytes,
    peak_memory_mb,
)
from hybrid.tuning.model import (
    TunedRecord,
    check_stored,
    compute_dtype,
    default_device,
    dtype_name,
    load_base,
    resolve_weights,
    save_tokenizer,
    write_record,
)
from hybrid.tuning.settings import AttentionBackend, Optimizer, TuneSettings
from hybrid.tuning.shape import load_shape
from hybrid.tuning.tree import ContextTree, Example, Row, TreeStats, build_trees, pack_rows, tree_stats

_OPTIMIZERS: dict[Optimizer, str] = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What a run has done.

    Attributes:
        loss_first: Mean loss per answer token of the first optimiser step.
        loss_last: The same of the last step.
        steps: Optimiser steps of the whole run, including those before it was resumed.
        seconds: Wall time of the training loop, with that of earlier calls which this one continued.
        tokens: Tokens computed in that time, shared ones counted once.
        answer_tokens: Of these, the tokens that carry the loss.
        stats: What sharing saves.
        peak_memory_mb: Peak memory of the GPU, or else of the whole process since it started.
        kernels: For each kind of layer what ran, and why not if the fast one did not.
        weights: How the base was kept.
        dtype: Data type of the computation.
    """

    loss_first: float
    loss_last: float
    steps: int
    seconds: float
    tokens: int
    answer_tokens: int
    stats: TreeStats
    peak_memory_mb: float
    kernels: dict[str, str]
    weights: str
    dtype: str


class TreeTrainer(Trainer):
    """The Trainer of transformers with one row of trees per batch.

    The loss is the sum over a row's answer tokens divided by the number of answer tokens of the whole optimiser step,
    so that accumulating rows gives the gradient of one large batch.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        arguments: TrainingArguments,
        rows: Sequence[Row],
        backend: AttentionBackend = "auto",
        before: saved.Spent = saved.NOTHING,
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=_Rows(rows), data_collator=_collate_one)
        self.remove_callback(PrinterCallback)  # prints to stdout, which belongs to the caller
        self.progress = tqdm(desc="tune", unit="step", file=sys.stderr, disable=None)
        self.backend = backend
        self.started = time.perf_counter() - before.seconds
        self.tokens, self.answer_tokens = before.tokens, before.answer_tokens
        # The gradient of a mean over many tokens is too small for float16: there it is that of about their sum until it
        # reaches the trained parameters, which are float32.
        self.scales, self.scale = causal_lm(model).dtype is torch.float16, 1.0
        for parameter in (p for p in model.parameters() if self.scales and p.requires_grad):
            parameter.register_hook(lambda gradient: gradient / self.scale)

    @property
    def spent(self) -> saved.Spent:
        """What training has taken, before it was interrupted and since."""
        return saved.Spent(time.perf_counter() - self.started, self.tokens, self.answer_tokens)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """Collects the rows of an optimiser step and their summed weights."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        items = torch.stack([sample["weights"].sum() for sample in samples]).sum().to(device)
        if not items > 0:
            raise TrainingError(f"optimiser step {self.state.global_step + 1} has no answer token to learn from")
        return samples, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Returns this row's share of the step's mean loss."""
        if num_items_in_batch is None:
            raise TrainingError("the loss of a row needs the number of answer tokens of its optimiser step")
        if self.scales:
            self.scale = 2.0 ** math.floor(math.log2(float(num_items_in_batch)))
        # Normalising the weights instead of the loss leaves the gradient of low precision rows rounded once.
        batch = TreeBatch(**{**inputs, "weights": inputs["weights"] * (self.scale / num_items_in_batch)})
        self.tokens += batch.input_ids.numel()
        self.answer_tokens += batch.targets.numel()
        loss = row_loss(self.model, batch, self.backend)
        return loss.detach() / self.scale + (loss - loss.detach())  # whose gradient is that of `loss`

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Passes metrics to the loggers and the progress bar, and stops a run that has diverged."""
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        for name, what in (("loss", "loss"), ("grad_norm", "size of the gradient")):
            if not math.isfinite(logs.get(name, 0.0)):
                raise TrainingError(
                    f"the {what} is {logs[name]} at step {self.state.global_step}: lower tune.learning_rate"
                    f" = {self.args.learning_rate}, or compute in float32"
                )
        self.progress.total, self.progress.n = self.state.max_steps, self.state.global_step
        self.progress.set_postfix(loss=f"{logs['loss']:.3f}")

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        checkpoint = Path(self.args.output_dir or "") / f"checkpoint-{self.state.global_step}"
        with writing(checkpoint):
            super()._save_checkpoint(model, trial)
            saved.mark_complete(checkpoint, self.spent)


def tune(
    examples: Iterable[Example],
    *,
    later: Callable[[int], Iterable[Example]] | None = None,
    model_path: Path | str,
    output: Path,
    settings: TuneSettings,
    seed: int,
    checkpoints: Path,
    notes: Mapping[str, str] | None = None,
) -> TuneResult:
    """Tunes a model and saves the adapter (or, for the method `full`, the model) with hybrid.json.

    Args:
        examples: At least one.
        later: The examples of the epochs 1, 2, … where these differ from the first; None takes the same again.
        model_path: Folder of the base model.
        output: Folder to fill; made if missing.
        settings: How to train.
        seed: Of the initial adapters, the rows and their order. Equal seeds give equal results on one machine.
        checkpoints: Folder of the checkpoints. A run that was interrupted continues there if everything is the same.
        notes: Kept in hybrid.json, such as the fingerprint of the base.

    Raises:
        TrainingError: There is no example, one does not fit, the model is not supported, or the loss diverged.
        ModelError: The model cannot be loaded.
        OSError: The disk is full, or a folder cannot be written.
    """
    trees = _trees(examples, settings)
    first = pack_rows(trees, max_tokens=settings.max_tokens, seed=seed)
    rows = [*first, *_later_rows(trees, later, settings, seed)][: math.ceil(settings.epochs * len(first))]
    device = default_device()
    dtype = training_dtype(settings, device)
    weights = resolve_weights(settings.weights, device) if settings.method == "qlora" else "resident"
    set_seed(seed)
    model = prepare_model(model_path, settings, dtype, device)
    attention.check_length(model.config, max(tree.longest for row in rows for tree in row))
    choice = plan_memory(model, model_path, rows, settings)
    chosen = replace(settings, checkpointing=choice.checkpointing)
    last = saved.prepare(checkpoints, _plan(rows, settings, seed, model_path))
    with ExitStack() as stack:
        kernels = stack.enter_context(_checked_paths(model, trees, chosen))
        arguments = training_arguments(replace(settings, epochs=1.0), seed, checkpoints, len(first), len(trees))
        arguments.train_sampling_strategy = "sequential"  # the rows of all epochs lie behind each other, shuffled
        trainer = _trainer(model, arguments, rows, settings.attention, saved.spent_until(last))
        stack.callback(trainer.progress.close)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        spent = trainer.spent
    with writing(output):
        _save(model, model_path, output, settings)
        write_record(output, TunedRecord(settings.method, weights, dtype_name(dtype), dict(notes or {})))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return TuneResult(
        loss_first=losses[0],
        loss_last=losses[-1],
        steps=trainer.state.global_step,
        **spent._asdict(),
        stats=tree_stats(trees),
        peak_memory_mb=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_memory_mb(),
        kernels={**kernels, "checkpointing": str(choice), "optimizer": _OPTIMIZERS[settings.optimizer]},
        weights=weights,
        dtype=dtype_name(dtype),
    )


@contextmanager
def _checked_paths(
    model: PreTrainedModel | PeftModel, trees: Sequence[ContextTree], settings: TuneSettings
) -> Iterator[dict[str, str]]:
    """Has the model run on the fast paths inside the block, once they were held against separate samples."""
    sample = parity_tree(trees, model)
    reference = separate_gradients(model, sample)
    with fast_paths(model, settings) as kernels:
        check_parity(shared_gradients(model, sample, settings.attention), reference, model)
        del reference  # as large as the trained parameters
        yield kernels


def _trees(examples: Iterable[Example], settings: TuneSettings) -> list[ContextTree]:
    trees = build_trees(
        examples,
        max_tokens=settings.max_tokens,
        share=settings.share_contexts,
        min_shared_tokens=settings.min_shared_tokens,
    )
    if not trees:
        raise TrainingError("there is no training example")
    return trees


def _later_rows(
    trees: Sequence[ContextTree], later: Callable[[int], Iterable[Example]] | None, settings: TuneSettings, seed: int
) -> Iterator[Row]:
    """The rows of all epochs but the first, packed and shuffled anew for each."""
    for epoch in range(1, math.ceil(settings.epochs)):
        passed = _trees(later(epoch), settings) if later else trees
        yield from pack_rows(passed, max_tokens=settings.max_tokens, seed=seed + epoch)


def training_dtype(settings: TuneSettings, device: torch.device) -> torch.dtype:
    """Returns the dtype of a run; the weights of full tuning are the optimiser's master copy and stay float32."""
    full = settings.method == "full" and settings.dtype == "auto"
    return torch.float32 if full else compute_dtype(settings.dtype, device)


def prepare_model(
    model_path: Path | str, settings: TuneSettings, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel | PeftModel:
    """Loads a base model, gives it tree attention and, unless all weights are tuned, adapters.

    Raises:
        ConfigError: The settings name an attention backend that the device has not.
        TrainingError: The model is not supported.
        ModelError: The model cannot be loaded.
    """
    if settings.attention in ("flex", "triton") and device.type != "cuda":
        raise ConfigError(f"tune.attention is {settings.attention!r}, which needs a CUDA GPU; set it to auto or sdpa")
    packed = settings.method == "qlora" and resolve_weights(settings.weights, device) == "nf4"
    check_stored(Path(model_path), packed=packed)
    model = load_base(model_path, method=settings.method, weights=settings.weights, dtype=dtype, device=device)
    attention.check_supported(model.config)
    attention.register()
    model.set_attn_implementation(attention.NAME)
    model.train()
    return model if settings.method == "full" else attach_adapter(model, settings)


def plan_memory(
    model: PreTrainedModel | PeftModel, model_path: Path | str, rows: Sequence[Row], settings: TuneSettings
) -> Choice:
    """Decides what the backward pass computes again, from the memory that the loaded model and its optimiser leave."""
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    device = model.device
    free_mb = torch.cuda.mem_get_info(device)[0] / 2**20 if device.type == "cuda" else free_memory_mb()
    row = largest_row(rows)
    if attention.resolve_backend(settings.attention, device) != "sdpa":
        row = row.in_place()
    room_mb = HEADROOM * free_mb - (trained + optimizer_bytes(trained, settings.optimizer)) / 2**20
    return choose_checkpointing(load_shape(Path(model_path)), row, settings, model.dtype.itemsize, room_mb)


def training_arguments(
    settings: TuneSettings, seed: int, checkpoints: Path, rows: int, trees: int
) -> TrainingArguments:
    """Translates settings to the Trainer's arguments.

    Raises:
        ConfigError: A logger is unknown.
        TrainingError: Several processes were started.
    """
    # Small runs need steps more than they need large ones.
    per_step = min(settings.trees_per_step, max(1, trees // settings.min_steps))
    warm_constant = settings.scheduler == "constant" and settings.warmup_ratio > 0
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=min(rows, math.ceil(per_step * rows / trees)),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if warm_constant else settings.scheduler,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=_OPTIMIZERS[settings.optimizer],
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(settings.loggers) or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
    )
    if arguments.world_size > 1:
        raise TrainingError(f"tuning runs in one process, but {arguments.world_size} were started")
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # or the Trainer would wrap the model in DataParallel and bypass compute_loss's model
    return arguments


class _Rows(torch.utils.data.Dataset[Row]):
    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def _collate_one(rows: list[Row]) -> dict[str, Any]:
    (row,) = rows
    return collate(row)._asdict()


def _trainer(
    model: PreTrainedModel | PeftModel,
    arguments: TrainingArguments,
    rows: Sequence[Row],
    backend: AttentionBackend,
    before: saved.Spent,
) -> TreeTrainer:
    try:
        return TreeTrainer(model, arguments, rows, backend, before)
    except (ValueError, RuntimeError, ImportError) as error:
        if arguments.report_to:
            raise ConfigError(f"tune.loggers {arguments.report_to} cannot be used: {error}") from error
        raise


def _save(model: PreTrainedModel | PeftModel, model_path: Path | str, output: Path, settings: TuneSettings) -> None:
    broken = [name for name, p in model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:
        raise TrainingError(
            f"training left {len(broken)} tensors with values that are not finite, such as {broken[0]}: lower "
            f"tune.learning_rate = {settings.learning_rate}, or compute in float32"
        )
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(output))
    if settings.method == "full":
        save_tokenizer(model_path, output)


def _plan(rows: Sequence[Row], settings: TuneSettings, seed: int, model_path: Path | str) -> str:
    return hashlib.sha256(repr((rows, settings, seed, str(model_path))).encode()).hexdigest()
