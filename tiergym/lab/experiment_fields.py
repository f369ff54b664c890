"""The fields of an experiment's file (`tiergym.lab.experiment`): what each may be, and what it means."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tiergym.lab.views import POLICY, SCENARIO, VARIANT
from tiergym.memory import MAX_EPISODES


class Field(NamedTuple):
    """What a field of the file may be, in words and as a test, and what it means."""

    is_allowed: Callable[[Any], bool]
    allowed: str
    doc: str


def _are_named_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_named_table, value.items()))


def _are_axes(value: Any) -> bool:
    if not _are_named_tables(value) or value.keys() & {SCENARIO, POLICY, VARIANT}:
        return False
    return all(values and _are_named_tables(values) for values in value.values())


def _is_named_table(item: tuple[str, Any]) -> bool:
    name, changes = item
    return isinstance(changes, dict) and re.fullmatch(r"[A-Za-z0-9._-]+", name) is not None


def _distinct(value: Any, kind: type) -> bool:
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        return False
    return all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _integer(value: Any, low: int, high: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)


_NAMED = "whose names are ASCII letters, digits, ., - and _"
_STRINGS = "a list of one or more different names"
MAX_SEED = (1 << 63) - 1
MAX_STEPS = 10**12 - 1
"""Of a training, as a recipe's."""
FIELDS = {
    "description": Field(lambda value: isinstance(value, str), "text", "what it is for"),
    "scenarios": Field(lambda value: _distinct(value, str), _STRINGS, "names, or paths of TOML files"),
    "suites": Field(
        lambda value: _distinct(value, str),
        _STRINGS,
        "in place of `scenarios`: suites by name, or paths of TOML files, compared as `tiergym leaderboard` does. With "
        "`train` among them the gap to each suite after it is shown",
    ),
    "train_on": Field(
        lambda value: isinstance(value, str) and value != "",
        "a name",
        "with `suites` and `agents`: the suite, of the purpose `train`, that the agents are trained on",
    ),
    "against": Field(
        lambda value: isinstance(value, str) and value != "",
        "a name",
        "with `suites`: one of those compared, whom improvement is over; left out: `selector`",
    ),
    "agents": Field(
        lambda value: _distinct(value, str),
        _STRINGS,
        "recipes to train on each scenario, or on `train_on`; left out: only the policies are compared",
    ),
    "training_seeds": Field(
        lambda value: _distinct(value, int) and all(_integer(seed, 0, MAX_SEED) for seed in value),
        f"a list of one or more different integers from 0 to {MAX_SEED}",
        "one run of training per agent, scenario and seed, with `train_on` per agent and seed; left out: `[0]`",
    ),
    "steps": Field(
        lambda value: _integer(value, 1, MAX_STEPS),
        f"an integer from 1 to {MAX_STEPS}",
        "of each training; left out: the recipe's own",
    ),
    "policies": Field(
        lambda value: _distinct(value, str),
        _STRINGS,
        "to compare, those of `modes` among them; a file also by its path in `experiments/`, as "
        "`tuned/constant.toml`; left out: all baselines",
    ),
    "modes": Field(
        _are_named_tables,
        f"tables of modes, {_NAMED}",
        "`[modes.NAME]`: a policy of this experiment, as named modes like a file of `agents/`; one that "
        "`policies` does not name comes last",
    ),
    "episodes": Field(
        lambda value: _integer(value, 1, MAX_EPISODES),
        f"an integer from 1 to {MAX_EPISODES}",
        "of evaluation, per policy or training and scenario, on seeds that no training has seen; left out: 64",
    ),
    "seed": Field(
        lambda value: _integer(value, 0, MAX_SEED), f"an integer from 0 to {MAX_SEED}", "of the evaluation; left out: 1"
    ),
    "set": Field(
        lambda value: isinstance(value, dict),
        "a table of a scenario's fields",
        "fields that every scenario gets, to which `--set` adds",
    ),
    "variants": Field(
        _are_named_tables,
        f"tables of a scenario's fields, {_NAMED}",
        "`[variants.NAME]`: each scenario once more, as SCENARIO@NAME, with these fields besides",
    ),
    "axes": Field(
        _are_axes,
        f"tables of an axis's values, each a table of a scenario's fields, {_NAMED}; not scenario, policy or variant",
        "`[axes.AXIS]` with `VALUE = { FIELD = ... }`, in place of variants: every value of one axis with every "
        "value of the others, as SCENARIO@VALUE+VALUE",
    ),
    "tables": Field(
        _are_named_tables, f"tables of the fields below, {_NAMED}", "`[tables.NAME]`: a table of the results, below"
    ),
    "picture": Field(lambda value: isinstance(value, dict), "a table of the fields below", "a picture of them, below"),
}
"""Every field of an experiment's file."""
