"""Training speed on shared contexts: Hybrid against Unsloth and TRL with PEFT, on the same token ids.

    python benchmarks/tuning.py --device cpu --json > tuning.json
    python benchmarks/tuning.py --device cuda --rows 3600/200/8 --systems hybrid unsloth --json > tuning.json

A row P/s/G has contexts of P tokens with G questions each; question and answer have s tokens, the loss is on the
answer alone. Systems train LoRA of rank 16 on all linear layers, each in a process of its own:

- on a CPU SmolLM2-135M in fp32 without checkpointing, one step of 12 pairs a round, rounds that take turns;
- on a GPU a Llama of 8B shape, random weights in NF4, bf16, steps of 64 pairs, with and without gradient checkpointing
  for all. A forward pass holds as many whole contexts or pairs as fit into `--tokens`, fewer if memory runs out.

Medians are over the steps after the warm-up. A system that computes every pair on its own does the same work whatever
G is, and on a GPU is measured once for all rows of equal P/s. `multi-turn` puts the G questions into one conversation:
as cheap as sharing, but another objective, since an answer sees the questions and answers before it. The gradient error
is the relative difference of the adapters' gradient to that of separate samples in fp32 through plain transformers and
PEFT, on a GPU with two layers of the same width. `planned_mb` is the peak that `hybrid plan` foresees on a GPU, beside
the measured `peak_mb`. What is missing or fails is `not measured`, with the reason.

TRL, Unsloth and Liger have to be installed for their rows. Unsloth needs an older TRL than TRL's own rows should have:
`--unsloth-path` names a folder with its packages. With `--runs FILE` measurements are kept as they are made and not
repeated, so that a long table can be made by several commands. The table goes to stderr; with `--json` one object goes
to stdout.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import report
from processes import print_figures
from report import Column, Row
from tuning_work import SYSTEMS, Measurements, Shape, Work, passes, shares

DEFAULTS = {
    "cpu": {
        "rows": ["700/35/1", "700/35/4", "700/35/12"],
        "systems": SYSTEMS["cpu"],
        "checkpointing": "no",
        "rounds": 3,
        "warmup": 0,
        "steps": 1,
        "tokens": 1,
    },
    "cuda": {
        "rows": ["3600/200/1", "3600/200/4", "3600/200/8", "3600/200/16", "7600/300/8", "15600/400/8"],
        "systems": SYSTEMS["cuda"],
        "checkpointing": "both",
        "rounds": 1,
        "warmup": 5,
        "steps": 10,
        "tokens": 21_000,
    },
}
ANSWER = {"cpu": 15, "cuda": 140}
PAIRS = {"cpu": 12, "cuda": 64}
MODELS = {
    "cpu": "SmolLM2-135M-Instruct, LoRA r=16 on all linear layers, fp32, no checkpointing",
    "cuda": "Llama of 8B shape, random weights in NF4, LoRA r=16 on all linear layers, bf16",
}
PACKAGES = ("torch", "triton", "transformers", "peft", "bitsandbytes", "trl", "liger-kernel", "unsloth")
FIGURES = (
    "pairs_per_second",
    "tokens_per_second",
    "computed_tokens_per_second",
    "peak_mb",
    "peak_reserved_mb",
    "planned_mb",
    "first_step_seconds",
    "gradient_error",
    "pairs_per_pass",
    "steps",
    "seconds",
    "versions",
)
COLUMNS = (
    Column("P/s/G", "shape"),
    Column("checkpointing", "checkpointing"),
    Column("peer", "peer"),
    Column("pairs/s", "pairs_per_second", ".3f"),
    Column("peer's", "peer_pairs_per_second", ".3f"),
    Column("ratio", "ratio", ".2f"),
    Column("peak MB", "peak_mb", ".0f"),
    Column("peer's", "peer_peak_mb", ".0f"),
    Column("first step s", "first_step_seconds", ".1f"),
    Column("peer's", "peer_first_step_seconds", ".1f"),
    Column("gradient error", "gradient_error", ".1e"),
    Column("peer's", "peer_gradient_error", ".1e"),
    Column("objective", "objective"),
)


def work_in_child(text: str) -> None:
    """Does what the parent asks for and prints the figures as the last line."""
    work = Work.from_json(text)
    if work.system.startswith("unsloth"):
        import_module("unsloth")  # patches what is imported after it
    import tuning_systems

    run = {"models": tuning_systems.write_models, "reference": tuning_systems.write_reference}
    print_figures(run.get(work.system, tuning_systems.measure)(work))


def compare(options: argparse.Namespace, measurements: Measurements) -> list[Row]:
    """Measures every system on every row and returns the rows of the table."""
    model, small = _models(options.device, options.work)
    plan = options.warmup, options.steps, options.seconds
    first = Work("models", options.device, options.rows[0], PAIRS[options.device], 1, False, *plan, model, small, "")
    if options.device == "cuda" and "reason" in (failed := measurements.child(first)):
        return not_measured(options, f"no model: {failed['reason']}")
    rows = []
    for shape in options.rows:
        for checkpointing in options.checkpointing:
            found = _rounds(options, measurements, first._replace(shape=shape, checkpointing=checkpointing))
            rows += [make_row(shape, checkpointing, found["hybrid"], peer, found[peer]) for peer in options.systems[1:]]
    return rows


def _models(device: str, folder: Path) -> tuple[str, str]:
    """Folders of the model that is timed and of the one whose gradient is compared."""
    if device == "cuda":
        return str(folder / "llama-8b-nf4"), str(folder / "llama-8b-nf4-2-layers")
    from hybrid.config import SMOLLM2
    from hybrid.models import resolve_model

    path = str(resolve_model(SMOLLM2))
    return path, path


def _rounds(options: argparse.Namespace, measurements: Measurements, work: Work) -> dict[str, Row]:
    """The figures of every system, which take turns."""
    runs: dict[str, list[Row]] = {system: [] for system in options.systems}
    for number in range(options.rounds):
        for system in options.systems if number % 2 == 0 else reversed(options.systems):
            asked = work._replace(system=system)
            if work.device == "cuda" and not shares(system):
                asked = asked._replace(shape=work.shape._replace(per_context=1))
            if number == 0 and (work.device == "cuda" or system == "hybrid"):
                asked = asked._replace(reference=_reference(measurements, asked))
            runs[system].append(_largest_pass(measurements, asked, options.tokens, number))
    return {system: summary(work._replace(system=system), found) for system, found in runs.items()}


def _reference(measurements: Measurements, work: Work) -> str:
    """The file of the reference gradient of a row, or no file if it could not be made."""
    file = measurements.folder / f"gradient-{work.device}-{str(work.shape).replace('/', '-')}.pt"
    asked = work._replace(system="reference", reference=str(file))
    missing = not file.exists() and "reason" in measurements.child(asked)
    return "" if missing else str(file)


def _largest_pass(measurements: Measurements, work: Work, tokens: int, number: int) -> Row:
    """The figures with the largest forward pass that `tokens` and the memory allow."""
    figures: Row = {}
    for per_pass in passes(work.system, work.shape, work.pairs, tokens):
        figures = measurements.run(work._replace(per_pass=per_pass), number)
        if "OutOfMemoryError" not in figures.get("reason", ""):
            return {**figures, "pairs_per_pass": per_pass * (work.shape.per_context if shares(work.system) else 1)}
    return figures


def summary(work: Work, runs: Sequence[Row]) -> Row:
    """What a row says of a system: medians over its runs, or why there are none."""
    failed = next((run["reason"] for run in runs if "reason" in run), None)
    if failed is not None:
        return {"reason": failed}
    seconds = [step for run in runs for step in run["seconds"]]
    speed = work.pairs / statistics.median(seconds)
    context, sample, per_context, _ = work.shape
    computed = context / per_context + sample if shares(work.system) else context + sample
    return {
        "pairs_per_second": round(speed, 4),
        "tokens_per_second": round(speed * (context + sample)),
        "computed_tokens_per_second": round(speed * computed),
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
        "peak_reserved_mb": runs[0]["peak_reserved_mb"],
        "planned_mb": runs[0].get("planned_mb"),
        "first_step_seconds": round(statistics.median(run["first_step_seconds"] for run in runs), 2),
        "gradient_error": runs[0].get("gradient_error"),
        "pairs_per_pass": runs[0]["pairs_per_pass"],
        "steps": len(seconds),
        "seconds": [round(step, 3) for step in seconds],
        "versions": runs[0]["versions"],
    }


def make_row(shape: Shape, checkpointing: bool, ours: Row, peer: str, theirs: Row) -> Row:
    """A row of the table; what was not measured is None."""
    speeds = ours.get("pairs_per_second"), theirs.get("pairs_per_second")
    return {
        "P": shape.context,
        "s": shape.sample,
        "G": shape.per_context,
        "checkpointing": checkpointing,
        "ratio": round(speeds[0] / speeds[1], 2) if speeds[0] and speeds[1] else None,
        "same_objective": not peer.endswith("multi-turn"),
        **report.side_by_side(ours, peer, theirs, FIGURES),
    }


def not_measured(options: argparse.Namespace, reason: str) -> list[Row]:
    """The rows of a machine that cannot measure them."""
    nothing = {"reason": reason}
    return [
        make_row(shape, checkpointing, nothing, peer, nothing)
        for shape in options.rows
        for checkpointing in options.checkpointing
        for peer in options.systems[1:]
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as text, then why figures are missing."""
    lines = [
        {
            **row,
            "shape": f"{row['P']}/{row['s']}/{row['G']}",
            "checkpointing": "yes" if row["checkpointing"] else "no",
            "objective": "same" if row["same_objective"] else "another",
        }
        for row in rows
    ]
    return "\n".join([report.table(COLUMNS, lines), *report.reasons(rows)])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with the defaults of the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SYSTEMS), default="cpu")
    parser.add_argument("--rows", nargs="+", metavar="P/s/G", help="tokens of a context, of a pair; pairs a context")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="what to measure beside Hybrid")
    parser.add_argument("--checkpointing", choices=["yes", "no", "both"], help="on a GPU both")
    parser.add_argument("--rounds", type=int, help="processes of every system: 3 on a CPU, 1 on a GPU")
    parser.add_argument("--warmup", type=int, help="steps that do not count: 0 on a CPU, 5 on a GPU")
    parser.add_argument("--steps", type=int, help="steps that count: 1 on a CPU, 10 on a GPU")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0,
        help="a process stops after the step that passes this time, the first left out",
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="nothing is measured after this time")
    parser.add_argument("--tokens", type=int, help="tokens of a forward pass: 1 on a CPU, so one unit; 21000 on a GPU")
    parser.add_argument("--unsloth-path", type=Path, help="folder of packages for Unsloth alone")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hybrid-benchmark-tuning")
    parser.add_argument("--runs", type=Path, help="file that keeps measurements and is gone on from")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on stdout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    for name, value in DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    try:
        options.rows = [read_shape(text, ANSWER[options.device], PAIRS[options.device]) for text in options.rows]
    except ValueError as error:
        parser.error(str(error))
    unknown = set(options.systems) - set(SYSTEMS[options.device])
    if unknown:
        parser.error(f"unknown systems {sorted(unknown)}: choose from {', '.join(SYSTEMS[options.device])}")
    options.systems = ["hybrid", *(name for name in options.systems if name != "hybrid")]
    options.checkpointing = {"yes": [True], "no": [False], "both": [False, True]}[options.checkpointing]
    return options


