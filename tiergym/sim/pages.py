"""Moving pages between free lists, per-CPU lists and classes. Only hot-plug, `percpu` and `reserve` change a page count
too.

The invariant that every function here keeps, per zone: managed = free + pcp + reserved + sum over classes.
"""

import math

from tiergym.sim import names as n
from tiergym.sim.blocks import pin_blocks, unpin_blocks
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.units import PAGEBLOCK_PAGES, PAGES_PER_MIB

RELEASE_STEPS = 2 * n.N_ZONES


@jit
def tier_of(z):
    """The tier of a zone."""
    return n.SLOW if z >= n.FIRST_SLOW_ZONE else n.FAST


@jit_inline
def on_tier(counts, tier):
    """Of `counts`, pages per zone, those in the zones of a tier."""
    if tier == n.FAST:
        return counts[n.DMA] + counts[n.DMA32] + counts[n.NORMAL] + counts[n.MOVABLE]
    return counts[n.SLOW_NORMAL] + counts[n.SLOW_MOVABLE]


@jit_inline
def is_movable(z):
    """Whether a zone holds user pages only (ZONE_MOVABLE)."""
    return z == n.MOVABLE or z == n.SLOW_MOVABLE


@jit
def release_zone(step):
    """The zone of one of the `RELEASE_STEPS` steps in which pages leave all zones in proportion."""
    return step if step < n.N_ZONES else RELEASE_STEPS - 1 - step


@jit
def release_pages(step, have, want, total, left):
    """Pages that leave a zone, which has `have`, in one step of releasing `want` of `total`; `left` have not left yet.

    First every zone gives its share, rounded down; then what rounding left comes from the highest zone that has it.
    """
    if have == 0:
        return 0  # most pages lie in few zones
    return have * want // total if step < n.N_ZONES else min(left, have)


@jit
def kernel_zone(m):
    """DRAM's highest zone below MOVABLE, where kernel requests go first."""
    if m.managed_pages[n.NORMAL] > 0:
        return n.NORMAL
    return n.DMA32 if m.managed_pages[n.DMA32] > 0 else n.DMA


@jit
def mark_pages(m, z, level, movable):
    """The free pages a request must leave in zone z: mark, boost and lowmem_reserve (__zone_watermark_ok)."""
    reserve = m.reserve_movable_pages[z] if movable else m.reserve_kernel_pages[z]
    return m.wmark_pages[level, z] + m.boost_pages[z] + reserve


