"""The whole path on public data: split the questions, learn from one part, compare the arms on the other.

    python benchmarks/real_data.py squad --path DATA/squad11_dev13 --work /tmp/squad --set compare.limit=300
    python benchmarks/real_data.py emanual --path DATA/emanual_tv --work /tmp/emanual --folds 2
    python benchmarks/real_data.py squad --path DATA/squad11_dev13 --work /tmp/squad --seeds 3

The sets, their splits and their settings are those of `hybrid compare --benchmark`. With several folds or seeds
everything is done once for each, and `hybrid merge` puts the comparisons together. The table goes to stderr, the
figures with machine and versions to benchmarks/results/, under the name of the path; those over seeds as NAME_seeds.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import report

from hybrid.benchmarks import BENCHMARKS, RECORD, create_benchmark
from hybrid.cli.commands import format_table
from hybrid.merge import merge
from hybrid.project import Project

_FOUND = ("arms", "costs", "verdict", "facts", "notes")
_OVER_SEEDS = ("arms", "baseline", "seeds", "questions", "effects", "comparisons", "verdict", "facts", "notes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BENCHMARKS))
    parser.add_argument("--path", type=Path, required=True, help="the local copy: a folder, or a published file")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the projects; a run that was interrupted goes on"
    )
    parser.add_argument("--folds", type=int, default=1, help="how many parts of the questions are asked")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0, each learns and answers with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    options = parser.parse_args()
    if options.seeds > 1 and any(setting.startswith("seed=") for setting in options.set):
        parser.error("--seeds counts the seeds itself; leave out --set seed=")

    runs = list(product(range(options.seeds), range(options.folds)))
    projects, stages, seconds = [], [], Counter[str]()
    for seed, fold in runs:
        parts = [f"seed{seed}"] * (options.seeds > 1) + [f"fold{fold}"] * (options.folds > 1)
        settings = [*options.set, *[f"seed={seed}"] * (options.seeds > 1)]
        project = create_benchmark(options.name, options.path, options.work.joinpath(*parts), settings, fold=fold)
        projects.append(project)
        for stage in project.run():
            stages.append(stage.manifest)
            seconds[stage.stage] += stage.manifest["seconds"]
    compared = merge(projects, options.work / "merged") if len(runs) > 1 else projects[0].report()
    result = {
        "set": options.path.stem,
        **report.header(_command(options), stages[-1]["versions"]),
        "seconds": round(sum(seconds.values())),
        "stage_seconds": {stage: round(spent, 1) for stage, spent in seconds.items()},
        "peak_memory_mb": round(max(stage.get("peak_memory_mb", 0) for stage in stages)),
        "split": _split(projects[: options.folds]),
        **{key: compared.data[key] for key in (_OVER_SEEDS if options.seeds > 1 else _FOUND)},
    }
    target = report.save(options.path.stem + "_seeds" * (options.seeds > 1), result)
    spent = f"{result['seconds']} s, {result['peak_memory_mb']} MB at most, figures in {target}"
    found = "" if options.seeds > 1 else f"{format_table(compared)}\n\n"
    sys.stderr.write(f"{found}{compared.verdict}\n{spent}\n")


def _command(options: argparse.Namespace) -> str:
    """What makes the figures again, but for the places of data and work."""
    repeated = [("folds", options.folds), ("seeds", options.seeds)]
    settings = "".join(f" --{name} {count}" for name, count in repeated if count > 1)
    settings += "".join(f" --set {shlex.quote(setting)}" for setting in options.set)
    return f"python benchmarks/real_data.py {options.name} --path DATA/{options.path.name} --work WORK{settings}"


def _split(projects: Sequence[Project]) -> dict[str, Any]:
    """How the questions were split; the counts of all folds in their order."""
    records = [json.loads((project.folder / RECORD).read_text(encoding="utf-8")) for project in projects]
    counts = {key: [record[key] for record in records] for key in ("train", "test", "dropped")}
    return {**{key: records[0][key] for key in ("share", "seed")}, **counts}


if __name__ == "__main__":
    main()
