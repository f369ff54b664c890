"""Experiments: train agents, export them, and evaluate the exported files beside the baselines. One TOML each.

    description = "..."
    scenarios = ["llama-1to2"]
    agents = ["ppo"]
    training_seeds = [0]
    policies = ["online", "leaf"]
    episodes = 64
    [modes.leaf]
    place.pt_leaf = "restrict"
    [set]
    kernel.swap_mib = 8192
    [axes.release]
    "6.12" = { kernel.release = "6.12" }
    "7.2" = { kernel.release = "7.2" }
    [tables.gain]
    against = "online"
    columns = "release"

or, on whole suites (`tiergym.lab.experiment_suites`):

    description = "..."
    train_on = "train"
    suites = ["train", "test"]
    agents = ["ppo_suite"]
    policies = ["online", "selector", "tuned/constant.toml"]

All fields are in `tiergym.lab.experiment_fields`, those of tables and pictures in `tiergym.lab.views`, and on the page
docs/reference/experiment.md.

On scenarios, an experiment with one run of training is one run directory: the training's files, policy.onnx,
results.json, results.parquet and comparison.png. With more runs each has a folder of its own in it, and each scenario's
results lie in a folder of the scenario's name. With variants there are one table and one picture, variants.png,
besides; with `tables` or `picture` tables.md and picture.png in their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiergym import paths
from tiergym.env import actions
from tiergym.errors import UserError, shown, suggest
from tiergym.files import is_file, read_toml
from tiergym.lab.experiment_fields import FIELDS
from tiergym.lab.rungs import REFERENCE
from tiergym.lab.views import SCENARIO, VARIANT, Axes, View, make_view
from tiergym.specs import Scenario, Suite, check_trainable, distinct, dotted, load_scenario, load_suite, override
from tiergym.specs.suites import TRAIN
from tiergym.trust import check_inside

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

AGAINST = "selector"
"""Whom improvement on suites is over, where a file does not say."""
MAX_VARIANTS = 10_000
"""Of each scenario: every one is loaded before any is run."""
_OF_SUITES = ("train_on", "against")
_OF_SCENARIOS = ("scenarios", "set", "variants", "axes", "modes", "tables", "picture")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A checked experiment; fields as in its file, `policies` complete; `set`, each of the `variants` and each value of
    the `axes` are what `tiergym.specs.override` takes, each of the `modes` what `tiergym.env.actions.from_modes` does.
    """

    name: str
    description: str
    scenarios: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    train_on: str | None = None
    against: str | None = None
    agents: tuple[str, ...] = ()
    training_seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    policies: tuple[str, ...] = field(default=())
    episodes: int = 64
    seed: int = 1
    set: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    axes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    modes: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    picture: dict[str, Any] = field(default_factory=dict)

    def all_variants(self) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
        """The name of every variant, with its value on every axis and the fields that it changes."""
        if not self.axes:
            return {name: ({VARIANT: name}, changes) for name, changes in self.variants.items()}
        found: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        for values in product(*self.axes.values()):
            at = dict(zip(self.axes, values, strict=True))
            changes: dict[str, Any] = {}
            for axis, value in at.items():
                changes |= self.axes[axis][value]
            found["+".join(values)] = (at, changes)
        return found

    def along(self) -> Axes:
        """Every axis with its values: scenarios, then the file's axes or its variants."""
        others = {VARIANT: list(self.variants)} if self.variants else {axis: list(v) for axis, v in self.axes.items()}
        return {SCENARIO: [name_of(scenario) for scenario in self.scenarios]} | others

    def load_policies(self, trust: bool = False) -> dict[str, Policy]:
        """The policies by name, those of named modes among them; with `trust` Python code that is not shipped, too.

        Raises `UserError`.
        """
        from tiergym.env.static_actions import StaticAction
        from tiergym.policy.load import load_policy
        from tiergym.policy.static import StaticPolicy

        def load(name: str) -> Policy:
            if name not in self.modes:
                return load_policy(path_of(name), "" if trust else f"experiment '{self.name}'")
            action = actions.from_modes(self.modes[name], source=f"modes.{name} of experiment '{self.name}'")
            return load_policy(StaticPolicy(StaticAction(name, "", action)))

        return {name: load(name) for name in self.policies}

    def views(self) -> tuple[list[View], View | None]:
        """The tables, and the picture if there is one. Raises `UserError`."""
        of = f"experiment '{self.name}': "
        tables = [
            make_view(table, f"{of}tables.{name}", name, self.compared, self.along())
            for name, table in self.tables.items()
        ]
        if not self.picture:
            return tables, None
        return tables, make_view(self.picture, f"{of}picture", "", self.compared, self.along(), picture=True)

    @property
    def compared(self) -> tuple[str, ...]:
        """What takes part under its own name: agents, then policies."""
        policies = tuple(map(name_of, self.policies)) if self.suites else self.policies
        return tuple(map(name_of, self.agents)) + policies

    def check_names(self, **kinds: Sequence[str]) -> None:
        """Of each kind, names that are once each, and that a folder in the experiment's can have.

        Raises `UserError` for others.
        """
        for kind, names in kinds.items():
            for name in names:
                check_inside(name, f"experiment '{self.name}': one of the {kind}")
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise UserError(f"experiment '{self.name}': two {kind} are named '{min(twice)}'; allowed: once each")

    def load_suites(self) -> list[Suite]:
        """The suites that it measures on. Raises `UserError`."""
        suites = [load_suite(name) for name in self.suites]
        self.check_names(suites=[suite.name for suite in suites])
        return suites

    def load_trained_on(self) -> list[Scenario]:
        """All scenarios of the suite that it trains on, none where there is no such suite.

        Raises `UserError` for a suite that may not be trained on.
        """
        if self.train_on is None:
            return []
        suite = load_suite(self.train_on)
        scenarios = suite.load_all()
        check_trainable(scenarios)
        if suite.purpose != TRAIN:
            raise UserError(
                f"experiment '{self.name}': train_on is '{self.train_on}', a suite of the purpose {suite.purpose}; "
                f"allowed: suites of the purpose {TRAIN}"
            )
        return scenarios

    def load_scenarios(self) -> list[Scenario]:
        """The scenarios in all their variants, with what the experiment sets; of suites, all that it trains and
        measures on, each once. Raises `UserError`.
        """
        if self.suites:
            return distinct([self.load_trained_on(), *(suite.load() for suite in self.load_suites())])
        variants = {name: changes for name, (_, changes) in self.all_variants().items()}
        varied = {name for changes in variants.values() for name in changes}
        twice = sorted(varied & self.set.keys())
        if twice:
            raise UserError(
                f"experiment '{self.name}': {twice[0]} = {self.set[twice[0]]!r} is set, and its variants differ in it; "
                "allowed: one of the two"
            )
        loaded = [load_scenario(name) for name in self.scenarios]
        if self.set:
            loaded = [override(each, self.set, f"set by experiment '{self.name}' or --set") for each in loaded]
        if not variants:
            return loaded
        return [
            replace(
                override(each, changes, f"variant '{variant}' of experiment '{self.name}'"),
                name=f"{each.name}@{variant}",
                variant=variant,
            )
            for each in loaded
            for variant, changes in variants.items()
        ]


