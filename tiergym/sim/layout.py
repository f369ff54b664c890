"""The record of one simulated machine: what every tick reads and writes, then what is seldom needed.

A batch of machines is one NumPy structured array of shape (N,), so `machines["free_pages"]` is the
(N, zones) array of all machines while one machine's bytes lie together, which is what a scalar
phase function reads. Processes and regions are records of their own, so that those in use lie together whatever room
there is for more. Large batches wait for memory: `tick_bytes` says which part of a record to fetch for a tick.
"""

from collections.abc import Sequence
from functools import cache
from zlib import crc32

import numba
import numpy as np
from numpy.typing import NDArray

from tiergym.sim import names as n
from tiergym.sim import parameters as p

BLOCK_SIZES = (256, 1024, 4096)
"""Compiled sizes of the block axis, the same way: 8 TiB of CXL have 4,096 blocks of 2 GiB. The largest one counts pages
with 64 bits."""
MOST_COUNTED_MIB = 8e6
"""Largest zone, region or swap space whose pages fit into 31 bits."""
REGION_SIZES = (16, 32, 64)
"""Compiled sizes of the region axis: a scenario takes the smallest that holds it."""

# Read when a machine is built, or when regions exchange their heat.
_AT_RESET = """
    dram_mib dma_mib dma32_mib slow_mib block_mib boot_reserved_share watermark_scale_factor min_free_kib
    movable_shares_min boost_factor pcp_batch_pages rcu_cached_pages_per_cpu horizon_s event_at_s event_mib
    event_knob event_value
    region_mib region_turnover_hz region_drift_s region_access_hz region_misses_per_page_s region_tlb_misses_per_page_s
    process_work_share dontneed_frees_tables region_released_by region_reads
    disk swap readahead_kib page_cluster swap_ratio slow_at_boot slow_dma32_mib movable_mib
"""
# Read when something happens that does not in most ticks of most machines.
_NOW_AND_THEN = """
    lru_window_s hot_threshold_ms swap_latency_us disk_latency_us disk_read_mb_per_s disk_write_mb_per_s
    disk_reads_per_s swap_store_us scan_mib_per_s promote_limit_mib_per_s
    auto_movable_numa_aware auto_movable_ratio interleave_fast interleave_slow hint_fault_us look_us
    promote_accesses promote_window_s
    claims_half_blocks hopeless_reset boosted_runs_fail damon_falls_back slab_follows_policy
    scan_period_s process_oom_score_adj process_restart_s process_lost_s process_cpu_share
"""
SELDOM = frozenset(f"{_AT_RESET} {_NOW_AND_THEN}".split())
"""Parameters that lie behind what a tick fetches, those of regions in `region_seldom`, of processes in
`process_seldom`."""

WORD_BYTES = 8
"""Width of a parameter, and of all that is not a count."""

_F8, _WIDE = "<f8", "<i8"
_COUNT = _WIDE if numba.config.DISABLE_JIT else "<i4"  # type: ignore[attr-defined]
"""Pages, ticks and events: 31 bits hold the pages of any zone up to `MOST_COUNTED_MIB`, and compiled code computes with
64 whatever it reads. NumPy does not, so the uncompiled model keeps wide counts."""
_RECORDS = {"processes": "process", "regions": "region"}


def _drawn(prefix: str, fields: Sequence[p.Field], seldom: bool) -> list[tuple[str, str]]:
    return [(field.name, _F8) for field in fields if (prefix + field.name in SELDOM) == seldom]


PROCESS = np.dtype(
    [
        *_drawn("process_", p.PROCESS, False),
        ("down_s", _F8),  # time until restart; 0 when running
        ("warm_s", _F8),  # after a restart: time until it works again
        ("scan_s", _F8),  # CPU time since NUMA balancing last scanned it
        ("born_s", _F8),  # its clock started here
        ("share", _F8),  # of the machine's work, normalised
        ("killed", _COUNT),  # number of the tick after its last kill; 0: never
        ("worked", _COUNT),  # in the last tick
    ],
    align=True,
)
"""One process: parameters, then its state."""

SELDOM_STATE = [
    ("read_us", _F8),  # one read of evicted pages, with readahead
    ("window_pages", _F8),  # pages that it brings
    ("marked_hot", _F8),  # slow pages marked for a hint fault that will come within the hot threshold
    ("marked_cold", _F8),  # and of one that will come later
    ("seen_once", _F8),  # slow pages without a mark that had one hint fault of promote_accesses
    ("marked_once", _F8),  # and those that are marked anew
]
"""State of a region behind what a tick fetches."""


