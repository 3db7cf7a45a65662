"""The same tests run by Triton's interpreter in test_interpreter.py, where all but float64 goes through the kernel."""

# mypy: disable-error-code="no-untyped-call, func-returns-value"

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as rotate_llama
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb as rotate_phi3

from hybrid.kernels.lora_linear import lora_linear
from hybrid.kernels.rope import rotate_

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
TOLERANCE = {torch.float32: 1e-7, torch.float16: 1e-5} | ({} if INTERPRETED else {torch.bfloat16: 1e-4})
# (tokens, heads, of these rotated, head dim, rotated dims)
SHAPES = [(1, 1, 1, 2, 2), (5, 7, 5, 64, 64), (3, 4, 4, 96, 96), (4, 6, 4, 80, 20), (2, 40, 33, 10, 6), (3, 5, 0, 8, 8)]


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills what torch.empty returns
    yield
    torch.use_deterministic_algorithms(False)


def exact(heads: Tensor, cos: Tensor, sin: Tensor, rotated: int) -> Tensor:
    """The rotation as a product with one matrix per token, built entry by entry."""
    tokens, width = cos.shape
    half = width // 2
    turn = torch.eye(heads.shape[2], dtype=heads.dtype, device=heads.device).repeat(tokens, 1, 1)
    for i in range(half):
        turn[:, i, i], turn[:, half + i, half + i] = cos[:, i], cos[:, half + i]
        turn[:, i, half + i], turn[:, half + i, i] = -sin[:, i], sin[:, half + i]
    turned = torch.einsum("lij,lnj->lni", turn, heads[:, :rotated])
    return torch.cat((turned, heads[:, rotated:]), 1)


def ours(heads: Tensor, cos: Tensor, sin: Tensor, rotated: int) -> Tensor:
    return rotate_(heads.clone(), cos, sin, rotated)


def theirs(heads: Tensor, cos: Tensor, sin: Tensor, rotated: int) -> Tensor:
    if cos.shape[1] == heads.shape[2]:
        turned, _ = rotate_llama(heads[:, :rotated], heads[:, :1], cos, sin)
    else:
        turned, _ = rotate_phi3(heads[:, :rotated], heads[:, :1], cos, sin)
    return torch.cat((turned, heads[:, rotated:]), 1)


def problem(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], int]:
    """Heads, cosines, sines and the gradient; each half has cosines and sines of its own."""
    tokens, heads, rotated, dim, width = shape
    torch.manual_seed(dim)
    shapes = [(tokens, heads, dim), (tokens, width), (tokens, width), (tokens, heads, dim)]
    return [torch.randn(s, dtype=torch.float64).to(DEVICE, dtype).double() for s in shapes], rotated


def run(rotate: Callable[..., Tensor], tensors: list[Tensor], rotated: int, dtype: torch.dtype) -> list[Tensor]:
    heads, cos, sin, gradient = (t.to(dtype, copy=True) for t in tensors)
    heads.requires_grad_()
    turned = rotate(heads, cos, sin, rotated)
    return [turned.detach(), *torch.autograd.grad(turned, heads, gradient)]