def name_of(spec: str) -> str:
    """The name under which a shipped file, or a user's TOML file, takes part."""
    return Path(spec).stem if spec.endswith(".toml") else spec


def path_of(policy: str) -> str:
    """A policy as `load_policy` takes it: the path of a file beneath `experiments/`, where no other has that name."""
    shipped = paths.experiments_dir() / policy
    return str(shipped) if policy.endswith(".toml") and is_file(shipped) and not is_file(Path(policy)) else policy


def list_experiments() -> dict[str, str]:
    """Names of the shipped experiments with their descriptions."""
    files = sorted(paths.experiments_dir().glob("*.toml"))
    return {path.stem: load_experiment(str(path)).description for path in files}


def load_experiment(spec: str) -> Experiment:
    """The experiment of a name (experiments/NAME.toml) or a TOML file. Raises `UserError`."""
    shipped = paths.experiments_dir() / f"{spec}.toml"
    path = shipped if is_file(shipped) else Path(spec)
    if path.suffix != ".toml" or not is_file(path):
        known = [file.stem for file in paths.experiments_dir().glob("*.toml")]
        raise UserError(suggest(spec, known, "experiment"))
    return make_experiment(path.stem, read_toml(path), str(path))


def make_experiment(name: str, document: dict[str, Any], path: str) -> Experiment:
    """The experiment that a TOML document describes; `path` stands in errors. Raises `UserError`."""
    for key, value in document.items():
        if key not in FIELDS:
            raise UserError(f"{path}: {suggest(key, FIELDS, 'field')}")
        if not FIELDS[key].is_allowed(value):
            raise UserError(f"{path}: {key} is {shown(value)}; allowed: {FIELDS[key].allowed}")
    if "description" not in document:
        raise UserError(f"{path}: description is missing; allowed: {FIELDS['description'].allowed}")
    _check_measured_on(document, path)
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    fields["set"] = _changes(fields.get("set", {}), f"{path}: set")
    fields["variants"] = {
        name: _changes(changes, f"{path}: variants.{name}") for name, changes in fields.get("variants", {}).items()
    }
    fields["axes"] = {
        axis: {name: _changes(changes, f"{path}: axes.{axis}.{name}") for name, changes in values.items()}
        for axis, values in fields.get("axes", {}).items()
    }
    fields["modes"] = {name: dotted(modes) for name, modes in fields.get("modes", {}).items()}
    if fields["variants"] and fields["axes"]:
        raise UserError(f"{path}: variants and axes; allowed: one of the two")
    _check_axes(fields["axes"], path)
    experiment = _with_policies(Experiment(name=name, **fields), path)
    if experiment.suites:
        _check_references(experiment, path)
    experiment.views()
    return experiment