def _region_dtype(count: str) -> np.dtype:
    """One region: parameters, then its state, with counts of that type."""
    fields = [
        *_drawn("region_", p.REGION, False),
        ("hz", _F8),  # present heat (drift applied)
        ("misses", _F8),
        ("tlb", _F8),
        ("hot", _F8),  # chance that a hint fault comes within the hot threshold
        ("cold", _F8),  # chance that a page was not referenced in the LRU window
        ("turnover", _F8),  # share renewed per tick
        ("reread", _F8),  # chance per tick that an evicted page is touched
        ("pages", count, (n.N_ZONES,)),
        ("leaf", count, (n.N_ZONES,)),  # leaf page tables
        ("upper", count, (n.N_ZONES,)),  # upper page tables
        ("size_pages", count),  # drawn size
        ("target_pages", count),
        ("huge", count),  # of its DRAM pages, those mapped by huge pages
        ("out_pages", count),  # swapped or dropped, still mapped
        ("out_premature", count),  # of these, evicted prematurely
        ("want", count),  # pages to touch for the first time in this tick
        ("refault", count),  # evicted pages touched again and not yet back
        ("coming", count),  # of these, what storage gives in this tick
        ("swap_cached", count, (n.N_TIERS,)),  # pages read back from swap, whose slots they keep
        ("asked", count),  # promotion candidates of this tick
        ("promoted", count),  # pages promoted in this tick
        ("keeps_tables", count),  # whether it gives pages back and keeps their tables
        ("since", count),  # number of the tick in which it was last empty and began to grow
        ("heat_from", count),  # whose heat it has (drift)
    ]
    return np.dtype(fields, align=True)


REGION = _region_dtype(_COUNT)
"""One region: parameters, then its state."""


def _count(section: str, regions: int) -> int:
    return {"processes": p.N_PROCESSES, "regions": regions, "pools": n.N_POOLS, "events": p.N_EVENTS}[section]


@cache
def parameter_names(regions: int) -> tuple[str, ...]:
    """Names of the drawn numbers in the order of a scenario's table, arrays spelled `region_mib[3]`."""
    out = [field.name for _, fields in p.SCALAR_SECTIONS for field in fields]
    for section, prefix, fields in p.REPEATED_SECTIONS:
        for field in fields:
            out += [f"{prefix}{field.name}[{i}]" for i in range(_count(section, regions))]
    return tuple(out)


