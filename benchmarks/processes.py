"""Runs what a benchmark measures in a process of its own, which prints its figures as the last line of stdout."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from report import Row

ROOT = Path(__file__).resolve().parents[1]


def run_child(
    script: str,
    arguments: Sequence[str],
    *,
    packages: Path | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
) -> Row:
    """The figures of a process, or {"reason": why there are none}.

    Args:
        script: File name beside this one.
        arguments: Of the command line.
        packages: Folder of packages that this process sees before all others.
        folder: Where it runs.
        timeout: Seconds after which it is stopped.
    """
    environment = dict(os.environ)
    # No system asks a server for anything, and none splits a batch over several GPUs.
    environment |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
    paths = [str(packages.resolve()) if packages else "", environment.get("PYTHONPATH", ""), str(ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"stopped after {timeout:.0f} s"}
    if done.returncode:
        sys.stderr.write(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}\n")
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"reason": lines[-1][:300]}
    figures: Row = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_figures(figures: Row) -> None:
    """Ends a process that `run_child` has started."""
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
