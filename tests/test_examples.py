"""Examples that people copy: every script runs, at tiny sizes, and every notebook, cell by cell."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

SCRIPTS = ROOT / "experiments" / "scripts"
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))
SIZES = {
    "plain_sb3": ("2048",),
    "maskable": ("2048",),
    "cleanrl_ppo": ("2048",),
    "own_module": ("30",),
    "tune_optuna": ("8192", "2"),
    "rllib_ppo": ("2",),
}
"""Arguments that make a script take seconds."""
SAYS = {
    "plain_sb3": "per decision, ppo: -",
    "maskable": "maskable.onnx: return -",
    "cleanrl_ppo": "cleanrl_ppo.onnx: return -",
    "own_module": "own_module.onnx: return -",
    "tune_optuna": "2 trials, ",
    "rllib_ppo": "rllib_after.onnx: return -",
}
NEEDS = {"tune_optuna": ("optuna",), "rllib_ppo": ("ray", "tree", "pandas")}
"""Packages beyond those of training, without which a script is left out."""
NOTEBOOK_S = 120
"""A notebook takes under a minute on an idle machine."""


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run(command: list[str], folder: Path, timeout_s: float) -> str:
    """Standard output of a command, with the checkout's package and without a window system."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # A home of its own: RLlib and IPython make folders there.
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(paths), "HOME": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cells(path: Path, kind: str) -> list[str]:
    document: Any = json.loads(path.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def test_every_script_is_here() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(SIZES) == set(SAYS)


def script(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.xdist_group("ray") if "ray" in NEEDS.get(name, ()) else ())


@pytest.mark.parametrize("name", [script(name) for name in SIZES])
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    for package in NEEDS.get(name, ()):
        if not installed(package):
            pytest.skip(f"{package} is not installed")
    out = run([sys.executable, str(SCRIPTS / f"{name}.py"), *SIZES[name]], tmp_path, 300)
    assert SAYS[name] in out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    """As Jupyter runs it, where nbclient is installed, else its cells in one process."""
    if installed("nbclient") and installed("ipykernel"):
        code = "import nbformat, nbclient, sys; nbclient.NotebookClient(nbformat.read(sys.argv[1], 4)).execute()"
        run([sys.executable, "-c", code, str(path)], tmp_path, NOTEBOOK_S)
    else:
        (tmp_path / "notebook.py").write_text("\n\n".join(cells(path, "code")))
        run([sys.executable, "notebook.py"], tmp_path, NOTEBOOK_S)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_plain_and_carries_no_results(path: Path) -> None:
    document: Any = json.loads(path.read_text())
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids) and all(len(each) <= 64 for each in ids)
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert cells(path, "markdown")[0].startswith("# ")
    if installed("nbformat"):
        nbformat = importlib.import_module("nbformat")
        nbformat.validate(nbformat.read(path, 4))


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_look", "restrict_or_migrate", "your_recording"]
