"""Reclaim: which pages leave a node, where they go, and what that costs the one who reclaims.

LRU is recency: a page not referenced within the LRU window is cold, however often it was used before. Cold
pages go first; when they do not suffice, priority rises and referenced pages go too (mm/vmscan.c:
shrink_folio_list). A page leaves DRAM for the slow tier if demotion may and finds room there above min
(alloc_migrate_folio: GFP_NOWAIT, THISNODE); else files are dropped and anonymous pages swapped.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import (
    charge_class,
    class_on_tier,
    free_class,
    mark_pages,
    slow_free_above,
    swap_tables_needed,
    take_from_zone,
)
from tiergym.sim.regions import fast_pages, folio_pages, leave_swap_cache, region_class, slow_pages, swap_backed
from tiergym.sim.slab import free_in_order, free_objects
from tiergym.sim.storage import note_disk_writes, page_write_us, swap_on_disk
from tiergym.sim.units import PAGE_BYTES, PAGES_PER_MIB

REFERENCED_SCANS = 8  # looks at a referenced page until priority has risen so far that it goes all the same
SHRINK_BATCH = 32  # pages' worth of objects that a shrinker frees at least (SHRINK_BATCH is 128 objects)
SHRINK_SEEKS = 0.5  # DEFAULT_SEEKS 2: slab is scanned at half the pace of LRU pages (mm/shrinker.c)


@jit
def can_demote(m):
    """Whether demotion is on and has a target."""
    return m.demotion == n.ON and m.slow_in_lower_tier == n.ON


@jit
def demotion_room(m):
    """Pages the slow tier still takes from demotion; 0 if demotion is off or has no target."""
    return slow_free_above(m, n.WMARK_MIN) if can_demote(m) else 0


@jit
def demote(m, r, z, pages):
    """Move pages of region r from DRAM zone z to the slow tier (MOVABLE first), whatever its mempolicy says."""
    region = m.region[r]
    cls = region_class(m, r)
    done = 0
    for target in range(n.SLOW_MOVABLE, n.SLOW_NORMAL - 1, -1):
        got = take_from_zone(m, target, pages - done, mark_pages(m, target, n.WMARK_MIN, True))
        if got > 0:
            region.pages[target] += got
            charge_class(m, cls, target, got)
            done += got
    if done > 0:
        region.swap_cached[n.SLOW] += leave_swap_cache(m, r, z, done)
        region.pages[z] -= done
        free_class(m, cls, z, done)
        m.moved_bytes[n.FAST] += done * PAGE_BYTES
        m.moved_bytes[n.SLOW] += done * PAGE_BYTES
    return done


@jit
def slots_with_tables(m, pages):
    """Of `pages` to be swapped, those whose slots have a table, after taking the tables that are missing from any node
    (mm/swapfile.c: swap_cluster_alloc_table, __GFP_HIGH).

    A swapper asks for each table when the slots of the last are used up, with half of min and what it has freed by then
    before it. Here it asks for all at once, so whatever is free serves.
    """
    left = swap_tables_needed(m, pages) - m.swap_tables
    for step in range(2):
        for z in range(n.NORMAL, -1, -1) if step == 0 else range(n.SLOW_NORMAL, n.SLOW_NORMAL + 1):
            if left <= 0:
                break
            got = take_from_zone(m, z, left, 0)
            charge_class(m, n.KERNEL_OTHER, z, got)
            m.swap_tables += got
            left -= got
    room = int(m.swap_tables / m.slot_pages) - (int(m.swap_mib * PAGES_PER_MIB) - m.swap_free_pages)
    return min(pages, max(room, 0))


@jit
def evict(m, r, z, pages, premature):
    """Drop file pages or swap anonymous pages of region r from zone z; returns how many went."""
    region = m.region[r]
    if swap_backed(m, r):
        pages = min(pages, m.swap_free_pages)
        if m.slot_pages > 0.0:
            pages = slots_with_tables(m, pages)
        m.swap_free_pages -= pages
        m.counters[n.C_PSWPOUT] += pages
    else:
        m.counters[n.C_FILE_DROPPED] += pages
    leave_swap_cache(m, r, z, pages)
    region.pages[z] -= pages
    region.out_pages += pages
    if premature:
        region.out_premature += pages
    free_class(m, region_class(m, r), z, pages)
    return pages


@jit
def metadata_us(m, tier):
    """Time per page reclaimed from a tier for its struct page and xarray node, by where these lie [W-mac].

    Struct pages belong to their node's memory; an xarray node lies wherever its class does.
    """
    on_slow, on_fast = class_on_tier(m, n.SLAB_RECLAIM, n.SLOW), class_on_tier(m, n.SLAB_RECLAIM, n.FAST)
    slab = on_slow / max(1, on_slow + on_fast)
    memmap = m.memmap_slow_share if tier == n.SLOW else m.boot_memmap
    latency = m.dram_latency_ns + 0.5 * (slab + memmap) * (m.slow_latency_ns - m.dram_latency_ns)
    return m.reclaim_metadata_touches * latency * 1e-3


@jit_inline
def reclaimable_pages(m, r, tier):
    """Pages of region r in the zones of a tier that the present reclaim is for (sc->reclaim_idx)."""
    pages = fast_pages(m, r) if tier == n.FAST else slow_pages(m, r)
    return pages - m.region[r].pages[n.LAST_ZONE[tier]] if m.reclaim_kernel == 1 else pages


@jit
def evictable(m, r, tier, room):
    """Pages of region r that reclaim could take from a tier."""
    if m.region[r].mlocked == n.ON or (m.reclaim_files_only == 1 and swap_backed(m, r)):
        return 0
    pages = reclaimable_pages(m, r, tier)
    if swap_backed(m, r) and room == 0 and m.swap_free_pages == 0:
        return 0
    return pages


@jit
def take_from_region(m, r, tier, pages, premature):
    """Reclaim `pages` of region r from a tier, its zones in proportion. Returns (demoted, evicted).

    A folio goes as a whole, so a region with large ones may lose more than was asked for.
    """
    total = reclaimable_pages(m, r, tier)
    unit = folio_pages(m, r)
    pages = min((pages + unit - 1) // unit * unit if unit > 1 else pages, total)
    demoted, evicted = 0, 0
    for step in range(2):  # first every zone's share, then the remainder where it can be had
        for z in range(n.FIRST_ZONE[tier], n.LAST_ZONE[tier] + 1 - m.reclaim_kernel):
            have = m.region[r].pages[z]
            left = pages - demoted - evicted
            if have == 0 or left == 0:
                continue
            share = min(left, have if step == 1 or have == total else have * pages // total)
            if share <= 0:
                continue
            if tier == n.FAST and demotion_room(m) > 0:
                done = demote(m, r, z, share)
                demoted += done
                share -= done
            if share > 0:
                evicted += evict(m, r, z, share, premature)
    return demoted, evicted


@jit
def shrink_slab(m, tier, share, want):
    """Shrinkers of a node, in proportion to the share of its LRU just reclaimed; they see only their node.

    Their lists are in the order of age, so of a population that was born in a row whole slabs come back.
    """
    objects = m.slab_objects[n.SLAB_POOL_RECLAIM, tier]
    cached = m.files_objects - m.files_shrunk  # xarray nodes go with their pages, not by a shrinker
    if share <= 0.0 or objects <= 0.0 or cached <= 0.0:
        return 0
    total = m.slab_objects[n.SLAB_POOL_RECLAIM, n.FAST] + m.slab_objects[n.SLAB_POOL_RECLAIM, n.SLOW]
    died = min(share * SHRINK_SEEKS, 1.0) * objects * min(cached / total, 1.0)
    if m.pool_deaths[n.POOL_FILES] == n.DEATHS_RANDOM:
        freed = free_objects(m, n.SLAB_POOL_RECLAIM, tier, died)
    else:
        died = min(died, want * m.slab_objects_per_page)  # priority rises only until enough has come back
        freed = free_in_order(m, n.SLAB_POOL_RECLAIM, tier, died)
    m.files_shrunk += died
    m.counters[n.C_SLAB_SHRUNK] += freed
    return freed


@jit_inline
def next_oldest(m, before):
    """Number of the tick in which the oldest pages came that nobody references any more, of those after `before`; -1 if
    there are none."""
    oldest = m.tick + 1
    for r in range(m.regions):
        region = m.region[r]
        if region.hz == 0.0 and before < region.since < oldest:
            oldest = region.since
    return oldest if oldest <= m.tick else -1


@jit
def reclaim_tail(m, tier, want, premature):
    """The tail of the LRU: pages that nobody references any more leave in the order in which they were touched.

    Returns (demoted, evicted, of these dirty).
    """
    demoted, evicted, dirty = 0, 0, 0.0
    if m.unreferenced_regions == 0:
        return demoted, evicted, dirty
    oldest = next_oldest(m, -1)
    while oldest >= 0 and demoted + evicted < want:
        room = demotion_room(m) if tier == n.FAST else 0
        pool = 0
        for r in range(m.regions):
            if m.region[r].hz == 0.0 and m.region[r].since == oldest:
                pool += evictable(m, r, tier, room)
        ask = min(want - demoted - evicted, pool)
        for r in range(m.regions):
            region = m.region[r]
            if region.hz == 0.0 and region.since == oldest and pool > 0:
                share = min(want - demoted - evicted, (evictable(m, r, tier, room) * ask + pool - 1) // pool)
                if share > 0:
                    down, out = take_from_region(m, r, tier, share, premature)
                    demoted += down
                    evicted += out
                    dirty += out * region.dirty_share
        oldest = next_oldest(m, oldest)
    return demoted, evicted, dirty


@jit_inline
def lru_pages(m, tier):
    """Pages of a node that reclaim could take, and of these those that look cold."""
    pages, cold = 0, 0
    room = demotion_room(m) if tier == n.FAST else 0
    for r in range(m.regions):
        here = evictable(m, r, tier, room)
        pages += here
        cold += int(here * m.region[r].cold)
    return pages, cold


@jit_inline
def shrink_lruvec(m, tier, want, pool, cold_only, premature, dirty):
    """One scan of a node's lists for `want` pages, from all regions in proportion, only cold ones or any, of which
    there are `pool`.

    Returns (demoted, evicted, `dirty` pages written back and those of this scan).
    """
    demoted, evicted = 0, 0
    if pool == 0:
        return demoted, evicted, dirty
    room = demotion_room(m) if tier == n.FAST else 0
    ask = min(want, pool)
    for r in range(m.regions):
        left = want - demoted - evicted
        if left <= 0:
            break
        pages = evictable(m, r, tier, room)
        pages = int(pages * m.region[r].cold) if cold_only else pages
        if pages > 0:
            down, out = take_from_region(m, r, tier, min(left, (pages * ask + pool - 1) // pool), premature)
            demoted += down
            evicted += out
            dirty += out * m.region[r].dirty_share
    return demoted, evicted, dirty


@jit
def write_out(m, dirty, swapped):
    """Seconds of who reclaims for `dirty` pages of files and `swapped` ones: dirty pages leave as fast as the disk
    writes (mm/vmscan.c: pageout), swapped ones too (`swap_out_us`) or after they have been compressed (mm/zswap.c:
    zswap_store). Both take the disk's time."""
    if dirty == 0.0 and swapped == 0:
        return 0.0
    note_disk_writes(m, dirty + (swapped if swap_on_disk(m) else 0))
    return 1e-6 * (dirty * page_write_us(m) + swapped * m.swap_store_us)


