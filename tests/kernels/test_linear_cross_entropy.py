"""The same tests run by Triton's interpreter in test_interpreter.py, where float32 goes through the Triton kernel."""

# mypy: disable-error-code="no-untyped-call, list-item, union-attr"

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hybrid.kernels.linear_cross_entropy import linear_cross_entropy, softmax_gradient_, softmax_gradient_torch_

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# (rows, hidden size, vocabulary): one row, one column, odd sizes, a vocabulary above and beside the kernel's block
SHAPES = [(1, 8, 5), (3, 1, 2), (7, 33, 123), (5, 16, 4096), (4, 12, 5003)]


def ordinary(
    hidden_MH: Tensor, head_VH: Tensor, targets_M: Tensor, weights_M: Tensor, softcap: float | None = None
) -> Tensor:
    logits_MV = (hidden_MH @ head_VH.T).to(weights_M.dtype)
    logits_MV = logits_MV if softcap is None else softcap * torch.tanh(logits_MV / softcap)
    nll_M = cross_entropy(logits_MV, targets_M, reduction="none")
    return (nll_M * weights_M).sum()


def problem(rows: int, size: int, vocabulary: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(rows * 1000 + vocabulary)
    hidden_MH = torch.randn(rows, size, dtype=torch.float64) * scale
    head_VH = torch.randn(vocabulary, size, dtype=torch.float64)
    return hidden_MH, head_VH, torch.randint(vocabulary, (rows,)), torch.rand(rows, dtype=torch.float64)


def gradients(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    dtype: torch.dtype,
    factor: int = 3,
    **options: float,
) -> list[Tensor]:
    hidden_MH, head_VH, targets_M, weights_M = inputs
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [leaf.detach().to(dtype, copy=True).requires_grad_() for leaf in (hidden_MH, head_VH)]
    loss = function(*leaves, targets_M, weights_M.to(wide), **options)
    (factor * loss).backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def error(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [float((v.double() - t).norm() / (t.norm() + 1e-30)) for v, t in zip(values, truth, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk_bytes", [1, 2**14, 2**30])
def test_is_as_close_to_the_truth_as_the_ordinary_loss(shape: tuple[int, ...], chunk_bytes: int) -> None:
    inputs = problem(*shape)
    rounded = tuple(x.float().double() if x.is_floating_point() else x for x in inputs)
    truth = gradients(ordinary, rounded, torch.float64)
    ours = error(gradients(linear_cross_entropy, inputs, torch.float32, chunk_bytes=chunk_bytes), truth)
    theirs = error(gradients(ordinary, inputs, torch.float32), truth)
    assert all(a <= b + 2e-6 for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("softcap", [1.5, 30.0])
def test_soft_capped_logits_are_as_close_to_the_truth_as_the_ordinary_loss(
    shape: tuple[int, ...], softcap: float
) -> None:
    inputs = problem(*shape)
    rounded = tuple(x.float().double() if x.is_floating_point() else x for x in inputs)
    truth = gradients(ordinary, rounded, torch.float64, softcap=softcap)
    ours = gradients(linear_cross_entropy, inputs, torch.float32, softcap=softcap, chunk_bytes=2**14)
    theirs = gradients(ordinary, inputs, torch.float32, softcap=softcap)
    assert all(a <= b + 2e-6 for a, b in zip(error(ours, truth), error(theirs, truth), strict=True))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter's bfloat16 is wrong")
def test_bfloat16_is_as_close_to_the_truth_as_the_ordinary_loss() -> None:
    inputs = problem(7, 33, 123)
    rounded = tuple(x.bfloat16().double() if x.is_floating_point() else x for x in inputs[:2]) + inputs[2:]
    truth = gradients(ordinary, rounded, torch.float64, factor=1)
    ours = error(gradients(linear_cross_entropy, inputs, torch.bfloat16, factor=1), truth)
    theirs = error(gradients(ordinary, inputs, torch.bfloat16, factor=1), truth)
    assert all(a <= b + 1e-3 for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(300, 64, 128_256), (7, 33, 5003)], ids=str)
def test_gpu_is_as_close_to_the_truth_as_the_ordinary_loss(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = tuple(x.cuda() for x in problem(*shape))
    rounded = tuple(x.to(dtype).double() if x.is_floating_point() else x for x in inputs[:2]) + inputs[2:]
    truth = gradients(ordinary, rounded, torch.float64, factor=1)
    ours = gradients(linear_cross_entropy, inputs, dtype, factor=1)
    theirs = error(gradients(ordinary, inputs, dtype, factor=1), truth)
    assert all(a <= b + 1e-3 for a, b in zip(error(ours, truth), theirs, strict=True)), (error(ours, truth), theirs)
    again = gradients(linear_cross_entropy, inputs, dtype, factor=1)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def test_float64_gradients_pass_a_finite_difference_check() -> None:
    hidden_MH, head_VH, targets_M, weights_M = problem(4, 3, 6)
    leaves = (hidden_MH.requires_grad_(), head_VH.requires_grad_())
    for softcap in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda h, w, cap=softcap: linear_cross_entropy(h, w, targets_M, weights_M, softcap=cap, chunk_bytes=100),
            leaves,
        )


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.tensor([0.0, 2.0, 0.0])])
def test_rows_of_weight_zero_have_no_effect(weights: Tensor) -> None:
    hidden_MH, head_VH, targets_M, _ = problem(3, 4, 50, scale=1e4)
    loss, dhidden_MH, _ = gradients(linear_cross_entropy, (hidden_MH, head_VH, targets_M, weights), torch.float32)
    masked = weights == 0
    assert torch.equal(dhidden_MH[masked], torch.zeros_like(dhidden_MH[masked]))
    assert torch.isfinite(loss)
    assert bool((loss == 0) == masked.all())


def test_no_rows_give_zero() -> None:
    head_VH = torch.randn(9, 4, requires_grad=True)
    hidden_MH = torch.zeros(0, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden_MH, head_VH, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    loss.backward()
    assert loss == 0
    assert not head_VH.grad.any()


def test_large_logits_stay_finite() -> None:
    hidden_MH, head_VH, targets_M, weights_M = problem(5, 8, 300)
    logits_MV = hidden_MH @ head_VH.T
    scaled = hidden_MH * (1e4 / logits_MV.abs().amax(1, keepdim=True))
    inputs = (scaled.float().double(), head_VH.float().double(), targets_M, weights_M)
    truth = gradients(ordinary, inputs, torch.float64)
    ours = gradients(linear_cross_entropy, inputs, torch.float32)
    assert all(value.isfinite().all() for value in ours)
    assert max(error(ours, truth)) < 1e-3


def test_gradient_of_a_near_certain_token_does_not_vanish() -> None:
    logits_CV = torch.tensor([[20.0, 0.0, 0.0]])  # p = 1 - 4e-9, which float32 rounds to 1
    targets_C, weights_C = torch.tensor([0]), torch.ones(1)
    losses_C = softmax_gradient_(logits_CV, targets_C, weights_C)
    expected = 2 * torch.tensor(-20.0, dtype=torch.float64).exp()
    torch.testing.assert_close(logits_CV[0, 0].double(), -expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(logits_CV[0, 1:].double(), (expected / 2).expand(2), rtol=1e-5, atol=0)
    assert losses_C.item() < 1e-7


def test_repeated_rows_add_their_gradients() -> None:
    hidden_MH, head_VH, targets_M, weights_M = problem(4, 6, 20)
    row_1H = hidden_MH[:1].float().requires_grad_()
    linear_cross_entropy(row_1H[[0, 0, 0, 0]], head_VH.float(), targets_M, weights_M.float()).backward()
    again_1H = hidden_MH[:1].float().requires_grad_()
    ordinary(again_1H.expand(4, -1), head_VH.float(), targets_M, weights_M.float()).backward()
    torch.testing.assert_close(row_1H.grad, again_1H.grad)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden_MH, head_VH, targets_M, weights_M = problem(3, 4, 7)
    hidden_MH.requires_grad_()
    linear_cross_entropy(hidden_MH, head_VH, targets_M, weights_M).backward()
    assert head_VH.grad is None
    assert hidden_MH.grad is not None


def test_the_dispatched_kernel_writes_every_element_twice_the_same() -> None:
    torch.manual_seed(0)
    logits_CV = torch.randn(6, 4099)
    targets_C, weights_C = torch.randint(4099, (6,)), torch.rand(6)
    canvas = torch.full((8, 4099), float("nan"))
    runs = []
    for _ in range(2):
        canvas[1:7] = logits_CV
        runs.append((softmax_gradient_(canvas[1:7], targets_C, weights_C), canvas[1:7].clone()))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert canvas[[0, 7]].isnan().all()
    twin_CV = logits_CV.clone()
    twin_C = softmax_gradient_torch_(twin_CV, targets_C, weights_C)
    torch.testing.assert_close(runs[0][0], twin_C, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(runs[0][1], twin_CV, rtol=1e-5, atol=1e-7)
