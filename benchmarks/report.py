"""What the results of all benchmarks have in common: where they were measured, the table, the JSON."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

# transformers imports a package `kernels` if it finds one: a real one goes before the script of that name beside this.
if sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.append(sys.path.pop(0))

RESULTS = Path(__file__).resolve().parent / "results"
NOT_MEASURED = "not measured"

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: its title, the key of its values in a row, and how they are written."""

    title: str
    key: str
    form: str = ""


def header(command: str, versions: Mapping[str, str]) -> Row:
    """What each result starts with."""
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": dict(versions),
    }


def commit() -> str | None:
    """The commit of this file, with a `+` where files differ from it; None outside a repository."""
    here = Path(__file__).resolve().parent
    asked = [["git", "rev-parse", "--short=10", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
    try:
        found = [subprocess.run(call, cwd=here, capture_output=True, text=True, check=True).stdout for call in asked]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0].strip() + ("+" if found[1].strip() else "")


def machine() -> str:
    """The processor and its cores, then the GPUs of NVIDIA, if there are any."""
    cores = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return ", ".join([cores, *gpus()])


def gpus() -> list[str]:
    """Names of the GPUs, asked for without starting CUDA in this process, which would take memory from what runs."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return asked.stdout.splitlines()


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text in aligned columns; a value of None or without a key is `not measured`."""
    cells = [[column.title for column in columns]]
    cells += [[_cell(row.get(column.key), column.form) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def side_by_side(ours: Row, peer: str, theirs: Row, keys: Sequence[str]) -> Row:
    """The figures of Hybrid, those of a peer as `peer_...`, and why any are missing, which makes them None."""
    why = {name: run["reason"] for name, run in (("hybrid", ours), (peer, theirs)) if "reason" in run}
    alike = len(why) == 2 and ours["reason"] == theirs["reason"]
    reason = ours["reason"] if alike else "; ".join(f"{name}: {text}" for name, text in why.items())
    return {
        "peer": peer,
        **{key: ours.get(key) for key in keys},
        **{f"peer_{key}": theirs.get(key) for key in keys},
        **({"reason": reason} if why else {}),
    }


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines that say why figures are missing, each once."""
    return list(dict.fromkeys(f"{NOT_MEASURED}: {row['reason']}" for row in rows if "reason" in row))


def dump(result: Mapping[str, Any]) -> str:
    """A result as it is printed and kept."""
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


def save(name: str, result: Mapping[str, Any]) -> Path:
    """Writes benchmarks/results/NAME.json."""
    target = RESULTS / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(dump(result), encoding="utf-8")
    return target


def show(text: str, result: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the table on stderr and, if asked for, the result as one JSON object on stdout."""
    sys.stderr.write(text + "\n")
    if as_json:
        sys.stdout.write(dump(result))


def _cell(value: object, form: str) -> str:
    return NOT_MEASURED if value is None else format(value, form)
