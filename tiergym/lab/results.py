"""Results as files: JSON (schema 1) of means with intervals, Parquet of every episode; written atomically.

Schema 1, the same keys everywhere, metrics as in docs/reference/metrics.md:

    {"schema": 1, "scenario": NAME, "variant": NAME, "changes": {FIELD: VALUE}, "seed": N, "episodes": N,
     "policies": {POLICY: {METRIC: {"mean": x, "low": x, "high": x}, ...}, ...}}

`changes` is what --set or an experiment changed in the scenario; in a variant of an experiment `scenario` is
SCENARIO@VARIANT, else `variant` is empty. A matrix has `"scenarios": {NAME: {"variant": ..., "changes": ...,
"policies": ...}}` in place of `"scenario"`, `"variant"`, `"changes"` and `"policies"`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab.compare import Comparison
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.metrics import NAMES, Array
from tiergym.policy.extras import require
from tiergym.specs import Scenario, assignments_text

SCHEMA = 1


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison in schema 1."""
    return {
        "schema": SCHEMA,
        "scenario": comparison.scenario,
        "variant": comparison.variant,
        "changes": comparison.changes,
        "seed": comparison.seed,
        "episodes": comparison.episodes,
        "policies": _policies(comparison),
    }


def matrix_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Comparisons of the same policies on several scenarios, with the same seed and episodes."""
    return {
        "schema": SCHEMA,
        "seed": comparisons[0].seed,
        "episodes": comparisons[0].episodes,
        "scenarios": {
            comparison.scenario: {
                "variant": comparison.variant,
                "changes": comparison.changes,
                "policies": _policies(comparison),
            }
            for comparison in comparisons
        },
    }


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write `document` to `path`, all or nothing."""
    files.write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_parquet(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write one row per scenario, policy, run and episode: its machine's seed and every metric.

    Raises:
        UserError: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", "lab"), require("pyarrow.parquet", "lab")
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
            tables.append(arrow.table(columns))
    table = arrow.concat_tables(tables).replace_schema_metadata({"tiergym.schema": str(SCHEMA)})
    buffer = arrow.BufferOutputStream()
    parquet.write_table(table, buffer)
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def read_parquet(path: Path, scenario: Scenario, policies: Sequence[str], episodes: int, seed: int) -> Comparison:
    """The comparison that `write_parquet` wrote, but for the times of decisions, which the file does not have.

    Raises:
        UserError: it is not one of these policies on this scenario, in so many episodes with this seed.
    """
    parquet = require("pyarrow.parquet", "lab")
    columns = parquet.read_table(path).to_pydict()
    seeds = evaluation_seeds(seed, episodes)
    values: dict[str, dict[str, Array]] = {}
    names = np.array(columns["policy"])
    for policy in dict.fromkeys(columns["policy"]):
        rows = names == policy
        shape = (-1, episodes)
        if int(rows.sum()) % episodes or not (np.array(columns["machine_seed"])[rows].reshape(shape) == seeds).all():
            raise UserError(f"{path}: has other episodes; allowed: {episodes} per policy, of seed {seed}")
        values[policy] = {metric: np.array(columns[metric])[rows].reshape(shape) for metric in NAMES}
    found = (list(values), set(columns["scenario"]), set(columns["changes"]))
    if found != (list(policies), {scenario.name}, {assignments_text(scenario.changes)}):
        raise UserError(f"{path}: has other policies or another scenario; allowed: {', '.join(policies)}")
    return Comparison(scenario.name, seed, episodes, values, {}, scenario.changes, scenario.variant)


def _policies(comparison: Comparison) -> dict[str, Any]:
    return {
        policy: {metric: interval.as_dict() for metric, interval in metrics.items()}
        for policy, metrics in comparison.intervals.items()
    }
