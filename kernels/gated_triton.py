"""Triton kernels of `hybrid.kernels.gated`; imported only where Triton runs."""

# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import torch
import triton
import triton.language as tl
from torch import Tensor

from hybrid.kernels.gated import Activation

BLOCK = 1024


@triton.jit
def _sigmoid_and_slope(x, KIND: tl.constexpr):
    """Returns σ(z) and dz/dx of ``act(x) = x * σ(z)``."""
    if KIND == "silu":
        z = x
        slope = 1.0
    else:
        tl.static_assert(KIND == "gelu_tanh")
        z = 1.5957691216057308 * (x + 0.044715 * x * x * x)
        slope = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
    return tl.sigmoid(z), slope


@triton.jit
def _forward(gate, up, h, columns, gate_stride, up_stride, KIND: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    x = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid, _ = _sigmoid_and_slope(x, KIND)
    dtype = h.dtype.element_ty
    act = (x * sigmoid).to(dtype).to(tl.float32)
    tl.store(h + row * columns + column, (act * factor).to(dtype), mask=inside)


@triton.jit
def _backward(
    dh,
    gate,
    up,
    dgate,
    dup,
    columns,
    dh_stride,
    gate_stride,
    up_stride,
    dgate_stride,
    dup_stride,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    gradient = tl.load(dh + row * dh_stride + column, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid, slope = _sigmoid_and_slope(x, KIND)
    act = x * sigmoid
    tl.store(dup + row * dup_stride + column, (gradient * act).to(dup.dtype.element_ty), mask=inside)
    gradient *= factor * (sigmoid + act * (1.0 - sigmoid) * slope)
    tl.store(dgate + row * dgate_stride + column, gradient.to(dgate.dtype.element_ty), mask=inside)


def forward_triton(gate: Tensor, up: Tensor, kind: Activation) -> Tensor:
    """Returns ``act(gate) * up``; see `gated`."""
    h = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    gate_MI, up_MI = _rows(gate), _rows(up.expand_as(gate))
    rows, columns = gate_MI.shape
    block = min(BLOCK, triton.next_power_of_2(columns))
    if rows:
        _forward[(rows, triton.cdiv(columns, block))](
            gate_MI,
            up_MI,
            h,
            columns,
            gate_MI.stride(0),
            up_MI.stride(0),
            KIND=kind,
            BLOCK=block,
            enable_fp_fusion=True,  # said, as Triton 3.10 changes its default
        )
    return h


def backward_triton(dh: Tensor, gate: Tensor, up: Tensor, kind: Activation, dgate: Tensor, dup: Tensor) -> None:
    """Writes the gradients of gate and up to the last two tensors, whose rows have a common stride."""
    inputs = [_rows(x) for x in (dh, gate, up)]
    outputs = [x.view(-1, x.shape[-1]) for x in (dgate, dup)]
    rows, columns = outputs[0].shape
    block = min(BLOCK, triton.next_power_of_2(columns))
    if rows:
        _backward[(rows, triton.cdiv(columns, block))](
            *inputs,
            *outputs,
            columns,
            *(x.stride(0) for x in (*inputs, *outputs)),
            KIND=kind,
            BLOCK=block,
            enable_fp_fusion=True,  # said, as Triton 3.10 changes its default
        )


def _rows(x: Tensor) -> Tensor:
    """Returns [M, I] with neighbouring columns, copied only where the strides forbid a view."""
    x_MI = x.reshape(-1, x.shape[-1])
    return x_MI if x_MI.stride(1) == 1 else x_MI.contiguous()
