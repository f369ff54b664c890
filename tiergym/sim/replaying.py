"""A machine set to a recorded state and asked for recorded requests: the one way in for replays of real kernels.

A scenario's workload asks for what its envelopes say. A replay asks for what a recording says, tick by tick, of the
same machine: `begin` and the first tick bring the blocks online, `install` puts the pages of the first sample in place,
`ask` sets what the next tick wants. Plain Python over one machine's record; the tick is the one that policies are
trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.sim import demand
from tiergym.sim import names as n
from tiergym.sim.pages import is_movable
from tiergym.sim.regions import folio_pages, free_leaf, in_folios, leaf_tables_needed
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGEBLOCK_PAGES, PAGES_PER_MIB
from tiergym.sim.watermarks import PCPTYPES, set_recommended_min_free_kbytes, set_watermarks

LONG = 1_000_000_000  # ticks
NEVER_S = 1e9
UPPER_TABLES_AT_START = 2
LEAST_DENSITY = 1 / LEAF_SPAN_PAGES


@dataclass(frozen=True, slots=True)
class State:
    """What a machine holds before the workload starts; pages throughout.

    managed, free, pcp: by zone. marks: by zone, those of min, low, high and promo that were recorded. data: (region,
    class, node, pages). tables, stacks: by node. slab: by slab pool, then by node. Tables are those of region 0.
    """

    managed: Mapping[int, int]
    free: Mapping[int, int]
    pcp: Mapping[int, int]
    marks: Mapping[int, Mapping[str, int]]
    data: Sequence[tuple[int, int, int, int]]
    tables: tuple[int, int]
    stacks: tuple[int, int]
    slab: tuple[tuple[int, int], tuple[int, int]]


@dataclass(slots=True)
class Asked:
    """What the workload asks for in one tick of `dt_s` seconds, shapes (regions,).

    cpu_share: of each process, CPU time per second. size_pages: of each region. access_hz: its heat. density: None
    leaves it. touched_last: regions whose pages count as touched just now; touched_first: as touched first of all.
    threads: live threads. buffers: kernel pages of no other class. unreclaim_bytes, reclaim_bytes: of slab beside
    threads and cached pages; pinned_share: of the latter, what no shrinker frees. dirty_pages: of the page cache, what
    waits for the disk before the tick begins, over all nodes; None leaves it to the model's own flusher. churn_pages:
    freed and asked for again all the time. blocks: how many of the slow tier go offline or come online in this tick, by
    kind of event.
    """

    dt_s: float
    size_pages: NDArray[np.int64]
    access_hz: NDArray[np.float64]
    density: Sequence[float | None]
    threads: float
    unreclaim_bytes: float
    reclaim_bytes: float
    pinned_share: float
    touched_last: Sequence[int] = ()
    touched_first: Sequence[int] = ()
    blocks: Mapping[int, int] = field(default_factory=dict)
    cpu_share: Sequence[float] = ()
    dirty_pages: float | None = None
    buffers: float = 0.0
    churn_pages: float = 0.0


class _Room:
    """Pages of each zone that the state has not yet given to a class."""

    def __init__(self, record: Any, state: State, memmap: NDArray[np.int64]) -> None:
        self._used = record["used_pages"]
        self.left = [state.managed[z] - state.free[z] - state.pcp[z] - int(memmap[z]) for z in range(n.N_ZONES)]

    def put(self, cls: int, node: int, pages: int) -> list[tuple[int, int]]:
        """Pages of a class into the highest zones of a node that have room for them: (zone, pages) of each."""
        placed = []
        highest = n.MOVABLE if cls < n.FIRST_KERNEL_CLASS else n.NORMAL
        for z in range(highest, -1, -1) if node == n.FAST else range(n.FIRST_SLOW_ZONE, n.N_ZONES):
            took = max(0, min(pages, self.left[z]))
            self._used[cls, z] += took
            self.left[z] -= took
            pages -= took
            placed.append((z, took))
        return placed


def begin(record: Any, huge_pages: bool) -> None:
    """A machine just built asks for nothing and has no last tick; `huge_pages`: is THP on while blocks arrive?"""
    record["ticks"] = LONG
    record["pool_count"][:] = 0
    record["thp"] = float(huge_pages)


def start_khugepaged(record: Any) -> None:
    """Huge pages are switched on: the marks are made anew (mm/khugepaged.c: set_recommended_min_free_kbytes)."""
    record["thp"] = 1.0
    set_recommended_min_free_kbytes(record)


def set_min_free_kbytes(record: Any, kib: int) -> None:
    """vm.min_free_kbytes was written by hand: the marks are made anew (min_free_kbytes_sysctl_handler)."""
    record["min_free_kbytes"] = kib
    set_watermarks(record)


def install(record: Any, state: State) -> None:
    """`state` becomes that of a machine whose blocks have just come online."""
    _fill_lists(record, state)
    memmap = record["used_pages"][n.MEMMAP].copy()
    record["used_pages"][:] = 0
    record["used_pages"][n.MEMMAP] = memmap
    # Not recorded: what the kernel has left of its last pageblock. As boot and the blocks' own struct pages leave it.
    fast_memmap = int(memmap[: n.FIRST_SLOW_ZONE].sum())
    record["kernel_block_free"] = (PAGEBLOCK_PAGES // 2 - fast_memmap) % PAGEBLOCK_PAGES
    room = _Room(record, state, memmap)
    for node in range(n.N_TIERS):
        for region, cls, where, pages in state.data:
            if where == node:
                for z, took in room.put(cls, node, pages):
                    record["region"]["pages"][region, z] += took
        upper = min(UPPER_TABLES_AT_START, state.tables[node]) if node == n.FAST else 0
        for cls, level, pages in ((n.PT_UPPER, "upper", upper), (n.PT_LEAF, "leaf", state.tables[node] - upper)):
            for z, took in room.put(cls, node, pages):
                record["region"][level][0, z] += took
        room.put(n.KSTACK, node, state.stacks[node])
        for pool, cls in ((n.SLAB_POOL_UNRECLAIM, n.SLAB_UNRECLAIM), (n.SLAB_POOL_RECLAIM, n.SLAB_RECLAIM)):
            room.put(cls, node, state.slab[pool][node])
            record["slab_objects"][pool, node] = state.slab[pool][node] * float(record["slab_objects_per_page"])
            record["slab_reference"][pool, node] = state.slab[pool][node]
    _call_the_rest_kernel(record, room.left)


def _fill_lists(record: Any, state: State) -> None:
    """Free lists, per-CPU lists and marks."""
    for z in range(n.N_ZONES):
        record["free_pages"][z], record["pcp_pages"][z] = state.free[z], state.pcp[z]
        # Some kernels compute their marks before the last boot memory is freed.
        for mark, pages in state.marks[z].items():
            record["wmark_pages"][n.WMARKS.index(mark), z] = pages
        # Every CPU holds its part, per migrate type; a workload uses one CPU's lists at a time.
        listed = state.pcp[z] // (int(record["cpus"]) * PCPTYPES)
        record["pcp_idle_pages"][z], record["pcp_kernel_pages"][z] = state.pcp[z] - listed, listed


def _call_the_rest_kernel(record: Any, left: Sequence[int]) -> None:
    """What no class of the state has is the kernel's own memory; ZONE_MOVABLE, which holds none, has it free."""
    used = record["used_pages"]
    for z in range(n.N_ZONES):
        if is_movable(z):
            record["free_pages"][z] += left[z]
        else:
            used[n.KERNEL_OTHER, z] += left[z]
    kept = int(record["rcu_cached_pages_per_cpu"] * record["cpus"])
    cached = min(kept, int(used[n.KERNEL_OTHER, : n.FIRST_SLOW_ZONE].max()))
    record["rcu_cached_pages"] = cached
    record["boot_kernel_mib"] = (int(used[n.KERNEL_OTHER].sum()) - cached) / PAGES_PER_MIB


