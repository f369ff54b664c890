"""Experiments: train agents, export them, and evaluate the exported files beside the baselines. One TOML each.

    description = "..."
    scenarios = ["llama-1to2"]
    agents = ["ppo"]            # recipes to train on each scenario; none: only the policies are compared
    training_seeds = [0]        # one run of training per agent, scenario and seed
    steps = 1_000_000           # of each run; left out: the recipe's own
    policies = ["online"]       # to compare with; left out: all baselines
    episodes = 64               # of evaluation, per policy or run, on seeds that no training has seen
    seed = 1                    # of the evaluation

    [set]                       # fields that every scenario gets
    kernel.swap_mib = 8192
    [variants.cautious]         # each scenario once per variant, as NAME@VARIANT, with these fields besides
    kernel.watermark_scale_factor = 200
    [variants.eager]
    kernel.watermark_scale_factor = 10

An experiment with one run of training, such as the main job, is one run directory: the training's
files, policy.onnx, results.json, results.parquet and comparison.png. With more runs each has a folder
of its own in it, and each scenario's results lie in a folder of the scenario's name. With variants there are one
table and one picture, variants.png, besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiergym import paths
from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.specs import Scenario, dotted, load_scenario, override

MAX_EPISODES = 65536
"""All episodes are one batch: this many machines take about 1 GiB."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A checked experiment; fields as in its file, `policies` complete; `set` and each of the `variants` are what
    `tiergym.specs.override` takes."""

    name: str
    description: str
    scenarios: tuple[str, ...]
    agents: tuple[str, ...] = ()
    training_seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    policies: tuple[str, ...] = field(default=())
    episodes: int = 64
    seed: int = 1
    set: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def load_scenarios(self) -> list[Scenario]:
        """The scenarios in all their variants, with what the experiment sets. Raises `UserError`."""
        varied = {name for changes in self.variants.values() for name in changes}
        twice = sorted(varied & self.set.keys())
        if twice:
            raise UserError(
                f"experiment '{self.name}': {twice[0]} = {self.set[twice[0]]!r} is set, and its variants differ in it; "
                "allowed: one of the two"
            )
        loaded = [load_scenario(name) for name in self.scenarios]
        if self.set:
            loaded = [override(each, self.set, f"set by experiment '{self.name}' or --set") for each in loaded]
        if not self.variants:
            return loaded
        return [
            replace(
                override(each, changes, f"variant '{variant}' of experiment '{self.name}'"),
                name=f"{each.name}@{variant}",
                variant=variant,
            )
            for each in loaded
            for variant, changes in self.variants.items()
        ]


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
    "set": (lambda value: isinstance(value, dict), "a table of a scenario's fields"),
    "variants": (
        lambda value: isinstance(value, dict) and all(map(_is_variant, value.items())),
        "tables of a scenario's fields, whose names are ASCII letters, digits, ., - and _",
    ),
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
    return make_experiment(path.stem, read_toml(path), str(path))


def make_experiment(name: str, document: dict[str, Any], path: str) -> Experiment:
    """The experiment that a TOML document describes; `path` stands in errors. Raises `UserError`."""
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
    fields["set"] = dotted(fields.get("set", {}))
    fields["variants"] = {name: dotted(changes) for name, changes in fields.get("variants", {}).items()}
    return _with_policies(Experiment(name=name, **fields))


def _with_policies(experiment: Experiment) -> Experiment:
    from tiergym.policy.load import list_policies

    return experiment if experiment.policies else replace(experiment, policies=tuple(list_policies()))


def _is_variant(item: tuple[str, Any]) -> bool:
    name, changes = item
    return isinstance(changes, dict) and re.fullmatch(r"[A-Za-z0-9._-]+", name) is not None


def _distinct(value: Any, kind: type) -> bool:
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        return False
    return all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _integer(value: Any, low: int, high: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)
