"""The folder of one training run: what was asked for, with what software, and what came of it.

config.toml      seed, machines, steps and the complete recipe
scenarios/       the complete TOML of each scenario it learns on
versions.json    Python, packages, the layout of observations and actions, a hash of the simulator's sources
events.out.*     TensorBoard; progress*.csv the same numbers as a table
checkpoints/     `tiergym.lab.checkpoint`
policy.onnx      the exported policy
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tiergym import files, specs
from tiergym.env.episodes import ScenarioLike
from tiergym.errors import UserError
from tiergym.lab.recipe import Recipe, make_recipe
from tiergym.policy.onnx_layout import current_layout
from tiergym.sim import compile_cache as compilation

CONFIG, VERSIONS, SCENARIOS = "config.toml", "versions.json", "scenarios"
PACKAGES = ("tiergym", "numpy", "numba", "gymnasium", "torch", "stable-baselines3", "sb3-contrib", "onnx")


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do; `scenarios` are the names of the files in its folder `scenarios`."""

    seed: int
    scenarios: tuple[str, ...]
    recipe: Recipe


def create(out: Path | None, config: RunConfig, scenarios: Sequence[ScenarioLike]) -> Path:
    """Make the folder of a new run and describe the run in it.

    Without `out` it is `runs/<recipe>-<scenario>-<seed>-<time>` in the working directory. Raises `UserError` where
    `out` exists and is not an empty folder.
    """
    if out is None:
        time = datetime.now().strftime("%Y%m%d-%H%M%S")
        where = config.scenarios[0] if len(config.scenarios) == 1 else f"{len(config.scenarios)}-scenarios"
        out = Path("runs") / f"{config.recipe.name}-{where}-{config.seed}-{time}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} exists and is not an empty folder; name another one, or continue it with --resume {out}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from error
    for name, scenario in zip(config.scenarios, scenarios, strict=True):
        files.write_text(out / SCENARIOS / f"{name}.toml", specs.scenario_toml(scenario))
    document = {
        "schema": 1,
        "seed": config.seed,
        "scenarios": list(config.scenarios),
        "recipe": {"name": config.recipe.name, **config.recipe.document()},
    }
    files.write_text(out / VERSIONS, json.dumps(versions(), indent=2) + "\n")
    files.write_text(out / CONFIG, toml_text(document))
    return out


def read(run: Path) -> RunConfig:
    """What the run in folder `run` was asked to do. Raises `UserError` where it is not one, or not a sound one."""
    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"{run}: no {CONFIG}; allowed: the folder of a training run")
    document = files.read_toml(path)
    recipe = document.get("recipe")
    if document.get("schema") != 1 or not isinstance(recipe, dict) or not isinstance(recipe.get("name"), str):
        raise UserError(f"{path}: not the configuration of a training run (schema 1)")
    seed, scenarios = document.get("seed"), document.get("scenarios")
    if not isinstance(seed, int) or not isinstance(scenarios, list) or not scenarios:
        raise UserError(f"{path}: seed and scenarios are missing")
    fields = {key: value for key, value in recipe.items() if key != "name"}
    return RunConfig(seed, tuple(scenarios), make_recipe(recipe["name"], fields, f"{path}: [recipe]"))


def load_scenarios(run: Path, config: RunConfig) -> list[specs.Scenario]:
    """The run's own copies of its scenarios, whatever has become of the presets since."""
    return [specs.load_scenario(run / SCENARIOS / f"{name}.toml") for name in config.scenarios]


def check_versions(run: Path) -> bool:
    """Whether the run's machines were simulated by this very simulator.

    Raises `UserError` where its observations and actions are not those of this tiergym.
    """
    path = run / VERSIONS
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        layout, simulator = there["layout"], there["simulator"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: missing or damaged") from error
    if layout != current_layout():
        raise UserError(f"{run}: its observations or actions are not those of this tiergym; train it again")
    return bool(simulator == compilation.source_hash())


def versions() -> dict[str, Any]:
    """What made a run: software, machine type, layout, and the hash of the simulator's sources."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "simulator": compilation.source_hash(),
        "layout": current_layout(),
    }


def toml_text(document: Mapping[str, Any], prefix: str = "") -> str:
    """A document of texts, numbers, booleans, lists and tables as TOML; its scalars before its tables."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in document.items() if not isinstance(value, Mapping)]
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{_key(key)}]", toml_text(value, f"{prefix}{_key(key)}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return repr(value)
    return "[" + ", ".join(_value(entry) for entry in value) + "]"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
