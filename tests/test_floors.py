"""The package's floors, checked on the imports of its sources, and that each module can be told by its name."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.places import FLOORS, ROOT

SOURCES = sorted((ROOT / "tiergym").rglob("*.py"))
SIM = ["tiergym", "sim"]
LONGEST_MODULE = 500
AS_COMMAND = "__name__ == '__main__'"
FRONT_DOORS = ("tiergym/__main__.py", "tiergym/__init__.py")
"""They import what is behind them when it is asked for."""
REQUIREMENTS = {"PIL": "pillow", "sklearn": "scikit_learn"}
"""What packages are called that are imported under another name."""


def place(path: Path) -> str:
    """`sim` for tiergym/sim/x.py, `specs` for tiergym/specs.py and for tiergym/specs/x.py."""
    return path.relative_to(ROOT / "tiergym").parts[0].removesuffix(".py")


def imports(source: str, package: str) -> Iterator[str]:
    """Dotted names of what `source`, a module of `package`, imports at any depth, `from a import b` as a.b.

    Not what it imports where it is run by itself, as `python -m` runs it.
    """
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == AS_COMMAND)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, node.module] if node.module else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def forbidden(source: str, package: str, where: str) -> list[str]:
    """Imports in `source`, a module at `where`, that reach above its floor.

    The model may import itself, NumPy, and numba with its LLVM. Modules beside the floors (errors, files, ...) may
    import nothing of any.
    """
    if where == "sim":
        known = sys.stdlib_module_names | {"numpy", "numba", "llvmlite"}
        return [m for m in imports(source, package) if m.split(".")[0] not in known and m.split(".")[:2] != SIM]
    above = [*(FLOORS[FLOORS.index(where) + 1 :] if where in FLOORS else FLOORS), "__main__"]
    return [m for m in imports(source, package) if any(f"{m}.".startswith(f"tiergym.{floor}.") for floor in above)]


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.relative_to(ROOT).as_posix() not in FRONT_DOORS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_imports_from_its_floor_and_below(path: Path) -> None:
    package = ".".join(path.parent.relative_to(ROOT).parts)
    assert forbidden(path.read_text(), package, place(path)) == []


@pytest.mark.parametrize(
    ("source", "where", "caught"),
    [
        ("from tiergym.env import machines", "sim", ["tiergym.env.machines"]),
        ("def f():\n    from ..cli.app import app", "policy", ["tiergym.cli.app.app"]),
        ("from . import load", "policy", []),
        ("import torch", "sim", ["torch"]),
        ("import gymnasium.spaces as s", "sim", ["gymnasium.spaces"]),
        ("import torch, tiergym.sim.names", "env", []),
        ("from tiergym import specs", "sim", ["tiergym.specs"]),
        ("from tiergym.policy.load import load_policy", "specs", ["tiergym.policy.load.load_policy"]),
        ("from tiergym.specs import load_scenario", "env", []),
        ("from tiergym.sim import names", "errors", ["tiergym.sim.names"]),
        ("from tiergym.__main__ import run_module", "lab", ["tiergym.__main__.run_module"]),
        ('if __name__ == "__main__":\n    from tiergym.__main__ import run_module', "lab", []),
    ],
)
def test_the_check_itself_sees_every_form_of_import(source: str, where: str, caught: list[str]) -> None:
    assert forbidden(source, f"tiergym.{where}", where) == caught


def test_every_folder_of_the_package_is_a_floor() -> None:
    assert {path.parent.name for path in (ROOT / "tiergym").glob("*/__init__.py")} == set(FLOORS)


def test_the_architecture_page_lists_the_floors_and_what_stands_beside_them() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page[page.index("## Floors") : page.index("## The simulator")]
    assert tuple(re.findall(r"(?m)^\| `tiergym/(\w+)` \|", section)) == FLOORS
    beside = {path.name for path in (ROOT / "tiergym").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", section.split("Beside the floors")[1])) == beside


def test_no_two_modules_share_a_name() -> None:
    names = [path.stem for path in SOURCES if not path.stem.startswith("__")]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize("folder", ["tiergym", "agents", "experiments", "tests"])
def test_no_module_is_longer_than_one_idea(folder: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sorted((ROOT / folder).rglob("*.py"))}
    assert {str(path): n for path, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_every_package_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {re.split(r"[\[<>=~ ]", line)[0].replace("-", "_") for line in requirements}
    used = {name.split(".")[0] for path in SOURCES for name in imports(path.read_text(), "tiergym")}
    used = {REQUIREMENTS.get(name, name) for name in used}
    assert used - set(sys.stdlib_module_names) - {"tiergym"} <= declared
