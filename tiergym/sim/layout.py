"""The record of one simulated machine: drawn parameters first, then state, then this tick's results.

A batch of machines is one NumPy structured array of shape (N,), so `machines["free_pages"]` is the
(N, zones) array of all machines while one machine's bytes lie together, which is what a scalar
phase function reads. Every field but the blocks' is 8 bytes wide, so the leading parameters can also be
seen as one float64 matrix (`parameter_view`) for the code that draws them.
"""

from functools import cache

import numpy as np

from tiergym.sim import names as n
from tiergym.sim import parameters as p

MAX_BLOCKS = 256
REGION_SIZES = (16, 32, 64)
"""Compiled sizes of the region axis: a scenario takes the smallest that holds it."""


def _count(section: str, regions: int) -> int:
    return {"processes": p.N_PROCESSES, "regions": regions, "pools": n.N_POOLS, "events": p.N_EVENTS}[section]


@cache
def parameter_names(regions: int) -> tuple[str, ...]:
    """Names of the drawn numbers in record order, arrays spelled `region_mib[3]`."""
    out = [field.name for _, fields in p.SCALAR_SECTIONS for field in fields]
    for section, prefix, fields in p.REPEATED_SECTIONS:
        for field in fields:
            out += [f"{prefix}{field.name}[{i}]" for i in range(_count(section, regions))]
    return tuple(out)


