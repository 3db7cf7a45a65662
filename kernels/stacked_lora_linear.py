"""Several LoRA linears of one input, such as q, k, v or gate and up, as one product over a stacked frozen weight.

W [N, K] holds the members' weights one above the other, A [R, K] their adapters likewise, each times its scale, and
B [N, R] is block-diagonal. The adapters fit inside the base product, which then rounds once:
``Y = [X | X A^T] [W | B]^T`` and ``dX = [dY | dY B] [[W], [A]]``. Where that costs more than it saves (`augments`),
they are added to the base product instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

ALIGNMENT = 64  # elements: rows of a widened factor start where wide loads may
MAX_RANK = 64
# Multiply-adds of a matrix product in the time of one element read or written: an H200 in bfloat16 (769 TFLOP/s and
# 4.3 TB/s measured), and two x86 cores in float32 (35 G/s and 3.6 G/s measured).
TENSOR_CORES, PLAIN_CORES = 170, 10


class Adapter(NamedTuple):
    """The LoRA factors of one linear layer; they add ``scale * (x @ A.T) @ B.T`` to its output.

    Attributes:
        a_RK: [R, K] of any floating dtype; multiplied in the dtype of x, with its gradient in its own dtype.
        b_NR: [N, R], likewise.
        scale: Factor of the product.
    """

    a_RK: Tensor
    b_NR: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Frozen weights of linear layers that read one input; made by `stack_weights` or `stack_packed`.

    Attributes:
        outputs: N_i of every layer.
        inputs: K.
        room: Total rank of the adapters that fit beside the weight.
        buffer: Returns [N + room, at least K + room] with the weight top-left; the rest is scratch of the product.
    """

    outputs: tuple[int, ...]
    inputs: int
    room: int
    buffer: Callable[[], Tensor]

    def member(self, index: int) -> Tensor:
        """Returns the weight [N_i, K] of one layer, rows strided: a view of the resident buffer, or unpacked anew."""
        # By .data the view counts its versions alone: writes to the scratch are no change of a weight autograd holds.
        return self.buffer().data[_spans(self.outputs)[index], : self.inputs]


def stack_weights(weights: Sequence[Tensor], rank: int) -> StackedWeight:
    """Copies weights [N_i, K] of one dtype and device into a buffer that stays.

    The originals may then be replaced by its views, `StackedWeight.member`, so that each weight is held once. The views
    are not contiguous: safetensors saves only copies of them.

    Args:
        weights: One per layer.
        rank: Total rank of the adapters to come.
    """
    outputs, inputs, room = tuple(map(len, weights)), weights[0].shape[1], _room(rank)
    buffer = _empty(sum(outputs) + room, inputs + room, weights[0].dtype, weights[0].device)
    torch.cat([weight.detach() for weight in weights], out=buffer[: sum(outputs), :inputs])
    return StackedWeight(outputs, inputs, room, lambda: buffer)


def stack_packed(
    unpack: Sequence[Callable[[Tensor], object]],
    outputs: Sequence[int],
    inputs: int,
    rank: int,
    dtype: torch.dtype,
    device: torch.device,
) -> StackedWeight:
    """Stacks weights that are kept packed; each use fills a new buffer.

    Args:
        unpack: One function per layer that writes its weight into a slice [N_i, K] with strided rows.
        outputs: N_i of every layer.
        inputs: K.
        rank: Total rank of the adapters to come.
        dtype: Of the unpacked weights and of x.
        device: Likewise.
    """
    room = _room(rank)

    def fill() -> Tensor:
        buffer = _empty(sum(outputs) + room, inputs + room, dtype, device)
        for write, rows in zip(unpack, _spans(outputs), strict=True):
            write(buffer[rows, :inputs])
        return buffer

    return StackedWeight(tuple(outputs), inputs, room, fill)


def augments(rows: int, inputs: int, outputs: int, rank: int, multiply_adds_per_move: float) -> bool:
    """Whether a product [rows, inputs] x [inputs, outputs] should take the adapters in, rather than add them after.

    Taking them in moves 2 * rows * inputs elements to widen the left factor and 2 * outputs * rank to put the adapters
    beside the weight, and multiplies every rank with every output: rows * outputs * rank multiply-adds more.
    Adding them after reads and writes the result, 2 * rows * outputs moves, which hide its few multiply-adds.

    Args:
        rows: Rows of the left factor.
        inputs: Its columns.
        outputs: Columns of the result.
        rank: Of all adapters together; beyond MAX_RANK they are always added after.
        multiply_adds_per_move: What the machine multiplies in the time of one element moved.
    """
    taken_in = 2 * rows * inputs + 2 * outputs * rank + rows * outputs * rank / multiply_adds_per_move
    return rank <= MAX_RANK and taken_in < 2 * rows * outputs


