"""What the compiler makes of every Triton kernel for a Hopper GPU; needs no GPU, and says nothing about time.

    python benchmarks/kernel_code.py --json > kernel_code.json

Kernels are compiled in bf16 for sm_90 at the shapes of Llama 8B and SmolLM2-135M. `spill` are the bytes that a thread
keeps in memory for want of registers, `shared` the KiB of a program. `serial` says that the code waits after each
asynchronous matrix product, as ptxas makes it where it cannot keep several in flight; other versions of Triton bring
another ptxas. `per element` are the instructions of one result, where a kernel has no loop, and `allowed` those for
which an H200 has time while memory moves the bytes of that result: 132 multiprocessors issue 4 instructions for 32
lanes each in every one of 1.8e9 cycles a second, and memory moves 4.3e12 bytes (measured), which makes 7 a byte. The
table goes to stderr; with `--json` one object goes to stdout.
"""

import argparse
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch
import triton
from report import Column, Row
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from hybrid.kernels import gated_triton, interval_attention_triton, nf4_triton, rms_norm_triton, rope_triton
from hybrid.kernels.interval_attention import plan_intervals
from hybrid.kernels.linear_cross_entropy_triton import softmax_gradient_triton_
from hybrid.kernels.nf4 import NestedScale

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
INSTRUCTIONS_PER_BYTE = 132 * 4 * 32 * 1.8e9 / 4.3e12
COLUMNS = (
    Column("kernel", "kernel"),
    Column("shape", "shape"),
    Column("registers", "registers"),
    Column("spill", "spill_bytes"),
    Column("shared", "shared_kib", ".0f"),
    Column("instructions", "instructions"),
    Column("serial", "serialised"),
    Column("per element", "per_element", ".1f"),
    Column("allowed", "allowed", ".0f"),
)


class Launch(NamedTuple):
    """Launches to compile; bytes that memory moves per element, or None where kernels loop."""

    kernel: str
    shape: str
    run: Callable[[], object]
    elements: int = 0
    bytes_per_element: float | None = None


class Compiled(NamedTuple):
    """A launch that was compiled instead: its number of threads and what came out."""

    threads: int
    binary: Any


class Hopper:
    """What Triton asks a driver in order to compile without a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return -1

    def get_current_stream(self, device: int) -> int:
        return device


@contextmanager
def compile_only() -> Iterator[list[Compiled]]:
    """Inside, launches of Triton kernels compile for sm_90 instead of running; yields what they compile to."""
    run, driver, compiled = JITFunction.run, triton.runtime.driver, list[Compiled]()
    before = dict(vars(driver))  # without a GPU some versions of Triton refuse to read the active one

    def compile_for_hopper(*values: object, warmup: bool, grid: tuple[int, ...], **settings: object) -> None:
        binary = run(*values, grid=grid, warmup=True, **settings)
        compiled.append(Compiled(math.prod(grid) * 32 * binary.metadata.num_warps, binary))

    JITFunction.run = compile_for_hopper
    driver.set_active(Hopper())
    try:
        yield compiled
    finally:
        JITFunction.run = run
        vars(driver).update(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the result on stdout")
    options = parser.parse_args()
    rows = [row for launch in [*elementwise(), *_attention()] for row in describe(launch)]
    command = "python benchmarks/kernel_code.py --json"
    result = {**report.header(command, report.installed(("torch", "triton"))), "rows": rows}
    report.show(report.table(COLUMNS, rows), result, as_json=options.json)


def describe(launch: Launch) -> list[Row]:
    """Compiles a launch and reads the compiler's report of each of its kernels."""
    with compile_only() as compiled:
        launch.run()
    return [_row(launch, *found) for found in compiled]