@jit
def reclaim_node(m, tier, want, premature):
    """Reclaim up to `want` pages from a node. Returns (freed, demoted, seconds of the reclaimer's time)."""
    if want <= 0:
        return 0, 0, 0.0
    swapped = m.counters[n.C_PSWPOUT]
    demoted, evicted, dirty = reclaim_tail(m, tier, want, premature)
    freed = demoted + evicted
    m.reclaim_scanned = freed
    if freed < want:
        pages, cold = lru_pages(m, tier)
    else:
        pages, cold = class_on_tier(m, n.ANON, tier) + class_on_tier(m, n.FILE, tier), 0
    lru = freed + pages
    for cold_only in (True, False):
        if freed < want:
            pool = cold if cold_only else lru_pages(m, tier)[0]
            down, out, dirty = shrink_lruvec(m, tier, want - freed, pool, cold_only, premature, dirty)
            demoted += down
            freed += down + out
            m.reclaim_scanned += (down + out) * (1 if cold_only else REFERENCED_SCANS)
    evicted = freed - demoted
    swapped = m.counters[n.C_PSWPOUT] - swapped
    # Copying a demoted page, or compressing a swapped one, is time in which kswapd reclaims no other.
    wait_us = demoted * m.demote_wait_us + swapped * m.swap_store_us
    m.reclaim_scanned += int(wait_us * 1e-6 * m.kswapd_pages_per_s)
    # Shrinkers keep pace with the LRU; when it has nothing left, priority rises until slab is scanned whole.
    if m.reclaim_files_only == 0:
        freed += shrink_slab(m, tier, 2.0 if freed < want else freed / lru, max(want - freed, SHRINK_BATCH))
    seconds = 1e-6 * (demoted * m.migrate_batched_us + evicted * m.reclaim_us + freed * metadata_us(m, tier))
    seconds += write_out(m, dirty, swapped)
    return freed, demoted, seconds
