"""What can be read off a run, by name: every simulated number of a published table is one of these.

A measure takes a `Run` and the name of a region (or nothing) and gives one number, the mean over the machines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.sim import names as n
from tiergym.sim.units import PAGE_KIB
from tiergym.validation.published.running import Run

Array = NDArray[np.float64]
PAGES_PER_GIB = 262144
SLAB_PAGE_US = 3.0
"""A slab allocation without pressure takes 2 to 4 us [W-mac]."""
PAGES_PER_QUERY = 2
"""Page-cache insertions of one query, 1 to 3 [W-mac]; each is a read of `FLASH_US`."""
FLASH_US = 85.0
"""One random read [H-nvme]."""
MOST_RECLAIMS = 4
"""Of one query; more are rarer than any quantile here."""


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
    return float((100 * anon[:, n.TIER_ZONES[n.FAST]].sum(axis=-1) / anon.sum(axis=-1)).mean())


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
    tables, pages = run.records["region"]["leaf"][:, r].sum(axis=-1), run.records["region"]["pages"][:, r].sum(axis=-1)
    return float((100 * tables / pages).mean())


def _stack_kib(run: Run, region: str) -> float:
    return float((PAGE_KIB * _pages(run, n.KSTACK) / run.records["pool_now"][:, n.POOL_THREADS]).mean())


def _xarray_percent(run: Run, region: str) -> float:
    cached = run.records["region"]["pages"][:, run.region(region)].sum(axis=-1)
    return float((100 * _pages(run, n.SLAB_RECLAIM) / cached).mean())


def _slow_gib(run: Run, region: str) -> float:
    pages = run.records["region"]["pages"][:, run.region(region), n.TIER_ZONES[n.SLOW]].sum(axis=-1)
    return float(pages.mean() / PAGES_PER_GIB)


def _oom(run: Run, region: str) -> float:
    return float((run.counters[..., n.C_OOM_KILL].sum(axis=0) > 0).mean())


def _slowdown(quantile: float) -> Callable[[Run, str], float]:
    return lambda run, region: float(np.quantile(1.0 / run.throughput[run.start :], quantile))


def query_us(inserted: Array, reclaims: Array, wait_us: Array, quantile: float) -> float:
    """A quantile of how long single queries take, most of which do not reclaim: each inserts `PAGES_PER_QUERY` pages,
    and whoever inserts reclaims with the chance of its tick, for the mean wait there.

    Ticks and machines are flat float64 arrays: pages inserted, batches of direct reclaim, microseconds per batch.
    """
    chance = PAGES_PER_QUERY * reclaims / np.maximum(inserted, 1.0)
    shares, times = [], []
    for k in range(MOST_RECLAIMS + 1):
        shares.append(inserted * np.exp(-chance) * chance**k / math.factorial(k))
        times.append(PAGES_PER_QUERY * FLASH_US + k * wait_us)
    share, us = np.concatenate(shares), np.concatenate(times)
    order = np.argsort(us)
    below = np.cumsum(share[order])
    return float(us[order][min(np.searchsorted(below, quantile * below[-1]), len(us) - 1)])


def _query_us(quantile: float) -> Callable[[Run, str], float]:
    def value(run: Run, region: str) -> float:
        counters = run.counters[run.start :].astype(np.float64)
        inserted, reclaims = counters[..., n.C_FILE_REFAULT].ravel(), counters[..., n.C_ALLOCSTALL].ravel()
        waited_us = 1e6 * run.stall_s[run.start :].sum(axis=-1).ravel()
        return query_us(inserted, reclaims, waited_us / np.maximum(reclaims, 1.0), quantile)

    return value


def _per_s(run: Run, *counters: int) -> float:
    total = run.counters[run.start :, :, list(counters)].sum(axis=(0, 2))
    return float(total.mean() / (run.dt_s * len(run.counters[run.start :])))


def _slab_alloc_us(run: Run, region: str) -> float:
    pages = run.used_pages[:, :, n.SLAB_RECLAIM].sum(axis=-1)
    new = np.maximum(np.diff(pages, axis=0), 0)[run.start - 1 :].sum()
    waited = run.stall_s[run.start :, :, n.SLAB_RECLAIM].sum()
    return float(SLAB_PAGE_US + 1e6 * waited / max(new, 1))


def _slow_slab_percent(run: Run, region: str) -> float:
    slab = run.records["used_pages"][:, n.SLAB_RECLAIM]
    return float((100 * slab[:, n.TIER_ZONES[n.SLOW]].sum(axis=-1) / slab.sum(axis=-1)).mean())


MEASURES: Mapping[str, Measure] = {
    "run_time": Measure("time for a piece of work, over the time with everything in unloaded DRAM", _run_time),
    "throughput": Measure("work done, over the work with everything in unloaded DRAM", _throughput),
    "throughput_percent": Measure("throughput in percent", lambda run, region: 100 * _throughput(run, region)),
    "anon_fast_percent": Measure("anonymous pages in DRAM at the end, percent", _anon_fast_percent),
    "slow_misses_percent": Measure("cache misses that the slow tier serves, percent", _slow_misses_percent),
    "p999_slowdown": Measure("99.9th percentile over ticks and machines of 1 / throughput", _slowdown(0.999)),
    "query_p9999_us": Measure(
        "99.99th percentile over single queries of their reads and direct reclaim", _query_us(0.9999)
    ),
    "direct_reclaims": Measure(
        "allocations that reclaimed by themselves, per second", lambda run, region: _per_s(run, n.C_ALLOCSTALL)
    ),
    "kswapd_pages_per_s": Measure(
        "pages that both kswapds reclaimed, per second",
        lambda run, region: _per_s(run, n.C_PGSTEAL_KSWAPD_FAST, n.C_PGSTEAL_KSWAPD_SLOW),
    ),
    "slab_alloc_us": Measure(
        "time per new page of reclaimable slab: 3 us, and its waiting for direct reclaim", _slab_alloc_us
    ),
    "slow_slab_percent": Measure("reclaimable slab on the slow tier at the end, percent", _slow_slab_percent),
    "slow_gib": Measure("a region's pages on the slow tier at the end, GiB", _slow_gib),
    "oom": Measure("share of machines on which the OOM killer ran, from the start", _oom),
    "memmap_percent": Measure("struct pages of the slow tier, percent of its size", _memmap_percent),
    "page_table_percent": Measure("leaf page tables of a region, percent of its pages", _page_table_percent),
    "stack_kib": Measure("kernel stack per thread, KiB", _stack_kib),
    "xarray_percent": Measure("reclaimable slab, percent of a cached file (a scenario without files)", _xarray_percent),
}