def _row(launch: Launch, threads: int, binary: Any) -> Row:  # noqa: ANN401
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(binary.asm["cubin"])
        cubin.flush()
        code, used = _cuobjdump("-sass", cubin.name), _cuobjdump("-res-usage", cubin.name)
    # The padding behind the end is no instruction.
    operations = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?(?!NOP)(\w+)", code, re.MULTILINE)
    waits = len(re.findall(r"WARPGROUP\.DEPBAR", code))
    row = {
        "kernel": f"{launch.kernel} {binary.metadata.name.strip('_')}",
        "shape": launch.shape,
        "registers": int(re.findall(r"REG:(\d+)", used)[0]),
        "spill_bytes": int(re.findall(r"STACK:(\d+)", used)[0]),
        "shared_kib": binary.metadata.shared / 1024,
        "instructions": len(operations),
        "serialised": "yes" if 0 < operations.count("HGMMA") <= waits else "no",
    }
    if launch.bytes_per_element is not None:
        row["per_element"] = round(len(operations) * threads / launch.elements, 1)
        row["allowed"] = round(INSTRUCTIONS_PER_BYTE * launch.bytes_per_element, 1)
    return row


def _cuobjdump(*arguments: str) -> str:
    return subprocess.run([CUOBJDUMP, *arguments], capture_output=True, text=True, check=True).stdout


def elementwise() -> Iterator[Launch]:
    """Every kernel but attention."""
    for rows, width in ((4096, 4096), (1536, 576)):
        yield Launch("nf4", f"{rows} x {width}", partial(_nf4, rows, width), rows * width, 0.5 + 1 / 64 + 2)
    for rows, width in ((4096, 14336), (4096, 1536)):
        x = torch.empty(rows, width, dtype=torch.bfloat16)
        shape = f"{rows} x {width}"
        yield Launch("SwiGLU", shape, partial(gated_triton.forward_triton, x, x, "silu"), x.numel(), 6)
        backward = partial(gated_triton.backward_triton, x, x, x, "silu", x, x)
        yield Launch("SwiGLU", shape, backward, x.numel(), 10)
    for rows, width in ((4096, 4096), (4096, 576)):
        x = torch.empty(rows, width, dtype=torch.bfloat16)
        shape, inverse = f"{rows} x {width}", torch.empty(rows, 1)
        forward = partial(rms_norm_triton.forward_triton, x, x, x[0], 1e-5, False)
        yield Launch("sum and norm", shape, forward, x.numel(), 8)
        gradients = partial(rms_norm_triton.backward_triton, x, x, x, inverse, x[0], False, False)
        yield Launch("sum and norm", shape, gradients, x.numel(), 8)
    for heads, size in ((40, 128), (12, 64)):
        x, angles = torch.empty(4096, heads, size, dtype=torch.bfloat16), torch.empty(4096, size, dtype=torch.bfloat16)
        turn = partial(rope_triton.turn_triton, x, x, angles, angles, adjoint=False)
        yield Launch("RoPE", f"{heads} heads of {size}", turn, x.numel(), 4)
    for vocabulary in (128256, 49152):
        logits, targets = torch.empty(8, vocabulary), torch.zeros(8, dtype=torch.long)
        gradient = partial(softmax_gradient_triton_, logits, targets, torch.empty(8))
        yield Launch("cross-entropy", f"{vocabulary} tokens", gradient)


def _nf4(rows: int, width: int) -> None:
    scales = rows * width // 64
    codes, absmax = torch.empty(scales, dtype=torch.uint8), torch.empty(-(-scales // 256))
    scale = NestedScale(codes, torch.empty(256), absmax, torch.empty(()), 256)
    packed, out = torch.empty(rows * width // 2, dtype=torch.uint8), torch.empty(rows, width + 64, dtype=torch.bfloat16)
    nf4_triton.dequantize_nf4_triton(packed, torch.empty(16), scale, 64, (rows, width), torch.bfloat16, out[:, :width])


def _attention() -> Iterator[Launch]:
    for size in (64, 128, 256):
        yield Launch("attention", f"heads of {size}", partial(attend, size))


def attend(size: int, softcap: float | None = None) -> None:
    """Attention over 1,024 tokens, forward and backward."""
    tokens = 1024
    segments = torch.zeros(tokens, 3, dtype=torch.int32)
    plan = plan_intervals(segments, torch.arange(tokens), head_dim=size)
    q, dout = torch.empty(2, 1, 8, tokens, size, dtype=torch.bfloat16)
    k, v = torch.empty(2, 1, 2, tokens, size, dtype=torch.bfloat16)
    out, lse = interval_attention_triton.forward_triton(q, k, v, plan, 0.1, softcap)
    interval_attention_triton.backward_triton(q, k, v, out, lse, dout, plan, 0.1, softcap)


if __name__ == "__main__":
    main()
