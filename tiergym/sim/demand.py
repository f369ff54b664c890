"""Phase 1, the workload's demand, and phase 2, giving back what it no longer wants."""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import (
    RELEASE_STEPS,
    charge_class,
    class_on_tier,
    free_class,
    kernel_zone,
    release_pages,
    release_zone,
    swap_tables_needed,
    take_from_zone,
)
from tiergym.sim.regions import (
    fast_pages,
    folio_pages,
    forget_pages,
    has_tables,
    in_folios,
    leaf_tables_needed,
    resident_pages,
    swap_backed,
    tables_alone,
    trim_tables,
)
from tiergym.sim.slab import add_slab_pages, free_in_order, free_objects
from tiergym.sim.units import PAGE_BYTES, PAGES_PER_MIB

STACK_PAGES = 4  # THREAD_SIZE 16 KiB, VMAP_STACK (kernel/fork.c)
THREAD_SLAB_BYTES = 11300.0  # task_struct with FPU state, its slab's slack, and its company (recording c_threads_on)
SOCKET_SLAB_BYTES = 3072.0  # sock, dst, skbuff heads of one connection
VMA_SLAB_BYTES = 256.0  # vm_area_struct and its maple node's share
FILE_SLAB_BYTES = 1320.0  # dentry 192 B + ext4_inode 1128 B
BUFFER_HEAD_BYTES = 105.0  # buffer_head, 39 to a page: one per block of ext4, which has them for what was written
XARRAY_BYTES_PER_PAGE = 584.0 / 63.0
"""Nodes of 64 slots over cached pages, and over nodes: 1/64 + 1/64^2 + ... = 1/63 node per page, 0.226 % of the bytes
cached [K-object-sizes]."""
XARRAY_BYTES_PER_PAGE_OF_FOLIOS = 584.0 / 64.0 / 63.0
"""Folios of 64 pages and more are entries one level up: a node there covers 4,096 pages [K-large-folios]."""


@jit
def envelope(t, start, grow, hold, shrink, low, period):
    """Share of full size at time t: grow, hold, shrink to `low`, and again every `period` seconds (0: once)."""
    if t < start:
        return 0.0
    t -= start
    first = True
    if period > 0.0:
        turns = math.floor(t / period)
        t -= turns * period
        first = turns < 1.0
    if t < grow:
        share = t / grow
        return share if first else low + (1.0 - low) * share
    t -= grow
    if t < hold:
        return 1.0
    t -= hold
    if t < shrink:
        return 1.0 - (1.0 - low) * t / shrink
    return low


@jit
def drifted(m, r, now):
    """The region whose heat region r has now: regions of one drift group exchange theirs in turn."""
    group = m.region[r].drift_group
    if group == 0.0 or m.region_seldom[r].drift_s <= 0.0:
        return r
    size, place = 0, 0
    for i in range(m.regions):
        if m.region[i].drift_group == group:
            if i == r:
                place = size
            size += 1
    turn = int(now / m.region_seldom[r].drift_s)
    place = (place + turn) % size
    for i in range(m.regions):
        if m.region[i].drift_group == group:
            if place == 0:
                return i
            place -= 1
    return r


@jit
def set_heat(m, r, source):
    """Region r takes the heat of region `source`; what follows from it is computed once, here."""
    region, heat = m.region[r], m.region_seldom[source]
    region.heat_from = source
    region.hz = heat.access_hz
    region.misses = heat.misses_per_page_s
    region.tlb = heat.tlb_misses_per_page_s
    region.cold = math.exp(-heat.access_hz * m.lru_window_s)
    region.hot = -math.expm1(-heat.access_hz * m.hot_threshold_ms * 1e-3)
    region.reread = -math.expm1(-heat.access_hz * m.dt_s)


@jit
def running_share(m):
    """Share of the machine's work whose processes are not down."""
    share = 0.0
    for q in range(m.processes):
        process = m.process[q]
        if process.down_s <= 0.0:
            share += process.share
    return share


