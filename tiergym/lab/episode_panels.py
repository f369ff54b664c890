"""What an episode's picture shows, whatever draws it: panels of series over time, and runs of modes.

Several policies on one machine share each panel: the same series, the same axis, so that they can be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.palette import CAUSE_COLOURS, CLASS_COLOURS, INK, WMARK_COLOURS
from tiergym.lab.episode_log import EpisodeLog
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

Floats = NDArray[np.float64]
TIER_NAMES = ("DRAM", "CXL")
PAGES_PER_GIB = 1024 * PAGES_PER_MIB
WORK = "work"
"""The part of the time that is not lost."""


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity: `values` has float64 (T,) per policy. `dash` is lengths of ink and gap, or empty."""

    name: str
    colour: str
    values: tuple[Floats, ...]
    dash: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """Series that share an axis from `low` to `high`: stacked, or as lines; `log` shows x as log(1 + x)."""

    title: str
    unit: str
    kind: Literal["stack", "lines"]
    series: tuple[Series, ...]
    low: float
    high: float
    log: bool = False

    def shown(self, values: Floats) -> Floats:
        """Where values lie on the axis: 0 at `low`, 1 at `high`."""
        low, high, at = np.array(self.low), np.array(self.high), np.maximum(values, self.low)
        if self.log:
            low, high, at = np.log1p(low), np.log1p(high), np.log1p(at)
        return np.asarray(np.minimum((at - low) / (high - low), 1.0))

    def ticks(self) -> list[float]:
        """Two to six round numbers on the axis."""
        if self.log:
            decades = [10.0**k for k in range(1, int(np.log10(max(self.high, 10))) + 1)]
            return [0.0, *(decades if len(decades) <= 4 else decades[::-1][::2][::-1])]
        return round_ticks(self.low, self.high, 3)


@dataclass(frozen=True, slots=True)
class Run:
    """Ticks from `start` to before `end` with one mode in force; `chosen` differs where the machine overruled it."""

    start: int
    end: int
    mode: int
    chosen: int


def panels(logs: Sequence[EpisodeLog]) -> list[Panel]:
    """All panels of policies on one machine, from the top down."""
    tiers = [tier for tier in (n.FAST, n.SLOW) if any(_managed(log, tier).any() for log in logs)]
    out = [_pages(logs, tier) for tier in tiers]
    out += _kernel(logs, tiers)
    out += [_free(logs), _rates(logs), _time(logs)]
    return out


def runs(log: EpisodeLog, entry: int) -> list[Run]:
    """The episode of one action entry, cut where the choice or what was in force changed."""
    both = np.stack([log.in_force[:, entry], log.chosen[:, entry]], axis=1)
    cuts = [0, *(np.flatnonzero((both[1:] != both[:-1]).any(axis=1)) + 1).tolist(), log.ticks]
    return [Run(start, end, int(both[start, 0]), int(both[start, 1])) for start, end in itertools.pairwise(cuts)]


def mode_names(mode: int) -> str:
    """What mode number `mode` is called, by the entries that have it."""
    return ", ".join(dict.fromkeys(entry.modes[mode] for entry in act.ENTRIES if mode < len(entry.modes)))


def in_words(log: EpisodeLog, run: Run, entry: int) -> str:
    """As `restrict from 2.5 s to 7 s`; and what was chosen, where that was impossible."""
    modes = act.ENTRIES[entry].modes
    text = f"{modes[run.mode]} from {run.start * log.dt_s:g} s to {run.end * log.dt_s:g} s"
    return text if run.chosen == run.mode else f"{text}; {modes[run.chosen]} was chosen and is impossible here"


def summary(log: EpisodeLog) -> tuple[str, str]:
    """What came of it, in two lines of at most 60 letters."""
    lost = log.lost.mean(axis=0)
    worst = int(lost.argmax())
    came = f"return {log.reward.sum():.2f}, throughput {100 * log.throughput.mean():.1f} %"
    why = f"most lost to {n.CAUSES[worst].replace('_', ' ')} ({100 * lost[worst]:.1f} %), " if lost[worst] > 0 else ""
    return came, f"{why}{log.kills} OOM kill{'' if log.kills == 1 else 's'}"


def round_ticks(low: float, high: float, least: int) -> list[float]:
    """Round numbers from `low` to `high`, at about `least` steps."""
    step = _round_step((high - low) / least)
    first = np.ceil(low / step - 1e-9) * step
    return [abs(float(x)) for x in np.arange(first, high + step * 1e-6, step)]


def shortened(name: str, letters: int) -> str:
    """The end of a long name, which tells files apart."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def tick_label(value: float) -> str:
    """A number on an axis: 2,000 or 0.5."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _each(values: Iterable[NDArray[Any]]) -> tuple[Floats, ...]:
    return tuple(np.asarray(each, np.float64) for each in values)


def _managed(log: EpisodeLog, tier: int) -> Floats:
    return np.asarray(log.managed_pages[:, n.TIER_ZONES[tier]].sum(axis=1), np.float64)


def _class_series(
    logs: Sequence[EpisodeLog], classes: Sequence[int], tier: int, unit: int, kept: set[int]
) -> tuple[Series, ...]:
    """Of each class that is `kept`; the one that fills most comes first, at the bottom."""
    return tuple(
        Series(n.CLASSES[c], CLASS_COLOURS[n.CLASSES[c]], _each(log.pages[:, c, tier] / unit for log in logs))
        for c in classes
        if c in kept
    )


