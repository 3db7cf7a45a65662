"""The claim of this package: shared contexts give the loss and the gradients of separate samples."""

# mypy: disable-error-code="no-untyped-call, method-assign, no-any-return, arg-type"

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from hybrid.errors import TrainingError
from hybrid.tuning.batch import collate
from hybrid.tuning.fast_paths import fast_paths
from hybrid.tuning.layers import fast_layers
from hybrid.tuning.lora import fused_lora
from hybrid.tuning.loss import (
    causal_lm,
    check_parity,
    parity_tree,
    predicting_rows,
    row_loss,
    separate_gradients,
    shared_gradients,
)
from hybrid.tuning.settings import Checkpointing, Method, TuneSettings
from hybrid.tuning.trainer import prepare_model
from hybrid.tuning.tree import Example, Row, build_trees, pack_rows

MakeExamples = Callable[..., list[Example]]
ModelFolder = Callable[[str], Path]
CPU = torch.device("cpu")


def adapted(folder: Path, dtype: torch.dtype, method: Method = "lora") -> torch.nn.Module:
    """A model with adapters that already change its output."""
    torch.manual_seed(3)
    model = prepare_model(folder, TuneSettings(method=method, rank=3), torch.float32, CPU).to(dtype)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    if dtype is torch.float64:
        for module in model.modules():
            name = type(module).__name__
            if name.startswith("Gemma") and name.endswith("RMSNorm"):
                module.forward = partial(normalise, module.weight, 1, module.eps)
            elif name.endswith("RMSNorm"):
                module.forward = partial(normalise, module.weight, 0, module.variance_epsilon)
    return model


def normalise(weight_H: Tensor, offset: int, epsilon: float, hidden: Tensor) -> Tensor:
    """RMSNorm in the dtype of its input; transformers always rounds to float32."""
    return (weight_H + offset) * hidden * (hidden.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()


def plain_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention by its definition in the dtype of its input, on the masks that transformers makes for `eager`."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * scaling
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    weights = (scores + attention_mask).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2), None


AttentionInterface.register("plain", plain_attention)
AttentionMaskInterface.register("plain", eager_mask)


def rows_of(examples: Sequence[Example], share: bool, max_tokens: int) -> list[Row]:
    return pack_rows(build_trees(examples, max_tokens=max_tokens, share=share), max_tokens=max_tokens, seed=1)


def reference(model: torch.nn.Module, examples: Sequence[Example]) -> dict[str, Tensor]:
    """Loss and gradients of one ordinary forward pass per sample, by transformers and PEFT alone."""
    causal_lm(model).set_attn_implementation("plain")
    model.zero_grad()
    total = torch.zeros((), dtype=next(model.parameters()).dtype)
    for example in examples:
        ids = torch.tensor([example.prompt_ids + example.answer_ids])
        logits_NV = model(input_ids=ids).logits[0, len(example.prompt_ids) - 1 : -1]
        loss = cross_entropy(logits_NV, torch.tensor(example.answer_ids), reduction="sum")
        loss.backward()
        total += loss.detach()
    causal_lm(model).set_attn_implementation("hybrid_tree")
    return {"loss": total, **collect(model)}


def ours(
    model: torch.nn.Module, rows: Sequence[Row], checkpointing: Checkpointing = "none", fast_layers: int = 2
) -> dict[str, Tensor]:
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    with fast_paths(model, TuneSettings(checkpointing=checkpointing)) as report:
        linears = sum("lora_B" in name for name, _ in model.named_parameters())
        assert report["lora"] == f"lora_linear: {linears} of {linears} layers"
        assert report["layers"].startswith(f"fast_layers: {fast_layers} of 2")
        for row in rows:
            loss = row_loss(model, collate(row))
            loss.backward()
            total += loss.detach()
    return {"loss": total, **collect(model)}