@jit
def advance_processes(m):
    """Killed processes come back after their restart time; the rest of the tick is theirs then."""
    now = m.tick * m.dt_s
    for q in range(m.processes):
        process = m.process[q]
        if process.down_s > 0.0:
            process.down_s -= m.dt_s
            if process.down_s <= 1e-9:
                process.born_s = now + m.dt_s + process.down_s
                process.down_s = 0.0
        elif process.warm_s > 0.0:
            process.warm_s = max(process.warm_s - m.dt_s, 0.0)


@jit_inline
def update_heat(m, r, now):
    """Region r's heat now; those that nobody references are counted."""
    source = drifted(m, r, now)
    if source != m.region[r].heat_from:
        set_heat(m, r, source)
    if m.region[r].hz == 0.0:
        m.unreferenced_regions += 1


@jit_inline
def region_target(m, r, now):
    """Pages that region r is to have by its envelope; none while its process is down."""
    region, process = m.region[r], m.process[int(m.region[r].process)]
    if process.down_s > 0.0:
        return 0
    share = envelope(
        now - process.born_s,
        region.start_s,
        region.grow_s,
        region.hold_s,
        region.shrink_s,
        region.low_share,
        region.period_s,
    )
    return min(in_folios(int(region.size_pages * share + 0.5), folio_pages(m, r)), region.size_pages)


@jit_inline
def resize(m, r, target):
    """Region r on its way to `target` pages: what shrinks or turns over is unmapped now, what grows is wanted."""
    region = m.region[r]
    have = resident_pages(m, r) + region.out_pages
    out = max(have - target, 0)
    out = max(out, int(have * region.turnover))
    if out > 0:
        forget_pages(m, r, out)
        if region.keeps_tables == 0:
            trim_tables(m, r)
        have = resident_pages(m, r) + region.out_pages
    if have == 0:
        if has_tables(m, r) and (region.keeps_tables == 0 or m.process[int(region.process)].down_s > 0.0):
            trim_tables(m, r)  # what a killed process got in its last tick
        region.since = m.tick
    region.huge = min(region.huge, fast_pages(m, r))  # those that left DRAM were split
    region.target_pages = target
    region.want = max(target - have, 0)


@jit_inline
def reread_evicted(m, r):
    """Of region r's evicted pages, those touched again in this tick are wanted back."""
    region = m.region[r]
    if region.out_pages == 0:
        region.refault = 0
        return
    again = region.reread if not tables_alone(m, r) else 0.0
    asked = in_folios(int(region.out_pages * again + 0.5), folio_pages(m, r))
    region.refault = min(region.refault + asked, region.out_pages)


@jit
def demand_regions(m):
    """Size and heat of every region now; shrinking and turnover are carried out, growth is wanted."""
    now = (m.tick + 1) * m.dt_s
    m.unreferenced_regions = 0
    for r in range(m.regions):
        update_heat(m, r, now)
        resize(m, r, region_target(m, r, now))
        reread_evicted(m, r)


@jit
def free_kernel_pages(m, cls, pages):
    """Stacks and buffers leave from where they are, all zones in proportion."""
    total = class_on_tier(m, cls, n.FAST) + class_on_tier(m, cls, n.SLOW)
    want = min(pages, total)
    if want <= 0:
        return
    left = want
    for step in range(RELEASE_STEPS):
        z = release_zone(step)
        out = release_pages(step, m.used_pages[cls, z], want, total, left)
        if out == 0:
            continue
        free_class(m, cls, z, out)
        left -= out


@jit_inline
def demand_kernel_pages(m, cls, target, kept, turnover):
    """Pages of a class towards `target`; all but `kept` of them turn over. What is too many goes back, growth is
    wanted."""
    have = class_on_tier(m, cls, n.FAST) + class_on_tier(m, cls, n.SLOW)
    dead = max(have - target, int(max(have - kept, 0) * turnover))
    if dead > 0:
        free_kernel_pages(m, cls, dead)
    m.kernel_want[cls] = max(target - (have - dead), 0)


