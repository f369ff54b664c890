"""Pageblocks of DRAM: kernel pages keep to blocks of their own, and stealing another's block boosts the watermarks.

The buddy allocator groups pages by migrate type in pageblocks of 2 MiB (mm/page_alloc.c: __rmqueue_fallback). Kernel
pages fill the free pages of their own blocks, then claim whole free blocks. In a zone with none left they steal from
blocks of user pages, which raises the zone's marks and wakes kswapd (steal_suitable_fallback, boost_watermark).
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.kswapd import wake_kswapd
from tiergym.sim.pages import PAGEBLOCK_PAGES, kernel_zone
from tiergym.sim.random_bits import uniform

STREAM_BOOST = 900
FRAGMENTED_BLOCKS = 2
"""With fewer free pages than this many pageblocks, none of them is whole: free pages lie scattered (recordings:
buddyinfo has no free block of order 9 below about a thousand free pages)."""


@jit
def boost_watermark(m, z):
    """Raise the marks of zone z by one pageblock, up to watermark_boost_factor of high; not in a tiny zone."""
    if PAGEBLOCK_PAGES * 4 > m.managed_pages[z] or m.boost_factor == 0.0:
        return
    most = max(int(m.high_pages[z] * m.boost_factor / 10000.0), PAGEBLOCK_PAGES)
    m.boost_pages[z] = min(m.boost_pages[z] + PAGEBLOCK_PAGES, most)
    if m.kswapd_awake[n.FAST] == 0:  # else it works for whoever woke it
        wake_kswapd(m, n.FAST, n.KERNEL_OTHER, False, 1)


@jit
def boost_at_random(m):
    """Steals that the page counts do not show, at the rate `boost_hz` while kernel pages are placed in DRAM."""
    if uniform(m.key, m.tick, STREAM_BOOST) < -math.expm1(-m.boost_hz * m.dt_s):
        boost_watermark(m, kernel_zone(m))


@jit
def fill_kernel_blocks(m, pages):
    """`pages` of DRAM's highest zone have become kernel pages: from their own blocks, a whole one, or a stolen one."""
    m.kernel_block_free -= pages
    if m.kernel_block_free >= 0:
        return
    z = kernel_zone(m)
    blocks = (-m.kernel_block_free + PAGEBLOCK_PAGES - 1) // PAGEBLOCK_PAGES
    if m.free_pages[z] >= (blocks + FRAGMENTED_BLOCKS - 1) * PAGEBLOCK_PAGES:
        m.kernel_block_free += blocks * PAGEBLOCK_PAGES
        return
    m.kernel_block_free = 0
    boost_watermark(m, z)
