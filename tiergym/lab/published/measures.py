"""What can be read off a run, by name: every simulated number of a published table is one of these.

A measure takes a `Run` and the name of a region (or nothing) and gives one number, the mean over the machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.lab.published.running import Run
from tiergym.sim import names as n

FAST_ZONES, SLOW_ZONES = slice(0, n.FIRST_SLOW_ZONE), slice(n.FIRST_SLOW_ZONE, n.N_ZONES)
PAGE_KIB = 4
PAGES_PER_GIB = 262144


@dataclass(frozen=True, slots=True)
class Measure:
    """`value(run, region)`; `doc` says what it is."""

    doc: str
    value: Callable[[Run, str], float]


def _run_time(run: Run, region: str) -> float:
    return float(1.0 / run.throughput[run.start :].mean())


def _throughput(run: Run, region: str) -> float:
    return float(run.throughput[run.start :].mean())


def _anon_fast_percent(run: Run, region: str) -> float:
    anon = run.records["used_pages"][:, n.ANON]
    return float((100 * anon[:, FAST_ZONES].sum(axis=-1) / anon.sum(axis=-1)).mean())


def _slow_misses_percent(run: Run, region: str) -> float:
    misses = run.misses_per_s[run.start :].sum(axis=0)
    return float((100 * misses[:, n.SLOW] / misses.sum(axis=-1)).mean())


def _pages(run: Run, cls: int) -> NDArray[np.int64]:
    return np.asarray(run.records["used_pages"][:, cls].sum(axis=-1))


def _memmap_percent(run: Run, region: str) -> float:
    blocks = run.records["blocks"] * run.records["block_pages"]
    return float((100 * _pages(run, n.MEMMAP) / blocks).mean())


def _page_table_percent(run: Run, region: str) -> float:
    r = run.region(region)
    tables, pages = run.records["region_leaf"][:, r].sum(axis=-1), run.records["region_pages"][:, r].sum(axis=-1)
    return float((100 * tables / pages).mean())


def _stack_kib(run: Run, region: str) -> float:
    return float((PAGE_KIB * _pages(run, n.KSTACK) / run.records["pool_now"][:, n.POOL_THREADS]).mean())


def _xarray_percent(run: Run, region: str) -> float:
    cached = run.records["region_pages"][:, run.region(region)].sum(axis=-1)
    return float((100 * _pages(run, n.SLAB_RECLAIM) / cached).mean())


def _slow_gib(run: Run, region: str) -> float:
    pages = run.records["region_pages"][:, run.region(region), SLOW_ZONES].sum(axis=-1)
    return float(pages.mean() / PAGES_PER_GIB)


def _oom(run: Run, region: str) -> float:
    return float((run.counters[..., n.C_OOM].sum(axis=0) > 0).mean())


MEASURES: Mapping[str, Measure] = {
    "run_time": Measure("time for a piece of work, over the time with everything in unloaded DRAM", _run_time),
    "throughput": Measure("work done, over the work with everything in unloaded DRAM", _throughput),
    "throughput_percent": Measure("the same, in percent", lambda run, region: 100 * _throughput(run, region)),
    "anon_fast_percent": Measure("anonymous pages in DRAM at the end, percent", _anon_fast_percent),
    "slow_misses_percent": Measure("cache misses that the slow tier serves, percent", _slow_misses_percent),
    "slow_gib": Measure("a region's pages on the slow tier at the end, GiB", _slow_gib),
    "oom": Measure("share of machines on which the OOM killer ran, from the start", _oom),
    "memmap_percent": Measure("struct pages of the slow tier, percent of its size", _memmap_percent),
    "page_table_percent": Measure("leaf page tables of a region, percent of its pages", _page_table_percent),
    "stack_kib": Measure("kernel stack per thread, KiB", _stack_kib),
    "xarray_percent": Measure("reclaimable slab, percent of a cached file (a scenario without files)", _xarray_percent),
}
