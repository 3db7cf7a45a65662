"""Runs the kernel tests again with Triton's interpreter, which must be chosen before the kernels are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="runs in the interpreter already")
@pytest.mark.parametrize("name", ["gated", "interval_attention", "linear_cross_entropy", "nf4", "rms_norm", "rope"])
def test_triton_kernels_pass_the_tests_of_their_twins(name: str) -> None:
    file = Path(__file__).with_name(f"test_{name}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
