"""What a write that fails looks like, whoever writes."""

import errno
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hybrid.errors import ArtefactError, writing


def _by_python(file: Path) -> None:
    with file.open("wb") as opened:
        opened.write(bytes(1 << 17))


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": _by_python,
    "numpy": lambda file: np.save(file, np.zeros(1 << 14)),
    "torch": lambda file: torch.save(torch.zeros(1 << 15), file),
    "safetensors": lambda file: save_file({"a": torch.zeros(1 << 15)}, file),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_fails_is_an_os_error_with_number_and_name(
    writer: str, tmp_path: Path, short_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    file = tmp_path / "a.npy"
    with short_files(1 << 16), pytest.raises(OSError, match=r"File too large: '.*a\.npy'") as raised, writing(file):
        WRITERS[writer](file)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(file))


FULL = """
import sys
from pathlib import Path
import torch
from hybrid.errors import writing
folder = Path(sys.argv[1]) / "missing"
try:
    with writing(folder / "a.pt"):
        folder.mkdir()
        torch.save(torch.zeros(1 << 18), folder / "a.pt")
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_told_where_torch_tells_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=256k none '{tmp_path}'"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("needs a file system of its own")
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && "$@"', "sh", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"[Errno 28] No space left on device: '{tmp_path}/missing/a.pt'\n", done.stderr


@pytest.mark.parametrize("error", [ArtefactError("damaged"), ValueError("a bug"), FileNotFoundError(2, "gone", "b")])
def test_an_error_of_another_kind_is_left_as_it_is(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, writing(tmp_path / "a"):
        raise error
    assert raised.value is error