@jit
def kill_at_random(m, pool, share):
    """This share of a pool's objects dies, wherever it lies; turnover bears as many again in this tick."""
    if share > 0.0:
        for tier in range(n.N_TIERS):
            free_objects(m, pool, tier, m.slab_objects[pool, tier] * share)


@jit_inline
def kill_objects(m, pool, live, dead):
    """Of `live` objects of a slab pool, `dead` die, as the `deaths` of its population says.

    The oldest objects lie in DRAM, which births fill first, the newest on the slow tier.
    """
    order = m.pool_deaths[n.POOL_THREADS if pool == n.SLAB_POOL_UNRECLAIM else n.POOL_FILES]
    if order == n.DEATHS_RANDOM:
        kill_at_random(m, pool, dead / live)
        return
    first = n.FAST if order == n.DEATHS_OLDEST_FIRST else n.SLOW
    dead_first = min(dead, m.slab_objects[pool, first])
    free_in_order(m, pool, 1 - first, dead - dead_first)
    free_in_order(m, pool, first, dead_first)


@jit
def demand_slab(m, pool, target):
    """Objects of a slab pool towards `target`: too many die, missing ones are to be born."""
    live = m.slab_objects[pool, n.FAST] + m.slab_objects[pool, n.SLOW]
    m.slab_births[pool] = 0.0
    if live > target + 0.5:
        kill_objects(m, pool, live, live - target)
    else:
        m.slab_births[pool] = max(target - live, 0.0)


@jit_inline
def set_populations(m):
    """Threads, files, sockets and buffers now. Files outlive the processes that are down."""
    now = (m.tick + 1) * m.dt_s
    up = running_share(m)
    for k in range(n.N_POOLS):
        share = envelope(
            now,
            m.pool_start_s[k],
            m.pool_grow_s[k],
            m.pool_hold_s[k],
            m.pool_shrink_s[k],
            m.pool_low_share[k],
            m.pool_period_s[k],
        )
        if k != n.POOL_FILES:
            share *= up
        m.pool_now[k] = int(m.pool_count[k] * share + 0.5)


@jit_inline
def object_bytes(m):
    """Size of a slab object of the model."""
    return PAGE_BYTES / m.slab_objects_per_page


@jit_inline
def demand_unreclaimable(m):
    """Slab of threads, sockets and VMAs, which turns over as fast as sockets do."""
    vmas = 0.0
    for q in range(m.processes):
        process = m.process[q]
        if process.down_s <= 0.0:
            vmas += process.vmas
    held = (
        m.pool_now[n.POOL_THREADS] * THREAD_SLAB_BYTES
        + m.pool_now[n.POOL_SOCKETS] * SOCKET_SLAB_BYTES
        + vmas * VMA_SLAB_BYTES
    )
    kill_at_random(m, n.SLAB_POOL_UNRECLAIM, m.pool_turnover[n.POOL_SOCKETS])
    demand_slab(m, n.SLAB_POOL_UNRECLAIM, held / object_bytes(m))


@jit_inline
def xarray_bytes(m):
    """Xarray nodes of files' pages, cached or once cached: a reclaimed page leaves a shadow entry, so its node stays
    (mm/workingset.c). Large folios need few."""
    single, large = 0, 0
    for r in range(m.regions):
        region = m.region[r]
        if region.kind != n.KIND_ANON and not tables_alone(m, r):
            pages = resident_pages(m, r) + region.out_pages
            if folio_pages(m, r) > 1:
                large += pages
            else:
                single += pages
    return single * XARRAY_BYTES_PER_PAGE + large * XARRAY_BYTES_PER_PAGE_OF_FOLIOS


@jit
def buffer_heads(m):
    """Buffer heads of page cache that was written; they go with their page (fs/buffer.c: try_to_free_buffers)."""
    heads = 0.0
    for r in range(m.regions):
        region = m.region[r]
        if region.written_share > 0.0 and region.kind != n.KIND_ANON and region.kind != n.KIND_ZERO:
            heads += resident_pages(m, r) * region.written_share
    return heads


