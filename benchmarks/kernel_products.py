"""The cases of kernels.py around matrix products: weights, adapters, the LM head."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

import torch
from kernel_case import Case, Draw, Sizes, Step, Tensors, random_slopes, trained
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from hybrid.kernels.linear_cross_entropy import linear_cross_entropy
from hybrid.kernels.lora_linear import lora_linear
from hybrid.kernels.nf4 import NestedScale, dequantize_nf4
from hybrid.kernels.stacked_lora_linear import Adapter, stack_weights, stacked_lora_linear

SCALE = 2.0  # alpha / rank of the adapters


def cases(sizes: Sizes, itemsize: int) -> list[Case]:
    """All of them, with activations of `itemsize` bytes."""
    width = sizes.head_dim
    keys = sizes.key_heads * width
    stacks = {"qkv": (sizes.heads * width, keys, keys), "gate_up": (sizes.inner, sizes.inner)}
    return [
        nf4(sizes, itemsize),
        linear_loss(sizes),
        lora(sizes, "q", sizes.hidden, sizes.heads * width),
        lora(sizes, "down", sizes.inner, sizes.hidden),
        *(stacked(sizes, name, outputs) for name, outputs in stacks.items()),
    ]


def nf4(sizes: Sizes, itemsize: int) -> Case:
    """Dequantisation of an MLP weight with nested scales."""
    elements = sizes.inner * sizes.hidden
    return Case(
        "dequantize_nf4",
        f"{sizes.inner}x{sizes.hidden}",
        lambda draw: (draw(sizes.inner, sizes.hidden, scale=0.02),),
        {"hybrid": _nf4_ours, "torch": _nf4_plain, "bitsandbytes": _nf4_bitsandbytes, "unsloth": _nf4_unsloth},
        bytes=elements * (itemsize + 1 / 2 + 1 / 64),
        flops=0,
    )


def _quantised(weight: Tensor) -> tuple[Tensor, Any]:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.float(), blocksize=64, compress_statistics=True, quant_type="nf4")
    state.dtype = weight.dtype
    return packed, state


def _nf4_ours(given: Tensors) -> Step:
    packed, state = _quantised(given[0])
    nested = state.state2
    scale = NestedScale(state.absmax, nested.code, nested.absmax, state.offset, nested.blocksize)
    shape = tuple(given[0].shape)
    return lambda: (dequantize_nf4(packed, state.code, scale, state.blocksize, shape, state.dtype),)


def _nf4_plain(given: Tensors) -> Step:
    packed, state = _quantised(given[0])
    nested = state.state2

    def step() -> Tensors:
        codes = torch.stack((packed.flatten() >> 4, packed.flatten() & 15), 1).flatten().int()
        outer = nested.absmax.repeat_interleave(nested.blocksize)[: len(state.absmax)]
        scales = nested.code[state.absmax.int()] * outer + state.offset
        values = state.code[codes].view(-1, state.blocksize) * scales.unsqueeze(1)
        return (values.to(state.dtype).view_as(given[0]),)

    return step


def _nf4_bitsandbytes(given: Tensors) -> Step:
    from bitsandbytes.functional import dequantize_4bit

    packed, state = _quantised(given[0])
    return lambda: (dequantize_4bit(packed, state),)


def _nf4_unsloth(given: Tensors) -> Step:
    dequantize = import_module("unsloth.kernels").fast_dequantize
    packed, state = _quantised(given[0])
    return lambda: (dequantize(packed, state),)


def _lora_plain(x: Tensor, weight: Tensor, a_RK: Tensor, b_NR: Tensor) -> Tensor:
    return linear(x, weight) + SCALE * (x @ a_RK.to(x.dtype).T @ b_NR.to(x.dtype).T)


def lora(sizes: Sizes, name: str, inputs: int, outputs: int) -> Case:
    """A linear layer with its adapter, forward and backward."""
    rows, rank = sizes.rows, sizes.rank

    def unsloth(given: Tensors) -> Step:
        function = import_module("unsloth.kernels.fast_lora").LoRA_W
        return trained(lambda x, weight, a, b: function.apply(x[None], weight, None, a, b, SCALE)[0])(given)

    return Case(
        "lora_linear",
        f"{name} {rows}x{inputs}->{outputs}, rank {rank}",
        lambda draw: (
            draw(rows, inputs, grad=True),
            draw(outputs, inputs, scale=0.02),
            draw(rank, inputs, scale=0.02, grad=True, wide=True),
            draw(outputs, rank, scale=0.02, grad=True, wide=True),
        ),
        {
            "hybrid": trained(lambda x, weight, a, b: lora_linear(x, lambda: weight, None, a, b, SCALE)),
            "torch": trained(_lora_plain),
            "unsloth": unsloth,
        },
        bytes=0,
        flops=4 * rows * inputs * outputs + 6 * rows * rank * (inputs + outputs),
    )


class Stack(NamedTuple):
    """Layers [N_i, K] that read one input of M rows, in inputs x, weights, then A and B of each layer."""

    rows: int
    inputs: int
    outputs: tuple[int, ...]
    rank: int

    def inputs_of(self, draw: Draw) -> Tensors:
        """Draws x, the weights and the adapters."""
        weights = [draw(n, self.inputs, scale=0.02) for n in self.outputs]
        shapes = chain.from_iterable(((self.rank, self.inputs), (n, self.rank)) for n in self.outputs)
        factors = [draw(*shape, scale=0.02, grad=True, wide=True) for shape in shapes]
        return draw(self.rows, self.inputs, grad=True), *weights, *factors

    def layers(self, given: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Weight, A and B of each layer, from the inputs without x."""
        count = len(self.outputs)
        return zip(given[:count], given[count::2], given[count + 1 :: 2], strict=True)

    def slopes(self, found: Tensors) -> list[Tensor]:
        """The same gradients for the outputs in one tensor or in several."""
        slopes = random_slopes((found[0].new_empty(self.rows, sum(self.outputs)),))
        return (
            slopes if len(found) == 1 else [x.contiguous() for x in torch.split(slopes[0], list(self.outputs), dim=1)]
        )

    def ours(self, given: Tensors) -> Step:
        """Builds the step of `stacked_lora_linear`."""
        layers = list(self.layers(given[1:]))
        weight = stack_weights([layer[0] for layer in layers], self.rank * len(layers))
        adapters = [Adapter(a_RK, b_NR, SCALE) for _, a_RK, b_NR in layers]
        step = trained(lambda x, *_: stacked_lora_linear(x, weight, None, adapters), self.slopes)(given)

        def apart() -> Tensors:
            y_MN, *gradients = step()
            return *torch.split(y_MN, list(self.outputs), dim=1), *gradients

        return apart

    def plain(self, x: Tensor, *given: Tensor) -> Tensors:
        """What PEFT computes."""
        return tuple(_lora_plain(x, *layer) for layer in self.layers(given))

    def unsloth(self, given: Tensors) -> Step:
        """Builds the step of Unsloth's function for queries, keys and values."""
        function = import_module("unsloth.kernels.fast_lora").LoRA_QKV

        def run(x: Tensor, *rest: Tensor) -> Tensors:
            arguments = chain.from_iterable((weight, None, a, b, SCALE) for weight, a, b in self.layers(rest))
            return tuple(part[0] for part in function.apply(x[None], *arguments, False))

        return trained(run, self.slopes)(given)


