"""The package as users meet it: its import, its registration, its wheel, from any folder."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import tiergym
from tests.places import ROOT
from tiergym import paths
from tiergym.errors import suggest

HEAVY = {"torch", "numba", "stable_baselines3", "sb3_contrib", "onnx", "onnxruntime", "matplotlib", "pyarrow"}
HEAVY |= {"rich", "typer", "tensorboard", "pandas", "scipy", "pydantic"}
"""Packages that take a tenth of a second and more to import."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's project folder with an `envs/`, `agents/` and `pyproject.toml` of its own."""
    folder = tmp_path / "project"
    for name in ("envs", "agents", "experiments"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('a stranger was imported')\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    return folder


def python(code: str, cwd: Path, **environment: str) -> str:
    """Standard output of `code` in a new interpreter at `cwd`."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_heavy(elsewhere: Path) -> None:
    loaded = set(json.loads(python("import tiergym, sys, json; print(json.dumps(list(sys.modules)))", elsewhere)))
    assert HEAVY & loaded == set()
    ours = {name for name in loaded if name.split(".")[0] == "tiergym"}
    assert ours == {"tiergym"}


def test_help_of_every_command_loads_nothing_heavy(elsewhere: Path) -> None:
    """Help is there at once: what a command needs, beyond what `import tiergym` needs, is loaded when it runs."""
    code = """
        import json, sys
        import typer
        from tiergym.__main__ import main
        from tiergym.cli.app import app

        def calls(command, words):
            yield words
            for name, child in getattr(command, "commands", {}).items():
                yield from calls(child, [*words, name])

        asked = list(calls(typer.main.get_command(app), []))
        for words in asked:
            sys.argv = ["tiergym", *words, "--help"]
            try:
                main()
            except SystemExit as stop:
                assert not stop.code, words
        print("\\n" + json.dumps([len(asked), list(sys.modules)]))
    """
    asked, loaded = json.loads(python(code, elsewhere).splitlines()[-1])
    assert asked > 25
    assert (HEAVY - {"rich", "typer", "pydantic"}) & set(loaded) == set()  # typer loads the last
    ours = {name for name in loaded if name.startswith("tiergym.") and name.count(".") == 1}
    assert ours & {"tiergym.lab", "tiergym.env", "tiergym.bench", "tiergym.validation", "tiergym.kernel_lab"} == set()


@pytest.mark.parametrize("name", ["tiergym:tiergym/Placement-v3", "tiergym/Placement-v3"])
def test_registration_from_any_folder(elsewhere: Path, name: str) -> None:
    code = f"""
        import gymnasium
        if ":" not in {name!r}:
            import tiergym
        env = gymnasium.make({name!r}, scenario="llama-1to2")
        observation, _ = env.reset(seed=1)
        print(type(env.unwrapped).__module__, env.spec.id, env.spec.max_episode_steps, observation.shape)
        envs = gymnasium.make_vec(
            "tiergym:tiergym/Placement-v3", num_envs=3, vectorization_mode="vector_entry_point", scenario="llama-1to2"
        )
        print(type(envs.unwrapped).__module__, envs.num_envs)
    """
    first, second = python(code, elsewhere).splitlines()
    assert re.fullmatch(r"tiergym\.env\.placement_env tiergym/Placement-v3 None \(\d+,\)", first)
    assert second == "tiergym.env.vector_env 3"


def test_the_installed_version_is_the_source_s() -> None:
    assert importlib.metadata.version("tiergym") == tiergym.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {tiergym.__version__}" in changelog


def test_a_checkout_uses_its_own_folders() -> None:
    assert (paths.envs_dir(), paths.agents_dir()) == (ROOT / "envs", ROOT / "agents")
    assert paths.experiments_dir() == ROOT / "experiments"


def test_a_wheel_carries_the_folders_and_uses_them(elsewhere: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("tiergym-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    code = "from tiergym import paths; print(paths.envs_dir(), paths.agents_dir(), paths.experiments_dir(), sep='\\n')"
    found = python(code, elsewhere, PYTHONPATH=str(site)).splitlines()
    assert found == [str(site / "tiergym" / "_data" / name) for name in ("envs", "agents", "experiments")]

    def contents(folder: Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    for name, copy in zip(("envs", "agents", "experiments"), found, strict=True):
        assert contents(ROOT / name)
        assert contents(Path(copy)) == contents(ROOT / name)

    names = zipfile.ZipFile(wheel).namelist()
    assert "tiergym/py.typed" in names
    assert [name for name in names if "__pycache__" in name or name.startswith(("tests/", "runs/", "envs/"))] == []


def test_a_package_without_its_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="reinstall tiergym"):
        paths._data_root(tmp_path / "tiergym")


def test_suggest_names_the_nearest_and_all() -> None:
    assert suggest("llma", ["llama", "graph"], "workload") == (
        "unknown workload 'llma'; did you mean 'llama'? (known: graph, llama)"
    )
    assert suggest("xyz", ["llama"]) == "unknown name 'xyz' (known: llama)"