@jit
def swap_slots(m):
    """Swap slots in use."""
    slots = 0
    for r in range(m.regions):
        region = m.region[r]
        if swap_backed(m, r):
            slots += region.out_pages + region.swap_cached[n.FAST] + region.swap_cached[n.SLOW]
    return slots


@jit
def swap_cache_nodes(m, nodes):
    """The swap cache's xarray now has `nodes`; a swapped page leaves a shadow entry there, until its slot is free
    (mm/swap_state.c: __delete_from_swap_cache).

    New ones are allocated by whoever reclaims, and PF_MEMALLOC looks at no mark: DRAM has them.
    """
    if nodes <= m.swap_nodes:
        m.swap_nodes = nodes
        return
    per_page = int(m.slab_objects_per_page)
    want = int((nodes - m.swap_nodes) / per_page)
    if want == 0:
        return
    z = kernel_zone(m)
    got = take_from_zone(m, z, want, 0)
    if got > 0:
        charge_class(m, n.SLAB_RECLAIM, z, got)
        m.counters[n.C_PGALLOC_FAST] += got
        add_slab_pages(m, n.SLAB_POOL_RECLAIM, n.FAST, got, float(got * per_page))
    m.swap_nodes += want * per_page


@jit_inline
def demand_reclaimable(m):
    """Slab of dentries and inodes, but for those that shrinkers took and nobody has looked up again, of xarrays, and of
    buffer heads."""
    m.files_shrunk *= max(0.0, 1.0 - m.pool_lookup_hz[n.POOL_FILES] * m.dt_s)
    size = object_bytes(m)
    files = m.pool_now[n.POOL_FILES] * FILE_SLAB_BYTES / size
    shrinkable = files * (1.0 - m.pool_pinned_share[n.POOL_FILES])
    m.files_shrunk = min(m.files_shrunk, shrinkable)
    m.files_objects = shrinkable
    kill_at_random(m, n.SLAB_POOL_RECLAIM, m.pool_turnover[n.POOL_FILES])
    swapped = 0 if m.swap_table_pages == n.ON else swap_slots(m)  # since 6.18 its tables are pages of their own
    swap_cache_nodes(m, swapped * XARRAY_BYTES_PER_PAGE / size)
    held = xarray_bytes(m) + swapped * XARRAY_BYTES_PER_PAGE + buffer_heads(m) * BUFFER_HEAD_BYTES
    demand_slab(m, n.SLAB_POOL_RECLAIM, files - m.files_shrunk + held / size)


@jit
def free_swap_tables(m):
    """Tables of swap slots go when the last of their slots does (mm/swapfile.c) [K-swap-table]."""
    tables = swap_tables_needed(m, 0)
    if m.swap_tables > tables:
        free_kernel_pages(m, n.KERNEL_OTHER, m.swap_tables - tables)
        m.swap_tables = tables


@jit
def demand_pools(m):
    """Threads, files, sockets and buffers now, and the kernel pages and slab objects that they need."""
    set_populations(m)
    stacks = m.pool_now[n.POOL_THREADS] * STACK_PAGES
    demand_kernel_pages(m, n.KSTACK, stacks, 0, m.pool_turnover[n.POOL_THREADS])
    free_swap_tables(m)
    boot = int(m.boot_kernel_mib * PAGES_PER_MIB) + m.rcu_cached_pages + m.swap_tables
    other = m.pool_now[n.POOL_BUFFERS] + boot
    demand_kernel_pages(m, n.KERNEL_OTHER, other, boot, m.pool_turnover[n.POOL_BUFFERS])
    demand_unreclaimable(m)
    demand_reclaimable(m)


@jit
def demand(m):
    """Phases 1 and 2: who runs, what every region and pool wants, and what goes back."""
    advance_processes(m)
    demand_regions(m)
    demand_pools(m)


@jit
def tables_wanted(m, r, chunk):
    """Leaf tables that touching `chunk` more pages of region r takes, beyond those it has."""
    touched = resident_pages(m, r) + m.region[r].out_pages + chunk
    have = 0
    for z in range(n.N_ZONES):
        have += m.region[r].leaf[z]
    return max(leaf_tables_needed(m, r, touched) - have, 0)
