"""Experiments: train agents, export them, and evaluate the exported files beside the baselines. One TOML each.

    description = "..."
    scenarios = ["llama-1to2"]
    agents = ["ppo"]            # recipes to train on each scenario; none: only the policies are compared
    training_seeds = [0]        # one run of training per agent, scenario and seed
    steps = 1_000_000           # of each run; left out: the recipe's own
    policies = ["online"]       # to compare with; left out: all baselines
    episodes = 64               # of evaluation, per policy or run, on seeds that no training has seen
    seed = 1                    # of the evaluation

An experiment with one run of training, such as the main job, is one run directory: the training's
files, policy.onnx, results.json, results.parquet and comparison.png. With more runs each has a folder
of its own in it, and each scenario's results lie in a folder of the scenario's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiergym import paths
from tiergym.errors import UserError, suggest
from tiergym.files import read_toml

MAX_EPISODES = 65536
"""All episodes are one batch: this many machines take about 1 GiB."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A checked experiment; fields as in its file, `policies` complete."""

    name: str
    description: str
    scenarios: tuple[str, ...]
    agents: tuple[str, ...] = ()
    training_seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    policies: tuple[str, ...] = field(default=())
    episodes: int = 64
    seed: int = 1


_STRINGS = "a list of one or more different names"
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "description": (lambda value: isinstance(value, str), "text"),
    "scenarios": (lambda value: _distinct(value, str), _STRINGS),
    "agents": (lambda value: _distinct(value, str), _STRINGS),
    "policies": (lambda value: _distinct(value, str), _STRINGS),
    "training_seeds": (
        lambda value: _distinct(value, int) and min(value) >= 0,
        "a list of one or more different integers from 0",
    ),
    "steps": (lambda value: _integer(value, 1), "an integer from 1"),
    "episodes": (lambda value: _integer(value, 1, MAX_EPISODES), f"an integer from 1 to {MAX_EPISODES}"),
    "seed": (lambda value: _integer(value, 0), "an integer from 0"),
}


def list_experiments() -> dict[str, str]:
    """Names of the shipped experiments with their descriptions."""
    files = sorted(paths.experiments_dir().glob("*.toml"))
    return {path.stem: load_experiment(str(path)).description for path in files}


def load_experiment(spec: str) -> Experiment:
    """The experiment of a name (experiments/NAME.toml) or a TOML file. Raises `UserError`."""
    shipped = paths.experiments_dir() / f"{spec}.toml"
    path = shipped if shipped.is_file() else Path(spec)
    if path.suffix != ".toml" or not path.is_file():
        known = [file.stem for file in paths.experiments_dir().glob("*.toml")]
        raise UserError(suggest(spec, known, "experiment"))
    document = read_toml(path)
    for key, value in document.items():
        if key not in _ALLOWED:
            raise UserError(f"{path}: {suggest(key, _ALLOWED, 'field')}")
        is_allowed, allowed = _ALLOWED[key]
        if not is_allowed(value):
            raise UserError(f"{path}: {key} is {value!r}; allowed: {allowed}")
    for key in ("description", "scenarios"):
        if key not in document:
            raise UserError(f"{path}: {key} is missing; allowed: {_ALLOWED[key][1]}")
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    return _with_policies(Experiment(name=path.stem, **fields))


def _with_policies(experiment: Experiment) -> Experiment:
    from tiergym.policy.load import list_policies

    return experiment if experiment.policies else replace(experiment, policies=tuple(list_policies()))


def _distinct(value: Any, kind: type) -> bool:
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        return False
    return all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _integer(value: Any, low: int, high: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)
