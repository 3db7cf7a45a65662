"""Which tiles suit the attention kernels: the compiler's report of each, and on a GPU the time of the pass it serves.

    python benchmarks/attention_tiles.py --head-dims 64 128 --json > tiles.json

One of the three tiles of `choose_tiles` is changed at a time; the first row of each kernel has the tiles that are
chosen now. What does not fit into the shared memory of a Hopper GPU is left out. `ms` is the median of the forward
pass for tiles of the forward kernel, else of the backward pass, over one tree of 3,600 tokens and eight branches of 200
in bf16; without a GPU it is not measured, and the other columns say what a compiler for Hopper makes of the tile
(`kernel_code.py`). The table goes to stderr; with `--json` one object goes to stdout.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product

import report
import torch
from kernel_attention import Tree
from kernel_case import Draw, seconds
from kernel_code import Launch, describe
from report import Column, Row

from hybrid.kernels import interval_attention_triton as kernels
from hybrid.kernels.interval_attention import Tile, Tiles, choose_blocks, choose_tiles

REPEATS = 20
PARTS = ("forward", "query", "key")
COLUMNS = (
    Column("heads of", "head_dim"),
    Column("kernel", "part"),
    Column("rows", "rows"),
    Column("keys", "keys"),
    Column("warps", "warps"),
    Column("stages", "stages"),
    Column("registers", "registers"),
    Column("spill", "spill_bytes"),
    Column("shared", "shared_kib", ".0f"),
    Column("serial", "serialised"),
    Column("ms", "milliseconds", ".3f"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head-dims", type=int, nargs="+", default=[128])
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--key-heads", type=int, default=8)
    parser.add_argument("--kernels", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true", help="print the result on stdout")
    options = parser.parse_args()
    trees = [Tree(3600, 200, 8, options.heads, options.key_heads, dim) for dim in options.head_dims]
    rows = [row for tree, part in product(trees, options.kernels) for row in sweep(tree, part)]
    command = f"python benchmarks/{shlex.join(['attention_tiles.py', *sys.argv[1:]])}"
    result = {**report.header(command, report.installed(("torch", "triton"))), "rows": rows}
    report.show(report.table(COLUMNS, rows), result, as_json=options.json)


def sweep(tree: Tree, part: str) -> Iterator[Row]:
    """A row for each tile of one kernel that fits, the one chosen now first."""
    now, small = choose_tiles(tree.dim, 2, kernels.HOPPER_SHARED_BYTES), tree._replace(context=128, branches=1)
    for tile in dict.fromkeys([getattr(now, part), *candidates(tree.dim, part)]):
        with _tiled(now._replace(**{part: tile})):
            compiled = describe(Launch("attention", str(tree.dim), _pass(small, part, "cpu")))
            row = compiled[1 if part == "key" else 0]  # the backward pass runs the kernel of the queries first
            if row["shared_kib"] * 1024 > kernels.HOPPER_SHARED_BYTES:
                continue
            step = _pass(tree, part, "cuda") if torch.cuda.is_available() else None
            milliseconds = 1e3 * seconds(step, "cuda", REPEATS) if step else None
        yield {**row, "head_dim": tree.dim, "part": part, **tile._asdict(), "milliseconds": milliseconds}


def candidates(head_dim: int, part: str) -> Iterator[Tile]:
    """Tiles that the plan of a head dimension allows and whose scores fit the registers of their warps.

    The side that a kernel holds has 64 or more, the least of a Hopper's asynchronous products.
    """
    blocks = choose_blocks(head_dim)
    for held, walked, warps, stages in product((64, 128), (32, 64, 128), (4, 8), (2, 3)):
        rows, keys = (walked, held) if part == "key" else (held, walked)
        widest = blocks.key if part == "key" else blocks.step
        if rows <= blocks.query and keys <= widest and held * walked <= 1024 * warps:
            yield Tile(rows, keys, warps, stages)


@contextmanager
def _tiled(tiles: Tiles) -> Iterator[None]:
    """Inside, the kernels take these tiles."""
    kernels.choose_tiles = lambda *_: tiles  # type: ignore[attr-defined]
    try:
        yield
    finally:
        kernels.choose_tiles = choose_tiles  # type: ignore[attr-defined]


def _pass(tree: Tree, part: str, device: str) -> Callable[[], object]:
    """The forward pass, or the backward pass after it."""
    draw = Draw(device, torch.bfloat16)
    q, k, v = (x.detach() for x in tree.inputs(draw))
    plan = tree.plan(torch.device(device))
    forward = partial(kernels.forward_triton, q, k, v, plan, tree.scale, None)
    if part == "forward":
        return forward
    # What is only compiled needs no values.
    out, lse = forward() if device == "cuda" else (q, torch.empty(q.shape[1:3]))
    return partial(kernels.backward_triton, q, k, v, out, lse, draw(*q.shape), plan, tree.scale, None)


if __name__ == "__main__":
    main()
