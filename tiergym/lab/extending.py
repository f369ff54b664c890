"""A run that is to be longer: its new length, and what will not be as in a run of that length from the beginning.

Whatever depends on the share of the training that is over does not: a rate that falls along a line has fallen further
by then, or to its end. All else is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiergym.errors import UserError
from tiergym.lab.evaluation_settings import EVERY, UNTIL_CONVERGED
from tiergym.lab.recipe import Recipe
from tiergym.lab.run_dir import RunConfig


def extended(config: RunConfig, done: int, more: int, until_converged: bool) -> RunConfig:
    """The run for `more` decisions than it was to make; one that stopped early, after `done`, for more than these.

    It goes on evaluating as often as it did. Raises `UserError` for more than a run can have.
    """
    recipe = config.recipe
    if more < 1:
        raise UserError(f"steps is {more}; allowed with --resume: a whole number from 1, so many more")
    stopped = recipe.evaluating.until_converged and done < recipe.steps
    evaluation = {**recipe.evaluation, EVERY: recipe.evaluating.every_steps, UNTIL_CONVERGED: until_converged}
    total = (done if stopped else recipe.steps) + more
    return replace(config, recipe=replace(recipe, evaluation=evaluation).resized(None, total))


def differences(before: Recipe, after: Recipe, done: int) -> list[str]:
    """What changes with the length, a sentence each; `done` decisions are made."""
    was, now = (min(1.0, done / recipe.steps) for recipe in (before, after))
    found = []
    for name, value in after.hyperparameters.items():
        if isinstance(value, Mapping) and value["start"] != value["end"]:
            found.append(f"{name} had come to {_at(value, was):g} and goes on from {_at(value, now):g}")
    numbers = after.hyperparameters
    if after.algorithm == "dqn" and numbers.get("exploration_fraction", 0.1) > 0:
        found.append("the exploration rate falls over a share of all steps, which is longer now")
    return found


def _at(line: Mapping[str, Any], share: float) -> float:
    return float(line["start"] + (line["end"] - line["start"]) * share)
