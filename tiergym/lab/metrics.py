"""What is measured: the name, unit, direction and meaning of every metric, in one table.

`METRICS` is the order of the keys in JSON, of the columns in Parquet and of the rows in
docs/reference/metrics.md. One metric has one value per episode.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.lab.mode_use import ModeUse
from tiergym.sim import names as n

Array = NDArray[np.float64]

MIN_THROUGHPUT = 1e-3
"""A tick slower than this counts as 1000 times slower than ideal: a machine whose work was killed stands still."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What N machines did in one episode each: sums over an episode's ticks, float64.

    Shapes: `ticks`, `dt_s` (of a tick), `reward`, `throughput` (N,); `terms` (N, N_TERMS); `lost` (N, N_CAUSES);
    `counters` (N, N_COUNTERS); `kernel_slow` (N, N_CLASSES), in pages; `throughput_by_tick` (T, N) is kept, NaN after
    the end of a shorter episode. `modes` is what the policy did, with shapes (N, ...).
    """

    ticks: Array
    dt_s: Array
    reward: Array
    terms: Array
    lost: Array
    counters: Array
    kernel_slow: Array
    throughput: Array
    throughput_by_tick: Array
    modes: ModeUse


@dataclass(frozen=True, slots=True)
class Metric:
    """`value` turns the totals of N episodes into N values. `better` is "higher", "lower" or "" for neither."""

    name: str
    unit: str
    better: str
    doc: str
    value: Callable[[Totals], Array]


def _p99_slowdown(totals: Totals) -> Array:
    slowdown = 1 / np.maximum(totals.throughput_by_tick, MIN_THROUGHPUT)
    return np.asarray(np.nanquantile(slowdown, 0.99, axis=0))


def _term(index: int) -> Metric:
    name = n.TERMS[index]
    doc = f"reward term `{name}`, without sign and weight"
    return Metric(f"term_{name}", "s/s", "lower", doc, lambda totals: totals.terms[:, index] / totals.ticks)


def _lost(index: int) -> Metric:
    name = n.CAUSES[index]
    doc = f"share of time lost to `{name}`; with the other causes it adds up to 1 - throughput"
    return Metric(f"lost_{name}", "s/s", "lower", doc, lambda totals: totals.lost[:, index] / totals.ticks)


def _count(name: str, unit: str, better: str, doc: str, *counters: int) -> Metric:
    return Metric(name, unit, better, doc, lambda totals: totals.counters[:, list(counters)].sum(axis=1))


def _slow(index: int) -> Metric:
    name = n.CLASSES[index]
    doc = f"`{name}` pages on the slow tier, mean over ticks"
    return Metric(f"slow_{name}_pages", "pages", "", doc, lambda totals: totals.kernel_slow[:, index] / totals.ticks)


METRICS: tuple[Metric, ...] = (
    Metric("return", "s/s summed over ticks", "higher", "undiscounted sum of the rewards", lambda t: t.reward),
    Metric(
        "throughput",
        "share of ideal",
        "higher",
        "work done over work done with everything in unloaded DRAM, mean over ticks",
        lambda totals: totals.throughput / totals.ticks,
    ),
    Metric("p99_tick_slowdown", "times ideal", "lower", "99th percentile over ticks of 1 / throughput", _p99_slowdown),
    *(_term(index) for index in range(n.N_TERMS)),
    *(_lost(index) for index in range(n.N_CAUSES)),
    _count(
        "premature_reclaim_pages",
        "pages",
        "lower",
        "pages reclaimed from DRAM for requests that free CXL would have served",
        n.C_PREMATURE_RECLAIM_PAGES,
    ),
    _count("direct_reclaims", "stalls", "lower", "allocations that had to reclaim by themselves", n.C_ALLOCSTALL),
    _count("oom_kills", "kills", "lower", "processes killed by the OOM killer", n.C_OOM_KILL),
    _count(
        "oom_kills_premature",
        "kills",
        "lower",
        "of these, while CXL had the pages that the request was refused",
        n.C_OOM_KILL_PREMATURE,
    ),
    Metric(
        "premature_kills_per_hour",
        "kills per hour of a machine",
        "lower",
        "premature OOM kills over the time of the episode: what a constraint bounds",
        lambda t: 3600 * t.counters[:, n.C_OOM_KILL_PREMATURE] / (t.ticks * t.dt_s),
    ),
    _count(
        "migrated_pages",
        "pages",
        "",
        "kernel pages moved between tiers: page tables, slab, stacks",
        n.C_PGMIGRATE_PT,
        n.C_PGMIGRATE_SLAB,
        n.C_PGMIGRATE_KSTACK,
    ),
    _count(
        "demoted_pages",
        "pages",
        "",
        "data pages moved from DRAM to CXL by reclaim, or ahead of need",
        n.C_PGDEMOTE_KSWAPD,
        n.C_PGDEMOTE_DIRECT,
        n.C_PGDEMOTE_PROACTIVE,
    ),
    _count("exchanged_pages", "pages", "", "cold data pages that changed places with kernel pages", n.C_PGEXCHANGE),
    _count("promoted_pages", "pages", "", "data pages moved from CXL to DRAM", n.C_PGPROMOTE_SUCCESS),
    _count("swapped_pages", "pages", "lower", "pages written to swap", n.C_PSWPOUT),
    _count("blocks_offlined", "blocks", "higher", "memory blocks of CXL that went offline", n.C_BLOCKS_OFFLINED),
    _count(
        "blocks_failed",
        "blocks",
        "lower",
        "attempts to bring a block online or offline that failed, as a kernel page lies on it or there is no room",
        n.C_BLOCKS_FAILED,
    ),
    Metric(
        "slow_kernel_pages",
        "pages",
        "",
        "pages of all kernel classes on the slow tier, mean over ticks",
        lambda totals: totals.kernel_slow[:, n.FIRST_KERNEL_CLASS :].sum(axis=1) / totals.ticks,
    ),
    *(_slow(index) for index in range(n.FIRST_KERNEL_CLASS, n.N_CLASSES)),
)

NAMES: tuple[str, ...] = tuple(metric.name for metric in METRICS)


def per_episode(totals: Totals) -> dict[str, Array]:
    """Every metric of N episodes: name to float64 of shape (N,)."""
    return {metric.name: np.asarray(metric.value(totals), dtype=np.float64) for metric in METRICS}


def markdown_table() -> str:
    """The table of docs/reference/metrics.md."""
    rows = [f"| `{m.name}` | {m.unit} | {m.better or 'neither'} | {m.doc} |" for m in METRICS]
    return "\n".join(["| metric | unit | better | one value per episode |", "|---|---|---|---|", *rows]) + "\n"
