"""The same tests run by Triton's interpreter in test_interpreter.py, where all but float64 goes through the kernels."""

# mypy: disable-error-code="no-untyped-call, list-item, func-returns-value"

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from hybrid.kernels import rms_norm as module_under_test
from hybrid.kernels.rms_norm import add_rms_norm, rms_norm

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-4} | ({} if INTERPRETED else {torch.bfloat16: 1e-3})
WIDTHS = [1, 7, 100, 576, 1000, 4096]
EPS = 1e-5

Norm = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills what torch.empty returns
    yield
    torch.use_deterministic_algorithms(False)


def module(width: int, plus_one: bool) -> nn.Module:
    return Gemma2RMSNorm(width, eps=EPS) if plus_one else LlamaRMSNorm(width, eps=EPS)


def theirs(x: Tensor, weight: Tensor, plus_one: bool) -> Tensor:
    norm = module(x.shape[-1], plus_one)
    normed: Tensor = torch.func.functional_call(norm, {"weight": weight}, (x,))
    return normed


def ours(x: Tensor, weight: Tensor, plus_one: bool) -> Tensor:
    return rms_norm(x, weight, EPS, plus_one=plus_one)


def exact(x: Tensor, weight: Tensor, plus_one: bool) -> Tensor:
    return x / ((x * x).mean(-1, keepdim=True) + EPS).sqrt() * (weight + 1 if plus_one else weight)


