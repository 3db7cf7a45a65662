"""Who may import whom, by reading the sources; and what `import hybrid` must not load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = {"hybrid.types", "hybrid.errors"}
MAY_IMPORT = {
    "kernels": BASE | {"hybrid.kernels"},
    "tuning": BASE | {"hybrid.kernels", "hybrid.tuning"},
    "retrieval": BASE | {"hybrid.retrieval"},
    "eval": BASE | {"hybrid.eval"},
}
HEAVY = ("torch", "triton", "transformers", "peft", "sentence_transformers", "faiss", "bm25s")

# Runs in a fresh interpreter. Both nets are needed: the hook sees C code too, the class stops Python code.
PROBE = """
import json, os, sys
import socket

opened = []
environment = dict(os.environ)

class Closed(socket.socket):
    def __init__(self, *arguments, **keywords):
        opened.append("socket.socket")
        raise OSError("a socket was opened")

socket.socket = socket.SocketType = Closed
sys.addaudithook(lambda event, arguments: opened.append(event) if event.startswith("socket.") else None)
__import__(sys.argv[1])
heavy = sorted(name for name in sys.argv[2].split(",") if name in sys.modules)
print(json.dumps({"heavy": heavy, "opened": opened, "environment": environment == dict(os.environ)}))
"""


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import at any depth; `from hybrid import x` counts as `hybrid.x`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def _is_within(name: str, allowed: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


def _modules(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_part_imports_only_what_it_may(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in _modules(part)
        for line, name in _imports(path)
        if name.split(".")[0] in {"hybrid", *MAY_IMPORT} - {"kernels"} and not _is_within(name, MAY_IMPORT[part])
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["types", "errors"])
def test_base_imports_nothing_of_hybrid(module: str) -> None:
    assert [name for _, name in _imports(ROOT / "hybrid" / f"{module}.py") if name.startswith("hybrid")] == []


def test_kernels_import_torch_and_triton_alone() -> None:
    allowed = {"torch", "triton", *MAY_IMPORT["kernels"], *sys.stdlib_module_names}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in _modules("kernels")
        for line, name in _imports(path)
        if not _is_within(name, allowed)
    ]
    assert wrong == []


def test_top_level_folders_are_imported_as_parts_of_hybrid() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for part in ("hybrid", "tests", "benchmarks", *MAY_IMPORT)
        for path in _modules(part)
        for line, name in _imports(path)
        if name.split(".")[0] in MAY_IMPORT
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["hybrid", "hybrid.cli"])
def test_import_is_light_and_opens_no_socket(module: str) -> None:
    command = [sys.executable, "-c", PROBE, module, ",".join(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"heavy": [], "opened": [], "environment": True}
    assert done.stderr == ""
