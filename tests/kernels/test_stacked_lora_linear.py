# mypy: disable-error-code="no-untyped-call, union-attr, arg-type, list-item"

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hybrid.kernels import stacked_lora_linear as module
from hybrid.kernels.lora_linear import lora_linear
from hybrid.kernels.nf4 import NestedScale, dequantize_nf4
from hybrid.kernels.stacked_lora_linear import (
    MAX_RANK,
    Adapter,
    StackedWeight,
    augments,
    stack_packed,
    stack_weights,
    stacked_lora_linear,
)

Members = list[tuple[int, int]]  # outputs, rank
SHAPES: list[tuple[int, int, Members]] = [  # rows, inputs, members
    (1, 1, [(1, 1)]),
    (5, 12, [(7, 1), (3, 7)]),
    (33, 20, [(41, 16), (9, 7), (9, 1)]),
    (9, 64, [(48, 64)]),
    (9, 48, [(40, 64), (24, 16)]),
]


class Problem(NamedTuple):
    x: Tensor
    weights: list[Tensor]
    biases: list[Tensor]
    adapters: list[Adapter]
    dy: Tensor

    def to(self, dtype: torch.dtype) -> "Problem":
        """Returns a copy in a dtype, with x and the adapters as leaves."""
        leaf = lambda t: t.detach().to(dtype, copy=True).requires_grad_()  # noqa: E731
        return Problem(
            leaf(self.x),
            [w.to(dtype) for w in self.weights],
            [b.to(dtype) for b in self.biases],
            [Adapter(leaf(a), leaf(b), scale) for a, b, scale in self.adapters],
            self.dy.to(dtype),
        )

    @property
    def leaves(self) -> list[Tensor]:
        return [self.x, *(factor for a, b, _ in self.adapters for factor in (a, b))]


def problem(rows: int, inputs: int, members: Members, dtype: torch.dtype = torch.float64) -> Problem:
    torch.manual_seed(rows)
    draw = lambda *shape: torch.randn(shape).bfloat16().double()  # noqa: E731
    adapters = [Adapter(draw(r, inputs), draw(n, r), 2.5 / (i + 1)) for i, (n, r) in enumerate(members)]
    weights, biases = [draw(n, inputs) for n, _ in members], [draw(n) for n, _ in members]
    dy = draw(rows, sum(n for n, _ in members))
    return Problem(draw(rows, inputs), weights, biases, adapters, dy).to(dtype)


