"""Fills the folder of wheels that gpu.sh takes to a machine with a GPU and without a network.

    python benchmarks/gpu_wheels.py WHEELS --python 3.12 --cuda 130

Some 30 MB: bitsandbytes, PEFT, TRL and Liger for all, and in WHEELS/unsloth Unsloth with the older TRL and the packages
that it imports. torch, triton, transformers, accelerate and what these need are taken for there. Of bitsandbytes only
the library for one CUDA is kept, and of Unsloth not its app, which together would be 60 MB more. xformers is left out,
as its wheels are for one version of torch alone: Unsloth then takes PyTorch's attention. Run again, it replaces what it
downloaded before.
"""

import argparse
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ALL = ("bitsandbytes", "peft", "trl", "liger-kernel", "datasets", "dill", "multiprocess")
# As Unsloth asks for; its own limits hold for TRL, datasets and transformers, which has to be there.
UNSLOTH = (
    *("unsloth", "unsloth-zoo", "trl<=1.15.0", "datasets<5", "dill", "multiprocess", "cut-cross-entropy", "torchao"),
    *("diffusers", "tyro", "docstring-parser", "typeguard", "hf-transfer", "msgspec", "structlog", "json5"),
    "nest-asyncio",
)
WITH_NEEDS = ("pydantic",)  # which fits one version of pydantic-core alone
MANYLINUX = ("1", "2014", "_2_17", "_2_24", "_2_27", "_2_28", "_2_34")


def download(packages: tuple[str, ...], folder: Path, python: str, *options: str) -> None:
    """Downloads wheels for Linux on x86_64."""
    platforms = [part for version in MANYLINUX for part in ("--platform", f"manylinux{version}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", *platforms, *options]
    command += ["--python-version", python, "--implementation", "cp", "-d", str(folder), *packages]
    subprocess.run(command, check=True)


def trim(wheel: Path, is_kept: Callable[[str], bool]) -> None:
    """Leaves files out of a wheel, and out of its list of files."""
    smaller = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as part:
        for name in filter(is_kept, whole.namelist()):
            content = whole.read(name)
            if name.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if is_kept(line.split(",")[0])).encode()
            part.writestr(name, content)
    os.replace(smaller, wheel)


def main() -> None:
    """Downloads, trims and tells the size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheels go")
    parser.add_argument("--python", default="3.12", help="version of Python on the machine with the GPU")
    parser.add_argument("--cuda", default="130", help="CUDA of its torch, as bitsandbytes names its libraries")
    options = parser.parse_args()
    for packages, folder in ((ALL, options.folder), (UNSLOTH, options.folder / "unsloth")):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.whl"):
            old.unlink()
        download(packages, folder, options.python, "--no-deps")
    download(WITH_NEEDS, options.folder / "unsloth", options.python)
    library = f"libbitsandbytes_cuda{options.cuda}.so"
    for wheel in options.folder.glob("bitsandbytes-*.whl"):
        with zipfile.ZipFile(wheel) as whole:
            if not any(name.endswith(library) for name in whole.namelist()):
                parser.error(f"{wheel.name} has no {library}: name another --cuda")
        trim(wheel, lambda name: "libbitsandbytes_" not in name or name.endswith((library, "libbitsandbytes_cpu.so")))
    for wheel in (options.folder / "unsloth").glob("unsloth-*.whl"):
        trim(wheel, lambda name: not name.startswith("studio/"))
    wheels = list(options.folder.rglob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    sys.stderr.write(f"{len(wheels)} wheels, {size / 1e6:.1f} MB, in {options.folder}\n")


if __name__ == "__main__":
    main()
