"""A machine at the start of an episode: its drawn parameters become zones, watermarks, regions and blocks."""

import math

from tiergym.sim import names as n
from tiergym.sim.blocks import set_block_states
from tiergym.sim.compile import jit
from tiergym.sim.demand import set_heat
from tiergym.sim.interleave import set_interleave_weights
from tiergym.sim.pages import charge_class, kernel_zone
from tiergym.sim.storage import build_storage
from tiergym.sim.units import PAGEBLOCK_PAGES, PAGES_PER_MIB
from tiergym.sim.watermarks import init_per_zone_wmark_min
from tiergym.sim.zonelist import NODE_FAST, clear_grant, take_from_zonelist

SCAN_DELAY_S = 1.0  # sysctl_numa_balancing_scan_delay: CPU time of a new process before the first period


@jit
def build_zones(m):
    """DRAM's zones: DMA, then DMA32, the rest NORMAL, the end of which may be MOVABLE (mm/mm_init.c:
    find_zone_movable_pfns_for_nodes); boot's own pages were never managed."""
    managed = int(m.dram_mib * PAGES_PER_MIB * (1.0 - m.boot_reserved_share))
    m.managed_pages[n.DMA] = min(int(m.dma_mib * PAGES_PER_MIB), managed)
    managed -= m.managed_pages[n.DMA]
    m.managed_pages[n.DMA32] = min(int(m.dma32_mib * PAGES_PER_MIB), managed)
    managed -= m.managed_pages[n.DMA32]
    m.managed_pages[n.MOVABLE] = min(int(m.movable_mib * PAGES_PER_MIB), managed)
    m.managed_pages[n.NORMAL] = managed - m.managed_pages[n.MOVABLE]
    for z in range(n.FIRST_SLOW_ZONE):
        m.free_pages[z] = m.managed_pages[z]
    m.kernel_block_free = PAGEBLOCK_PAGES // 2  # of the last block that boot began
    m.swap_free_pages = int(m.swap_mib * PAGES_PER_MIB)


@jit
def build_blocks(m):
    """Blocks of the slow tier: at boot all but those that hot_add events bring later."""
    m.block_pages = int(m.block_mib * PAGES_PER_MIB)
    m.blocks = min(int(m.slow_mib / m.block_mib + 1e-9), m.block_state.shape[0])
    later = 0
    for e in range(m.event_kind.shape[0]):
        if m.event_kind[e] != n.EVENT_NONE:
            m.events = e + 1  # a slot before it may be drawn empty
        if m.event_kind[e] == n.EVENT_HOT_ADD:
            later += int(m.event_mib[e] / m.block_mib + 0.5 / m.block_pages)
    m.blocks_in_state[n.BLOCK_ABSENT] = m.pinned_from = m.pin_from = m.blocks
    set_block_states(m, 0, m.blocks - later, n.BLOCK_ADDED)


@jit
def boot_kernel(m):
    """Kernel memory that is there before the workload: kernel_other, from DRAM while all of it is still free.

    Beside it lies what kvfree_rcu() keeps ready (kernel/rcu/tree.c: rcu_min_cached_objs).
    """
    clear_grant(m)
    cached = int(m.rcu_cached_pages_per_cpu * m.cpus)
    take_from_zonelist(m, int(m.boot_kernel_mib * PAGES_PER_MIB) + cached, n.WMARK_LOW, NODE_FAST, False, False)
    for z in range(n.FIRST_SLOW_ZONE):
        charge_class(m, n.KERNEL_OTHER, z, m.grant_pages[z])
    m.rcu_cached_pages = min(cached, m.grant_pages[kernel_zone(m)])


@jit
def share_per_tick(hz, dt_s):
    """Share renewed in a tick at a rate per second: 1 - exp(-hz dt), so halving dt changes nothing."""
    return -math.expm1(-hz * dt_s)


@jit
def keeps_tables(m, r):
    """Whether region r gives pages back and keeps the tables: MADV_DONTNEED frees none before 6.14, and from then on
    the leaf tables that it empties (mm/pt_reclaim.c: try_to_free_pte) [K-dontneed]."""
    return m.region_seldom[r].released_by == n.RELEASED_BY_MADV_DONTNEED and m.dontneed_frees_tables == n.OFF


@jit
def build_workload(m):
    """Region sizes in pages, turnover per tick, heat, and every process's share of the work."""
    for r in range(m.regions):
        region, drawn = m.region[r], m.region_seldom[r]
        region.size_pages = int(drawn.mib * PAGES_PER_MIB + 0.5)
        region.turnover = share_per_tick(drawn.turnover_hz, m.dt_s)
        region.keeps_tables = 1 if keeps_tables(m, r) else 0
        set_heat(m, r, r)
    for k in range(n.N_POOLS):
        m.pool_turnover[k] = share_per_tick(m.pool_turnover_hz[k], m.dt_s)
    total = 0.0
    for q in range(m.processes):
        m.bound_processes += 1 if m.process[q].mempolicy != n.MPOL_DEFAULT else 0
        total += m.process_seldom[q].work_share
    for q in range(m.processes):
        m.process[q].scan_s = -SCAN_DELAY_S
        m.process[q].share = m.process_seldom[q].work_share / total if total > 0.0 else 1.0 / m.processes


@jit
def build(m, key, scenario, regions, processes):
    """Everything of the record behind the drawn parameters, which are already in place; the rest must be zero."""
    m.key = key
    m.scenario = scenario
    m.regions = regions
    m.processes = processes
    m.pcp_doublings = int(m.pcp_scale)
    m.ticks = int(math.ceil(m.horizon_s / m.dt_s - 1e-9))
    build_zones(m)
    init_per_zone_wmark_min(m)
    build_blocks(m)
    build_workload(m)
    build_storage(m)
    set_interleave_weights(m)
    boot_kernel(m)
    m.throughput = 1.0
