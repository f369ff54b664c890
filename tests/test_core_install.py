"""Without the optional parts: what still works, and one line about what does not."""

import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.short_runs import write_short_scenario
from tiergym import extras
from tiergym.errors import UserError

WITHOUT = """
import sys

absent = sys.argv.pop(1).split(",")

class Finder:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *more):
        return None if name.partition(".")[0] in absent else self.finder.find_spec(name, *more)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Finder, sys.meta_path)
from tiergym.__main__ import main
main()
"""
"""The command line where the modules of the first argument are not found."""
TRAIN = "torch,stable_baselines3,sb3_contrib,tensorboard"
ALL = f"{TRAIN},onnx,onnxruntime,matplotlib,pyarrow"


def without(absent: str, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`tiergym COMMAND` in `folder`, where the modules `absent` cannot be imported."""
    call = [sys.executable, "-c", WITHOUT, absent, *shlex.split(command)]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("absent", "command", "named", "installed"),
    [
        (TRAIN, "train --agent ppo --scenario llama-1to2", "torch", "torch stable-baselines3 sb3-contrib tensorboard"),
        (TRAIN, "run", "torch", "torch stable-baselines3 sb3-contrib tensorboard"),
        (TRAIN, "export run", "torch", "torch stable-baselines3 sb3-contrib tensorboard"),
        (TRAIN, "bench", "torch", "torch stable-baselines3 sb3-contrib tensorboard"),
        ("sb3_contrib", "train --agent maskable_ppo --scenario llama-1to2", "sb3_contrib", "sb3-contrib"),
        ("tensorboard", "train --agent ppo --scenario llama-1to2", "tensorboard", "tensorboard"),
        ("onnx", "train --agent ppo --scenario llama-1to2", "onnx", "onnx"),
        ("onnx,onnxruntime", "evaluate a.onnx", "onnx", "onnx onnxruntime"),
        ("onnxruntime", "run", "onnxruntime", "onnxruntime"),
        ("matplotlib", "compare --policies online --png a.png", "matplotlib", "matplotlib"),
        ("pyarrow", "evaluate online --parquet a.parquet", "pyarrow", "pyarrow"),
        ("pyarrow", "matrix --parquet a.parquet", "pyarrow", "pyarrow"),
        ("matplotlib", "validate recordings . --plot plots", "matplotlib", "matplotlib"),
    ],
)
def test_a_missing_package_is_one_line_before_any_work(tmp_path, absent, command, named, installed):
    if absent != TRAIN and (command == "run" or command.startswith("train")):
        pytest.importorskip("torch", reason="the command asks for torch first")
    (tmp_path / "a.onnx").write_bytes(b"")
    done = without(absent, command, tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    told, _, advice = line.partition("; this installs it: pip install ")
    assert told == f"error: {named} is not installed"
    # Names of packages with bounds, not of tiergym, which may come from no index at all.
    asked = shlex.split(advice)
    found = [name for name in installed.split() if any(word.startswith(name) for word in asked)]
    assert found == installed.split() and "tiergym" not in advice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx"], "it began to work"


def test_rules_are_compared_without_any_optional_part(tmp_path):
    write_short_scenario(tmp_path)
    command = "compare --policies online,restrict --scenario short.toml --episodes 1 --json a.json"
    done = without(ALL, command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.json").is_file()


def test_another_module_that_is_missing_is_a_defect_and_keeps_its_traceback(tmp_path):
    done = without("rich", "scenarios", tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_the_advice_is_what_pyproject_asks_for(monkeypatch):
    lines = [
        "numpy<3,>=2",
        "onnx<2,>=1; extra == 'all'",
        'torch==9 ; extra == "train"',
        "tensorboard; extra == 'train'",
    ]
    monkeypatch.setattr(extras, "requires", lambda name: lines)
    monkeypatch.setattr(extras, "missing", lambda part: ("torch", "sb3-contrib", "tensorboard"))
    assert extras.advice("train") == "pip install torch==9 sb3-contrib tensorboard"
    lines += ["sb3-contrib<3,>=2; extra == 'train'"]
    assert extras.advice("train") == "pip install torch==9 'sb3-contrib<3,>=2' tensorboard"

    def not_installed(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", not_installed)
    assert extras.advice("train") == "pip install torch sb3-contrib tensorboard"


def test_every_package_of_a_part_is_an_extra_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text()
    for part, names in extras.PARTS.items():
        for name in names:
            assert f'"{name}' in text, (part, name)


def test_require_imports_what_is_there_and_passes_on_what_is_ours_alone():
    assert extras.require("json").__name__ == "json"
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        extras.require("nowhere")


def test_require_refuses_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pyarrow is not installed; this installs it: pip install"):
        extras.require("pyarrow")