def stacked(sizes: Sizes, name: str, outputs: tuple[int, ...]) -> Case:
    """Linear layers that read one input, with their adapters, forward and backward."""
    stack = Stack(sizes.rows, sizes.hidden, outputs, sizes.rank)
    rows, inputs, rank, width = stack.rows, stack.inputs, stack.rank, sum(outputs)
    return Case(
        "stacked_lora_linear",
        f"{name} {rows}x{inputs}->{width}, rank {rank}",
        stack.inputs_of,
        {
            "hybrid": stack.ours,
            "torch": trained(stack.plain, stack.slopes),
            **({"unsloth": stack.unsloth} if name == "qkv" else {}),
        },
        bytes=0,
        flops=4 * rows * inputs * width + 6 * rows * rank * (len(outputs) * inputs + width),
    )


def linear_loss(sizes: Sizes) -> Case:
    """The LM head and the summed cross entropy of rows that predict a token."""
    rows, hidden, vocabulary = sizes.answers, sizes.hidden, sizes.vocabulary

    def targets(device: torch.device) -> Tensor:
        return torch.arange(rows, device=device) * 7919 % vocabulary

    def ours(hidden_MH: Tensor, head_VH: Tensor) -> Tensor:
        weights_M = torch.ones(rows, device=hidden_MH.device)
        return linear_cross_entropy(hidden_MH, head_VH, targets(hidden_MH.device), weights_M)

    def plain(hidden_MH: Tensor, head_VH: Tensor) -> Tensor:
        logits_MV = linear(hidden_MH, head_VH)
        wide = torch.promote_types(logits_MV.dtype, torch.float32)
        return cross_entropy(logits_MV.to(wide), targets(hidden_MH.device), reduction="sum")

    def liger(given: Tensors) -> Step:
        function = import_module("liger_kernel.transformers.functional").liger_fused_linear_cross_entropy
        return trained(lambda x, head: function(x, head, targets(x.device), reduction="sum"))(given)

    def unsloth(given: Tensors) -> Step:
        import_module("unsloth")
        function = import_module("unsloth_zoo.fused_losses.cross_entropy_loss").unsloth_fused_ce_loss

        def run(x: Tensor, head: Tensor) -> Tensor:
            found: Tensor = function(None, x[None], head, None, targets(x.device)[None], n_items=1, shift_labels=False)
            return found

        return trained(run)(given)

    return Case(
        "linear_cross_entropy",
        f"{rows}x{hidden}->{vocabulary}",
        lambda draw: (draw(rows, hidden, grad=True), draw(vocabulary, hidden, scale=0.02)),
        {"hybrid": trained(ours), "torch": trained(plain), "liger": liger, "unsloth": unsloth},
        bytes=0,
        flops=4 * rows * hidden * vocabulary,
    )