def separate(p: Problem) -> Tensor:
    outputs = []
    for weight, bias, (a, b, scale) in zip(p.weights, p.biases, p.adapters, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        outputs.append(layer(p.x) + scale * linear(linear(p.x, a), b))
    return torch.cat(outputs, -1)


def total_rank(p: Problem) -> int:
    return sum(len(a) for a, _, _ in p.adapters)


def ours(p: Problem) -> Tensor:
    return stacked_lora_linear(p.x, stack_weights(p.weights, total_rank(p)), torch.cat(p.biases), p.adapters)


def run(function: Callable[[Problem], Tensor], p: Problem) -> list[Tensor]:
    y = function(p)
    y.backward(p.dy)
    return [y.detach(), *(leaf.grad for leaf in p.leaves)]


def errors(values: Sequence[Tensor], truth: Sequence[Tensor]) -> list[float]:
    return [float((v.double() - t).norm() / t.norm()) for v, t in zip(values, truth, strict=True)]


@pytest.fixture(params=["taken in", "added after"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    taken_in = request.param == "taken in"
    monkeypatch.setattr(module, "augments", lambda _m, _k, _n, rank, _rate: taken_in and rank <= MAX_RANK)
    return str(request.param)


@pytest.fixture
def unwritten_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("form", "unwritten_memory_is_nan")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_as_close_to_the_truth_as_separate_layers(shape: tuple[int, int, Members]) -> None:
    truth = run(separate, problem(*shape))
    assert max(errors(run(ours, problem(*shape)), truth)) < 1e-13
    mine, theirs = (errors(run(f, problem(*shape, torch.float32)), truth) for f in (ours, separate))
    assert all(a <= b + 1e-6 for a, b in zip(mine, theirs, strict=True)), (mine, theirs)


def test_bfloat16_is_no_less_exact_than_separate_layers(form: str) -> None:
    def small(dtype: torch.dtype) -> Problem:
        p = problem(96, 160, [(128, 16), (48, 16), (48, 16)], dtype)
        with torch.no_grad():
            for leaf in p.leaves[1:]:
                leaf /= 8  # adapters that leave most of the output to the base, as trained ones do
        return p

    truth = run(separate, small(torch.float64))
    mine, theirs = (errors(run(f, small(torch.bfloat16)), truth) for f in (ours, separate))
    assert all(a <= 1.1 * b for a, b in zip(mine, theirs, strict=True)), (mine, theirs)
    if form == "taken in":  # y and dx are rounded once
        assert max(mine[:2]) < 0.8 * min(theirs[:2]), (mine, theirs)


@pytest.mark.usefixtures("form")
def test_float64_gradients_pass_a_finite_difference_check() -> None:
    p = problem(4, 5, [(6, 2), (3, 1)])
    weight, scales = stack_weights(p.weights, 3), [scale for _, _, scale in p.adapters]

    def function(x: Tensor, *factors: Tensor) -> Tensor:
        return stacked_lora_linear(x, weight, None, list(map(Adapter, factors[::2], factors[1::2], scales)))

    assert torch.autograd.gradcheck(function, p.leaves)


@pytest.mark.usefixtures("form")
def test_accepts_inputs_with_more_axes_and_any_strides() -> None:
    p = problem(6, 8, [(10, 2), (4, 3)])
    x_BTK = p.x.detach().T.contiguous().T.reshape(2, 3, 8).transpose(0, 1).requires_grad_()
    p = p._replace(x=x_BTK, dy=p.dy.reshape(2, 3, 14).transpose(0, 1))
    assert not x_BTK.is_contiguous()
    mine = run(ours, p)
    p.x.grad = None
    for leaf in p.leaves:
        leaf.grad = None
    assert max(errors(mine, run(separate, p))) < 1e-13


@pytest.mark.usefixtures("form")
def test_an_empty_batch_gives_an_empty_output_and_zero_gradients() -> None:
    p = problem(3, 8, [(10, 2), (4, 3)])
    p = p._replace(x=torch.empty(0, 5, 8, dtype=torch.float64, requires_grad=True), dy=torch.empty(0, 5, 14).double())
    y, dx, *gradients = run(ours, p)
    assert (y.shape, dx.shape) == ((0, 5, 14), (0, 5, 8))
    assert not any(gradient.any() for gradient in gradients)
    a, b, scale = p.adapters[0]
    assert lora_linear(p.x, lambda: p.weights[0], None, a, b, scale).shape == (0, 5, 10)


@pytest.mark.usefixtures("form")
def test_two_runs_are_equal_bit_by_bit() -> None:
    shape = (33, 20, [(41, 16), (9, 7)])
    first, second = (run(ours, problem(*shape, torch.float32)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.usefixtures("form")
def test_keeps_float32_adapters_on_a_bfloat16_base() -> None:
    p, base = problem(6, 8, [(10, 2), (4, 3)], torch.float32), problem(6, 8, [(10, 2), (4, 3)], torch.bfloat16)
    y, dx, *gradients = run(ours, base._replace(adapters=p.adapters))
    assert y.dtype is dx.dtype is torch.bfloat16
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


@pytest.mark.usefixtures("form")
def test_keeps_x_and_its_adapter_product_alone_for_the_backward_pass() -> None:
    p = problem(33, 20, [(41, 16), (9, 7)])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        ours(p)
    adapters = {leaf.data_ptr() for leaf in p.leaves[1:]}
    activations = [t for t in kept if t.data_ptr() not in adapters]
    assert [tuple(t.shape) for t in activations] == [(33, 20), (33, 23)]
    assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in activations)


@pytest.mark.usefixtures("form")
def test_an_input_without_gradient_gets_none() -> None:
    p = problem(3, 4, [(5, 2)])
    calls = []
    stacked = stack_weights(p.weights, 2)
    counted = StackedWeight(stacked.outputs, 4, 2, lambda: calls.append(1) or stacked.buffer())  # type: ignore[func-returns-value]
    stacked_lora_linear(p.x.detach(), counted, None, p.adapters).sum().backward()
    assert calls == [1]  # the backward pass did not need the weight
    assert p.adapters[0].a_RK.grad is not None


@pytest.mark.usefixtures("form")
def test_layers_may_use_views_of_the_buffer_as_their_weights() -> None:
    p = problem(5, 8, [(10, 2), (4, 3)])
    stacked = stack_weights(p.weights, 5)
    layer = nn.Linear(8, 4, bias=False)
    layer.weight = nn.Parameter(stacked.member(1), requires_grad=False)
    alone = layer(p.x)
    stacked_lora_linear(p.x, stacked, None, p.adapters)  # writes the adapters beside the weight
    assert torch.equal(layer.weight, p.weights[1])
    assert layer.weight.untyped_storage().data_ptr() == stacked.buffer().data_ptr()
    (dx,) = torch.autograd.grad(alone, p.x, p.dy[:, 10:])
    torch.testing.assert_close(dx, p.dy[:, 10:] @ p.weights[1])


def test_rows_of_a_buffer_start_at_multiples_of_64_elements() -> None:
    buffer = stack_weights([torch.zeros(5, 30), torch.zeros(3, 30)], 40).buffer()
    assert (buffer.stride(), buffer.shape) == ((128, 1), (48, 128))


def packed_member(layer: bnb.nn.Linear4bit) -> Callable[[Tensor], Tensor]:
    packed, state = layer.weight.data, layer.weight.quant_state
    inner = state.state2
    scale = NestedScale(state.absmax, inner.code, inner.absmax, state.offset, inner.blocksize)
    return lambda out: dequantize_nf4(
        packed, state.code, scale, state.blocksize, tuple(state.shape), state.dtype, out=out
    )


@pytest.mark.usefixtures("form", "unwritten_memory_is_nan")
def test_packed_members_equal_the_4bit_layers_of_bitsandbytes() -> None:
    p = problem(10, 64, [(48, 16), (24, 7)], torch.float32)
    layers = []
    for weight in p.weights:
        layer = bnb.nn.Linear4bit(64, len(weight), bias=False, compute_dtype=torch.float32, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4").to("cpu")
        layers.append(layer.to("cpu"))
    stacked = stack_packed([packed_member(layer) for layer in layers], (48, 24), 64, 23, torch.float32, p.x.device)
    for index, layer in enumerate(layers):
        weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert torch.equal(stacked.member(index), weight)

    def composed(p: Problem) -> Tensor:
        pairs = zip(layers, p.adapters, strict=True)
        return torch.cat([layer(p.x) + scale * linear(linear(p.x, a), b) for layer, (a, b, scale) in pairs], -1)

    theirs = run(composed, p)
    copy = problem(10, 64, [(48, 16), (24, 7)], torch.float32)
    mine = run(lambda p: stacked_lora_linear(p.x, stacked, None, p.adapters), copy)
    assert max(errors(mine, [t.double() for t in theirs])) < 1e-6


def test_adapters_are_taken_in_where_that_moves_less() -> None:
    llama = {"rows": 5200, "multiply_adds_per_move": 170}
    assert augments(inputs=4096, outputs=6144, rank=48, **llama)  # q, k, v
    assert augments(inputs=4096, outputs=28672, rank=32, **llama)  # gate, up
    assert augments(inputs=4096, outputs=14336, rank=16, **llama)  # down, backward
    assert not augments(inputs=14336, outputs=4096, rank=16, **llama)  # down, forward
    assert not augments(inputs=4096, outputs=4096, rank=16, **llama)  # o
    assert not augments(inputs=4096, outputs=28672, rank=MAX_RANK + 1, **llama)
    assert not augments(rows=1, inputs=4096, outputs=6144, rank=48, multiply_adds_per_move=170)  # the copy of B alone
    assert not augments(rows=5200, inputs=4096, outputs=6144, rank=48, multiply_adds_per_move=10)  # a slow multiplier
