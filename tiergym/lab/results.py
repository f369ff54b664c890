"""Results as files: JSON (schema 1) of means with intervals, Parquet of every episode; written atomically.

Schema 1, the same keys everywhere, metrics as in docs/reference/metrics.md:

    {"schema": 1, "model": DIGEST, "scenario": NAME, "digest": DIGEST, "variant": NAME, "changes": {FIELD: VALUE},
     "seed": N, "episodes": N, "agents": {POLICY: [DIGEST, ...]},
     "policies": {POLICY: {METRIC: {"mean": x, "low": x, "high": x}, ...}, ...},
     "modes": {POLICY: {ENTRY: {"in_force": {MODE: x, ...}, "changes": x, "overruled": x}, ...}, ...}}

`modes` is what the policies did (`tiergym.lab.mode_use`), means over episodes. `changes` is what --set or an experiment
changed in the scenario; in a variant of an experiment `scenario` is SCENARIO@VARIANT, else `variant` is empty. A matrix
has `"scenarios": {NAME: {"digest": ..., "variant": ..., "changes": ..., "policies": ..., "modes": ...}}` in place of
these keys. The digests, of the model's sources, of the scenario's content and of each run's file, are what
`tiergym verify` compares before it replays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import files
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.lab.bound import Bound
from tiergym.lab.compare import Comparison
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.metrics import NAMES, Array
from tiergym.lab.mode_use import COLUMNS, ModeUse, from_columns
from tiergym.lab.random_networks import QUANTILES, Guesses, saved_by_network
from tiergym.policy.plan import modes_of
from tiergym.specs import Scenario, assignments_text, scenario_digest

SCHEMA = 1
AGENTS = "tiergym.agents"
"""Key of the policies' digests in a Parquet file's metadata."""
SCORED = ("return", "premature_kills_per_hour")
"""Metrics that a suite's rows are made of."""
_KEYS = ("policy", "machine_seed", "scenario", "changes")
"""What says of which comparison a row of a Parquet file is."""


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison in schema 1."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "scenario": comparison.scenario,
        "digest": comparison.digest,
        "variant": comparison.variant,
        "changes": comparison.changes,
        "seed": comparison.seed,
        "episodes": comparison.episodes,
        "agents": comparison.agents,
        "policies": _policies(comparison),
        "modes": _modes(comparison),
    }


def matrix_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Comparisons of the same policies on several scenarios, with the same seed and episodes."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "seed": comparisons[0].seed,
        "episodes": comparisons[0].episodes,
        "agents": comparisons[0].agents,
        "scenarios": {
            comparison.scenario: {
                "digest": comparison.digest,
                "variant": comparison.variant,
                "changes": comparison.changes,
                "policies": _policies(comparison),
                "modes": _modes(comparison),
            }
            for comparison in comparisons
        },
    }