def error(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [float((v.double() - t).norm() / t.norm()) for v, t in zip(values, truth, strict=True)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_as_close_to_the_truth_as_transformers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensors, rotated = problem(shape, dtype)
    truth = run(exact, tensors, rotated, torch.float64)
    assert max(error(run(ours, tensors, rotated, torch.float64), truth)) < 1e-15
    mine, other = (error(run(rotate, tensors, rotated, dtype), truth) for rotate in (ours, theirs))
    assert all(a <= b + TOLERANCE[dtype] for a, b in zip(mine, other, strict=True)), (mine, other)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_bit_equal_to_transformers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensors, rotated = problem(shape)
    mine, other = (run(rotate, tensors, rotated, dtype) for rotate in (ours, theirs))
    assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_float64_gradients_pass_a_finite_difference_check() -> None:
    for shape in ((3, 4, 2, 6, 6), (3, 2, 2, 6, 4)):
        tensors, rotated = problem(shape)
        heads, *angles = (t.cpu() for t in tensors[:3])
        assert torch.autograd.gradcheck(lambda h, given=(*angles, rotated): ours(h, *given), heads.requires_grad_())


def test_rotates_in_place_and_touches_nothing_else() -> None:
    (heads, cos, sin, _), rotated = problem((4, 6, 4, 20, 8))
    heads, cos, sin = heads.float(), cos.float(), sin.float()
    canvas = torch.full((6, 8, 30), torch.nan, device=DEVICE)
    window = canvas[1:5, 1:7, 5:25].copy_(heads)
    turned = rotate_(window, cos, sin, rotated)
    assert turned.data_ptr() == window.data_ptr()
    assert torch.equal(window, theirs(heads, cos, sin, rotated))
    canvas[1:5, 1:7, 5:25] = torch.nan
    assert canvas.isnan().all()


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_accepts_any_strides(axes: tuple[int, int, int]) -> None:
    tensors, rotated = problem((3, 5, 4, 8, 6))
    heads, cos, sin, gradient = (t.float() for t in tensors)
    back = [axes.index(i) for i in range(3)]
    wanted = run(theirs, tensors, rotated, torch.float32)
    strided = heads.permute(axes).contiguous().permute(back).requires_grad_()
    wide_sin = torch.cat((sin, sin), 1)[:, : sin.shape[1]]
    turned = rotate_(strided * 1, cos.T.contiguous().T, wide_sin, rotated)
    (found,) = torch.autograd.grad(turned, strided, gradient.permute(axes).contiguous().permute(back))
    assert torch.equal(turned, wanted[0])
    assert torch.equal(found, wanted[1])


def test_takes_a_view_of_a_packed_projection() -> None:
    (_, cos, sin, gradient), rotated = problem((5, 6, 4, 8, 8))
    shapes = [(5, 12), (48, 12), (2, 12), (48, 2)]
    x, weight, a, b = (torch.randn(s, dtype=torch.float64, device=DEVICE) for s in shapes)
    leaves = [t.requires_grad_() for t in (x, a, b)]

    def gradients(rotate: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        packed = lora_linear(x.unsqueeze(0), lambda: weight, None, a, b, 2.0)
        turned = rotate(packed.view(5, 6, 8), cos, sin, rotated)
        return torch.autograd.grad(turned.transpose(0, 1), leaves, gradient.transpose(0, 1))

    torch.testing.assert_close(gradients(rotate_), gradients(exact))


def test_a_gradient_is_not_changed_in_place() -> None:
    tensors, rotated = problem((3, 4, 4, 8, 8))
    heads, cos, sin, gradient = (t.float() for t in tensors)
    before = gradient.clone()
    run(ours, [heads, cos, sin, gradient], rotated, torch.float32)
    assert torch.equal(gradient, before)


def test_a_tensor_that_another_backward_pass_needs_raises() -> None:
    (heads, cos, sin, _), rotated = problem((3, 4, 4, 8, 8))
    powers = heads.requires_grad_().reshape(3, 32).exp()  # keeps its result
    turned = rotate_(powers.view(3, 4, 8), cos, sin, rotated)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        turned.sum().backward()


def test_keeps_the_angles_alone() -> None:
    (heads, cos, sin, _), rotated = problem((3, 4, 4, 8, 8))
    kept: list[Tensor] = []
    copy = heads.requires_grad_() * 1
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rotate_(copy, cos, sin, rotated)
    assert {t.data_ptr() for t in kept} == {cos.data_ptr(), sin.data_ptr()}


def test_no_tokens_and_no_heads_are_left_as_they_are() -> None:
    for shape in ((0, 4, 4, 8, 8), (3, 0, 0, 8, 8)):
        tensors, rotated = problem(shape)
        turned, gradient = run(ours, tensors, rotated, torch.float32)
        assert turned.shape == gradient.shape == shape[:2] + shape[3:4]


def test_is_the_same_in_two_runs() -> None:
    tensors, rotated = problem((5, 7, 5, 64, 64))
    first, second = (run(ours, tensors, rotated, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
def test_offsets_beyond_31_bits() -> None:
    tokens = 2**31 // 4096 + 3
    heads = torch.randn(tokens, 32, 128, device="cuda", dtype=torch.bfloat16)
    cos, sin = torch.randn(2, tokens, 128, device="cuda", dtype=torch.bfloat16)
    expected = theirs(heads[-3:], cos[-3:], sin[-3:], 24)
    assert torch.equal(rotate_(heads, cos, sin, 24)[-3:], expected)
