"""A scenario as TOML text: complete, commented, and equal to the scenario when it is loaded again."""

import json
from typing import Any

from tiergym.sim.parameters import Field
from tiergym.specs.kernel import unstated
from tiergym.specs.reading import (
    EVENT,
    OF_REGION,
    POOL,
    PROCESS,
    SCALARS,
    SETTINGS,
    Table,
    default_value,
    may_be_setting,
)

STATED = ("knob", "value")
"""What an event of the kind sysctl says even where it is the fields' default."""


def complete_toml(sections: Table) -> str:
    """TOML of a scenario's sections.

    Scalars are all written, with their meaning, those that the release gives as comments; an entry of a list only where
    it differs from the fields' defaults, which stand in a comment before the list.
    """
    out, by_release = [f"description = {value_toml(sections['description'])}"], unstated(sections)
    for section in ("machine", *SETTINGS, "workload"):
        out += ["", f"[{section}]"]
        for key, field in SCALARS[section].items():
            note = "# " if section == "kernel" and key in by_release else ""
            out.append(f"{note}{_assign(key, sections[section][key])}  # {field.doc}")
    out += _entries("[[workload.processes]]", sections["processes"], PROCESS)
    out += _entries("[[workload.regions]]", sections["regions"], OF_REGION)
    out += _defaults("[workload.pools.NAME]", POOL)
    for pool, values in sections["pools"].items():
        out += ["", f"[workload.pools.{pool}]", *_changed(values, POOL)]
    out += _entries("[[events]]", sections["events"], EVENT)
    return "\n".join(out) + "\n"


def value_toml(value: Any) -> str:
    """A number, string, list or table as TOML, tables inline.

    >>> value_toml({"normal": [250, 40.0], "low": 180})
    '{ normal = [250, 40.0], low = 180 }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(value_toml(entry) for entry in value) + "]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _assign(key: str, value: Any) -> str:
    return f"{key} = {value_toml(value)}"


def _entries(header: str, entries: list[Table], fields: dict[str, Field]) -> list[str]:
    out = _defaults(header, fields)
    for entry in entries:
        stated = ("name", "process", *(STATED if "kind" in entry and "knob" in entry and may_be_setting(entry) else ()))
        named = [_assign(key, entry[key]) for key in stated if key in entry]
        rest = {key: field for key, field in fields.items() if key not in stated}
        out += ["", header, *named, *_changed(entry, rest)]
    return out


def _changed(values: Table, fields: dict[str, Field]) -> list[str]:
    return [_assign(key, values[key]) for key, field in fields.items() if values[key] != default_value(field)]


def _defaults(header: str, fields: dict[str, Field]) -> list[str]:
    lines = [f"#   {_assign(key, default_value(field))}: {field.doc}" for key, field in fields.items()]
    return ["", f"# {header}: every field has a default:", *lines]
