"""Numbers and choices that a rule can be tuned by: the fields of its dataclass, each with what it may be.

    @dataclass
    class Careful:
        spare: float = tunable(0.05, 0.0, 0.5, "of DRAM")            # a number, with its range and unit
        headroom: str = choice("medium", ("off", "small", "medium"))  # one of these words
        table: dict = choices({"swap": "soft"}, ("soft", "restrict"))  # one of these words for each key

        def __post_init__(self): ...

A rule without such fields has nothing to tune, and is what it was before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiergym.errors import UserError, shown, suggest

_KEY = "tiergym"
"""Of the metadata of a dataclass's field."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number, or one choice where `options` has words. `log`: searched by its logarithm.

    Numbers are whole where the default is. A choice of a table is named `FIELD.KEY`.
    """

    name: str
    default: Any
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    log: bool = False
    options: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """In words."""
        if self.options:
            return "one of " + ", ".join(self.options)
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:g} to {self.high:g} ({self.unit})"

    def accepts(self, value: Any) -> bool:
        """Whether it may be that."""
        if self.options:
            return isinstance(value, str) and value in self.options
        kinds = int if isinstance(self.default, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high


def tunable(default: float, low: float, high: float, unit: str, log: bool = False) -> Any:
    """A field that is a number from `low` to `high`; `unit` says of what."""
    return field(default=default, metadata={_KEY: Parameter("", default, low, high, unit, log)})


def choice(default: str, options: Sequence[str]) -> Any:
    """A field that is one of some words."""
    return field(default=default, metadata={_KEY: Parameter("", default, options=tuple(options))})


def choices(defaults: Mapping[str, str], options: Sequence[str] | Mapping[str, Sequence[str]]) -> Any:
    """A field that is a dict: of each key one of some words, the same for all keys or those of the key."""
    of_key = options if isinstance(options, Mapping) else dict.fromkeys(defaults, options)
    each = tuple(Parameter(key, default, options=tuple(of_key[key])) for key, default in defaults.items())
    return field(default_factory=lambda: dict(defaults), metadata={_KEY: each})


def parameters_of(rule: Any) -> dict[str, Parameter]:
    """What a rule, its class or an instance, can be tuned by, in order; nothing of a rule without such fields.

    Raises `UserError` where a default is not what its field allows.
    """
    found: dict[str, Parameter] = {}
    for entry in dataclasses.fields(rule) if dataclasses.is_dataclass(rule) else ():
        told = entry.metadata.get(_KEY, ())
        if isinstance(told, Parameter):
            found[entry.name] = dataclasses.replace(told, name=entry.name)
        else:
            found |= {f"{entry.name}.{each.name}": _named(each, f"{entry.name}.{each.name}") for each in told}
    for name, parameter in found.items():
        if not parameter.accepts(parameter.default):
            raise UserError(
                f"{_name_of(rule)}: the default of {name} is {shown(parameter.default)}; allowed: {parameter.allowed}"
            )
        if parameter.log and parameter.low <= 0:
            raise UserError(f"{_name_of(rule)}: {name} has log from {parameter.low:g}; allowed: a range above 0")
    return found


def arguments(rule: Any, values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Arguments of a rule's class from values by the names of `parameters_of`; what is not named keeps its default.

    Raises `UserError`, naming `source`, the parameter and what is allowed.
    """
    known = parameters_of(rule)
    if values and not known:
        raise UserError(f"{source}: {_name_of(rule)} has no parameters; allowed: none")
    out: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{source}: {suggest(name, known, 'parameter')}")
        if not known[name].accepts(value):
            raise UserError(f"{source}: {name} is {shown(value)}; allowed: {known[name].allowed}")
        table, dot, key = name.partition(".")
        if dot:
            defaults = {each: known[each].default for each in known if each.startswith(f"{table}.")}
            out.setdefault(table, {each.partition(".")[2]: default for each, default in defaults.items()})[key] = value
        else:
            out[name] = value
    return out


def _named(parameter: Parameter, name: str) -> Parameter:
    return dataclasses.replace(parameter, name=name)


def _name_of(rule: Any) -> str:
    return str(getattr(rule, "__name__", type(rule).__name__))
