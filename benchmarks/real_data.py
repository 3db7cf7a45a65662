"""The whole path on public data: split the questions, learn from one part, compare the arms on the other.

    python benchmarks/real_data.py emanual --path DATA/emanual_tv --work /tmp/emanual
    python benchmarks/real_data.py squad --path DATA/squad11_dev13 --work /tmp/squad --set compare.limit=300

The sets, their splits and their settings are those of `hybrid compare --benchmark`. The table goes to stderr, the
figures with machine and versions to benchmarks/results/, under the name of the path and the fold.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import report

from hybrid.benchmarks import BENCHMARKS, RECORD, create_benchmark
from hybrid.cli.commands import format_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BENCHMARKS))
    parser.add_argument("--path", type=Path, required=True, help="the local copy: a folder, or a published file")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the project; a run that was interrupted goes on"
    )
    parser.add_argument("--fold", type=int, default=0, help="which part of the questions is asked, from 0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, such as seed=1")
    options = parser.parse_args()

    started = time.perf_counter()
    project = create_benchmark(options.name, options.path, options.work, options.set, fold=options.fold)
    stages = project.run()
    compared = project.report()
    record = json.loads((project.folder / RECORD).read_text(encoding="utf-8"))
    settings = f" --fold {options.fold}" if options.fold else ""
    settings += "".join(f" --set {shlex.quote(setting)}" for setting in options.set)
    name = f"{options.path.stem}_fold{options.fold}" if options.fold else options.path.stem
    result = {
        "set": options.path.stem,
        **report.header(
            f"python benchmarks/real_data.py {options.name} --path DATA/{options.path.name} --work WORK{settings}",
            stages[-1].manifest["versions"],
        ),
        "seconds": round(time.perf_counter() - started),
        "stage_seconds": {stage.stage: stage.manifest["seconds"] for stage in stages},
        "peak_memory_mb": max(stage.manifest.get("peak_memory_mb", 0) for stage in stages),
        "split": {key: record[key] for key in ("share", "seed", "fold", "train", "test", "dropped")},
        **{key: compared.data[key] for key in ("arms", "costs", "verdict", "facts", "notes")},
    }
    target = report.save(name, result)
    spent = f"{result['seconds']} s, {result['peak_memory_mb']} MB at most, figures in {target}"
    sys.stderr.write(f"{format_table(compared)}\n\n{compared.verdict}\n{spent}\n")


if __name__ == "__main__":
    main()