def collect(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "mistral wide", "phi3", "gemma2", "gemma3", "olmo2"]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("max_tokens", [32, 400], ids=["accumulated rows", "one row"])
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["64", "32"])
def test_loss_and_gradients_equal_those_of_separate_samples(
    model_folder: ModelFolder,
    make_examples: MakeExamples,
    kind: str,
    max_tokens: int,
    share: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    model, examples = adapted(model_folder(kind), dtype), make_examples()
    rows = rows_of(examples, share, max_tokens)
    assert (len(rows) == 1) == (max_tokens == 400)
    truth, found = reference(model, examples), ours(model, rows, fast_layers=0 if kind == "olmo2" else 2)
    assert found.keys() == truth.keys()
    assert len(truth) == 1 + 2 * (8 if kind == "phi3" else 14)
    for name, wanted in truth.items():
        assert wanted.norm() > 0
        assert (found[name] - wanted).norm() <= tolerance * wanted.norm(), name


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma3"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["64", "32"])
def test_stacked_products_have_the_gradients_of_separate_samples(
    model_folder: ModelFolder, make_examples: MakeExamples, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    model, examples = adapted(model_folder(kind), dtype), make_examples()
    truth = reference(model, examples)
    model.zero_grad()
    with fused_lora(model), fast_layers(model, stack=True) as report:
        if kind != "phi3":  # which has such layers of its own
            assert "q, k and v by one stacked_lora_linear instead in 1;" in report["layers"]
            assert "gate and up by one stacked_lora_linear instead in 2" in report["layers"]
        for row in rows_of(examples, True, 32):
            row_loss(model, collate(row)).backward()
    for name, gradient in collect(model).items():
        assert (gradient - truth[name]).norm() <= tolerance * truth[name].norm(), name


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "phi3", "gemma2"])
def test_what_a_gpu_runs_has_the_gradients_of_separate_samples(
    model_folder: ModelFolder, make_examples: MakeExamples, kind: str
) -> None:
    """By the torch twins, or by the Triton kernels where the interpreter is switched on; see test_interpreter.py."""
    model, examples = adapted(model_folder(kind), torch.float32), make_examples()
    truth = reference(model, examples)
    model.zero_grad()
    with fused_lora(model), fast_layers(model, stack=True):
        for row in rows_of(examples, True, 400):
            row_loss(model, collate(row), "triton").backward()
    for name, gradient in collect(model).items():
        assert (gradient - truth[name]).norm() <= 1e-5 * truth[name].norm(), name