def problem(rows: int, width: int, plus_one: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(width)
    x, residual, *gradients = (torch.randn(rows, width, dtype=torch.float64) for _ in range(4))
    weight = torch.randn(width, dtype=torch.float64) * 0.2 + (not plus_one)
    return [t.to(DEVICE, dtype).double() for t in (3 * x, residual, weight, *gradients)]


def run(norm: Norm, tensors: list[Tensor], plus_one: bool, dtype: torch.dtype) -> list[Tensor]:
    """The norm of x, with the gradients of x and of the weight."""
    x, weight = (tensors[i].to(dtype, copy=True).requires_grad_() for i in (0, 2))
    normed = norm(x, weight, plus_one)
    return [normed.detach(), *torch.autograd.grad(normed, (x, weight), tensors[3].to(dtype))]


def run_sum(norm: Norm | None, tensors: list[Tensor], plus_one: bool, dtype: torch.dtype) -> list[Tensor]:
    """The sum of x and a residual and its norm, with all gradients; without a norm, by `add_rms_norm`."""
    x, residual, weight = (t.to(dtype, copy=True).requires_grad_() for t in tensors[:3])
    if norm is None:
        normed, total = add_rms_norm(x, residual, weight, EPS, plus_one=plus_one)
    else:
        total = x + residual
        normed = norm(total, weight, plus_one)
    gradients = [t.to(dtype) for t in tensors[3:]]
    found = torch.autograd.grad((normed, total), (x, residual, weight), gradients)
    return [normed.detach(), total.detach(), *found]


def error(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    """Relative, but absolute for the gradient at width 1: there the two terms of dx cancel."""
    return [float((v.double() - t).norm() / (t.norm() + 1)) for v, t in zip(values, truth, strict=True)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("plus_one", [False, True], ids=["llama", "gemma"])
@pytest.mark.parametrize("width", WIDTHS)
def test_is_as_close_to_the_truth_as_transformers(width: int, plus_one: bool, dtype: torch.dtype) -> None:
    tensors = problem(5, width, plus_one, dtype)
    truth = run(exact, tensors, plus_one, torch.float64)
    assert max(error(run(ours, tensors, plus_one, torch.float64), truth)) < 1e-13
    mine, other = (error(run(norm, tensors, plus_one, dtype), truth) for norm in (ours, theirs))
    assert all(a <= b + TOLERANCE[dtype] for a, b in zip(mine, other, strict=True)), (mine, other)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("plus_one", [False, True], ids=["llama", "gemma"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_sum_is_as_close_to_the_truth_as_transformers(width: int, plus_one: bool, dtype: torch.dtype) -> None:
    tensors = problem(5, width, plus_one, dtype)
    truth = run_sum(exact, tensors, plus_one, torch.float64)
    assert max(error(run_sum(None, tensors, plus_one, torch.float64), truth)) < 1e-13
    mine, other = (error(run_sum(norm, tensors, plus_one, dtype), truth) for norm in (None, theirs))
    assert all(a <= b + TOLERANCE[dtype] for a, b in zip(mine, other, strict=True)), (mine, other)


@pytest.mark.parametrize("plus_one", [False, True])
def test_float64_gradients_pass_a_finite_difference_check(plus_one: bool) -> None:
    leaves = tuple(t.cpu().requires_grad_() for t in problem(3, 5, plus_one)[:3])
    assert torch.autograd.gradcheck(lambda x, _, w: ours(x, w, plus_one), leaves)
    assert torch.autograd.gradcheck(lambda x, y, w: tuple(add_rms_norm(x, y, w, EPS, plus_one=plus_one)), leaves)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter's bfloat16 is wrong")
@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_twin_is_bit_equal_to_the_modules_of_transformers(width: int, dtype: torch.dtype, plus_one: bool) -> None:
    x, residual, weight = (t.to("cpu", dtype) for t in problem(40, width, plus_one)[:3])
    assert torch.equal(ours(x, weight, plus_one), theirs(x, weight, plus_one))
    normed, total = add_rms_norm(x, residual, weight, EPS, plus_one=plus_one)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, theirs(x + residual, weight, plus_one))


@pytest.mark.parametrize("dtype", [dtype for dtype in TOLERANCE if dtype.itemsize == 2], ids=str)
@pytest.mark.parametrize("plus_one", [False, True])
def test_rounds_where_transformers_rounds(plus_one: bool, dtype: torch.dtype) -> None:
    x, residual, weight = (t.to(dtype) for t in problem(5, 1000, plus_one)[:3])
    equal = add_rms_norm(x, residual, weight, EPS, plus_one=plus_one).normed == theirs(x + residual, weight, plus_one)
    assert equal.double().mean() > 0.98  # a value between two others may fall to either


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_wider_weight_widens_the_result_of_llama_alone(dtype: torch.dtype) -> None:
    x, _, weight = (t.float() for t in problem(4, 33, plus_one=False)[:3])
    for plus_one in (False, True):
        found, expected = (f(x.to(dtype), weight, plus_one) for f in (ours, theirs))
        assert found.dtype is expected.dtype
        assert max(error([found], [expected.double()])) < 1e-5  # without Llama's rounding to float16: 2e-4


@pytest.mark.parametrize("width", [1, 7, 576])
def test_accepts_any_strides_and_leading_axes(width: int) -> None:
    x, residual, weight, *gradients = (t.float() for t in problem(6, width, plus_one=False))
    wanted = run_sum(None, [x, residual, weight, *gradients], False, torch.float32)
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda t: t.reshape(2, 3, width),
        lambda t: t.T.contiguous().T,
        lambda t: t.reshape(3, 2, width).transpose(0, 1).contiguous().transpose(0, 1),
        lambda t: torch.nn.functional.pad(t, (2, 3), value=torch.nan)[:, 2:-3],
    ]
    for layout in layouts:
        leaves = [t.detach().requires_grad_() for t in (layout(x), layout(residual).contiguous())]
        sums = add_rms_norm(leaves[0], leaves[1], weight, EPS)
        dnormed, dtotal = map(layout, gradients)
        found = torch.autograd.grad(sums, leaves, (dnormed.contiguous(), dtotal))
        for value, expected in zip([*sums, *found], wanted[:4], strict=True):
            assert value.shape == leaves[0].shape
            torch.testing.assert_close(value.reshape(6, width), expected, rtol=2e-6, atol=1e-6)


def test_a_gradient_without_strides_is_read() -> None:
    x, _, weight = (t.float() for t in problem(4, 9, plus_one=False)[:3])
    x.requires_grad_()
    (found,) = torch.autograd.grad(ours(x, weight, False).sum(), x)
    (expected,) = torch.autograd.grad(exact(x, weight, False).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_no_rows_give_no_rows_and_no_gradient() -> None:
    found = run_sum(None, problem(0, 7, plus_one=False), False, torch.float32)
    assert [t.shape for t in found] == [(0, 7)] * 4 + [(7,)]
    assert not found[4].any()


@pytest.mark.parametrize("rows", [1, 7, 20])
def test_writes_every_element_twice_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        monkeypatch.setattr("hybrid.kernels.rms_norm_triton.PROGRAMS", 3)  # each takes several steps
    for width in (7, 1000, 4096):
        tensors = problem(rows, width, plus_one=True, dtype=torch.float32)
        first, second = (run_sum(None, tensors, True, torch.float32) for _ in range(2))
        truth = run_sum(exact, tensors, True, torch.float64)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert max(error(first, truth)) < 1e-6


def test_a_row_of_zeros_has_a_finite_gradient() -> None:
    x = torch.zeros(2, 5, device=DEVICE, requires_grad=True)
    normed = ours(x, torch.ones(5, device=DEVICE), False)
    (gradient,) = torch.autograd.grad(normed, x, torch.ones_like(normed))
    assert not normed.any()
    torch.testing.assert_close(gradient, torch.full_like(x, EPS**-0.5))


@pytest.mark.parametrize("trained", [False, True])
def test_the_gradient_of_the_weight_is_computed_only_if_needed(trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, weight, gradient, _ = problem(3, 5, plus_one=False)
    backward, computed = module_under_test._backward, []
    monkeypatch.setattr(module_under_test, "_backward", lambda *given: computed.append(backward(*given)) or computed[0])
    ours(x.requires_grad_(), weight.requires_grad_(trained), False).backward(gradient)
    assert [dweight is not None for _, dweight in computed] == [trained]
    assert (weight.grad is not None) == trained


def test_keeps_the_sum_and_one_number_per_row() -> None:
    x, residual, weight, *_ = (t.float() for t in problem(4, 100, plus_one=False))
    kept: list[Tensor] = []
    x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        _, total = add_rms_norm(x, residual, weight, EPS)
    assert sum(t.numel() for t in kept) == total.numel() + len(total) + weight.numel()


def test_an_unused_output_adds_no_gradient() -> None:
    tensors = problem(4, 10, plus_one=False)
    x, residual, weight, dnormed, dtotal = tensors
    for t in (x, residual, weight):
        t.requires_grad_()
    normed, total = add_rms_norm(x, residual, weight, EPS)
    alone = torch.autograd.grad(normed, (x, residual, weight), dnormed, retain_graph=True)
    wanted = torch.autograd.grad(exact(x + residual, weight, False), (x, residual, weight), dnormed)
    torch.testing.assert_close(alone, wanted)
    dx, dresidual, dweight = torch.autograd.grad(total, (x, residual, weight), dtotal, allow_unused=True)
    assert torch.equal(dx, dtotal)
    assert torch.equal(dresidual, dtotal)
    assert dweight is None


@pytest.mark.gpu
def test_offsets_beyond_31_bits() -> None:
    rows = 2**31 // 8192 + 3
    x = torch.randn(rows, 8192, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(8192, device="cuda", dtype=torch.bfloat16)
    normed = ours(x, weight, False)
    (dx,) = torch.autograd.grad(normed, x, x)
    tail = x.detach()[-3:].requires_grad_()
    expected = ours(tail, weight, False)
    assert torch.equal(normed[-3:], expected)
    assert torch.equal(dx[-3:], *torch.autograd.grad(expected, tail, tail))
