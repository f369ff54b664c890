"""What can be tuned, and by what: constants, rules with parameters, and thresholds.

| target | is tuned by | becomes |
|---|---|---|
| `constants` | the mode of every entry of the action | a file of modes |
| a file of modes, as `restrict` | the mode of every entry that it names | a file of modes |
| a rule, as `cost_benefit` or `mine.py` | its class's fields (`tiergym.policy.rule_parameters`) | a file of numbers |
| `threshold` | one observation, its threshold, modes on both sides | a file of numbers |
| a tuned file | what it was tuned by, from its numbers on | a file of numbers |

Recipes are in `tiergym.lab.tuning_recipes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiergym import paths
from tiergym.env import actions as act
from tiergym.env import static_actions
from tiergym.env.static_actions import StaticAction
from tiergym.errors import UserError, suggest
from tiergym.files import is_file, read_toml
from tiergym.policy import rule_file
from tiergym.policy.base import CheckedPolicy
from tiergym.policy.load import RuleCode, list_rules, load_rule
from tiergym.policy.plan import modes_of
from tiergym.policy.rule_parameters import Parameter, parameters_of
from tiergym.policy.static import StaticPolicy

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

CONSTANTS = "constants"
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """Something to tune: `parameters` by name, `starts` that are tried first, the first of them what it is untuned.

    `policy` makes a policy of values, `document` the TOML file that says the same; `digest` tells of what. A `pair` is
    a rule of one's own, which is named together with its file. Closures do not travel: another process finds the same
    by `spec` and `plausibility`.
    """

    name: str
    parameters: Mapping[str, Parameter]
    starts: tuple[Values, ...]
    policy: Callable[[Values], Policy]
    document: Callable[[Values], dict[str, Any]]
    digest: str
    pair: str = ""
    spec: str = ""
    plausibility: str = act.COUNTERFACTUAL


def find_target(spec: str, plausibility: str = act.COUNTERFACTUAL) -> Target:
    """The target of a spelling; its modes are at least as plausible as `plausibility`.

    Raises `UserError` where it is nothing, or has nothing to tune.
    """
    return replace(_found(spec, plausibility), spec=spec, plausibility=plausibility)


def _found(spec: str, plausibility: str) -> Target:
    if spec == CONSTANTS:
        every = {entry.name: entry.modes[entry.default] for entry in act.ENTRIES}
        shipped = [static.action for static in static_actions.shipped().values()]
        return _constants(CONSTANTS, every, [act.DEFAULT, *shipped], plausibility)
    path = Path(spec) if spec.endswith(".toml") else paths.agents_dir() / f"{spec}.toml"
    if is_file(path):
        document = read_toml(path)
        if rule_file.RULE in document:
            told = rule_file.read(path)
            code = load_rule(told.rule, str(path))
            if code is None:
                raise UserError(f"{path}: {suggest(told.rule, list_rules(), 'rule')}")
            return _rule(code, path.stem, plausibility, told.values, str(path))
        static = static_actions.load(path)
        named = static_actions.flat(document["modes"])
        return _constants(path.stem, named, [static.action], plausibility)
    code = load_rule(spec)
    if code is None:
        known = [CONSTANTS, *list_rules(), *static_actions.shipped()]
        raise UserError(suggest(spec, known, "thing to tune"))
    return _rule(code, code.name, plausibility, {}, spec)


def _constants(name: str, named: Mapping[str, str], starts: list[Any], plausibility: str) -> Target:
    """Every entry of `named` with its modes."""
    if not named:
        raise UserError(f"{name}: names no entry, so there is nothing to tune; allowed: {CONSTANTS}, for all of them")
    parameters = {
        entry: Parameter(entry, mode, options=_modes(entry, plausibility)) for entry, mode in sorted(named.items())
    }
    for parameter in parameters.values():
        if parameter.default not in parameter.options:
            raise UserError(
                f"{name}: {parameter.name} is '{parameter.default}', less plausible than {plausibility}; allowed: "
                f"{parameter.allowed}"
            )
    rows = [{entry: mode for entry, mode in act.to_modes(start).items() if entry in parameters} for start in starts]
    known = [row for row in rows if all(mode in parameters[entry].options for entry, mode in row.items())]

    def static(values: Values) -> StaticAction:
        return StaticAction(f"{name}_tuned", "", act.from_modes(values))

    def document(values: Values) -> dict[str, Any]:
        return {"modes": modes_of(static(values).action)}

    digest = ",".join(f"{entry}:{'|'.join(parameter.options)}" for entry, parameter in parameters.items())
    unique = list({tuple(row.items()): row for row in known}.values())
    return Target(
        name, parameters, tuple(unique), lambda v: CheckedPolicy(StaticPolicy(static(v)), name), document, digest
    )


def _rule(code: RuleCode, name: str, plausibility: str, values: Values, source: str) -> Target:
    """A rule, from these values on; choices of modes are limited by plausibility."""
    parameters = {key: _plausible(each, plausibility) for key, each in parameters_of(code.value).items()}
    if not parameters:
        raise UserError(
            f"{source}: has no parameters to tune; allowed: rules whose class has fields made by tunable or choice "
            "(tiergym.policy.rule_parameters)"
        )
    code.policy(values, source)  # so that wrong values are told by their file
    default = {key: each.default for key, each in parameters.items()}
    for key, each in parameters.items():
        if not each.accepts((default | dict(values))[key]):
            raise UserError(f"{source}: {key} is {(default | dict(values))[key]!r}; allowed: {each.allowed}")
    starts = [default | dict(values)] + ([default] if values else [])

    def document(found: Values) -> dict[str, Any]:
        tables: dict[str, Any] = {}
        for key, value in found.items():
            table, dot, entry = key.partition(".")
            if not dot:
                tables[key] = value
            elif value != default[key]:
                tables.setdefault(table, {})[entry] = value
        return {rule_file.RULE: code.spec, "parameters": tables}

    own = "" if code.spec in list_rules() else code.spec
    return Target(name, parameters, tuple(starts), lambda v: code.policy(v, source), document, code.digest, own)


def _plausible(parameter: Parameter, plausibility: str) -> Parameter:
    """A choice of modes (`TABLE.ENTRY`, with exactly that entry's modes) without those that are less plausible."""
    entry = parameter.name.partition(".")[2]
    if entry not in act.NAMES or parameter.options != act.ENTRIES[act.NAMES.index(entry)].modes:
        return parameter
    return Parameter(parameter.name, parameter.default, options=_modes(entry, plausibility))


def _modes(entry: str, plausibility: str) -> tuple[str, ...]:
    known = act.ENTRIES[act.NAMES.index(entry)]
    pairs = zip(known.modes, known.plausibility, strict=True)
    return tuple(mode for mode, word in pairs if act.is_at_least(word, plausibility))
