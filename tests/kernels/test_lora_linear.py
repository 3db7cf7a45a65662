# mypy: disable-error-code="no-untyped-call, list-item, union-attr, func-returns-value"

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from hybrid.kernels.lora_linear import lora_linear

SHAPES = [(1, 1, 1, 1), (5, 12, 7, 3), (33, 20, 41, 16), (9, 64, 48, 64)]  # rows, inputs, outputs, rank


def ordinary(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return linear(x, weight, bias) + scale * linear(linear(x, a), b)


def ours(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return lora_linear(x, lambda: weight, bias, a, b, scale)


def run(function: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    x, weight, bias, a, b, dy = (t.detach().to(dtype, copy=True) for t in tensors)
    leaves = [t.requires_grad_() for t in (x, a, b)]
    y = function(x, weight, bias, a, b, 2.5)
    y.backward(dy)
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def problem(rows: int, inputs: int, outputs: int, rank: int) -> list[Tensor]:
    torch.manual_seed(rows)
    shapes = [(rows, inputs), (outputs, inputs), (outputs,), (rank, inputs), (outputs, rank), (rows, outputs)]
    return [torch.randn(shape, dtype=torch.float64).float().double() for shape in shapes]


def error(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [float((v.double() - t).norm() / t.norm()) for v, t in zip(values, truth, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
def test_is_as_close_to_the_truth_as_the_composition(shape: tuple[int, ...]) -> None:
    tensors = problem(*shape)
    truth = run(ordinary, tensors, torch.float64)
    assert max(error(run(ours, tensors, torch.float64), truth)) < 1e-13
    mine, theirs = (error(run(f, tensors, torch.float32), truth) for f in (ours, ordinary))
    assert all(a <= b + 1e-6 for a, b in zip(mine, theirs, strict=True)), (mine, theirs)


def test_float64_gradients_pass_a_finite_difference_check() -> None:
    x, weight, bias, a, b, _ = problem(4, 5, 6, 2)
    leaves = tuple(t.requires_grad_() for t in (x, a, b))
    assert torch.autograd.gradcheck(lambda x, a, b: ours(x, weight, bias, a, b, 0.5), leaves)


def test_accepts_inputs_with_more_axes_and_any_strides() -> None:
    x, weight, _, a, b, _ = problem(6, 8, 10, 2)
    x_BTK = x.T.contiguous().T.reshape(2, 3, 8)[:, :, torch.arange(8)].requires_grad_()
    y_BTN = ours(x_BTK, weight, None, a, b, 1.0)
    torch.testing.assert_close(y_BTN, ordinary(x_BTK, weight, None, a, b, 1.0))
    (grad,) = torch.autograd.grad(y_BTN.sum(), x_BTK)
    assert grad.shape == x_BTK.shape


def test_keeps_float32_adapters_on_a_bfloat16_base() -> None:
    x, weight, _, a, b, dy = problem(6, 8, 10, 2)
    a, b = a.float().requires_grad_(), b.float().requires_grad_()
    y = ours(x.bfloat16(), weight.bfloat16(), None, a, b, 1.0)
    y.backward(dy.bfloat16())
    assert y.dtype is torch.bfloat16
    assert a.grad.dtype is b.grad.dtype is torch.float32


def test_an_input_without_gradient_gets_none() -> None:
    x, weight, _, a, b, _ = problem(3, 4, 5, 2)
    calls = []
    a.requires_grad_()
    b.requires_grad_()
    lora_linear(x, lambda: calls.append(1) or weight, None, a, b, 1.0).sum().backward()
    assert calls == [1]  # the backward pass did not need the weight
    assert a.grad is not None
