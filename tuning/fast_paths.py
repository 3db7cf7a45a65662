"""Switches the fast paths of a model on for a while, and says for each kind of work what runs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peft import PeftModel
from transformers import PreTrainedModel

from hybrid.kernels.dispatch import backend
from hybrid.tuning import attention
from hybrid.tuning.layers import fast_layers
from hybrid.tuning.lora import fused_lora
from hybrid.tuning.memory import Recompute
from hybrid.tuning.settings import TuneSettings


@contextmanager
def fast_paths(model: PreTrainedModel | PeftModel, settings: TuneSettings) -> Iterator[dict[str, str]]:
    """Runs a model by Hybrid's kernels inside the block; yields for each kind of work what runs, or why it does not.

    Args:
        model: From `prepare_model`.
        settings: With `checkpointing` decided.

    Raises:
        TrainingError: A layer would not run fast, though `settings.kernels` is "required".
    """
    required = settings.kernels == "required"
    kernels = backend(model.device)
    report = {
        "attention": f"{attention.NAME} ({attention.resolve_backend(settings.attention, model.device)})",
        "loss": f"linear_cross_entropy ({kernels})",
    }
    recompute: Recompute = "none" if settings.checkpointing == "auto" else settings.checkpointing
    with (
        _checkpointing(model, recompute == "full"),
        fused_lora(model, required=required) as lora,
        fast_layers(model, recompute=recompute, required=required, stack=model.device.type == "cuda") as layers,
    ):
        yield {**report, **lora, **{kind: f"{what} ({kernels})" for kind, what in layers.items()}}


@contextmanager
def _checkpointing(model: PreTrainedModel | PeftModel, wanted: bool) -> Iterator[None]:
    """Checkpoints layers that keep the forward pass of transformers."""
    if wanted:
        _switch(lambda: model.gradient_checkpointing_enable({"use_reentrant": False}))
    yield
    if wanted:
        _switch(model.gradient_checkpointing_disable)


def _switch(change: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the names of all transformers 5; the newest have others too
        change()
