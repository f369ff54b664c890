"""A digest of what a scenario says: equal for equal content, whatever its file is called or explains."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tiergym.specs.reading import EVENT, OF_REGION, POOL, PROCESS, SCALARS, SETTINGS, Table, default_value

if TYPE_CHECKING:
    from tiergym.specs.scenario import Scenario

LENGTH = 16
"""Hexadecimal digits kept: 64 bits."""


def scenario_digest(scenario: Scenario) -> str:
    """Of every value that is not a field's default, so that new fields which change nothing leave it alone."""
    s = scenario.sections
    content: dict[str, Any] = {
        section: _stated(s[section], SCALARS[section]) for section in ("machine", *SETTINGS, "workload")
    }
    content["processes"] = [_stated(each, PROCESS) | {"name": each["name"]} for each in s["processes"]]
    named = ("name", "process")
    content["regions"] = [_stated(each, OF_REGION) | {key: each[key] for key in named} for each in s["regions"]]
    content["pools"] = {pool: _stated(each, POOL) for pool, each in s["pools"].items()}
    content["events"] = [_stated(each, EVENT) for each in s["events"]]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]


def _stated(values: Table, fields: Any) -> Table:
    return {key: _number(values[key]) for key, field in fields.items() if values[key] != default_value(field)}


def _number(value: Any) -> Any:
    """A value with every number in it as a float: 8 and 8.0 say the same."""
    if isinstance(value, dict):
        return {key: _number(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_number(each) for each in value]
    return value if isinstance(value, str) else float(value)
