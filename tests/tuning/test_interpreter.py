"""Trains whole models by the Triton kernels in their interpreter, which must be chosen before they are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="runs in the interpreter already")
def test_whole_models_have_the_gradients_of_separate_samples_by_the_triton_kernels() -> None:
    file = Path(__file__).with_name("test_loss.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), "-k", "what_a_gpu_runs"]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