def stacked_lora_linear(x: Tensor, weight: StackedWeight, bias: Tensor | None, adapters: Sequence[Adapter]) -> Tensor:
    """Returns the outputs of all layers side by side: ``linear(x, W_i, bias_i) + scale_i * (x @ A_i.T) @ B_i.T``.

    Gradients: those of `hybrid.kernels.lora_linear.lora_linear`. It keeps x and x @ A.T for the backward pass.

    Args:
        x: [..., K] in the dtype of the weight.
        weight: The frozen weights. Their buffer is called in the forward and, if x needs a gradient, in the backward.
        bias: Frozen [N] of all layers, or None.
        adapters: One per layer, their ranks at most `weight.room` together, or above MAX_RANK.

    Returns:
        [..., N], in the order of the layers. Use it whole where that is possible: the gradient of a split is a
        concatenation, which moves as much as the adapters taken in save.
    """
    factors = [factor for adapter in adapters for factor in (adapter.a_RK, adapter.b_NR)]
    scales = tuple(adapter.scale for adapter in adapters)
    y: Tensor = _StackedLoraLinear.apply(x, weight, bias, scales, *factors)  # type: ignore[no-untyped-call]
    return y


class _StackedLoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: StackedWeight,
        bias: Tensor | None,
        scales: tuple[float, ...],
        *factors: Tensor,
    ) -> Tensor:
        x_MK = x.reshape(-1, weight.inputs)
        xa_MR = x_MK @ _stacked_a(factors[::2], scales, x.dtype).T
        y_MN = _forward_product(x_MK, xa_MR, weight, bias, factors[1::2])
        ctx.save_for_backward(x_MK, xa_MR, *factors)
        ctx.weight, ctx.scales, ctx.x_shape = weight, scales, x.shape
        return y_MN.view(*x.shape[:-1], y_MN.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x_MK, xa_MR, *factors = ctx.saved_tensors
        a, b = factors[::2], factors[1::2]
        dy_MN = dy.reshape(-1, dy.shape[-1])
        columns, ranks = _spans(ctx.weight.outputs), _spans([len(a_RK) for a_RK in a])
        dyb_MR = torch.cat([dy_MN[:, n] @ b_NR.to(dy.dtype) for n, b_NR in zip(columns, b, strict=True)], 1)
        da_RK = dyb_MR.T @ x_MK
        gradients: list[Tensor | None] = []
        for a_RK, b_NR, scale, n, r in zip(a, b, ctx.scales, columns, ranks, strict=True):
            gradients += [da_RK[r].to(a_RK.dtype) * scale, (dy_MN[:, n].T @ xa_MR[:, r]).to(b_NR.dtype)]
        dx = None
        if ctx.needs_input_grad[0]:
            a_RK = _stacked_a(a, ctx.scales, dy.dtype)
            dx = _backward_product(dy_MN, dyb_MR, ctx.weight, a_RK).view(ctx.x_shape)
        return dx, None, None, None, *gradients


def _forward_product(
    x_MK: Tensor, xa_MR: Tensor, weight: StackedWeight, bias: Tensor | None, b: Sequence[Tensor]
) -> Tensor:
    buffer = weight.buffer()
    rows, ranks = _spans(weight.outputs), _spans([b_NR.shape[1] for b_NR in b])
    outputs, inputs, rank = rows[-1].stop, weight.inputs, ranks[-1].stop
    if _takes_in(x_MK, outputs, rank):
        corner_NR = buffer[:outputs, inputs : inputs + rank].zero_()
        for n, r, b_NR in zip(rows, ranks, b, strict=True):
            corner_NR[n, r] = b_NR
        return linear(_beside(x_MK, xa_MR), buffer[:outputs, : inputs + rank], bias)
    y_MN = linear(x_MK, buffer[:outputs, :inputs], bias)
    for n, r, b_NR in zip(rows, ranks, b, strict=True):
        y_MN[:, n].addmm_(xa_MR[:, r], b_NR.to(x_MK.dtype).T)
    return y_MN


def _backward_product(dy_MN: Tensor, dyb_MR: Tensor, weight: StackedWeight, a_RK: Tensor) -> Tensor:
    buffer = weight.buffer()
    outputs, (rank, inputs) = dy_MN.shape[1], a_RK.shape
    if _takes_in(dy_MN, inputs, rank):
        buffer[outputs : outputs + rank, :inputs] = a_RK
        return _beside(dy_MN, dyb_MR) @ buffer[: outputs + rank, :inputs]
    return (dy_MN @ buffer[:outputs, :inputs]).addmm_(dyb_MR, a_RK)


def _takes_in(left_MK: Tensor, outputs: int, rank: int) -> bool:
    multiply_adds_per_move = TENSOR_CORES if left_MK.is_cuda and left_MK.element_size() == 2 else PLAIN_CORES
    return augments(len(left_MK), left_MK.shape[1], outputs, rank, multiply_adds_per_move)


def _stacked_a(a: Sequence[Tensor], scales: Sequence[float], dtype: torch.dtype) -> Tensor:
    # Here the scale costs no rounding of its own where the adapter is wider than x.
    return torch.cat([(a_RK * scale).to(dtype) for a_RK, scale in zip(a, scales, strict=True)])


def _beside(left_MK: Tensor, right_MR: Tensor) -> Tensor:
    columns = left_MK.shape[1] + right_MR.shape[1]
    both = _empty(len(left_MK), columns, left_MK.dtype, left_MK.device)[:, :columns]
    return torch.cat((left_MK, right_MR), 1, out=both)


def _room(rank: int) -> int:
    return rank if rank <= MAX_RANK else 0


def _empty(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    width = -(-columns // ALIGNMENT) * ALIGNMENT
    return torch.empty(rows, width, dtype=dtype, device=device)


def _spans(lengths: Sequence[int]) -> list[slice]:
    ends = list(accumulate(lengths))
    return [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]