@jit
def refill_pages(m, z):
    """Pages that a per-CPU list takes from zone z at once.

    While kswapd works, every page freed lowers the list's limit down to its least, the low mark over the CPUs, and a
    refill stays a batch below that (mm/page_alloc.c: nr_pcp_alloc, nr_pcp_high, zone_highsize). A refill doubles no
    more than frees let it (`percpu:set_doublings`). Before 6.7 (`pcp_scale` 0) a refill is a batch.
    """
    most = m.pcp_refill_pages[z]
    if m.pcp_scale == 0.0:
        return most
    batch = most >> int(m.pcp_scale)
    if m.pcp_doublings < m.pcp_scale:
        most = batch << m.pcp_doublings
    if m.kswapd_awake[tier_of(z)] == 0:
        return most
    return min(most, max(m.wmark_pages[n.WMARK_LOW, z] // int(m.cpus) - batch, batch))


@jit
def take_from_zone(m, z, want, floor):
    """Order-0 pages from zone z through a per-CPU list, as long as the zone's free count is above `floor`.

    A refill moves pcp_refill_pages at once (rmqueue_bulk) and looks at no mark, so the last one before the mark
    leaves pages stranded on the list: per-CPU lists blur the mark by one refill. Idle lists are other CPUs' and
    help nobody. Returns the pages taken.
    """
    if want <= 0 or m.free_pages[z] <= floor:
        return 0
    got = min(want, m.pcp_pages[z] - m.pcp_idle_pages[z])
    m.pcp_pages[z] -= got
    left = want - got
    if left == 0:
        return got
    batch = refill_pages(m, z)
    refills = 1 if left <= batch else (left + batch - 1) // batch  # most requests are small, and divisions slow
    if m.free_pages[z] - floor < refills * batch:
        refills = min(refills, (m.free_pages[z] - floor + batch - 1) // batch)
    moved = min(refills * batch, m.free_pages[z])
    m.free_pages[z] -= moved
    usable = min(left, moved)
    if m.free_pages[z] <= floor:
        usable = min(usable, (refills - 1) * batch + 1)
    m.pcp_pages[z] += moved - usable
    return got + usable


@jit
def obtainable(m, z, floor):
    """What `take_from_zone` would give from zone z before its free count is at `floor`."""
    above = m.free_pages[z] - floor
    if above <= 0:
        return 0
    batch = refill_pages(m, z)
    return m.pcp_pages[z] - m.pcp_idle_pages[z] + ((above + batch - 1) // batch - 1) * batch + 1


@jit
def charge_class(m, cls, z, pages):
    """Pages already taken from zone z now belong to a class."""
    m.used_pages[cls, z] += pages
    if z == n.SLOW_NORMAL and cls >= n.FIRST_KERNEL_CLASS:
        pin_blocks(m, pages)


@jit
def kernel_pages_in_zone(m, z):
    """Kernel pages in a zone."""
    total = 0
    for cls in range(n.FIRST_KERNEL_CLASS, n.N_CLASSES):
        total += m.used_pages[cls, z]
    return total


@jit
def movable_used(m, z):
    """User pages in a zone."""
    return m.used_pages[n.ANON, z] + m.used_pages[n.FILE, z]


@jit
def free_class(m, cls, z, pages):
    """Pages of a class go back to the free list of their zone."""
    m.used_pages[cls, z] -= pages
    m.free_pages[z] += pages
    m.counters[n.C_PGFREE] += pages
    if cls >= n.FIRST_KERNEL_CLASS:
        if z == n.SLOW_NORMAL:
            if pages > 0:
                unpin_blocks(m, pages, pages + kernel_pages_in_zone(m, z))
        elif z == kernel_zone(m):
            m.kernel_block_free = min(m.kernel_block_free + pages, PAGEBLOCK_PAGES)


@jit
def swap_places(m, kernel_cls, data_cls, z, pages):
    """`pages` kernel pages of the slow NORMAL zone and as many data pages of zone z change frames: nothing is freed."""
    m.used_pages[kernel_cls, n.SLOW_NORMAL] -= pages
    m.used_pages[kernel_cls, z] += pages
    m.used_pages[data_cls, z] -= pages
    m.used_pages[data_cls, n.SLOW_NORMAL] += pages
    if pages > 0:
        unpin_blocks(m, pages, pages + kernel_pages_in_zone(m, n.SLOW_NORMAL))


@jit
def drain_pcp(m):
    """drain_all_pages: the per-CPU lists go back to the free lists."""
    for z in range(n.N_ZONES):
        m.free_pages[z] += m.pcp_pages[z]
        m.pcp_pages[z] = 0
        m.pcp_idle_pages[z] = 0
        m.pcp_kernel_pages[z] = 0


@jit
def node_managed(m, tier):
    """Managed pages of a node."""
    return on_tier(m.managed_pages, tier)


@jit
def node_free(m, tier):
    """Free pages of a node."""
    return on_tier(m.free_pages, tier)


@jit
def swap_tables_needed(m, pages):
    """Kernel pages for the swap slots in use and `pages` more: one per 512 since 6.18 (mm/swap_table.h)
    [K-swap-table], and what zswap keeps of them (mm/zswap.c: zswap_store).

    As few as can be: a table stays while one of its slots is in use, and slots are freed in no order.
    """
    if m.slot_pages == 0.0:
        return 0
    return math.ceil((int(m.swap_mib * PAGES_PER_MIB) - m.swap_free_pages + pages) * m.slot_pages)


@jit
def slow_free_above(m, level):
    """Free pages of the slow node above a mark: what a movable request could still get there."""
    total = 0
    for z in range(n.FIRST_SLOW_ZONE, n.N_ZONES):
        if m.managed_pages[z] > 0:
            total += max(0, m.free_pages[z] - mark_pages(m, z, level, True))
    return total


@jit
def class_on_tier(m, cls, tier):
    """Pages of a class on a tier."""
    return on_tier(m.used_pages[cls], tier)
