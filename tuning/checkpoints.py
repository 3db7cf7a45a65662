"""Which checkpoints a run may continue from.

A checkpoint counts once its marker file exists, which is written last: a killed process leaves a folder without it.
A plan file says which run the checkpoints belong to, so that another run starts afresh.
"""

import shutil
from pathlib import Path

_MARKER = "complete"
_PLAN = "plan.sha256"


def mark_complete(checkpoint: Path) -> None:
    """Declares a checkpoint complete."""
    (checkpoint / _MARKER).touch()


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
        if same and (checkpoint / _MARKER).exists():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    file.write_text(plan, encoding="ascii")
    return max(complete, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