def bound_json(found: Bound, scenario: Scenario) -> dict[str, Any]:
    """A search's bounds: mean returns, the best constant, and the plan in pieces."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "scenario": found.scenario,
        "digest": scenario_digest(scenario),
        "changes": scenario.changes,
        "seed": found.seed,
        "episodes": found.episodes,
        "policies": found.statics,
        "constant": {"return": found.constant_return, "modes": modes_of(found.constant)},
        "plan": {"return": found.plan_return, "pieces": len(found.plan.ticks)},
        "relaxed": {"return": found.relaxed_return},
    }


def bounds_json(documents: Sequence[dict[str, Any]], suite: str) -> dict[str, Any]:
    """Those of all scenarios of a suite, by name."""
    return {"schema": SCHEMA, "suite": suite, "scenarios": {each["scenario"]: each for each in documents}}


def networks_json(guessed: Mapping[str, Sequence[Guesses]], count: int, seed: int) -> dict[str, Any]:
    """Random networks on suites: per scenario the return of `online`, quantiles of theirs, the share that is better;
    per suite quantiles of what they save of stock Linux's loss, the same network on every scenario."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "seed": seed,
        "networks": count,
        "saved": {
            suite: dict(
                zip(map(str, QUANTILES), np.quantile(saved_by_network(guesses), QUANTILES).tolist(), strict=True)
            )
            for suite, guesses in guessed.items()
        },
        "suites": {
            suite: {
                each.scenario: {
                    "online": each.online,
                    "quantiles": dict(zip(map(str, QUANTILES), each.quantiles(), strict=True)),
                    "better": each.better,
                }
                for each in guesses
            }
            for suite, guesses in guessed.items()
        },
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write `document` to `path`, all or nothing; `tiergym.files.STDOUT` is stdout."""
    files.write_json(path, document)


def write_parquet(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write one row per scenario, policy, run and episode: its machine's seed, every metric, what the policy did.

    Raises:
        UserError: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    tables = []
    for comparison in comparisons:
        seeds = evaluation_seeds(comparison.seed, comparison.episodes)
        for policy, metrics in comparison.values.items():
            runs, episodes = metrics["return"].shape
            columns: dict[str, Any] = {
                "scenario": [comparison.scenario] * (runs * episodes),
                "variant": [comparison.variant] * (runs * episodes),
                "changes": [assignments_text(comparison.changes)] * (runs * episodes),
                "policy": [policy] * (runs * episodes),
                "run": np.repeat(np.arange(runs), episodes),
                "episode": np.tile(np.arange(episodes), runs),
                "machine_seed": np.tile(seeds, runs),
            }
            columns |= {metric: metrics[metric].ravel() for metric in NAMES}
            columns |= comparison.modes[policy].columns()
            tables.append(arrow.table(columns))
    table = arrow.concat_tables(tables).replace_schema_metadata(
        {"tiergym.schema": str(SCHEMA), AGENTS: json.dumps(comparisons[0].agents)}
    )
    buffer = arrow.BufferOutputStream()
    parquet.write_table(table, buffer)
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def read_parquet(path: Path, scenario: Scenario, policies: Sequence[str], episodes: int, seed: int) -> Comparison:
    """The comparison that `write_parquet` wrote, but for the times of decisions, which the file does not have.

    Raises:
        UserError: it is damaged, or not one of these policies on this scenario, in so many episodes with this seed.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
        columns = table.to_pydict()
        agents = json.loads((table.schema.metadata or {}).get(AGENTS.encode(), b"{}"))
        if not isinstance(agents, dict):
            raise ValueError(f"{AGENTS} is no object")
    except (arrow.ArrowException, OSError, ValueError, RecursionError) as error:  # no UTF-8 is a ValueError
        raise UserError(f"{path}: not a Parquet file, or no text or JSON in it: {error}") from error
    lacking = [name for name in (*_KEYS, *NAMES, *COLUMNS) if name not in columns]
    if lacking:
        raise UserError(f"{path}: no column {lacking[0]!r}; allowed: what an experiment wrote")
    for name in ("policy", "scenario", "changes"):
        if not all(isinstance(value, str) for value in columns[name]):
            raise UserError(f"{path}: column {name!r} has no texts; allowed: what an experiment wrote")
    for name in ("machine_seed", *NAMES, *COLUMNS):
        if np.array(columns[name]).dtype.kind not in "iuf":
            raise UserError(f"{path}: column {name!r} has no numbers; allowed: what an experiment wrote")
    seeds = evaluation_seeds(seed, episodes)
    values: dict[str, dict[str, Array]] = {}
    modes: dict[str, ModeUse] = {}
    names = np.array(columns["policy"])
    for policy in dict.fromkeys(columns["policy"]):
        rows = names == policy
        shape = (-1, episodes)
        if int(rows.sum()) % episodes or not (np.array(columns["machine_seed"])[rows].reshape(shape) == seeds).all():
            raise UserError(f"{path}: has other episodes; allowed: {episodes} per policy, of seed {seed}")
        values[policy] = {metric: np.array(columns[metric])[rows].reshape(shape) for metric in NAMES}
        modes[policy] = from_columns({name: np.array(columns[name])[rows] for name in COLUMNS}, shape)
    found = (list(values), set(columns["scenario"]), set(columns["changes"]))
    if found != (list(policies), {scenario.name}, {assignments_text(scenario.changes)}):
        raise UserError(f"{path}: has other policies or another scenario; allowed: {', '.join(policies)}")
    about = (scenario.changes, scenario.variant, modes, scenario_digest(scenario), agents)
    return Comparison(scenario.name, seed, episodes, values, {}, *about)


def read_cells(paths: Sequence[Path], policies: Sequence[str], seed: int, episodes: int) -> list[Comparison]:
    """Of each file that `write_parquet` wrote of one scenario, what a suite's rows are made of.

    Raises:
        UserError: a file is damaged, or has not these policies in so many episodes each.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    found = []
    for path in paths:
        try:
            columns = parquet.read_table(path, columns=["scenario", "policy", *SCORED]).to_pydict()
            shaped = {
                policy: {
                    metric: np.array(
                        [x for x, name in zip(columns[metric], columns["policy"], strict=True) if name == policy], float
                    ).reshape(-1, episodes)
                    for metric in SCORED
                }
                for policy in policies
            }
        except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not {episodes} episodes of a scenario: {error}") from error
        if any(not values.size or not np.isfinite(values).all() for of in shaped.values() for values in of.values()):
            raise UserError(f"{path}: has other policies or no numbers; allowed: {', '.join(policies)}")
        found.append(Comparison(str(columns["scenario"][0]), seed, episodes, shaped, dict.fromkeys(policies, 0.0)))
    return found


def _policies(comparison: Comparison) -> dict[str, Any]:
    return {
        policy: {metric: interval.as_dict() for metric, interval in metrics.items()}
        for policy, metrics in comparison.intervals.items()
    }


def _modes(comparison: Comparison) -> dict[str, Any]:
    return {policy: use.document() for policy, use in comparison.modes.items()}
