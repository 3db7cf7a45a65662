"""The whole path on public data: split the questions, learn from one part, compare the arms on the other.

    python benchmarks/real_data.py squad --path DATA/squad11_dev13 --work /tmp/squad --set compare.limit=300
    python benchmarks/real_data.py emanual --path DATA/emanual_tv --work /tmp/emanual --folds 2

The sets, their splits and their settings are those of `hybrid compare --benchmark`. With several folds everything is
done once for each, and `hybrid merge` puts the comparisons together. The table goes to stderr, the figures with machine
and versions to benchmarks/results/, under the name of the path.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import report

from hybrid.benchmarks import BENCHMARKS, RECORD, create_benchmark
from hybrid.cli.commands import format_table
from hybrid.merge import merge
from hybrid.project import Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BENCHMARKS))
    parser.add_argument("--path", type=Path, required=True, help="the local copy: a folder, or a published file")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the projects; a run that was interrupted goes on"
    )
    parser.add_argument("--folds", type=int, default=1, help="how many parts of the questions are asked")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, such as seed=1")
    options = parser.parse_args()

    folders = [options.work / f"fold{fold}" for fold in range(options.folds)] if options.folds > 1 else [options.work]
    projects, stages, seconds = [], [], Counter[str]()
    for fold, folder in enumerate(folders):
        project = create_benchmark(options.name, options.path, folder, options.set, fold=fold)
        projects.append(project)
        for stage in project.run():
            stages.append(stage.manifest)
            seconds[stage.stage] += stage.manifest["seconds"]
    compared = merge(projects, options.work / "merged") if options.folds > 1 else projects[0].report()
    settings = f" --folds {options.folds}" if options.folds > 1 else ""
    settings += "".join(f" --set {shlex.quote(setting)}" for setting in options.set)
    result = {
        "set": options.path.stem,
        **report.header(
            f"python benchmarks/real_data.py {options.name} --path DATA/{options.path.name} --work WORK{settings}",
            stages[-1]["versions"],
        ),
        "seconds": round(sum(seconds.values())),
        "stage_seconds": {stage: round(spent, 1) for stage, spent in seconds.items()},
        "peak_memory_mb": round(max(stage.get("peak_memory_mb", 0) for stage in stages)),
        "split": _split(projects),
        **{key: compared.data[key] for key in ("arms", "costs", "verdict", "facts", "notes")},
    }
    target = report.save(options.path.stem, result)
    spent = f"{result['seconds']} s, {result['peak_memory_mb']} MB at most, figures in {target}"
    sys.stderr.write(f"{format_table(compared)}\n\n{compared.verdict}\n{spent}\n")


def _split(projects: Sequence[Project]) -> dict[str, Any]:
    """How the questions were split; the counts of all folds in their order."""
    records = [json.loads((project.folder / RECORD).read_text(encoding="utf-8")) for project in projects]
    counts = {key: [record[key] for record in records] for key in ("train", "test", "dropped")}
    return {**{key: records[0][key] for key in ("share", "seed")}, **counts}


if __name__ == "__main__":
    main()
