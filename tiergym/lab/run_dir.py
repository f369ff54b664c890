"""The folder of one training run: what was asked for, with what software, and what came of it.

config.toml      seed, machines, steps and the complete recipe
scenarios/       the complete TOML of each scenario it learns on
versions.json    Python, packages, the layout of observations and actions, a hash of the simulator's sources
events.out.*     TensorBoard; progress*.csv the same numbers as a table
checkpoints/     `tiergym.lab.checkpoint`
evaluations.json `tiergym.lab.evaluations`; timelines/ a picture of each
policy.onnx      the exported policy; best.onnx that of the best checkpoint
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
from tiergym.env import model_hash
from tiergym.env.episodes import ScenarioLike
from tiergym.errors import UserError, shown
from tiergym.lab import evaluations
from tiergym.lab.recipe import Recipe, make_recipe
from tiergym.policy.load import EXPORTED
from tiergym.policy.onnx_layout import current_layout
from tiergym.trust import check_inside, check_plain

MOST_SEEDS = 1 << 63
CONFIG, VERSIONS, SCENARIOS = "config.toml", "versions.json", "scenarios"
BEST_EXPORTED, PICTURES, CHECKPOINTS = "best.onnx", "timelines", "checkpoints"
TO_COME = (EXPORTED, BEST_EXPORTED, evaluations.FILE, f"{PICTURES}/0.png", f"{CHECKPOINTS}/0/0.json")
"""What training writes late, or files like it."""
PACKAGES = ("tiergym", "numpy", "numba", "gymnasium", "torch", "stable-baselines3", "sb3-contrib", "onnx")


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do; `scenarios` are the names of the files in its folder `scenarios`."""

    seed: int
    scenarios: tuple[str, ...]
    recipe: Recipe
    started_from: str = ""
    """Where its first weights come from, in words; empty where they were drawn."""


def new_name(config: RunConfig) -> Path:
    """The folder of a run that was given none: `runs/<recipe>-<scenario>-<seed>-<time>` in the working directory."""
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    where = config.scenarios[0] if len(config.scenarios) == 1 else f"{len(config.scenarios)}-scenarios"
    return Path("runs") / f"{config.recipe.name}-{where}-{config.seed}-{time}"


def create(out: Path, config: RunConfig, scenarios: Sequence[ScenarioLike]) -> Path:
    """Describe a new run in its folder, which the caller holds (`tiergym.lab.locking`)."""
    for name, scenario in zip(config.scenarios, scenarios, strict=True):
        files.write_text(out / SCENARIOS / f"{name}.toml", specs.scenario_toml(scenario))
    files.write_text(out / VERSIONS, json.dumps(versions(), indent=2) + "\n")
    write(out, config)
    return out


def write(run: Path, config: RunConfig) -> None:
    """Say in the run's folder what it was asked to do."""
    files.write_text(run / CONFIG, config_text(config))


def config_text(config: RunConfig) -> str:
    """What `write` writes."""
    document = {
        "schema": 1,
        "seed": config.seed,
        "scenarios": list(config.scenarios),
        **({"started_from": config.started_from} if config.started_from else {}),
        "recipe": {"name": config.recipe.name, **config.recipe.document()},
    }
    return toml_text(document)


def read(run: Path) -> RunConfig:
    """What the run in folder `run` was asked to do. Raises `UserError` where it is not one, or not a sound one."""
    check_plain(run)
    for name in TO_COME:
        files.check_place(run / name)
    path = run / CONFIG
    if not path.is_file():
        raise UserError(f"{run}: no {CONFIG}; allowed: the folder of a training run")
    document = files.read_toml(path)
    recipe = document.get("recipe")
    if (
        not files.same(document.get("schema"), 1)
        or not isinstance(recipe, dict)
        or not isinstance(recipe.get("name"), str)
    ):
        raise UserError(f"{path}: not the configuration of a training run (schema 1)")
    seed, scenarios = document.get("seed"), document.get("scenarios")
    if not isinstance(seed, int) or not isinstance(scenarios, list) or not scenarios:
        raise UserError(f"{path}: seed and scenarios are missing")
    if isinstance(seed, bool) or not 0 <= seed < MOST_SEEDS:
        raise UserError(f"{path}: seed is {seed}; allowed: 0 to {MOST_SEEDS - 1}")
    for name in scenarios:
        if not isinstance(name, str):
            raise UserError(f"{path}: scenarios: {shown(name)}; allowed: names of files in {SCENARIOS}")
        check_inside(name, f"{path}: one of the scenarios")
    fields = {key: value for key, value in recipe.items() if key != "name"}
    started_from = document.get("started_from", "")
    if not isinstance(started_from, str):
        raise UserError(f"{path}: started_from is {shown(started_from)}; allowed: a text")
    return RunConfig(seed, tuple(scenarios), make_recipe(recipe["name"], fields, f"{path}: [recipe]"), started_from)


def load_scenarios(run: Path, config: RunConfig) -> list[specs.Scenario]:
    """The run's own copies of its scenarios, whatever has become of the presets since."""
    return [specs.load_scenario(run / SCENARIOS / f"{name}.toml") for name in config.scenarios]


def check_versions(run: Path) -> bool:
    """Whether the run's machines were simulated by this very simulator.

    Raises `UserError` where its observations and actions are not those of this tiergym.
    """
    path = run / VERSIONS
    try:
        there = files.read_json(path)
        layout, simulator = there["layout"], there["simulator"]
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{path}: missing or damaged") from error
    if layout != current_layout():
        raise UserError(f"{run}: its observations or actions are not those of this tiergym; train it again")
    return bool(simulator == model_hash.model_hash())


def versions() -> dict[str, Any]:
    """What made a run: software, machine type, layout, and the hash of the simulator's sources."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "simulator": model_hash.model_hash(),
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
