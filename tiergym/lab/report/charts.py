"""Numbers as places on a page: per cent of a track's width, and paths in boxes of 1000 x 100 that the page stretches.

Text stays HTML, so that it is readable at any width; colours are those of `tiergym.env.palette`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.env.palette import CAUSE_COLOURS, MODE_COLOURS, ink_on
from tiergym.lab.episode_panels import round_ticks, tick_label
from tiergym.lab.plots import VARIANT_STYLES, VISIBLE_SHARE
from tiergym.lab.rungs import NOTHING
from tiergym.lab.statistics import Interval
from tiergym.sim.names import CAUSES

DASHES = ("", "9 3", "3 3", "12 3 3 3", "6 2 2 2", "2 2", "14 4")
"""Of the lines of a chart, so that they can be told apart without colours."""
MOST_LINES = len(DASHES)
MOST_POINTS = 200
"""Of a curve; of more, means of neighbours are drawn."""


FLAG_WIDTH = 8.0
"""Of a track in per cent, where it is 360 pixels wide."""


@dataclass(frozen=True)
class Mark:
    """An interval on a track, all in per cent of its width; `cut` where a part of it lies beyond the track."""

    name: str
    low: float
    width: float
    mean: float
    text: str
    cut: bool


@dataclass(frozen=True)
class Track:
    """Intervals on one axis, with its labels by place."""

    marks: list[Mark]
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Segment:
    """A part of a bar, per cent of the width of the longest."""

    name: str
    width: float
    colour: str
    text: str


@dataclass(frozen=True)
class Flag:
    """A labelled share at a place on a track of several lanes, so that no two cover each other."""

    label: str
    share: float
    at: float
    lane: int
    colour: str
    ink: str


@dataclass(frozen=True)
class Line:
    """A curve or an area in a box of 1000 x 100."""

    name: str
    path: str
    colour: str
    dash: str = ""


@dataclass(frozen=True)
class Figure:
    """Lines or areas with both axes' labels by place in per cent."""

    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]


def track(values: Mapping[str, Interval], decimals: int, lowest: float | None = None) -> Track:
    """All intervals on one axis, which begins at `lowest` at the earliest."""
    low, high = min(each.low for each in values.values()), max(each.high for each in values.values())
    low = low if lowest is None else max(low, lowest)
    high = max(high, low)
    low, high = _widened(low, high)

    def at(value: float) -> float:
        return 100 * min(max((value - low) / (high - low), 0.0), 1.0)

    marks = [
        Mark(
            name,
            at(each.low),
            max(at(each.high) - at(each.low), 0.0),
            at(each.mean),
            text(each, decimals),
            each.low < low,
        )
        for name, each in values.items()
    ]
    return Track(marks, [(at(x), tick_label(round(x, 9) + 0.0)) for x in _ticks(low, high)])


def text(value: Interval, decimals: int) -> str:
    """Mean with its 95 % interval; the mean alone where nothing varies."""
    mean = f"{value.mean:,.{decimals}f}"
    return mean if value.low == value.high else f"{mean} [{value.low:,.{decimals}f}, {value.high:,.{decimals}f}]"


def lost_time(lost: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, list[Segment]], dict[str, float]]:
    """Bars by policy, of the share of time that each cause takes, and their sums in per cent."""
    totals = {policy: 100 * sum(shares.values()) for policy, shares in lost.items()}
    longest = max([*totals.values(), 1e-9])
    bars = {
        policy: [
            Segment(cause.replace("_", " "), 100 * 100 * share / longest, CAUSE_COLOURS[cause], f"{100 * share:.2f} %")
            for cause, share in shares.items()
            if share >= VISIBLE_SHARE
        ]
        for policy, shares in lost.items()
    }
    return bars, totals


