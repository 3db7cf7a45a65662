"""Is `hybrid plan` right about memory? Its estimate beside the peak of `hybrid tune`, each in a process of its own.

    python benchmarks/plan_memory.py --work WORK --json

The project is that of examples/handbook. Training stops after a few optimiser steps, as no later one takes more.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import report
from report import Column

import hybrid

HANDBOOK = Path(__file__).resolve().parent.parent / "examples" / "handbook"
COLUMNS = (
    Column("settings", "settings"),
    Column("planned MB", "planned_mb", ".0f"),
    Column("measured MB", "measured_mb", ".0f"),
    Column("ratio", "ratio", ".2f"),
    Column("steps", "steps"),
)
VARIANTS: tuple[list[str], ...] = (
    [],
    ["tune.dtype=float32"],
    ["tune.max_tokens=2048"],
    ["tune.checkpointing=full"],
    ["tune.method=lora"],
    ["tune.method=full"],
)
_EPOCHS = "tune.epochs=0.12"
_COMMAND = "import sys; from hybrid.cli import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the project")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()
    folder = options.work / "project"
    if not (folder / "hybrid.yaml").exists():
        hybrid.Project.create(folder, HANDBOOK / "docs", compare={"arms": ["hybrid"]})
    hybrid.Project.open(folder).pairs()
    rows = [measure(folder, settings) for settings in VARIANTS]
    versions = report.installed(["hybrid-rag", "torch", "transformers", "peft", "bitsandbytes"])
    result = {**report.header("python benchmarks/plan_memory.py --work WORK --json", versions), "rows": rows}
    report.save("plan_memory", result)
    report.show(report.table(COLUMNS, rows), result, as_json=options.json)


def measure(folder: Path, settings: list[str]) -> report.Row:
    """The estimate and the peak for these settings."""
    planned = _run("plan", folder, settings)["peak_mb"]
    _run("tune", folder, [*settings, _EPOCHS])
    manifest = json.loads((folder / ".hybrid" / "adapters" / "hybrid" / "manifest.json").read_text(encoding="utf-8"))
    measured = manifest["peak_memory_mb"]
    return {
        "settings": " ".join(settings) or "defaults",
        "planned_mb": planned,
        "measured_mb": measured,
        "ratio": planned / measured,
        "steps": manifest["steps"],
        "dtype": manifest["dtype"],
    }


def _run(command: str, folder: Path, settings: list[str]) -> report.Row:
    chosen = [part for setting in settings for part in ("--set", setting)]
    call = [sys.executable, "-c", _COMMAND, command, "--project", str(folder), "--json", *chosen]
    printed = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: report.Row = json.loads(printed)
    return found


if __name__ == "__main__":
    main()
