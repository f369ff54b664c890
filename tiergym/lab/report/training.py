"""A training run's folder for people: its curves and what it was asked to do."""

from __future__ import annotations

import csv
import json
from math import isfinite
from pathlib import Path
from typing import Any

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab import run_dir
from tiergym.lab.report.parts import Training
from tiergym.terminal import number

CURVES = {
    "Return/deterministic": "return on held-back machines",
    "Return/exploring": "return while exploring",
    "rollout/throughput": "throughput while exploring",
}
"""Columns of progress.csv that are drawn, and what they are."""
MOST_CSV_BYTES = 64 << 20


def read_training(run: Path) -> Training:
    """Raises `UserError` where the folder is not a training run's, or not a sound one."""
    config = run_dir.read(run)
    recipe = config.recipe
    facts = {
        "trained": f"{recipe.name} ({recipe.algorithm}), {number(recipe.steps)} decisions, seed {config.seed}",
        "learned on": ", ".join(config.scenarios),
        **_versions(run / run_dir.VERSIONS),
    }
    return Training(_curves(run), facts)


def _curves(run: Path) -> dict[str, list[float]]:
    """A run that was resumed has several files, the later ones with a longer name."""
    found: dict[str, list[float]] = {title: [] for title in CURVES.values()}
    for path in sorted(run.glob("progress*.csv"), key=lambda path: (len(path.name), path.name)):
        try:
            lines = files.read_bytes(path, MOST_CSV_BYTES).decode().splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a table of progress: {error}") from error
        for row in csv.DictReader(lines):
            for column, title in CURVES.items():
                value = _float(row.get(column))
                if value is not None:
                    found[title].append(value)
    return {title: values for title, values in found.items() if len(values) > 1}


def _float(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if isfinite(value) else None


def _versions(path: Path) -> dict[str, str]:
    """Nothing where the file is missing or damaged; `tiergym.lab.run_dir.check_versions` complains of it."""
    try:
        there = json.loads(files.read_bytes(path, files.MAX_TEXT_BYTES))
        packages = ", ".join(f"{name} {version}" for name, version in there["packages"].items() if version)
        return {"with": f"Python {there['python']}, {packages}", "trained on model": str(there["simulator"])}
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        return {}