@cache
def machine_dtype(regions: int, blocks: int = BLOCK_SIZES[0]) -> np.dtype:
    """Layout of one machine with `regions` region slots and `blocks` memory blocks.

    Pages (4 KiB each) are int32, times and rates float64; what may pass 31 bits is int64. Axes: zones (N_ZONES), tiers
    (N_TIERS), watermarks (N_WMARKS), classes (N_CLASSES), object pools (N_POOLS), slab pools (N_SLAB_POOLS), events
    (N_EVENTS), blocks; records: regions, processes (N_PROCESSES).
    """
    f8, count, wide, u8 = _F8, _COUNT if blocks < BLOCK_SIZES[-1] else _WIDE, _WIDE, "<u8"
    zones, tiers, classes = n.N_ZONES, n.N_TIERS, n.N_CLASSES
    drawn: list[tuple] = [(f.name, f8) for _, fs in p.SCALAR_SECTIONS for f in fs]
    for section, prefix, fs in p.REPEATED_SECTIONS:
        if section not in _RECORDS:
            drawn += [(prefix + f.name, f8, (_count(section, regions),)) for f in fs]
    fields = [field for field in drawn if field[0] not in SELDOM]
    fields += [
        # identity and clock
        ("key", u8),  # counter-based random numbers: one key per machine and episode
        ("tick", count),
        ("ticks", count),  # length of the episode in ticks
        ("scenario", count),
        ("regions", count),  # active region slots
        ("unreferenced_regions", count),  # whose pages nobody references (access_hz is 0)
        ("processes", count),
        # zones
        ("managed_pages", count, (zones,)),
        ("free_pages", count, (zones,)),
        ("pcp_pages", count, (zones,)),
        ("kernel_block_free", count),  # free pages in the pageblocks of DRAM's kernel pages
        ("pcp_idle_pages", count, (zones,)),  # of these, on lists of CPUs that allocate nothing
        ("pcp_kernel_pages", count, (zones,)),  # on that list; a user page's request counts them as idle
        ("pcp_refill_pages", count, (zones,)),
        ("pcp_doublings", count),  # of a refill's batch in this tick, at most pcp_scale
        ("churn_pages", wide),  # freed and asked for again in this tick, as in others
        ("rcu_cached_pages", count),  # kernel pages of DRAM that the next reclaim gets back
        ("used_pages", count, (classes, zones)),
        ("reserved_pages", count, (zones,)),  # kept aside for page tables (`reserve.pt`), of no class yet
        ("dirty_pages", f8, (tiers,)),  # file pages that the disk does not have yet
        ("wmark_pages", count, (n.N_WMARKS, zones)),
        ("min_free_kbytes", count),
        ("boost_pages", count, (zones,)),
        ("reserve_kernel_pages", count, (zones,)),  # lowmem_reserve against GFP_KERNEL requests
        ("reserve_movable_pages", count, (zones,)),  # and against GFP_HIGHUSER_MOVABLE requests
        # kernel objects
        ("pool_now", wide, (n.N_POOLS,)),
        ("pool_turnover", f8, (n.N_POOLS,)),
        ("kernel_want", wide, (classes,)),  # pages to allocate this tick, per kernel class
        ("slab_objects", f8, (n.N_SLAB_POOLS, tiers)),  # live objects per slab pool and tier
        ("slab_reference", f8, (n.N_SLAB_POOLS, tiers)),  # pages when the present slabs were last full
        ("slab_changed", count, (n.N_SLAB_POOLS, tiers)),  # whether that number is to be made anew
        ("slab_births", f8, (n.N_SLAB_POOLS,)),  # objects wanted in this tick
        ("slab_movable", f8, (n.N_SLAB_POOLS,)),  # pages on the slow tier whose caches can migrate
        ("files_objects", f8),  # shrinkable objects of dentries and inodes that the workload would keep
        ("files_shrunk", f8),  # objects that shrinkers took and nobody has looked up again
        ("memmap_slow_share", f8),  # of the slow tier's struct pages, those in its own blocks
        ("swap_free_pages", count),
        ("swap_tables", count),  # kernel pages of the slots in use: their tables, and what is compressed
        ("slot_pages", f8),  # such pages per slot
        ("disk_busy_us", f8),  # of the disk's time, what writes have taken and reads not yet yielded
        ("bound_processes", count),  # whose mempolicy is not the default
        ("swap_nodes", f8),  # objects of the swap cache's xarray that reclaim has allocated
        ("writeback_pages", count, (zones,)),  # in the swap cache until the device has written them
        ("grant_pages", count, (zones,)),  # what the last request got, per zone
        ("events", count),
        ("events_done", count),
        ("oom_class", count),  # of the request that last called the OOM killer
        ("oom_nodes", count),  # and the nodes it was allowed (a mask): all of them is CONSTRAINT_NONE
        ("futile_s", f8),  # how long reclaim has been futile, in ticks one after the other
        ("futile_tick", count),  # number of the last of them
        # kswapd
        ("kswapd_awake", count, (tiers,)),
        ("kswapd_class", count, (tiers,)),  # class whose request woke it
        ("kswapd_premature", count, (tiers,)),  # that request was refused free CXL
        ("kswapd_requests", wide, (tiers,)),  # allocations that woke it since its last run
        ("kswapd_scan", count, (tiers,)),  # pages that its scan is yet to reclaim, however many are free by then
        ("kswapd_boosted", count, (tiers,)),  # its scan is for a boost alone
        ("kswapd_kernel", count, (tiers,)),  # only requests that MOVABLE cannot serve have woken it (its classzone)
        ("kswapd_failures", count, (tiers,)),
        ("kswapd_pages_per_tick", f8, (tiers,)),  # of its CPU's time
        ("kswapd_budget", f8, (tiers,)),  # pages it may still reclaim in this tick
        ("kswapd_busy", f8, (tiers,)),  # requests to come while it does what it has been charged for
        ("requests_per_page", f8, (tiers,)),  # so many come while it reclaims one page
        ("reclaim_kernel", count),  # the present reclaim is for such requests, and spares MOVABLE
        ("reclaim_files_only", count),  # the present reclaim may neither demote nor swap what swap backs
        ("reclaim_scanned", wide),  # pages that the last reclaim looked at
        ("promote_credit", f8),
        ("promote_part", f8),  # candidates that have not added up to a page yet
        ("hint_part", f8),  # hint faults likewise
        # overheads, in seconds of one worker
        ("owed_s", f8, (n.N_CAUSES,)),  # charged in this tick, not yet paid
        ("moved_bytes", f8, (tiers,)),  # read or written by migration, reclaim and promotion
        ("calm_s", f8),  # seconds since the fast tier was last short
        # what the cost model is solved from: per tier, at full speed
        ("demand_bytes_per_s", f8, (tiers,)),
        ("fixed_bytes_per_s", f8, (tiers,)),
        ("inverse_peak", f8, (tiers,)),  # seconds per byte at peak bandwidth
        ("write_mix", f8, (tiers,)),  # 0: reads only, 1: half of the traffic is writes
        ("stall_weight", f8, (tiers,)),  # stalled share of time at idle latency
        ("stall", f8, (n.N_CAUSES,)),  # extra stalled share by cause, against unloaded DRAM
        # this tick's results
        ("throughput", f8),
        ("lost", f8, (n.N_CAUSES,)),
        ("terms", f8, (n.N_TERMS,)),
        ("utilisation", f8, (tiers,)),
        ("latency_ns", f8, (tiers,)),
        ("misses_per_s", f8, (tiers,)),
        ("walks_per_s", f8, (tiers,)),
        ("psi_some", f8),
        ("psi_full", f8),
        ("counters", wide, (n.N_COUNTERS,)),
        ("premature_by_class", count, (classes,)),
        ("stall_s", f8, (classes,)),  # waited in direct reclaim, by the class of the request
        ("action", count, (n.N_ACTIONS,)),
        # blocks of the slow tier
        ("blocks", count),
        ("block_pages", count),
        ("blocks_in_state", count, (n.N_BLOCK_STATES,)),
        ("blocks_pinned", count),  # with an unmovable page
        ("blocks_own_memmap", count),  # of those online, with their struct pages in themselves
        ("pinned_from", count),  # pinned blocks lie from here
        ("pinned_end", count),  # to before here
        ("pin_from", count),  # no NORMAL block below has room for a kernel page
        ("process", PROCESS, (p.N_PROCESSES,)),
        ("region", _region_dtype(count), (regions,)),
    ]
    fields += [field for field in drawn if field[0] in SELDOM]
    fields += [
        ("region_seldom", [*_drawn("region_", p.REGION, True), *SELDOM_STATE], (regions,)),
        ("process_seldom", _drawn("process_", p.PROCESS, True), (p.N_PROCESSES,)),
        ("block_state", "<i1", (blocks,)),
        ("block_own_memmap", "<i1", (blocks,)),  # whether its struct pages lie in itself
        ("block_unmovable", _COUNT, (blocks,)),
    ]
    return np.dtype(fields, align=True)