def _pages(logs: Sequence[EpisodeLog], tier: int) -> Panel:
    present = {c for c in range(n.N_CLASSES) if any(log.pages[:, c, tier].any() for log in logs)} or {n.ANON}
    # Kernel pages at the bottom: they are what this gym is about, and there they start from a line.
    order = [*range(n.FIRST_KERNEL_CLASS, n.N_CLASSES), *range(n.FIRST_KERNEL_CLASS)]
    top = max(float(_managed(log, tier).max()) for log in logs) / PAGES_PER_GIB
    series = _class_series(logs, order, tier, PAGES_PER_GIB, present)
    return Panel(f"{TIER_NAMES[tier]}: pages by class", "GiB", "stack", series, 0.0, top)


def _kernel(logs: Sequence[EpisodeLog], tiers: Sequence[int]) -> list[Panel]:
    """Kernel classes of each tier, on one scale."""
    kernel = list(range(n.FIRST_KERNEL_CLASS, n.N_CLASSES))
    present = {c for c in kernel if any(log.pages[:, c].any() for log in logs)}
    top = max(float(log.pages[:, n.FIRST_KERNEL_CLASS :, tier].sum(axis=1).max()) for log in logs for tier in tiers)
    high = _round_up(max(top / PAGES_PER_MIB, 1.0))
    return [
        Panel(
            f"{TIER_NAMES[tier]}: kernel pages",
            "MiB",
            "stack",
            _class_series(logs, kernel, tier, PAGES_PER_MIB, present),
            0.0,
            high,
        )
        for tier in tiers
    ]


def _free(logs: Sequence[EpisodeLog]) -> Panel:
    """Free DRAM, and its largest zone with the marks that it is held against."""
    dram = n.TIER_ZONES[n.FAST]
    zone = int(logs[0].managed_pages[:, dram].max(axis=0).argmax())
    series = [
        Series("free DRAM", INK, _each(log.free_pages[:, dram].sum(axis=1) / PAGES_PER_MIB for log in logs)),
        Series(
            f"free in zone {n.ZONES[zone]}",
            "#0072B2",
            _each(log.free_pages[:, zone] / PAGES_PER_MIB for log in logs),
            (5, 2),
        ),
    ]
    series += [
        Series(
            f"{n.WMARKS[mark]} of it",
            WMARK_COLOURS[n.WMARKS[mark]],
            _each(log.wmark_pages[:, mark, zone] / PAGES_PER_MIB for log in logs),
            (2, 2),
        )
        for mark in (n.WMARK_HIGH, n.WMARK_LOW, n.WMARK_MIN)
    ]
    return _lines("free DRAM and watermarks", "MiB", series)


_RATES: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...]], ...] = (
    (
        "reclaimed",
        "#882255",
        (),
        (n.C_PGSTEAL_KSWAPD_FAST, n.C_PGSTEAL_KSWAPD_SLOW, n.C_PGSTEAL_DIRECT_FAST, n.C_PGSTEAL_DIRECT_SLOW),
    ),
    ("of these demoted", "#0072B2", (5, 2), (n.C_PGDEMOTE_KSWAPD, n.C_PGDEMOTE_DIRECT)),
    ("demoted ahead", "#56B4E9", (2, 2), (n.C_PGDEMOTE_PROACTIVE,)),
    ("promoted", "#009E73", (7, 2, 2, 2), (n.C_PGPROMOTE_SUCCESS,)),
    ("kernel migrated", "#E69F00", (), (n.C_PGMIGRATE_PT, n.C_PGMIGRATE_SLAB, n.C_PGMIGRATE_KSTACK)),
)
"""Name, colour, dash and counters of each rate."""


def _rates(logs: Sequence[EpisodeLog]) -> Panel:
    series = [
        Series(name, colour, _each(log.per_second(*counters) for log in logs), dash)
        for name, colour, dash, counters in _RATES
    ]
    return _lines("pages moved", "pages/s", series)


def _time(logs: Sequence[EpisodeLog]) -> Panel:
    """Work, and what is lost above it up to 100 %; the axis starts below the worst tick."""
    kept = [c for c in range(n.N_CAUSES) if any(log.lost[:, c].max() >= 1e-4 for log in logs)]
    series = [Series(WORK, "#FFFFFF", _each(100 * log.throughput for log in logs))]
    series += [
        Series(n.CAUSES[c], CAUSE_COLOURS[n.CAUSES[c]], _each(100 * log.lost[:, c] for log in logs)) for c in kept
    ]
    worst = 100 - 100 * min(float(log.throughput.min()) for log in logs)
    low = max(0.0, 100 - _round_up(max(1.05 * worst, 1.0)))
    return Panel("throughput, and time lost by cause", "% of time", "stack", tuple(series), low, 100.0)


def _lines(title: str, unit: str, series: Sequence[Series]) -> Panel:
    top = max(float(values.max()) for each in series for values in each.values)
    return Panel(title, unit, "lines", tuple(series), 0.0, max(1.2 * top, 10.0), log=True)


def _round_step(step: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten that is not smaller."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(k * power for k in (1, 2, 5, 10) if k * power >= step * (1 - 1e-9)))


def _round_up(value: float) -> float:
    """A little more than `value`, a round number of tenths of its size."""
    step = _round_step(value / 8)
    return float(np.ceil(value / step) * step)
