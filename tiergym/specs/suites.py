"""Suites: lists of scenarios that are measured together, and what may be done with them.

    description = "..."
    scenarios = ["llama-1to2", "mine.toml"]     # names, families, or files beside the suite's

or, of families, drawn by `tiergym.specs.drawing`:

    description = "..."
    purpose = "train"             # train: may be trained and tuned on; test (default): may not
    plausibility = "available"    # measured with the modes alone that are at least as plausible
    [draw]                        # from which levels of each axis, how many, and of which suites none
    seed = 1
    count = 24
    not_in = ["train"]
    workload = ["llama", "kvstore"]
    ...
    [families]                    # what was drawn, each with the digest of its content
    "kvstore+tiering+asic+1to4+tight+boot+6.12" = "0123456789abcdef"
    [undecided]                   # what was drawn and decides nothing (`tiergym ladder --split`)
    ...

A drawn suite is frozen: a family whose content has another digest is refused. Measured are the families that decide;
trained and tuned on is all that was drawn. `undecided_of = ["train", "test"]` makes a suite of what decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.sim.names import PLAUSIBILITIES
from tiergym.specs.digest import scenario_digest
from tiergym.specs.families import AXES, catalogue, is_family, levels_of
from tiergym.specs.reading import preset_path, refuse
from tiergym.specs.scenario import Scenario, list_suites, load_scenario, named_path

TRAIN, TEST = "train", "test"
PURPOSES = (TRAIN, TEST)
_KEYS = ("description", "purpose", "plausibility", "scenarios", "draw", "families", "undecided", "undecided_of")
_DRAW = ("seed", "count", "not_in", *AXES)


@dataclass(frozen=True, slots=True)
class Draw:
    """How a suite is drawn: `count` families of the levels of each axis, none of them in the suites `not_in`."""

    seed: int
    count: int
    axes: Mapping[str, tuple[str, ...]]
    not_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite as in its file. `spec`: what it was loaded by; `scenarios`: names, or paths of files; `families`, and
    those that are `undecided`: digests by name, of what was drawn."""

    name: str
    spec: str
    description: str
    scenarios: tuple[str, ...]
    purpose: str = TEST
    plausibility: str = "counterfactual"
    families: Mapping[str, str] = field(default_factory=dict)
    draw: Draw | None = None
    undecided: Mapping[str, str] = field(default_factory=dict)

    @property
    def drawn(self) -> dict[str, str]:
        """Digests by name of everything that was drawn, what decides nothing included."""
        return {**self.families, **self.undecided}

    def load(self) -> list[Scenario]:
        """What is measured. Raises `UserError` where one is not what was frozen."""
        return self._frozen(self.scenarios)

    def load_all(self) -> list[Scenario]:
        """What is trained and tuned on: all that was drawn. Raises `UserError` as `load` does."""
        return self._frozen(sorted(self.drawn) if self.drawn else self.scenarios)

    def load_to_run(self) -> list[Scenario]:
        """What an environment of the suite runs: what is learned from where that is allowed, else what is measured."""
        return self.load_all() if self.purpose == TRAIN else self.load()

    def _frozen(self, names: Sequence[str]) -> list[Scenario]:
        if not names:
            raise UserError(f"suite '{self.name}' ({self.spec}) has no scenarios; allowed: at least one")
        loaded = [load_scenario(each) for each in names]
        for scenario in loaded:
            frozen = self.drawn.get(scenario.name)
            if frozen is not None and frozen != (found := scenario_digest(scenario)):
                raise UserError(
                    f"suite '{self.name}': {scenario.name} has the digest {found}; allowed: {frozen}, with which it "
                    f"was frozen (after a change of envs/ on purpose: python -m tiergym.lab.freezing {self.name})"
                )
        return loaded


def distinct(lists: Iterable[Sequence[Scenario]]) -> list[Scenario]:
    """The scenarios of several lists, each once. Raises `UserError` where one name means two of them."""
    found: dict[str, Scenario] = {}
    for scenario in (each for scenarios in lists for each in scenarios):
        first = found.setdefault(scenario.name, scenario)
        if first is not scenario and scenario_digest(first) != scenario_digest(scenario):
            raise UserError(f"two of the scenarios have one name: {scenario.name}; allowed: different names")
    return list(found.values())


def suite_digest(scenarios: Sequence[Scenario]) -> str:
    """Of a suite's content, whatever its files are called: what results carry."""
    return sha256("\n".join(f"{each.name} {scenario_digest(each)}" for each in scenarios).encode()).hexdigest()[:16]