@cache
def parameter_words(regions: int, blocks: int = BLOCK_SIZES[0]) -> NDArray[np.int64]:
    """Which word of a record each parameter is, shape (parameters,), in the order of `parameter_names`."""
    dtype = machine_dtype(regions, blocks)
    words = np.arange(dtype.itemsize // WORD_BYTES, dtype=np.float64).view(dtype)[0]  # a float field holds its number
    out = [words[field.name] for _, fields in p.SCALAR_SECTIONS for field in fields]
    for section, prefix, fields in p.REPEATED_SECTIONS:
        for field in fields:
            seldom = "_seldom" if prefix + field.name in SELDOM else ""
            record = _RECORDS.get(section)
            out += list(words[record + seldom][field.name] if record else words[prefix + field.name])
    return np.array(out, dtype=np.int64)


@cache
def draw_numbers(regions: int) -> NDArray[np.int64]:
    """What tells each parameter's random draw from the others', shape (parameters,), in the order of `parameter_names`.

    Made of its name alone: a machine draws the same whatever batch it is in, and a new parameter moves no other's draw.
    """
    return np.array([crc32(name.encode()) for name in parameter_names(regions)], np.int64)


def tick_bytes(regions: int, used_regions: int, blocks: int = BLOCK_SIZES[0]) -> int:
    """What nearly every tick of a machine uses but for its blocks: so many bytes from the record's first on."""
    dtype = machine_dtype(regions, blocks)
    assert dtype.fields is not None
    return int(dtype.fields["region"][1]) + used_regions * int(dtype["region"].base.itemsize)


def new_machines(count: int, regions: int, blocks: int = BLOCK_SIZES[0]) -> np.ndarray:
    """`count` blank machines, shape (count,), all zero."""
    return np.zeros(count, dtype=machine_dtype(regions, blocks))