def test_separate_samples_keep_the_scores_of_no_layer(model_folder: ModelFolder, make_examples: MakeExamples) -> None:
    model = adapted(model_folder("mistral"), torch.float32)
    (tree,) = build_trees(make_examples(groups=1, branches=2, context=200), max_tokens=400)
    kept: list[int] = []

    def note(x: Tensor) -> Tensor:
        kept.append(x.untyped_storage().nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        separate_gradients(model, tree)
    scores = 4 * 200 * 200 * 4
    assert 0 < max(kept) < scores
    assert "forward" not in vars(causal_lm(model).model.layers[0])


def test_stacked_packed_weights_have_the_gradients_of_resident_ones(
    model_folder: ModelFolder, make_examples: MakeExamples
) -> None:
    rows, found = rows_of(make_examples(), True, 400), []
    for weights in ("nf4", "resident"):
        torch.manual_seed(3)
        settings = TuneSettings(method="qlora", weights=weights, rank=3)
        model = prepare_model(model_folder("qwen2"), settings, torch.float32, CPU)
        with fused_lora(model), fast_layers(model, stack=True):
            row_loss(model, collate(rows[0])).backward()
        found.append(collect(model))
    packed, resident = found
    assert packed.keys() == resident.keys()
    for name in packed:
        torch.testing.assert_close(packed[name], resident[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["llama", "qwen2"], ids=["tied", "untied"])
def test_full_tuning_has_the_gradients_of_separate_samples(
    model_folder: ModelFolder, make_examples: MakeExamples, kind: str
) -> None:
    model, examples = adapted(model_folder(kind), torch.float64, "full"), make_examples()
    truth = reference(model, examples)
    model.zero_grad()
    with fast_paths(model, TuneSettings(method="full", checkpointing="none")):
        for row in rows_of(examples, True, 32):
            row_loss(model, collate(row)).backward()
    found = collect(model)
    assert found.keys() | {"loss"} == truth.keys()
    for name, gradient in found.items():
        assert (gradient - truth[name]).norm() <= 1e-10 * truth[name].norm(), name


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_start_up_check_passes_what_is_right(
    model_folder: ModelFolder, make_examples: MakeExamples, method: Method
) -> None:
    model = prepare_model(model_folder("gemma3"), TuneSettings(method=method, rank=3), torch.float32, CPU)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    tree = parity_tree(build_trees(make_examples(), max_tokens=400), model)
    assert len(tree.branches) == 2
    wanted = separate_gradients(model, tree)
    with fast_paths(model, TuneSettings(method=method, checkpointing="none")):
        check_parity(shared_gradients(model, tree), wanted, model)
    assert model.training
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_the_start_up_check_refuses_another_loss(model_folder: ModelFolder, make_examples: MakeExamples) -> None:
    model = prepare_model(model_folder("llama"), TuneSettings(method="full"), torch.float32, CPU)
    tree = parity_tree(build_trees(make_examples(), max_tokens=400), model)
    model.lm_head.register_forward_hook(lambda module, args, logits: logits * 0.5)
    with pytest.raises(TrainingError, match=r"does not support 'llama'.*their loss is"):
        check_parity(shared_gradients(model, tree), separate_gradients(model, tree), model)


def test_the_start_up_check_refuses_another_gradient(model_folder: ModelFolder, make_examples: MakeExamples) -> None:
    model = prepare_model(model_folder("llama"), TuneSettings(rank=3), torch.float32, CPU)
    tree = parity_tree(build_trees(make_examples(), max_tokens=400), model)
    found, wanted = shared_gradients(model, tree), separate_gradients(model, tree)
    check_parity(found, wanted, model)
    turned = found._replace(parameters=[gradient * 1.1 for gradient in found.parameters])
    with pytest.raises(TrainingError, match=r"the gradient differs .* by 0\.1 of its size"):
        check_parity(turned, wanted, model)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
@pytest.mark.parametrize("kind", ["llama", "phi3", "gemma2"])
def test_checkpointing_changes_nothing(
    model_folder: ModelFolder, make_examples: MakeExamples, kind: str, checkpointing: Checkpointing
) -> None:
    model = adapted(model_folder(kind), torch.float64).train()
    rows = rows_of(make_examples(), True, 400)
    plain = ours(model, rows)
    for name, value in ours(model, rows, checkpointing).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-12, atol=1e-14)


def test_a_changed_branch_leaves_the_predictions_of_the_others_bit_equal(model_folder: ModelFolder) -> None:
    model = adapted(model_folder("llama"), torch.float32)
    context = tuple(range(2, 20))
    examples = [Example(str(n), "g", (*context, 20 + n, 30), (40, 41, 1)) for n in range(4)]
    changed = [
        e if e.id != "2" else e._replace(prompt_ids=(*context, 50, 51), answer_ids=(52, 53, 1)) for e in examples
    ]
    before, after = (predicting_rows(model, collate(rows_of(e, True, 200)[0])) for e in (examples, changed))
    kept = torch.arange(12) // 3 != 2
    assert torch.equal(before[kept], after[kept])
    assert not torch.equal(before[~kept], after[~kept])


def test_only_answer_tokens_are_learned(model_folder: ModelFolder, make_examples: MakeExamples) -> None:
    (row,) = rows_of(make_examples(), True, 400)
    batch = collate(row)
    answers = sorted(token for tree in row for branch in tree.branches for token in branch.answer_ids)
    assert sorted(batch.targets.tolist()) == answers
    model = adapted(model_folder("llama"), torch.float64)
    halved = row_loss(model, batch._replace(weights=batch.weights / 2))
    torch.testing.assert_close(halved * 2, row_loss(model, batch))
    assert row_loss(model, batch._replace(weights=batch.weights * 0)) == 0
