"""Which checkpoints a run may continue from.

A checkpoint counts once its marker file exists, which is written last: a killed process leaves a folder without it. The
marker holds the sizes of the files, which must be on the disk by then: a machine that lost its power may leave them cut
off. A plan file says which run the checkpoints belong to, so that another run starts afresh.
"""

import json
import os
import shutil
from pathlib import Path

_MARKER = "complete"
_PLAN = "plan.sha256"


def mark_complete(checkpoint: Path) -> None:
    """Declares a checkpoint complete."""
    sizes = _sizes(checkpoint)
    for name in sizes:
        with (checkpoint / name).open("rb") as file:
            os.fsync(file.fileno())
    (checkpoint / _MARKER).write_text(json.dumps(sizes), encoding="utf-8")


def prepare(folder: Path, plan: str) -> Path | None:
    """Deletes what cannot be continued and returns the last complete checkpoint of the same plan, if there is one.

    Args:
        folder: Where the run keeps its checkpoints; made if missing.
        plan: Equal for runs that compute the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _PLAN
    same = file.exists() and file.read_text(encoding="ascii") == plan
    complete: list[Path] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if same and _is_complete(checkpoint):
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    file.write_text(plan, encoding="ascii")
    return max(complete, key=_step, default=None)


def _is_complete(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / _MARKER).read_text(encoding="utf-8")) == _sizes(checkpoint))
    except (OSError, ValueError):
        return False


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (file for file in checkpoint.rglob("*") if file.is_file() and file.name != _MARKER)
    return {file.relative_to(checkpoint).as_posix(): file.stat().st_size for file in files}


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