def causes_key(lost: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """Names and colours of the causes that are seen."""
    seen = [cause for cause in CAUSES if any(shares.get(cause, 0.0) >= VISIBLE_SHARE for shares in lost.values())]
    return [(cause.replace("_", " "), CAUSE_COLOURS[cause]) for cause in seen]


def flags(shares: Mapping[str, float], colours: Mapping[str, str]) -> list[Flag]:
    """Shares of one scenario, from 0 to 1 on the track, the smallest first."""
    out: list[Flag] = []
    ends: list[float] = []
    for label, share in sorted(shares.items(), key=lambda item: item[1]):
        at = 4 + 92 * min(max(share, 0.0), 1.0)
        lane = next((i for i, end in enumerate(ends) if at - end >= FLAG_WIDTH), len(ends))
        ends[lane : lane + 1] = [at]
        out.append(Flag(label, share, at, lane, colours[label], ink_on(colours[label])))
    return out


def profiles(above: Sequence[float], shares: Mapping[str, Sequence[float]]) -> Figure:
    """Performance profiles: the share of episodes that save more than x, of at most `MOST_LINES` policies."""
    low, high = above[0], above[-1]
    x = 1000 * (np.array(above) - low) / (high - low)
    lines = [
        Line(name, _steps(x, np.clip(shares[name], 0, 1)), VARIANT_STYLES[i % len(VARIANT_STYLES)][0], DASHES[i])
        for i, name in enumerate(list(shares)[:MOST_LINES])
    ]
    across = [(100 * (at - low) / (high - low), f"{at:g}") for at in (low, (low + high) / 2, high)]
    return Figure(lines, across, [(0, "0 %"), (50, "50 %"), (100, "100 %")])


def over_time(shares: NDArray[np.float64], seconds: float) -> Figure:
    """Stacked areas of modes, float64 (T, modes), mode 0 at the bottom."""
    values = _thinned(shares)
    x = np.linspace(0, 1000, len(values)) if len(values) > 1 else np.array([0.0, 1000.0])
    values = values if len(values) > 1 else np.repeat(values, 2, axis=0)
    edges = np.vstack([np.zeros(len(x)), np.minimum(np.cumsum(values.T, axis=0), 1)])
    lines = [
        Line(str(mode), f"{_path(x, above)}L{_path(x[::-1], below[::-1])[1:]}Z", MODE_COLOURS[mode])
        for mode, (below, above) in enumerate(itertools.pairwise(edges))
        if (above > below).any()
    ]
    across = [(100 * at / seconds, f"{tick_label(at)} s") for at in round_ticks(0.0, seconds, 4) if at < 0.97 * seconds]
    return Figure(lines, across, [(0, "0 %"), (100, "100 %")])


def curve(name: str, values: Sequence[float]) -> Figure:
    """One number per rollout, from the first to the last."""
    thinned = _thinned(np.array(values)[:, None])[:, 0]
    low, high = float(thinned.min()), float(thinned.max())
    low, high = _widened(low, high)
    line = Line(name, _path(np.linspace(0, 1000, len(thinned)), (thinned - low) / (high - low)), VARIANT_STYLES[1][0])
    up = [(100 * (x - low) / (high - low), tick_label(round(x, 9) + 0.0)) for x in _ticks(low, high)]
    return Figure([line], [(0, "first rollout"), (100, f"the last of {len(values):,}")], up)


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of so many neighbours, along the first axis, that `MOST_POINTS` are left."""
    step = -(-len(values) // MOST_POINTS)
    starts = np.arange(0, len(values), step)
    sums = np.add.reduceat(values, starts, axis=0)
    return np.asarray(sums / np.diff([*starts, len(values)])[:, None])


def _widened(low: float, high: float) -> tuple[float, float]:
    """An axis with a little space on either side, and with some where all values are as good as equal."""
    size = max(abs(low), abs(high))
    size = size if size > NOTHING else 1.0
    space = 0.04 * (high - low) if high - low > 1e-9 * size else 0.5 * size
    return low - space, high + space


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on an axis, also below 0, of which `round_ticks` knows no sign."""
    step = (lambda found: found[1] - found[0])(round_ticks(0.0, high - low, 4))
    return [float(x) for x in step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)]


def _steps(x: NDArray[np.float64], shares: NDArray[np.float64]) -> str:
    """Each share holds until the next x."""
    return _path(np.repeat(x, 2)[1:], np.repeat(shares, 2)[:-1])


def _path(x: NDArray[np.float64], shares: NDArray[np.float64]) -> str:
    points = (f"{at:.5g} {100 - 100 * share:.4g}" for at, share in zip(x.tolist(), shares.tolist(), strict=True))
    return "M" + "L".join(points)