def load_suite(name_or_path: str | Path) -> Suite:
    """The suite `envs/suites/NAME.toml`, or any file whose path ends in .toml. Raises `UserError`."""
    path = named_path("suites", name_or_path)
    document, file = read_toml(path), str(path)
    for key in document:
        if key not in _KEYS:
            raise UserError(f"{file}: {suggest(key, _KEYS, 'key')}")
    description = document.get("description", "")
    if not isinstance(description, str):
        raise refuse(file, "description", description, "a string")
    purpose, plausibility = document.get("purpose", TEST), document.get("plausibility", PLAUSIBILITIES[-1])
    for key, value, allowed in (("purpose", purpose, PURPOSES), ("plausibility", plausibility, PLAUSIBILITIES)):
        if value not in allowed:
            raise refuse(file, key, value, "one of " + ", ".join(allowed))
    told = [key for key in ("scenarios", "draw", "undecided_of") if key in document]
    if len(told) != 1:
        raise UserError(
            f"{file}: {' and '.join(told) or 'nothing'} says what is in it; allowed: scenarios, draw or undecided_of"
        )
    if "undecided_of" in document:
        others = document["undecided_of"]
        if not isinstance(others, list) or not all(each in list_suites() for each in others):
            raise refuse(file, "undecided_of", others, "a list of names of suites")
        families = {name: digest for each in others for name, digest in load_suite(each).undecided.items()}
        return Suite(path.stem, str(name_or_path), description, tuple(families), purpose, plausibility, families)
    if "draw" in document:
        draw, undecided = _draw(document["draw"], file), _families(document, "undecided", file)
        families = _families(document, "families", file)
        about = (path.stem, str(name_or_path), description, tuple(families), purpose, plausibility)
        return Suite(*about, families, draw, undecided)
    entries = document["scenarios"]
    if not isinstance(entries, list) or not entries or len({str(entry) for entry in entries}) < len(entries):
        raise refuse(file, "scenarios", entries, "a list of scenarios, each once")
    scenarios = tuple(_entry(entry, file, path.parent) for entry in entries)
    if len({each.removesuffix(".toml").rpartition("/")[2] for each in scenarios}) < len(scenarios):
        raise refuse(file, "scenarios", entries, "scenarios of different names, each once")
    return Suite(path.stem, str(name_or_path), description, scenarios, purpose, plausibility)


def check_trainable(scenarios: Sequence[Scenario]) -> None:
    """Raise `UserError` where one of the scenarios is, under whatever name and with whatever fields overridden, in a
    shipped suite for measuring alone."""
    asked = {each.origin or scenario_digest(each): each.name for each in scenarios}
    held: dict[str, str] = {}
    trainable: set[str] = set()
    for suite in map(load_suite, list_suites()):
        loaded = suite.load() if suite.scenarios and not suite.drawn else []
        digests = suite.drawn.values() or map(scenario_digest, loaded)
        found = {digest: suite.name for digest in digests if digest in asked}
        if suite.purpose == TRAIN:
            trainable |= found.keys()
        else:
            held |= found
    for digest, suite_name in held.items():
        if digest not in trainable:
            raise UserError(
                f"scenario '{asked[digest]}' is in the suite '{suite_name}', which is for measuring; allowed to train "
                "and tune on: suites of the purpose train, and scenarios that are in no other suite"
            )


def _entry(entry: Any, file: str, folder: Path) -> str:
    if isinstance(entry, str) and is_family(entry):
        levels_of(entry)
        return entry
    path = preset_path("scenarios", entry, file, "scenarios", folder)
    return str(path) if entry.endswith(".toml") else entry


def _draw(table: Any, file: str) -> Draw:
    if not isinstance(table, dict):
        raise refuse(file, "draw", table, "a table")
    for key in table:
        if key not in _DRAW:
            raise UserError(f"{file}: draw: {suggest(key, _DRAW, 'key')}")
    for key, least in (("seed", 0), ("count", 1)):
        value = table.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise refuse(file, f"draw.{key}", value, f"a whole number from {least}")
    axes = {}
    for axis in AXES:
        levels = table.get(axis)
        if not isinstance(levels, list) or not levels or len(set(map(str, levels))) < len(levels):
            raise refuse(file, f"draw.{axis}", levels, f"a list of levels of {axis}, each once")
        for level in levels:
            if not isinstance(level, str):
                raise refuse(file, f"draw.{axis}", level, f"names of levels of {axis}")
            if level not in catalogue()[axis]:
                raise UserError(f"{file}: draw.{axis}: {suggest(level, catalogue()[axis], 'level')}")
        axes[axis] = tuple(levels)
    not_in = table.get("not_in", [])
    if not isinstance(not_in, list) or not all(each in list_suites() for each in not_in):
        raise refuse(file, "draw.not_in", not_in, "a list of names of suites")
    return Draw(table["seed"], table["count"], axes, tuple(not_in))


def _families(document: Any, key: str, file: str) -> dict[str, str]:
    table = document.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise refuse(file, key, table, "a table of digests by family")
    for name in table:
        try:
            levels_of(name)
        except UserError as error:
            raise UserError(f"{file}: {key}: {error}") from error
    return dict(table)
