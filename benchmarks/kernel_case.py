"""What a case of kernels.py is: a kernel on inputs of one size, beside plain torch and the peers, and its floor."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Step = Callable[[], Tensors]
Build = Callable[[Tensors], Step]


class Sizes(NamedTuple):
    """Of the tensors: rows M of a layer, widths of a model, rows that predict a token, trees (P, s, G)."""

    rows: int
    hidden: int
    inner: int
    vocabulary: int
    heads: int
    key_heads: int
    head_dim: int
    rank: int
    answers: int
    trees: tuple[tuple[int, int, int], ...]


SIZES = {
    "cpu": Sizes(1120, 576, 1536, 49_152, 9, 3, 64, 16, 180, ((700, 35, 12),)),  # SmolLM2-135M
    "cuda": Sizes(16_384, 4096, 14_336, 128_256, 32, 8, 128, 16, 1120, ((3600, 200, 8), (15_600, 400, 8))),  # Llama 8B
}


class Case(NamedTuple):
    """A kernel on inputs of one size.

    Attributes:
        kernel: Its name.
        shape: Its size in words.
        inputs: Makes the tensors from a `Draw`.
        systems: By name how to build a step: what comes out and, if inputs need gradients, those. "hybrid" and "torch"
            are always there; what has to be imported is imported while building.
        bytes: Fewest bytes to move: each input read and each output written once per pass. 0 where products decide.
        flops: Fewest floating-point operations.
    """

    kernel: str
    shape: str
    inputs: Callable[["Draw"], Tensors]
    systems: dict[str, Build]
    bytes: float
    flops: float

    @property
    def name(self) -> str:
        """Names the case among all."""
        return f"{self.kernel} {self.shape}"


class Draw:
    """Random tensors, the same in every process, with values that bfloat16 holds."""

    def __init__(self, device: torch.device | str, dtype: torch.dtype) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(self, *shape: int, scale: float = 1.0, grad: bool = False, wide: bool = False) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, device=self.device).mul_(scale).bfloat16()
        return drawn.to(torch.float32 if wide else self.dtype).requires_grad_(grad)


def random_slopes(outputs: Tensors) -> list[Tensor]:
    """Draws a gradient for each output."""
    draw = Draw(outputs[0].device, outputs[0].dtype)
    return [draw(*output.shape) for output in outputs]


def trained(function: Callable[..., Any], draw_slopes: Callable[[Tensors], list[Tensor]] = random_slopes) -> Build:
    """Builds a step that runs a function forward and then backward with given gradients of what comes out."""

    def build(inputs: Tensors) -> Step:
        wanted = [x for x in inputs if x.requires_grad]
        slopes: list[Tensor] = []

        def step() -> Tensors:
            found = function(*inputs)
            outputs = tuple(found) if isinstance(found, tuple) else (found,)
            if not slopes:
                slopes.extend(draw_slopes(outputs))
            return tuple(x.detach() for x in (*outputs, *torch.autograd.grad(outputs, wanted, slopes)))

        return step

    return build


def seconds(step: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a step after some that do not count."""
    for _ in range(max(1, repeats // 5)):
        step()
    if device == "cpu":
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        return statistics.median(times)
    cache = torch.empty(2**30, dtype=torch.uint8, device=device)
    event: Any = partial(torch.cuda.Event, enable_timing=True)
    events = [(event(), event()) for _ in range(repeats)]
    for start, end in events:  # queued without waiting: while it clears the cache, the host launches the step
        cache.zero_()
        start.record()
        step()
        end.record()
    torch.cuda.synchronize()
    return float(statistics.median(start.elapsed_time(end) for start, end in events)) / 1e3