def ask(record: Any, asked: Asked) -> None:
    """What the next tick of the machine wants: `asked` in place of the scenario's workload."""
    record["dt_s"] = asked.dt_s
    region, heat = record["region"], record["region_seldom"]["access_hz"]
    for r, (pages, hz, density) in enumerate(zip(asked.size_pages, asked.access_hz, asked.density, strict=True)):
        region["size_pages"][r] = in_folios(pages, folio_pages(record, r))
        if density is not None:
            region["density"][r] = max(density, LEAST_DENSITY)
            # Denser than before, at the same size: tables were freed.
            surplus = int(region["leaf"][r].sum()) - leaf_tables_needed(record, r, int(region["size_pages"][r]))
            free_leaf(record, r, surplus)
        if hz != heat[r]:
            heat[r] = hz
            region["heat_from"][r] = -1  # the model works out what follows from it
    for r in asked.touched_last:
        region["since"][r] = record["tick"]
    for r in asked.touched_first:
        region["since"][r] = 1
    record["process_seldom"]["cpu_share"][: len(asked.cpu_share)] = asked.cpu_share
    record["pool_count"][n.POOL_THREADS] = asked.threads
    record["pool_count"][n.POOL_BUFFERS] = asked.buffers
    record["process"]["vmas"][0] = max(0.0, asked.unreclaim_bytes / demand.VMA_SLAB_BYTES)
    record["pool_count"][n.POOL_FILES] = max(0.0, asked.reclaim_bytes / demand.FILE_SLAB_BYTES)
    record["pool_pinned_share"][n.POOL_FILES] = asked.pinned_share
    record["churn_pages"] = int(asked.churn_pages)
    if asked.dirty_pages is not None:
        _write_back(record, asked.dirty_pages)
    record["event_kind"][:] = n.EVENT_NONE
    record["events"], record["events_done"] = len(asked.blocks), 0
    for e, (kind, blocks) in enumerate(asked.blocks.items()):
        record["event_kind"][e] = kind
        record["event_mib"][e] = blocks * float(record["block_mib"])


def _write_back(record: Any, pages: float) -> None:
    """The disk has left `pages` dirty. It writes file by file, wherever their pages lie, and nobody else writes."""
    record["dirty_expire_s"], record["dirty_background_ratio"] = NEVER_S, 100.0
    cached = np.array([record["used_pages"][n.FILE, zones].sum() for zones in n.TIER_ZONES], np.float64)
    dirty = record["dirty_pages"]
    if dirty.sum() == 0.0:
        dirty[:] = cached  # written again where they lie
    dirty[:] = np.minimum(dirty * pages / max(dirty.sum(), 1.0), cached)
