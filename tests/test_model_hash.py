"""The model's digest changes with what a trajectory depends on, and with nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.places import ROOT
from tiergym.env.model_hash import PACKAGE, PARTS, model_hash


def test_its_parts_are_what_the_machines_import() -> None:
    code = "import sys, tiergym.env.machines; print(*(m for m in sys.modules if m.startswith('tiergym.env.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = {name.removeprefix("tiergym.env.") for name in done.stdout.split()}
    assert imported <= set(PARTS)
    assert all((PACKAGE / "env" / f"{part}.py").is_file() for part in PARTS)


def test_it_changes_with_the_model_alone(tmp_path: Path) -> None:
    copy = tmp_path / "tiergym"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert model_hash(copy) == model_hash()
    for path, same in (
        ("env/render.py", True),
        ("lab/bound.py", True),
        ("sim/cost.py", False),
        ("env/engine.py", False),
    ):
        before = model_hash(copy)
        (copy / path).write_text((copy / path).read_text() + "\n# more\n")
        assert (model_hash(copy) == before) is same, path
