"""Values of single fields as the command line spells them: `section.field=value`.

A value is TOML, so a distribution is written as in a file: `machine.slow_latency_ns={ uniform = [180, 400] }`. A bare
word is text: `kernel.demotion=on`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiergym.errors import UserError, shown
from tiergym.files import parse_toml
from tiergym.specs.distributions import FORMS
from tiergym.specs.reading import SCALARS
from tiergym.specs.writing import value_toml

_ALLOWED = "section.field=value, as kernel.demotion=on"
_BARE = re.compile(r"[A-Za-z0-9_.+-]+")


def read_assignments(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Dotted field to TOML value, as `tiergym.specs.override` takes them. Raises `UserError`, naming `option`.

    >>> read_assignments(["kernel.demotion=on", "machine.cpus={ choice = [4, 8] }"], "--set")
    {'kernel.demotion': 'on', 'machine.cpus': {'choice': [4, 8]}}
    """
    found: dict[str, Any] = {}
    for text in texts:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not equals or "." not in field or not all(field.split(".")):
            raise UserError(f"{option} {text}: allowed: {_ALLOWED}")
        if field in found:
            raise UserError(f"{option} {text}: {field} was given before; allowed: each field once")
        found[field] = _value(text, field, value, option)
    return found


def dotted(table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The fields of a TOML table by their dotted names; what has a distribution's form is a value.

    >>> dotted({"kernel": {"demotion": "on"}, "machine.cpus": {"choice": [4, 8]}})
    {'kernel.demotion': 'on', 'machine.cpus': {'choice': [4, 8]}}
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and not any(form in value for form in FORMS):
            found |= dotted(value, f"{where}{key}.")
        else:
            found[f"{where}{key}"] = value
    return found


def common_changes(changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of several scenarios have changed alike.

    >>> common_changes([{"kernel.release": "6.1", "kernel.demotion": "on"}, {"kernel.demotion": "on"}])
    {'kernel.demotion': 'on'}
    """
    first, *others = changes
    return {field: value for field, value in first.items() if all(other.get(field) == value for other in others)}


def assignments_text(changes: Mapping[str, Any]) -> str:
    """The changes as `read_assignments` reads them, with commas between.

    >>> assignments_text({"kernel.demotion": "on", "machine.cpus": 4})
    'kernel.demotion = "on", machine.cpus = 4'
    """
    return ", ".join(f"{field} = {value_toml(value)}" for field, value in changes.items())


def _value(text: str, field: str, value: str, option: str) -> Any:
    try:
        document = parse_toml(f"value = {value}", parse_float=_reader_of_floats(field))
    except ValueError:
        document = {}
    if list(document) == ["value"]:
        return document["value"]
    if _BARE.fullmatch(value):
        return value
    raise UserError(
        f"{option} {text[:80]}: {shown(value)} is no value; allowed: a TOML value, a name, or a distribution"
    )


def _reader_of_floats(field: str) -> Callable[[str], Any]:
    """Where a field takes names, what looks like a number is one: the kernel release 6.10 is not 6.1."""
    section, _, name = field.partition(".")
    named = SCALARS.get(section, {}).get(name)
    return str if named is not None and named.choices else float
