"""Keeps the figures of `make demo`: reads the finished project and writes benchmarks/results/handbook.json.

    make demo && .venv/bin/python benchmarks/handbook.py demo/handbook

The README's table is the one that this prints.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import report

import hybrid


def main() -> None:
    """Writes the figures, and prints the table of the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    options = parser.parse_args()
    project = hybrid.Project.open(options.project)
    compared = project.report()
    manifests = [json.loads((project.path(name) / "manifest.json").read_text()) for name in project.stage_names]
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
    )
    result = {
        "set": "handbook",
        **report.header("make demo", manifests[-1]["versions"]),
        "commit": commit.stdout.strip(),
        "stage_seconds": {manifest["stage"]: manifest["seconds"] for manifest in manifests},
        "peak_memory_mb": manifests[-1]["peak_memory_mb"],
        **{key: compared.data[key] for key in ("arms", "verdict", "facts", "notes")},
    }
    report.save("handbook", result)
    for arm in compared.data["arms"]:
        versus = arm["vs_rag"]
        recall = "–" if arm["recall_at_k"] is None else f"{arm['recall_at_k']:.2f}"
        difference = (
            f"{versus['f1_difference']:+.3f} ({versus['low']:+.3f} to {versus['high']:+.3f}), p = {versus['p']:.4f}"
            if versus
            else "baseline"
        )
        scores = " | ".join(f"{arm[key]:.3f}" for key in ("f1", "em", "rouge_l", "contains"))
        sys.stdout.write(f"| {arm['name']} | {scores} | {recall} | {arm['seconds']:.2f} | {difference} |\n")


if __name__ == "__main__":
    main()
