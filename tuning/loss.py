"""The loss of a row: the model's body on all tokens, the LM head only on the rows that predict an answer token."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from hybrid.errors import TrainingError
from hybrid.kernels.linear_cross_entropy import linear_cross_entropy
from hybrid.tuning import attention
from hybrid.tuning.batch import TreeBatch, collate, to_device
from hybrid.tuning.settings import AttentionBackend
from hybrid.tuning.tree import ContextTree

# Relative differences of loss and gradient that rounding explains. Two ways of computing the gradient of the same
# samples in bfloat16 are each about 0.08 away from float32, a wrong mask or a lost factor far more than this; the loss
# of a handful of answer tokens differs by up to 0.035.
_TOLERANCE = {torch.float32: (1e-4, 1e-2), torch.bfloat16: (8e-2, 0.4), torch.float16: (1e-2, 0.2)}


def causal_lm(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Returns the transformers model inside a PEFT model, or the model itself."""
    inner: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner


def predicting_rows(model: PreTrainedModel | PeftModel, batch: TreeBatch, backend: AttentionBackend = "auto") -> Tensor:
    """Returns the final hidden states [M, H] of the rows that predict a target; attention must be `hybrid_tree`."""
    inner = causal_lm(model)
    tree = attention.tree_mask(batch, attention.resolve_backend(backend, batch.segments.device))
    output = inner.base_model(input_ids=batch.input_ids, position_ids=batch.position_ids, tree=tree, use_cache=False)
    hidden_RH: Tensor = output.last_hidden_state[0]
    # A last layer that `layers.fast_layers` runs gives the predicting rows alone.
    if len(hidden_RH) != len(batch.rows):
        hidden_RH = hidden_RH.index_select(0, batch.rows)
    # A row that starts several answers is read several times. Its gradients are summed in one order by an index on CUDA
    # and by index_select on a CPU; the other way round, in whatever order threads come.
    index_M = batch.predict_index
    return hidden_RH[index_M] if index_M.is_cuda else hidden_RH.index_select(0, index_M)


def row_loss(model: PreTrainedModel | PeftModel, batch: TreeBatch, backend: AttentionBackend = "auto") -> Tensor:
    """Returns the weighted sum of the negative log likelihoods of a row's answer tokens.

    Raises:
        TrainingError: The LM head is not a linear layer without bias.
    """
    head: object = causal_lm(model).get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        raise TrainingError(f"tuning needs an LM head that is a linear layer without bias, but this one is {head}")
    softcap = getattr(causal_lm(model).config, "final_logit_softcapping", None)
    hidden_MH = predicting_rows(model, batch, backend)
    return linear_cross_entropy(hidden_MH, head.weight, batch.targets, batch.weights, softcap=softcap)


class Gradients(NamedTuple):
    """What a way of computing a tree gives: its loss and the gradient of every trained parameter."""

    loss: float
    parameters: list[Tensor]


def parity_tree(trees: Sequence[ContextTree], model: PreTrainedModel | PeftModel) -> ContextTree:
    """Returns a small tree to compare on: two branches of the smallest tree that has several, or else the smallest.

    Of what its answers follow the opening is left, so that the comparison takes less memory than the training: enough
    to leave the sliding window, if the tree does, and on a GPU to fill several tiles of the kernels.
    """
    smallest = min(trees, key=lambda tree: (len(tree.branches) == 1, tree.tokens))
    inner = causal_lm(model)
    least = 32 if inner.device.type == "cpu" else 320
    window = getattr(inner.config, "sliding_window", None) or 0
    left = max(least, window + 16 if window < smallest.tokens else 0)
    branches = smallest.branches[:2]
    if len(branches) == 1:  # then nothing is shared
        branches = (branches[0]._replace(prompt_ids=branches[0].prompt_ids[:left]),)
    return smallest._replace(prefix_ids=smallest.prefix_ids[:left], branches=branches)


def separate_gradients(model: PreTrainedModel | PeftModel, tree: ContextTree) -> Gradients:
    """Computes the branches of a tree as separate samples by transformers and PEFT alone, with `eager` attention."""
    inner = causal_lm(model)
    own = inner.config._attn_implementation
    inner.set_attn_implementation("eager")  # every architecture has it

    def losses() -> Iterator[Tensor]:
        for branch in tree.branches:
            ids_L = torch.tensor(tree.prefix_ids + branch.prompt_ids + branch.answer_ids, device=inner.device)
            answers = len(branch.answer_ids)
            logits_NV = model(input_ids=ids_L.unsqueeze(0), use_cache=False, logits_to_keep=answers + 1).logits[0, :-1]
            yield cross_entropy(logits_NV.float(), ids_L[-answers:], reduction="sum")

    with _layer_by_layer(inner):
        found = _gradients(model, losses)
    inner.set_attn_implementation(own)
    return found


def shared_gradients(
    model: PreTrainedModel | PeftModel, tree: ContextTree, backend: AttentionBackend = "auto"
) -> Gradients:
    """Computes a tree as training does."""
    batch = to_device(collate((tree,)), causal_lm(model).device)
    return _gradients(model, lambda: [row_loss(model, batch, backend)])


def check_parity(found: Gradients, wanted: Gradients, model: PreTrainedModel | PeftModel) -> None:
    """Compares training's way with separate samples.

    Settings that `hybrid_tree` does not know of, in an architecture that it was never tried on, or a kernel that is
    wrong on this device show up here instead of in a model that is quietly worse.

    Raises:
        TrainingError: Losses or gradients differ by more than rounding.
    """
    dtype = causal_lm(model).dtype
    loss_tolerance, gradient_tolerance = _TOLERANCE[dtype]
    name = causal_lm(model).config.model_type
    if not abs(found.loss - wanted.loss) <= loss_tolerance * abs(wanted.loss):
        raise TrainingError(
            f"tuning does not support {name!r} models: on a small tree their loss is {found.loss:.6g},"
            f" on separate samples {wanted.loss:.6g}"
        )
    pairs = zip(found.parameters, wanted.parameters, strict=True)
    distance = sum((a - b).double().square().sum().item() for a, b in pairs) ** 0.5
    size = sum(gradient.double().square().sum().item() for gradient in wanted.parameters) ** 0.5
    if not distance <= gradient_tolerance * size:
        raise TrainingError(
            f"tuning does not support {name!r} models in {dtype} here: on a small tree the gradient differs from that"
            f" of separate samples by {distance / size:.2g} of its size"
        )


def _gradients(model: PreTrainedModel | PeftModel, losses: Callable[[], Iterable[Tensor]]) -> Gradients:
    """The sum of losses and of their gradients, one after another to save memory.

    They are computed without dropout and at adapters that are not zero, as a zero would hide errors in them.
    """
    training = model.training
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = 0.0
    gradients: list[Tensor] = []
    with _stirred(model):
        for loss in losses():
            parts = list(torch.autograd.grad(loss, trained))
            for gradient, part in zip(gradients, parts, strict=bool(gradients)):
                gradient += part
            gradients = gradients or parts
            total += loss.item()
    model.train(training)
    return Gradients(total, gradients)


@contextmanager
def _layer_by_layer(model: nn.Module) -> Iterator[None]:
    """Has the backward pass compute each layer again, so that `eager` keeps the scores of one at a time."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@contextmanager
def _stirred(model: nn.Module) -> Iterator[None]:
    """Gives fresh adapters, whose B is zero, small random values inside the block."""
    fresh = [p for name, p in model.named_parameters() if "lora_B" in name and not p.any()]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in fresh:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    yield
    with torch.no_grad():
        for parameter in fresh:
            parameter.zero_()
