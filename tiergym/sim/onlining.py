"""How many blocks of a range may come online in one step, because block by block would leave the same.

Each block's memmap is a request of its own, and marks are made anew after each (mm/memory_hotplug.c: online_pages). A
server with thousands of blocks has memory to spare for that: no request comes near a mark, so only the marks after the
last block count, and they are made of those of the few blocks before.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import kernel_zone
from tiergym.sim.units import PAGEBLOCK_PAGES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.sim.watermarks import most_marked, refill_of
from tiergym.sim.zonelist import NODE_BOTH

ONE_BY_ONE = 8
"""The last blocks of a range: enough for marks to forget those that they were made of. Of a mark's difference from what
it would be block by block, the next has a hundredth (the root of lowmem in calculate_min_free_kbytes)."""

MANY_PAGES = 1 << 40
"""A zone whose size limits no per-CPU list."""


@jit
def choose_zone(m, ahead):
    """NORMAL, MOVABLE, or the auto-movable rule (auto_movable_can_online_movable), for a block before which `ahead`
    more pages have become MOVABLE.

    auto-movable takes MOVABLE while movable <= ratio % of the kernel's early pages, which are DRAM's present ones;
    with numa_aware that also holds per node, and a node without CPUs has no early pages: always NORMAL.
    """
    mode = m.action[n.A_ZONE]
    if mode != n.ZONE_AUTO_MOVABLE:
        return n.SLOW_MOVABLE if mode == n.ZONE_MOVABLE else n.SLOW_NORMAL
    if m.auto_movable_numa_aware == n.ON:
        return n.SLOW_NORMAL
    movable = m.managed_pages[n.MOVABLE] + m.managed_pages[n.SLOW_MOVABLE] + ahead + m.block_pages
    kernel_early = m.dram_mib * PAGES_PER_MIB - m.managed_pages[n.MOVABLE]
    return n.SLOW_MOVABLE if movable * 100.0 <= m.auto_movable_ratio * kernel_early else n.SLOW_NORMAL


@jit
def memmap_pages(m):
    """Struct pages of one block."""
    return m.block_pages // STRUCT_PAGES_PER_PAGE


@jit
def usable_pages(m, b):
    """Pages of a block beside its own struct pages."""
    return m.block_pages - (memmap_pages(m) if m.block_own_memmap[b] == 1 else 0)


@jit
def blocks_of_one_zone(m, blocks, usable):
    """Of the `blocks` that come next, how many the first one's zone takes in a row."""
    zone = choose_zone(m, 0)
    few, many = 1, blocks + 1
    while many - few > 1:
        middle = (few + many) // 2
        if choose_zone(m, (middle - 1) * usable) == zone:
            few = middle
        else:
            many = middle
    return few


@jit
def room_below(m, b, most):
    """Pages of the slow NORMAL zone's blocks below b that kernel pages do not hold yet, `most` of them counted."""
    room, lower = 0, m.pin_from
    while lower < b and room < most:
        if m.block_state[lower] == n.BLOCK_NORMAL:
            room += m.block_pages - m.block_unmovable[lower]
        lower += 1
    return min(room, most)


@jit
def blocks_with_memmap_at_hand(m, b, blocks, nodes):
    """Of the `blocks` that come next, from b on, how many get their memmap from the first zone of its zonelist, far
    above its marks whatever they become, while no kswapd works and nothing changes the zone's per-CPU lists."""
    if max(m.kswapd_awake[n.FAST], m.kswapd_awake[n.SLOW], m.kswapd_busy[n.FAST], m.kswapd_busy[n.SLOW]) >= 1:
        return 0
    memmap, z = memmap_pages(m), kernel_zone(m)
    managed = m.managed_pages[z]
    if nodes == NODE_BOTH:
        z = n.SLOW_NORMAL
        managed = m.managed_pages[z] + blocks * m.block_pages
        blocks = room_below(m, b, blocks * memmap) // memmap
    refill = m.pcp_refill_pages[z]
    if refill < refill_of(m, MANY_PAGES) or ONE_BY_ONE * memmap < refill + PAGEBLOCK_PAGES:
        return 0
    spare = m.free_pages[z] - most_marked(m, z, managed) - refill - 2 * PAGEBLOCK_PAGES
    return min(blocks, spare // (2 * memmap))  # twice: pageblocks are looked for among what is left


@jit
def blocks_at_once(m, b, blocks, nodes, on_memory):
    """Of the `blocks` plugged in from b on, how many may come online in one step: at least one."""
    count = blocks - ONE_BY_ONE
    if count > 1 and not on_memory:
        count = blocks_with_memmap_at_hand(m, b, count, nodes)
    if count <= 1:
        return 1
    count = blocks_of_one_zone(m, count, m.block_pages - (memmap_pages(m) if on_memory else 0))
    return count - (count + 1) % 2  # an odd number, as marks may swing between two values
