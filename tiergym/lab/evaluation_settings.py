"""`[evaluation]` of a recipe: how often, and on what, the deterministic policy is measured while it trains.

[evaluation]
every_steps = 50_000      # decisions between two evaluations, at most one per rollout; 0: none; default: a tenth
episodes = 16             # machines of each scenario, the same every time, that training never draws
pictures = true           # the timeline of one episode each time, where matplotlib is installed
until_converged = false   # stop early: see tiergym.lab.evaluations
patience = 5              # evaluations in a row without progress that count as converged
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiergym.errors import UserError, shown, suggest

SECTION = "[evaluation]"
EVERY, UNTIL_CONVERGED = "every_steps", "until_converged"
_RANGES: dict[str, tuple[int, int]] = {EVERY: (0, 10**12 - 1), "episodes": (1, 1000), "patience": (1, 1000)}
_SWITCHES = ("pictures", UNTIL_CONVERGED)
FIELDS = (*_RANGES, *_SWITCHES)
PER_TRAINING = 10
"""Evaluations where a recipe does not say how often."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What a recipe says of evaluation, and the defaults for the rest; `every_steps` is 0 where there is none."""

    every_steps: int
    episodes: int = 16
    pictures: bool = True
    until_converged: bool = False
    patience: int = 5


def settings(table: Mapping[str, Any], steps: int) -> EvaluationSettings:
    """Of a checked table, for a training of `steps` decisions."""
    return EvaluationSettings(**{EVERY: max(1, steps // PER_TRAINING), **table})


def check_evaluation(table: Mapping[str, Any], source: str) -> None:
    """Raise `UserError`, naming `source`, the field, its value and what is allowed."""
    for name, value in table.items():
        if name not in FIELDS:
            raise UserError(f"{source}: {SECTION}: {suggest(name, FIELDS, 'field of the evaluation')}")
        if name in _SWITCHES:
            if not isinstance(value, bool):
                raise UserError(f"{source}: {SECTION}: {name} is {shown(value)}; allowed: true or false")
            continue
        low, high = _RANGES[name]
        if type(value) is not int or not low <= value <= high:
            raise UserError(
                f"{source}: {SECTION}: {name} is {shown(value)}; allowed: a whole number from {low} to {high}"
            )
    if table.get(UNTIL_CONVERGED) and table.get(EVERY) == 0:
        raise UserError(
            f"{source}: {SECTION}: {UNTIL_CONVERGED} is true and {EVERY} is 0, so that nothing is evaluated; "
            f"allowed: {EVERY} from 1"
        )
