"""pyproject.toml, constraints.txt and the folders on disk say the same."""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("retrieval", "tuning", "kernels", "eval")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _sources() -> Iterator[Path]:
    for name in ("hybrid", *PARTS):
        yield from (path for path in (ROOT / name).rglob("*.py") if not (name == "hybrid" and _is_linked(path)))


def _is_linked(path: Path) -> bool:
    """From Python 3.13 on, rglob follows links by default; a linked folder is counted under its own name only."""
    return path.relative_to(ROOT / "hybrid").parts[0] in PARTS


def _package(path: Path) -> str:
    folder = path.parent.relative_to(ROOT).parts
    return ".".join(folder if folder[0] == "hybrid" else ("hybrid", *folder))


def test_declared_packages_are_the_folders_on_disk() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {_package(path) for path in _sources()}


def test_package_dir_maps_the_four_folders() -> None:
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {f"hybrid.{name}": name for name in PARTS}


def test_every_package_but_kernels_has_an_init() -> None:
    without = {_package(path) for path in _sources() if not (path.parent / "__init__.py").exists()}
    assert without == {"hybrid.kernels"}


def test_kernels_do_not_shadow_the_package_of_the_same_name() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("name", PARTS)
def test_links_are_relative(name: str) -> None:
    link = ROOT / "hybrid" / name
    if not link.is_symlink() and link.is_file():
        pytest.skip("this checkout does not support symbolic links")
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_extras_named_in_messages_exist() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    named: dict[str, str] = {}
    for path in _sources():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("DependencyError"):
                extra = node.args[1] if len(node.args) > 1 else next(k.value for k in node.keywords if k.arg == "extra")
                if isinstance(extra, ast.Constant):
                    named[str(extra.value)] = path.name
        named |= dict.fromkeys(_extras_in(text), path.name)
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        named |= dict.fromkeys(_extras_in(page.read_text(encoding="utf-8")), page.name)
    assert named, "no message names an extra: the search is broken"
    assert {extra: where for extra, where in named.items() if extra not in extras} == {}


def _extras_in(text: str) -> list[str]:
    return [extra for group in re.findall(r"hybrid-rag\[([a-z, ]+)\]", text) for extra in re.split(r",\s*", group)]


def _requirements() -> Iterator[Requirement]:
    yield from map(Requirement, PROJECT["project"]["dependencies"])
    for group in PROJECT["project"]["optional-dependencies"].values():
        yield from map(Requirement, group)


def test_constraints_pin_every_requirement_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(_is_pin, lines))}
    for requirement in _requirements():
        pin = pins[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is no pin"
        assert requirement.specifier.contains(specifier.version), f"{pin} does not fit {requirement}"


def _is_pin(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")
