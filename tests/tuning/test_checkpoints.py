"""Which checkpoints are continued: those of the same run, whole to the last bit."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from hybrid.tuning import checkpoints

FILES = ("optimizer.pt", "trainer_state.json", "adapter/weights.safetensors")


def _save(folder: Path, *steps: int) -> None:
    """Checkpoints that are complete."""
    for step in steps:
        for name in FILES:
            file = folder / f"checkpoint-{step}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes([step] * 100))
        checkpoints.mark_complete(folder / f"checkpoint-{step}", checkpoints.Spent(float(step), step * 10, step))


def test_checkpoints_of_another_run_are_discarded(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert checkpoints.prepare(folder, "a") is None
    _save(folder, 9, 10)
    (folder / "checkpoint-11").mkdir()
    assert checkpoints.prepare(folder, "a") == folder / "checkpoint-10"
    assert not (folder / "checkpoint-11").exists()
    assert checkpoints.prepare(folder, "b") is None
    assert not list(folder.glob("checkpoint-*"))


def test_a_checkpoint_that_was_cut_off_is_not_continued(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert checkpoints.prepare(folder, "a") is None
    _save(folder, 1, 2, 3)
    os.truncate(folder / "checkpoint-3" / "optimizer.pt", 99)
    (folder / "checkpoint-2" / "complete").write_bytes(b"")
    assert checkpoints.prepare(folder, "a") == folder / "checkpoint-1"
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("name", [*FILES, "spent.json", "complete"])
def test_a_checkpoint_with_a_wrong_bit_is_dropped_for_the_one_before(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.prepare(tmp_path, "a")
    _save(tmp_path, 9, 10)
    file = tmp_path / "checkpoint-10" / name
    content = bytearray(file.read_bytes())
    content[-50] ^= 4
    file.write_bytes(content)
    assert checkpoints.prepare(tmp_path, "a") == tmp_path / "checkpoint-9"
    assert not (tmp_path / "checkpoint-10").exists()
    assert capsys.readouterr().err == (
        f"{tmp_path / 'checkpoint-10'} is damaged or of an earlier version, and deleted; training goes on before it\n"
    )


def test_what_a_killed_run_left_half_written_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints.prepare(tmp_path, "a")
    _save(tmp_path, 1, 2)
    (tmp_path / "checkpoint-2" / "complete").unlink()
    assert checkpoints.prepare(tmp_path, "a") == tmp_path / "checkpoint-1"
    assert capsys.readouterr().err == ""


def test_a_full_disk_costs_no_checkpoint(
    tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    plan = "a" * 64
    checkpoints.prepare(tmp_path, plan)
    _save(tmp_path, 1)
    with short_files(0):
        assert checkpoints.prepare(tmp_path, plan) == tmp_path / "checkpoint-1"
    assert checkpoints.prepare(tmp_path, plan) == tmp_path / "checkpoint-1"


def test_a_plan_that_is_no_text_is_that_of_another_run(tmp_path: Path) -> None:
    checkpoints.prepare(tmp_path, "a")
    _save(tmp_path, 1)
    (tmp_path / "plan.sha256").write_bytes(b"\xff")
    assert checkpoints.prepare(tmp_path, "a") is None
    _save(tmp_path, 1)
    assert checkpoints.prepare(tmp_path, "a") == tmp_path / "checkpoint-1"


def test_what_training_has_taken_is_kept_with_the_checkpoint(tmp_path: Path) -> None:
    _save(tmp_path, 4)
    assert checkpoints.spent_until(tmp_path / "checkpoint-4") == (4.0, 40, 4)
    assert checkpoints.spent_until(None) == (0.0, 0, 0)