@cache
def machine_dtype(regions: int) -> np.dtype:
    """Layout of one machine with `regions` region slots.

    Pages are int64 (4 KiB each), times and rates float64. Axes: zones (5), tiers (2), classes (9),
    regions, processes (8), object pools (4), blocks (256).
    """
    f8, i8, u8 = "<f8", "<i8", "<u8"
    z, t, c, r, q = n.N_ZONES, n.N_TIERS, n.N_CLASSES, regions, p.N_PROCESSES
    fields: list[tuple] = [(f.name, f8) for _, fs in p.SCALAR_SECTIONS for f in fs]
    for section, prefix, fs in p.REPEATED_SECTIONS:
        fields += [(prefix + f.name, f8, (_count(section, regions),)) for f in fs]
    fields += [
        # identity and clock
        ("key", u8),  # counter-based random numbers: one key per machine and episode
        ("tick", i8),
        ("ticks", i8),  # length of the episode in ticks
        ("scenario", i8),
        ("regions", i8),  # active region slots
        ("processes", i8),
        # zones
        ("managed_pages", i8, (z,)),
        ("free_pages", i8, (z,)),
        ("pcp_pages", i8, (z,)),
        ("kernel_block_free", i8),  # free pages in the pageblocks of DRAM's kernel pages
        ("pcp_idle_pages", i8, (z,)),  # of these, on lists of CPUs that allocate nothing
        ("pcp_by_type", i8),  # 1: kernel pages come off lists of their own
        ("pcp_kernel_pages", i8, (z,)),  # on that list; a user page's request counts them as idle
        ("pcp_refill_pages", i8, (z,)),
        ("rcu_cached_pages", i8),  # kernel pages of DRAM that the next reclaim gets back
        ("used_pages", i8, (c, z)),
        ("min_pages", i8, (z,)),
        ("low_pages", i8, (z,)),
        ("high_pages", i8, (z,)),
        ("promo_pages", i8, (z,)),
        ("boost_pages", i8, (z,)),
        ("reserve_kernel_pages", i8, (z,)),  # lowmem_reserve against GFP_KERNEL requests
        ("reserve_movable_pages", i8, (z,)),  # and against GFP_HIGHUSER_MOVABLE requests
        # regions
        ("region_target_pages", i8, (r,)),
        ("region_pages", i8, (r, z)),
        ("region_leaf", i8, (r, z)),  # leaf page tables
        ("region_upper", i8, (r, z)),  # upper page tables
        ("region_huge", i8, (r,)),  # of its DRAM pages, those mapped by huge pages
        ("region_out_pages", i8, (r,)),  # swapped or dropped, still mapped
        ("region_out_premature", i8, (r,)),  # of these, evicted prematurely
        ("region_want", i8, (r,)),  # pages to touch for the first time in this tick
        ("unreferenced_regions", i8),  # whose pages nobody references (access_hz is 0)
        ("region_since", i8, (r,)),  # number of the tick in which it was last empty and began to grow
        ("region_refault", i8, (r,)),  # evicted pages touched again in this tick
        ("region_heat_from", i8, (r,)),  # whose heat it has (drift)
        ("region_hz", f8, (r,)),  # present heat (drift applied)
        ("region_misses", f8, (r,)),
        ("region_tlb", f8, (r,)),
        ("region_hot", f8, (r,)),  # chance that a hint fault comes within the hot threshold
        ("region_asked", i8, (r,)),  # promotion candidates of this tick
        ("region_promoted", i8, (r,)),  # pages promoted in this tick
        ("region_cold", f8, (r,)),  # chance that a page was not referenced in the LRU window
        ("region_size", i8, (r,)),  # drawn size in pages
        ("region_turnover", f8, (r,)),  # share renewed per tick
        ("region_reread", f8, (r,)),  # chance per tick that an evicted page is touched
        # processes
        ("process_down_s", f8, (q,)),  # time until restart; 0 when running
        ("process_killed", i8, (q,)),  # number of the tick after its last kill; 0: never
        ("process_worked", i8, (q,)),  # in the last tick
        ("process_warm_s", f8, (q,)),  # after a restart: time until it works again
        ("process_born_s", f8, (q,)),  # its clock started here
        ("process_share", f8, (q,)),  # of the machine's work, normalised
        # kernel objects
        ("pool_now", i8, (n.N_POOLS,)),
        ("pool_turnover", f8, (n.N_POOLS,)),
        ("kernel_want", i8, (c,)),  # pages to allocate this tick, per kernel class
        ("slab_objects", f8, (2, t)),  # live objects per slab pool and tier
        ("slab_reference", f8, (2, t)),  # pages when the present slabs were last full
        ("slab_changed", i8, (2, t)),  # whether that number is to be made anew
        ("slab_births", f8, (2,)),  # objects wanted in this tick
        ("slab_movable", f8, (2,)),  # pages on the slow tier whose caches can migrate
        ("files_objects", f8),  # shrinkable objects of dentries and inodes that the workload would keep
        ("files_shrunk", f8),  # objects that shrinkers took and nobody has looked up again
        ("memmap_slow_share", f8),  # of the slow tier's struct pages, those in its own blocks
        ("swap_free_pages", i8),
        ("grant_pages", i8, (z,)),  # what the last request got, per zone
        ("events_done", i8),
        ("oom_class", i8),  # of the request that last called the OOM killer
        ("oom_nodes", i8),  # and the nodes it was allowed (a mask): all of them is CONSTRAINT_NONE
        # kswapd
        ("kswapd_awake", i8, (t,)),
        ("kswapd_class", i8, (t,)),  # class whose request woke it
        ("kswapd_premature", i8, (t,)),  # that request was refused free CXL
        ("kswapd_requests", i8, (t,)),  # allocations that woke it since its last run
        ("kswapd_failures", i8, (t,)),
        ("kswapd_pages_per_tick", f8, (t,)),  # of its CPU's time
        ("kswapd_budget", f8, (t,)),  # pages it may still reclaim in this tick
        ("reclaim_files_only", i8),  # the present reclaim may neither demote nor swap what swap backs
        ("reclaim_scanned", i8),  # pages that the last reclaim looked at
        ("promote_credit", f8),
        ("promote_part", f8),  # hint faults that have not added up to a page yet
        # overheads, in seconds of one worker
        ("owed_s", f8, (n.N_CAUSES,)),  # charged in this tick, not yet paid
        ("moved_bytes", f8, (t,)),  # read or written by migration, reclaim and promotion
        ("calm_s", f8),  # seconds since the fast tier was last short
        # what the cost model is solved from: per tier, at full speed
        ("demand_bytes_per_s", f8, (t,)),
        ("fixed_bytes_per_s", f8, (t,)),
        ("inverse_peak", f8, (t,)),  # seconds per byte at peak bandwidth
        ("write_mix", f8, (t,)),  # 0: reads only, 1: half of the traffic is writes
        ("stall_weight", f8, (t,)),  # stalled share of time at idle latency
        ("stall", f8, (n.N_CAUSES,)),  # extra stalled share by cause, against unloaded DRAM
        # this tick's results
        ("throughput", f8),
        ("lost", f8, (n.N_CAUSES,)),
        ("terms", f8, (n.N_TERMS,)),
        ("utilisation", f8, (t,)),
        ("latency_ns", f8, (t,)),
        ("misses_per_s", f8, (t,)),
        ("walks_per_s", f8, (t,)),
        ("psi_some", f8),
        ("psi_full", f8),
        ("counters", i8, (n.N_COUNTERS,)),
        ("premature_by_class", i8, (c,)),
        ("stall_s", f8, (c,)),  # waited in direct reclaim, by the class of the request
        ("action", i8, (n.N_ACTIONS,)),
        # blocks of the slow tier
        ("blocks", i8),
        ("block_pages", i8),
        ("blocks_offline", i8),  # as `count_blocks` last found them; absent ones are none of these
        ("blocks_normal", i8),
        ("blocks_movable", i8),
        ("blocks_pinned", i8),  # of the normal ones, with an unmovable page
        ("blocks_changed", i8),  # since then
        ("block_state", "<i4", (MAX_BLOCKS,)),
        ("block_unmovable", "<i4", (MAX_BLOCKS,)),
        ("block_memmap", "<i4", (MAX_BLOCKS,)),
    ]
    return np.dtype(fields)


def new_machines(count: int, regions: int) -> np.ndarray:
    """`count` blank machines, shape (count,), all zero."""
    return np.zeros(count, dtype=machine_dtype(regions))


def parameter_view(machines: np.ndarray, regions: int) -> np.ndarray:
    """The drawn parameters of a batch as float64 of shape (N, parameters), sharing memory."""
    assert machines.flags.c_contiguous
    width = machines.dtype.itemsize // 8
    return machines.view(np.float64).reshape(len(machines), width)[:, : len(parameter_names(regions))]
