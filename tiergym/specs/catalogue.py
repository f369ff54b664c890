"""Reading envs/families.toml: levels of every axis, each with what a family's scenario is made of.

What becomes a field of a scenario is checked where scenarios are read; here stands what is computed with before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.specs.reading import refuse

Check = tuple[Callable[[Any], bool], str]
"""Whether a value is allowed, and what is."""


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return check, f"a number from {low:g} to {high:g}"


_TEXT: Check = (lambda value: isinstance(value, str), "a text")
_TABLE: Check = (lambda value: isinstance(value, dict), "a table")
_NAMES: Check = (lambda value: isinstance(value, list) and all(isinstance(e, str) for e in value), "a list of names")
_LIST: Check = (lambda value: isinstance(value, list), "a list of tables")
_TIME, _SHARE, _SIZE = _number(0, 86400), _number(0, 1), _number(1, 1e7)
_MACHINE: dict[str, Check] = {"block_mib": _SIZE, "slow_latency_ns": _number(1, 1e5)}
_ALL: dict[str, Check] = {"text": _TEXT, "weight": _number(0, 100)}
_LEVELS: dict[str, dict[str, Check]] = {
    "workload": {"peak_mib": _SIZE},
    "configuration": {"kernel": _TABLE, "storage": _TABLE},
    "platform": {"machine": _TEXT, "fields": _TABLE},
    "ratio": {"slow_over_dram": _number(0, 1000)},
    "pressure": {"peak_over_dram": _number(0.01, 1000), "peak_over_all": _number(0.01, 1)},
    "course": {"machine": _TABLE, "configurations": _NAMES, "events": _LIST},
    "release": {},
}
_REQUIRED = {"workload": "peak_mib", "configuration": "kernel", "platform": "machine", "ratio": "slow_over_dram",
             "pressure": "peak_over_dram"}  # fmt: skip


def read_catalogue(path: Path) -> Mapping[str, Any]:
    """Per axis its levels by name, and what all families share: `jitter` and `episode`.

    Raises `UserError` that names the file, the level's field and what is allowed.
    """
    document, file = read_toml(path), str(path)
    shared = {"jitter": _number(0, 0.5), "episode": _TABLE}
    _fields(document, {**shared, **dict.fromkeys(_LEVELS, _TABLE)}, (*shared, *_LEVELS), file, "")
    for axis, fields in _LEVELS.items():
        required = ("text", *([_REQUIRED[axis]] if axis in _REQUIRED else []))
        for name, level in document[axis].items():
            where = f"{axis}.{name}"
            _fields(level, _ALL | fields, required, file, where)
            for part in ("fields", "machine"):
                if isinstance(level.get(part), dict):
                    _some(level[part], _MACHINE, file, f"{where}.{part}")
            for i, event in enumerate(level.get("events", [])):
                if not isinstance(event, dict) or "at_s" not in event:
                    raise refuse(file, f"{where}.events[{i}]", event, "a table with at_s")
                _some(event, {"at_s": _TIME, "share": _SHARE}, file, f"{where}.events[{i}]")
    return document


def _fields(table: Any, checks: Mapping[str, Check], required: tuple[str, ...], file: str, where: str) -> None:
    """Raise `UserError` for a table that lacks something, has what is unknown, or a value that is not allowed."""
    if not isinstance(table, dict):
        raise refuse(file, where, table, "a table")
    for key in required:
        if key not in table:
            raise UserError(f"{file}: {where + '.' if where else ''}{key} is missing; allowed: {checks[key][1]}")
    for key in table:
        if key not in checks:
            raise UserError(f"{file}: {where + ': ' if where else ''}{suggest(key, checks, 'key')}")
    _some(table, checks, file, where)


def _some(table: Mapping[str, Any], checks: Mapping[str, Check], file: str, where: str) -> None:
    """Raise `UserError` for a value that is not allowed, of those that are computed with."""
    for key, (allows, allowed) in checks.items():
        if key in table and not allows(table[key]):
            raise refuse(file, f"{where}.{key}" if where else key, table[key], allowed)