def _changes(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a scenario's sections, as `--set` takes them. Raises `UserError` for those of none."""
    changes = dotted(table)
    for name in changes:
        if "." not in name:
            raise UserError(f"{where}: {shown(name)} is in no section; allowed: section.field, as kernel.demotion")
    return changes


def _check_measured_on(document: Mapping[str, Any], path: str) -> None:
    """Scenarios or suites, with what goes with them. Raises `UserError`."""
    if "suites" not in document:
        if "scenarios" not in document:
            raise UserError(f"{path}: scenarios is missing; allowed: {FIELDS['scenarios'].allowed}; or suites")
        for key in _OF_SUITES:
            if key in document:
                raise UserError(f"{path}: {key} is {shown(document[key])} with scenarios; allowed: with suites")
        return
    for key in _OF_SCENARIOS:
        if key in document:
            raise UserError(f"{path}: {key} is {shown(document[key])} with suites; allowed: one of the two")
    if "train_on" in document and "agents" not in document:
        raise UserError(f"{path}: train_on is {shown(document['train_on'])} without agents; allowed: with agents")
    if "agents" in document and "train_on" not in document:
        raise UserError(
            f"{path}: agents is {shown(document['agents'])} with suites, without train_on; allowed: with train_on, "
            f"a suite of the purpose {TRAIN}"
        )


def _check_references(experiment: Experiment, path: str) -> None:
    """Those that others are compared with take part. Raises `UserError`."""
    compared, against = experiment.compared, experiment.against or AGAINST
    if REFERENCE not in compared:
        raise UserError(f"{path}: policies has no {REFERENCE}, of whose loss all save; allowed with suites: with it")
    if against not in compared:
        raise UserError(f"{path}: against is '{against}'; allowed: one of those compared: {', '.join(compared)}")


def _check_axes(axes: dict[str, dict[str, dict[str, Any]]], path: str) -> None:
    """A field belongs to one axis, and all values with all others are not beyond counting. Raises `UserError`."""
    if (cells := math.prod(map(len, axes.values()))) > MAX_VARIANTS:
        raise UserError(f"{path}: axes make {cells} variants of a scenario; allowed: at most {MAX_VARIANTS}")
    owner: dict[str, str] = {}
    for axis, values in axes.items():
        for name in {name for changes in values.values() for name in changes}:
            if owner.setdefault(name, axis) != axis:
                raise UserError(
                    f"{path}: axes.{axis} changes {name}, as axes.{owner[name]} does; allowed: one of the two"
                )


def _with_policies(experiment: Experiment, path: str) -> Experiment:
    """Its policies complete: all baselines where it names none, then those of named modes that it does not name."""
    from tiergym.policy.load import list_policies

    baselines = list_policies()
    for name, modes in experiment.modes.items():
        if name in baselines:
            raise UserError(f"{path}: modes.{name} has the name of a baseline; allowed: another one")
        actions.from_modes(modes, source=f"{path}: modes.{name}")
    named = experiment.policies or tuple(baselines)
    return replace(experiment, policies=named + tuple(name for name in experiment.modes if name not in named))
