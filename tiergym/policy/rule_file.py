"""A rule with other numbers than its own: a TOML file that names it, as `tiergym tune` writes them.

    description = "cost_benefit with what tiergym tune found on train"
    rule = "cost_benefit"          # a shipped rule, or threshold (`tiergym.policy.threshold`)

    [parameters]                   # fields of the rule's class (`tiergym.policy.rule_parameters`)
    payback_s = 42.0

What is not named keeps the rule's default. A rule of one's own is Python, which a file never runs: name both, as
`mine.py@mine_tuned.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiergym.env.static_actions import flat
from tiergym.errors import UserError, shown, suggest
from tiergym.files import read_toml

RULE = "rule"
"""The key that tells such a file from one of modes and from a recipe."""
KEYS = ("description", RULE, "parameters")


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What such a file says; `values` by the names of `tiergym.policy.rule_parameters.parameters_of`, unchecked."""

    description: str
    rule: str
    values: Mapping[str, Any]


def read(path: Path) -> RuleFile:
    """The file's content. Raises `UserError`, naming the file and what is allowed, where it is not such a file."""
    document = read_toml(path)
    for key in document:
        if key not in KEYS:
            raise UserError(f"{path}: {suggest(key, KEYS, 'key')}")
    description, rule, parameters = document.get("description", ""), document.get(RULE), document.get("parameters", {})
    for key, value in (("description", description), (RULE, rule)):
        if not isinstance(value, str):
            raise UserError(f"{path}: {key} is {shown(value)}; allowed: a text")
    if not isinstance(parameters, Mapping):
        raise UserError(f"{path}: parameters is {shown(parameters)}; allowed: a table")
    return RuleFile(description, str(rule), flat(parameters))
