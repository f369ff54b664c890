"""What policies reach on a suite: a row of statistics for each, of what they save of stock Linux's loss.

A score is of an episode: 0 is `online`, 1 a machine that loses nothing, negative is harm. Intervals are of 95 %, by
stratified bootstrap (Agarwal et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiergym.lab.rungs import REFERENCE
from tiergym.lab.statistics import (
    Array,
    Interval,
    mean_improved,
    performance_profile,
    pooled_iqm,
    stratified,
    worst_tenth,
)

INTERVALS = ("saved", "improves", "worst_tenth", "kills_per_hour")
ABOVE = np.linspace(-1.0, 1.0, 81)
"""Scores at which a profile in a file tells the share of episodes above."""


@dataclass(frozen=True)
class Cell:
    """A policy's runs on one scenario: float64 (runs, episodes)."""

    returns: Array
    kills_per_hour: Array


@dataclass(frozen=True)
class Row:
    """What a policy reaches on a suite, in the units of `tiergym.lab.leaderboard`."""

    saved: Interval
    improves: Interval
    worst_tenth: Interval
    kills_per_hour: Interval
    gap: float | None
    decision_us: float

    def document(self) -> dict[str, Any]:
        """As in every JSON file."""
        out: dict[str, Any] = {name: getattr(self, name).as_dict() for name in INTERVALS}
        return out | {"gap": self.gap, "decision_us": self.decision_us}


def profile(scores: Mapping[str, Sequence[Array]]) -> dict[str, list[float]]:
    """By policy, the share of its scores above each of `ABOVE`."""
    return {name: performance_profile(mine, ABOVE).tolist() for name, mine in scores.items()}


def suite_rows(
    cells: Mapping[str, Sequence[Cell]],
    decision_us: Mapping[str, float],
    against: str,
    seed: int,
    on_train: Mapping[str, Row] | None = None,
) -> tuple[dict[str, Row], dict[str, list[Array]]]:
    """By policy, its row and its scores, float64 (runs, episodes) per scenario.

    `cells`: per policy one of each scenario, of `online` and `against` as well; `on_train`: the rows of the suite that
    the gap is measured from.
    """
    scores = {name: [saved(a, b) for a, b in zip(mine, cells[REFERENCE], strict=True)] for name, mine in cells.items()}
    rows = {}
    for name, ours in scores.items():
        differences = [
            mine - other.mean(axis=0, keepdims=True) for mine, other in zip(ours, scores[against], strict=True)
        ]
        iqm = stratified(pooled_iqm, ours, seed)
        rows[name] = Row(
            saved=iqm,
            improves=stratified(mean_improved, differences, seed),
            worst_tenth=stratified(worst_tenth, ours, seed),
            kills_per_hour=stratified(_mean, [cell.kills_per_hour for cell in cells[name]], seed),
            gap=None if on_train is None else on_train[name].saved.mean - iqm.mean,
            decision_us=decision_us[name],
        )
    return rows, scores


def saved(mine: Cell, stock: Cell) -> Array:
    """What is saved of what stock Linux loses on a scenario, float64 (runs, episodes)."""
    return np.asarray((mine.returns - stock.returns) / max(-float(stock.returns.mean()), 1e-9))


def _mean(strata: Sequence[Array]) -> float:
    return float(np.mean([stratum.mean() for stratum in strata]))
