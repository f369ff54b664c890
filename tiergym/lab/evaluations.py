"""What the evaluations of a training found: their file, the best of them, and whether there is still progress.

`evaluations.json` (schema 1) in a run's folder: `evaluations`, in the order of `steps`, each with `returns`, one per
held-back machine in the unit that is learned from, and `kills_per_hour`, premature OOM kills per hour of a machine.

**The best** is the one of the highest mean return; under a constraint, of those that break it least.

**Converged** are `patience` evaluations in a row of which none was better than the best one before them. Better means
that the mean of the returns' differences is above its standard error: all evaluations are of the same machines, so
that differences are paired.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import files
from tiergym.errors import UserError

FILE = "evaluations.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation, after `steps` decisions."""

    steps: int
    returns: tuple[float, ...]
    kills_per_hour: float

    @property
    def score(self) -> float:
        """Mean of the returns."""
        return math.fsum(self.returns) / len(self.returns)

    def excess(self, bound: float) -> float:
        """Kills per hour above the bound."""
        return max(0.0, self.kills_per_hour - bound)


def best(found: Sequence[Evaluated], bound: float) -> Evaluated:
    """The best one, the first of equals; `bound` is that of kills per hour, infinite without a constraint."""
    return max(found, key=lambda evaluated: (-evaluated.excess(bound), evaluated.score))


def converged(found: Sequence[Evaluated], bound: float, patience: int) -> bool:
    """Whether none of the last `patience` evaluations is better than the best before them."""
    if len(found) <= patience:
        return False
    before = best(found[:-patience], bound)
    return not any(_better(later, before, bound) for later in found[-patience:])


def _better(one: Evaluated, other: Evaluated, bound: float) -> bool:
    if one.excess(bound) != other.excess(bound):
        return one.excess(bound) < other.excess(bound)
    differences = np.subtract(one.returns, other.returns)
    error = differences.std(ddof=1) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() > error)


def write(run: Path, found: Sequence[Evaluated]) -> None:
    """Write the file, all or nothing."""
    document = {"schema": SCHEMA, "evaluations": [asdict(evaluated) for evaluated in found]}
    files.write_text(run / FILE, json.dumps(document) + "\n")


def read(run: Path) -> list[Evaluated]:
    """What was found so far; empty without a file. Raises `UserError` for a file that is none of these."""
    path = run / FILE
    if not path.exists():
        return []
    document = files.read_json(path)
    try:
        if not files.same(document["schema"], SCHEMA):
            raise ValueError
        found = [_read(entry) for entry in document["evaluations"]]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or not the evaluations of a training run (schema {SCHEMA})") from error
    if any(later.steps <= earlier.steps for earlier, later in pairwise(found)):
        raise UserError(f"{path}: its evaluations are not in the order of their steps")
    if len({len(evaluated.returns) for evaluated in found}) > 1:
        raise UserError(f"{path}: its evaluations are of different numbers of machines")
    return found


def _read(entry: Any) -> Evaluated:
    numbers = (entry["kills_per_hour"], *entry["returns"])
    if type(entry["steps"]) is not int or not all(type(each) is float and math.isfinite(each) for each in numbers):
        raise ValueError
    if entry["steps"] < 0 or not entry["returns"]:
        raise ValueError
    return Evaluated(entry["steps"], tuple(entry["returns"]), entry["kills_per_hour"])
