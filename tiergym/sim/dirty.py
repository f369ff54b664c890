"""Dirty page cache: what write(2) has filled and the disk has not yet, node by node, and the limit that spreads it.

The allocator's fast path passes over a node that holds its share of dirty pages, so written cache goes to the slow tier
while DRAM has pages free (mm/page_alloc.c: get_page_from_freelist, spread_dirty_pages).
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import class_on_tier, mark_pages, node_free, on_tier
from tiergym.sim.storage import note_disk_writes


@jit
def dirtyable_pages(m, tier):
    """Pages of a node that may hold dirty cache: file pages, and free ones beyond its reserves (mm/page-writeback.c:
    node_dirtyable_memory)."""
    reserve = 0
    for z in range(n.FIRST_ZONE[tier], n.LAST_ZONE[tier] + 1):
        reserve += mark_pages(m, z, n.WMARK_HIGH, True)
    return max(0, node_free(m, tier) - reserve) + class_on_tier(m, n.FILE, tier)


@jit
def dirty_room(m, tier):
    """Dirty pages that a node takes until it is over its limit (mm/page-writeback.c: node_dirty_limit,
    node_dirty_ok)."""
    return max(0, int(dirtyable_pages(m, tier) * m.dirty_ratio / 100.0 - m.dirty_pages[tier]))


@jit
def note_written(m, pages, got):
    """Of the `got` pages just granted, `pages` were written to."""
    if got > 0:
        for tier in range(n.N_TIERS):
            m.dirty_pages[tier] += pages * on_tier(m.grant_pages, tier) / got


@jit
def write_back(m):
    """The flusher writes for a tick (fs/fs-writeback.c: wb_check_old_data_flush, wb_check_background_flush).

    Dirty data is written when it is `dirty_expire_s` old, with whatever else of its file is dirty by then: a page waits
    half as long on average. What exceeds the background limit is written at once. Pages that are gone are not dirty.
    """
    dirty = 0.0
    for tier in range(n.N_TIERS):
        m.dirty_pages[tier] = min(m.dirty_pages[tier], float(class_on_tier(m, n.FILE, tier)))
        dirty += m.dirty_pages[tier]
    if dirty == 0.0:
        return
    background = (dirtyable_pages(m, n.FAST) + dirtyable_pages(m, n.SLOW)) * m.dirty_background_ratio / 100.0
    kept = max(0.0, 1.0 - m.dt_s / (0.5 * m.dirty_expire_s))
    kept = min(kept, background / dirty)
    for tier in range(n.N_TIERS):
        m.dirty_pages[tier] *= kept
    note_disk_writes(m, dirty * (1.0 - kept))