def read_shape(text: str, answer: int, pairs: int) -> Shape:
    """Reads P/s/G.

    Raises:
        ValueError: It is not three numbers, has no room for a question, or G does not divide the pairs of a step.
    """
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"a row is three numbers P/s/G, not {text!r}")
    context, sample, per_context = map(int, parts)
    if not context or sample <= answer or not per_context or pairs % per_context:
        raise ValueError(f"a row P/s/G needs P > 0, s > {answer} and a G that divides {pairs}, not {text}")
    return Shape(context, sample, per_context, answer)


def main() -> None:
    """Measures and prints; fails if there is a device but no figure of Hybrid."""
    options = parse()
    if options.measure:
        work_in_child(options.measure)
        return
    import torch

    measurable = options.device == "cpu" or torch.cuda.is_available()
    if measurable:
        options.work.mkdir(parents=True, exist_ok=True)
        rows = compare(options, Measurements(options.work, options.runs, options.unsloth_path, options.minutes))
    else:
        rows = not_measured(options, "no CUDA device on this machine")
    plan = " ".join(f"--{name} {getattr(options, name)}" for name in ("rounds", "warmup", "steps", "seconds", "tokens"))
    command = f"python benchmarks/tuning.py --device {options.device} --rows {' '.join(map(str, options.rows))} {plan}"
    result = {
        **report.header(command, report.installed(PACKAGES)),
        "model": MODELS[options.device],
        "rows": rows,
    }
    report.show(table(rows), result, as_json=options.json)
    if measurable and any(row["pairs_per_second"] is None for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
