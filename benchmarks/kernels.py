"""Speed of every kernel against plain torch, its peers and the roofline.

    python benchmarks/kernels.py --device cuda --json > kernels.json
    python benchmarks/kernels.py --device cpu --json > kernels.json

On a GPU the Triton kernels run in bf16 at the shapes of Llama 8B, on a CPU their torch twins in fp32 at those of
SmolLM2-135M. Peers are what is installed of Liger, Unsloth and bitsandbytes; for attention `flash` is the time that
FlashAttention takes for the same useful work in separate calls, `flex` and `sdpa` are our other two backends. Each
system runs in a process of its own on the same inputs, forward and backward where there is a backward. Figures are
medians; on a GPU between events, the L2 cache overwritten before each.

`share` is the share of the roofline: the time of the kernel's fewest bytes at the measured copy bandwidth, or of its
fewest operations at the measured rate of a matrix product, over its own. `error` is the relative difference of all that
comes out to plain torch in the next wider dtype. What is missing or fails is `not measured`, with the reason.
The table goes to stderr; with `--json` one object goes to stdout.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import report
from processes import print_figures, run_child
from report import Column, Row

# The file has the name of a package that transformers looks for and might import: nothing heavy here.
if TYPE_CHECKING:
    import torch
    from kernel_case import Case, Sizes, Tensors
    from torch import Tensor

PEERS = {
    "cpu": ("torch", "bitsandbytes", "flash", "sdpa"),
    "cuda": ("torch", "liger", "unsloth", "bitsandbytes", "flash", "flex", "sdpa"),
}
ROOFLINE = "roofline"
FIGURES = ("milliseconds", "error", "peak_mb")
ITEMSIZE = {"cpu": 4, "cuda": 2}
PACKAGES = ("torch", "triton", "liger-kernel", "unsloth", "bitsandbytes")
TIMEOUT = 300  # seconds of one system: what hangs must not cost the others' figures
REPEATS = {"cpu": 5, "cuda": 50}
COLUMNS = (
    Column("kernel", "kernel"),
    Column("shape", "shape"),
    Column("ms", "milliseconds", ".3f"),
    Column("share", "share", ".0%"),
    Column("of", "of"),
    Column("error", "error", ".1e"),
    Column("peer", "peer"),
    Column("peer's ms", "peer_milliseconds", ".3f"),
    Column("ratio", "ratio", ".2f"),
    Column("peer's error", "peer_error", ".1e"),
)


# --- one system in a process of its own -------------------------------------------------------------------------------


def measure(system: str, device: str, sizes: "Sizes", repeats: int) -> dict[str, Row]:
    """Figures of a system by case, or why there are none; of the roofline its two rates."""
    if system == "unsloth":
        import_module("unsloth")  # patches what is imported after it
    import torch

    if system == ROOFLINE:
        return {ROOFLINE: roofline(device, repeats)}
    found: dict[str, Row] = {}
    for case in cases(device, sizes):
        if system not in case.systems:
            continue
        try:
            figures = measure_case(case, system, device, repeats)
        except Exception as error:  # whatever a system fails of is why it has no figure
            figures = {"reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        sys.stderr.write(f"{system} {case.name}: {json.dumps(figures)}\n")
        found[case.name] = figures
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def cases(device: str, sizes: "Sizes") -> list["Case"]:
    """Every kernel at its sizes."""
    import kernel_attention
    import kernel_elementwise
    import kernel_products

    itemsize = ITEMSIZE[device]
    products, elementwise = kernel_products.cases(sizes, itemsize), kernel_elementwise.cases(sizes, itemsize)
    return [*products, *kernel_attention.cases(sizes), *elementwise]


def measure_case(case: "Case", system: str, device: str, repeats: int) -> Row:
    """Error, time and memory of a system in a case."""
    import torch
    from kernel_case import Draw, seconds

    dtype, wider = (torch.bfloat16, torch.float32) if device == "cuda" else (torch.float32, torch.float64)
    exact = case.systems["torch"](tuple(map(partial(widen, dtype=wider), case.inputs(Draw(device, dtype)))))()
    step = case.systems[system](case.inputs(Draw(device, dtype)))
    error = relative_error(step(), exact)
    del exact
    if device == "cpu":
        return {"milliseconds": 1e3 * seconds(step, device, repeats), "error": error, "peak_mb": None}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    peak_mb = round((torch.cuda.max_memory_allocated() - before) / 2**20)
    return {"milliseconds": 1e3 * seconds(step, device, repeats), "error": error, "peak_mb": peak_mb}


def widen(x: "Tensor", dtype: "torch.dtype") -> "Tensor":
    """The same values in another dtype, as an input of its own."""
    return x.detach().to(dtype).requires_grad_(x.requires_grad)


def relative_error(found: "Tensors", exact: "Tensors") -> float | None:
    """The largest relative difference among what comes out; None if there is nothing to compare."""
    if not found:
        return None
    return max(float((x.to(y.dtype) - y).norm() / y.norm()) for x, y in zip(found, exact, strict=True))


def roofline(device: str, repeats: int) -> Row:
    """Bytes a second of a large copy, read and written, and operations a second of a large matrix product."""
    import torch
    from kernel_case import Draw, seconds

    dtype, copied, width = (torch.bfloat16, 2**30, 8192) if device == "cuda" else (torch.float32, 2**26, 1024)
    source = torch.randint(256, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    draw = Draw(device, dtype)
    left, right = draw(width, width), draw(width, width)
    return {
        "bytes_per_second": 2 * copied / seconds(lambda: target.copy_(source), device, repeats),
        "flops_per_second": 2 * width**3 / seconds(lambda: left @ right, device, repeats),
    }


# --- the table --------------------------------------------------------------------------------------------------------


def make_rows(all_cases: "Sequence[Case]", found: dict[str, dict[str, Row]]) -> list[Row]:
    """A row for each kernel and peer; what was not measured is None."""
    return [
        make_row(case, found["hybrid"][case.name], peer, found[peer][case.name], found[ROOFLINE][ROOFLINE])
        for case in all_cases
        for peer in PEERS["cuda"]
        if peer in case.systems and peer in found
    ]


def make_row(case: "Case", ours: Row, peer: str, theirs: Row, rates: Row) -> Row:
    """A row of the table."""
    times = ours.get("milliseconds"), theirs.get("milliseconds")
    return {
        "kernel": case.kernel,
        "shape": case.shape,
        "ratio": round(times[1] / times[0], 3) if times[0] and times[1] else None,
        **share(case, ours, rates),
        **report.side_by_side(ours, peer, theirs, FIGURES),
    }


def share(case: "Case", figures: Row, rates: Row) -> Row:
    """What part of its time the kernel could not do without, and whether that is copying or multiplying."""
    if "reason" in rates or "reason" in figures:
        return {"share": None, "of": None}
    floors = {"copy": case.bytes / rates["bytes_per_second"], "matrix": case.flops / rates["flops_per_second"]}
    bound = max(floors, key=lambda name: floors[name])
    return {"share": round(1e3 * floors[bound] / figures["milliseconds"], 3), "of": bound}


def run_all(options: argparse.Namespace, names: Sequence[str]) -> dict[str, dict[str, Row]]:
    """The figures of every system, each from a process of its own."""
    found: dict[str, dict[str, Row]] = {}
    for system in (ROOFLINE, "hybrid", *options.systems):
        packages = options.unsloth_path if system == "unsloth" else None
        figures = run_child(
            "kernels.py", ["--device", options.device, "--measure", system], packages=packages, timeout=TIMEOUT
        )
        found |= nothing([system], names, figures["reason"]) if "reason" in figures else {system: figures}
    return found


def nothing(systems: Sequence[str], names: Sequence[str], reason: str) -> dict[str, dict[str, Row]]:
    """The figures of systems that could not be measured."""
    return {system: {name: {"reason": reason} for name in (ROOFLINE, *names)} for system in systems}


def table(rows: Sequence[Row]) -> str:
    """The rows as text, then why figures are missing."""
    return "\n".join([report.table(COLUMNS, rows), *report.reasons(rows)])


def main() -> None:
    """Measures and prints; fails if there is a device but a kernel of Hybrid has no figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--systems", nargs="+", choices=PEERS["cuda"], metavar="NAME", help="what to measure beside Hybrid"
    )
    parser.add_argument("--unsloth-path", type=Path, help="folder of packages for Unsloth alone")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on stdout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    import torch
    from kernel_case import SIZES

    sizes = SIZES[options.device]
    if options.measure:
        print_figures(measure(options.measure, options.device, sizes, REPEATS[options.device]))
        return
    options.systems = options.systems or PEERS[options.device]
    all_cases = cases(options.device, sizes)
    names = [case.name for case in all_cases]
    measurable = options.device == "cpu" or torch.cuda.is_available()
    if measurable:
        found = run_all(options, names)
    else:
        found = nothing((ROOFLINE, "hybrid", *options.systems), names, "no CUDA device on this machine")
    rows = make_rows(all_cases, found)
    command = f"python benchmarks/kernels.py --device {options.device}"
    result = {**report.header(command, report.installed(PACKAGES)), ROOFLINE: found[ROOFLINE][ROOFLINE], "rows": rows}
    report.show(table(rows), result, as_json=options.json)
    if measurable and any(row["milliseconds"] is None for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
