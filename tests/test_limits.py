"""Limits on size, and calls and texts that must not occur."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = ("hybrid", "retrieval", "tuning", "kernels", "eval")
FILE_LINES = 400
FUNCTION_LINES = 50

# Paths of somebody's machine, and addresses of package indexes.
FORBIDDEN_TEXT = re.compile(
    r"(?<![\w.~:])/(?:work|root|opt|Users)/\w"
    r"|(?<![\w.~:])/home/\w"
    r"|file:/{3}"
    r"|https?://[^\s\"'<>)]*(?:pypi\.|pythonhosted\.|download\.pytorch\.|/simple/)"
)


def _sources() -> list[Path]:
    """Every source file once: the folders linked into `hybrid/` count under their own name."""
    return sorted({path.resolve() for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py")})


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in _sources():
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def _calls() -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in _trees():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_the_sources_are_found() -> None:
    assert len(_sources()) >= 15


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": _lines_without_docstring(node)
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def _lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        first = node.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_only_the_command_line_prints() -> None:
    cli = Path("hybrid", "cli")
    wrong = [
        f"{path}:{call.lineno}"
        for path, call in _calls()
        if ast.unparse(call.func) == "print" and cli not in path.parents
    ]
    assert wrong == []


def test_nothing_runs_code_from_data() -> None:
    forbidden_calls = {"eval", "exec", "torch.load"}
    forbidden_keywords = {"trust_remote_code", "shell", "allow_pickle"}
    wrong = [
        f"{path}:{call.lineno} {ast.unparse(call.func)}"
        for path, call in _calls()
        if ast.unparse(call.func) in forbidden_calls
        or any(word.arg in forbidden_keywords and ast.unparse(word.value) != "False" for word in call.keywords)
    ]
    assert wrong == []


def test_nothing_imports_pickle() -> None:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wrong += [f"{path}:{node.lineno} {a.name}" for a in node.names if a.name.split(".")[0] in modules]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in modules:
                wrong.append(f"{path}:{node.lineno} {node.module}")
    assert wrong == []


def _text_files() -> Iterator[Path]:
    """Files that git tracks or would track; without git, all but hidden and generated folders."""
    for path in _tracked() or _walked():
        if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes()[:8192]:
            yield path


def _tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return []
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in done.stdout.split("\0") if name]


def _walked() -> list[Path]:
    skipped = {
        ".venv",
        "demo",
        "build",
        "dist",
        "__pycache__",
        ".git",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
    }
    return [
        path
        for path in ROOT.rglob("*")
        if not any(part in skipped or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts)
    ]


def test_no_machine_path_or_index_address() -> None:
    found = []
    for path in _text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number} {match}" for match in FORBIDDEN_TEXT.findall(line)]
    assert found == []
