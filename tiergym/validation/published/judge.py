"""How close is close: tolerances of a published number, and judgements over several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """All that are given must hold. The distance is to the published number, or to its range.

    absolute, relative: the largest distance, plain or as a share of the nearer end. factor: between 1/factor and
    factor times. decimals: equal when rounded to so many. side_of: on the same side of this number as published.
    at_least: published is a lower bound.
    """

    absolute: float | None = None
    relative: float | None = None
    factor: float | None = None
    decimals: float | None = None
    side_of: float | None = None
    at_least: float | None = None

    def met(self, simulated: float, low: float, high: float) -> bool:
        """Whether `simulated` is close enough to what was published, low to high."""
        nearest = min(max(simulated, low), high)
        distance = abs(simulated - nearest)
        rounding = 1e-12
        checks = (
            self.absolute is None or distance <= self.absolute + rounding,
            self.relative is None or distance <= self.relative * abs(nearest) + rounding,
            self.factor is None or low / self.factor <= simulated <= high * self.factor,
            self.decimals is None or round(simulated, int(self.decimals)) == round(low, int(self.decimals)),
            self.side_of is None or (simulated - self.side_of) * (low - self.side_of) > 0,
            self.at_least is None or simulated >= low,
        )
        return bool(np.isfinite(simulated)) and all(checks)

    def words(self) -> str:
        """The tolerance as a table shows it."""
        parts = []
        if self.absolute is not None:
            parts.append(f"± {self.absolute:g}")
        if self.relative is not None:
            parts.append(f"± {100 * self.relative:g} %")
        if self.factor is not None:
            parts.append(f"factor {self.factor:g}")
        if self.decimals is not None:
            parts.append("exact")
        if self.side_of is not None:
            parts.append(f"same side of {self.side_of:g}")
        if self.at_least is not None:
            parts.append("at least")
        return ", ".join(parts)


def mean_absolute_error(published: Array, simulated: Array, x: Array) -> float:
    """Mean of |simulated - published| over the rows."""
    return float(np.abs(simulated - published).mean())


def rank_correlation(published: Array, simulated: Array, x: Array) -> float:
    """Spearman's: the correlation of the rows' ranks, ties sharing theirs."""
    return float(np.corrcoef(ranks(published), ranks(simulated))[0, 1])


def slope(published: Array, simulated: Array, x: Array) -> float:
    """Least-squares slope of the simulated values over `x`."""
    return float(np.polyfit(x, simulated, 1)[0])


def ranks(values: Array) -> Array:
    """Ranks from 0 of values of shape (n,); equal values share the mean of theirs."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    return below + (equal - 1) / 2


SUMMARIES: Mapping[str, Callable[[Array, Array, Array], float]] = {
    "mean_absolute_error": mean_absolute_error,
    "rank_correlation": rank_correlation,
    "slope": slope,
}
