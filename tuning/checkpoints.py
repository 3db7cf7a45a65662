"""Which checkpoints a run may continue from.

A checkpoint counts once its marker file exists, which is written last: a killed process leaves a folder without it. The
marker holds the SHA-256 of the files, which must be on the disk by then: a machine that lost its power may leave them
cut off, and a disk may lose bits, with which training would go on unnoticed. A plan file says which run the checkpoints
belong to, so that another run starts afresh.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

_MARKER = "complete"
_PLAN = "plan.sha256"
_SPENT = "spent.json"


class Spent(NamedTuple):
    """What a training has taken so far.

    Attributes:
        seconds: Wall time of its loop; what an interruption has cost, back to the checkpoint before it, is left out.
        tokens: Tokens computed in that time, shared ones counted once.
        answer_tokens: Of these, the tokens that carry the loss.
    """

    seconds: float = 0.0
    tokens: int = 0
    answer_tokens: int = 0


NOTHING = Spent()


def mark_complete(checkpoint: Path, spent: Spent) -> None:
    """Declares a checkpoint complete, with what the training up to it has taken."""
    _write(checkpoint / _SPENT, json.dumps(spent._asdict()))
    digests = _digests(checkpoint)
    for name in digests:
        with (checkpoint / name).open("rb") as file:
            os.fsync(file.fileno())
    _write(checkpoint / _MARKER, json.dumps(digests))


def prepare(folder: Path, plan: str) -> Path | None:
    """Deletes what cannot be continued and returns the last whole checkpoint of the same plan, if there is one.

    Args:
        folder: Where the run keeps its checkpoints; made if missing.
        plan: Equal for runs that compute the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _PLAN
    same = file.exists() and file.read_bytes() == plan.encode()
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        if same and _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    if not same:  # or a full disk would cost the checkpoints of a run that goes on
        _write(file, plan)
    return None


def spent_until(checkpoint: Path | None) -> Spent:
    """Returns what the training up to a checkpoint has taken; nothing where there is none."""
    return Spent(**json.loads((checkpoint / _SPENT).read_text(encoding="utf-8"))) if checkpoint else NOTHING


def _is_whole(checkpoint: Path) -> bool:
    marker = checkpoint / _MARKER
    if not marker.exists():
        return False
    try:
        whole = bool(json.loads(marker.read_text(encoding="utf-8")) == _digests(checkpoint))
    except (OSError, ValueError):
        whole = False
    if not whole:
        sys.stderr.write(f"{checkpoint} is damaged or of an earlier version, and deleted; training goes on before it\n")
    return whole


def _digests(checkpoint: Path) -> dict[str, str]:
    files = (file for file in checkpoint.rglob("*") if file.is_file() and file.name != _MARKER)
    return {file.relative_to(checkpoint).as_posix(): _digest(file) for file in files}


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(file: Path, text: str) -> None:
    """Writes a file so that it is found as it was or whole, whatever happens meanwhile."""
    new = file.with_name(f".{file.name}.new")
    with new.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(new, file)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
