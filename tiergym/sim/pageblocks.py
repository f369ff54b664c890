"""Pageblocks of DRAM: kernel pages keep to blocks of their own, and claiming another's block boosts the watermarks.

The buddy allocator groups pages by migrate type in pageblocks of 2 MiB (mm/page_alloc.c: __rmqueue). Kernel pages fill
the free pages of their own blocks, then claim whole free blocks. In a zone with none left they try to claim blocks of
user pages, which raises the zone's marks and wakes kswapd (__rmqueue_claim, boost_watermark).
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.kswapd import node_deficit, wake_kswapd
from tiergym.sim.pages import kernel_zone
from tiergym.sim.random_bits import uniform
from tiergym.sim.streams import STREAM_BOOST
from tiergym.sim.units import PAGEBLOCK_PAGES

FRAGMENTED_BLOCKS = 2
"""With fewer free pages than this many pageblocks, none of them is whole: free pages lie scattered (recordings:
buddyinfo has no free block of order 9 below about a thousand free pages)."""
LARGEST_CHUNK = 4
"""Then the largest free chunk is this part of a zone's free pages (recordings: buddyinfo of the DRAM zone in 21,000
samples with 150 to 4,000 free pages has a median of 128 at 300, 256 at 1,000 and 512 at 2,300)."""


@jit
def boost_watermark(m, z, tries, wakes):
    """Raise the marks of zone z by a pageblock for each of `tries` to claim one, up to watermark_boost_factor of high;
    not in a tiny zone.

    A request that `wakes` wakes kswapd for it (__GFP_KSWAPD_RECLAIM).
    """
    if PAGEBLOCK_PAGES * 4 > m.managed_pages[z] or m.boost_factor == 0.0:
        return
    most = max(int(m.wmark_pages[n.WMARK_HIGH, z] * m.boost_factor / 10000.0), PAGEBLOCK_PAGES)
    m.boost_pages[z] = min(m.boost_pages[z] + tries * PAGEBLOCK_PAGES, most)
    if wakes and m.kswapd_awake[n.FAST] == 0:  # else it works for whoever woke it
        wake_kswapd(m, n.FAST, n.KERNEL_OTHER, False, 1)


@jit
def boost_at_random(m):
    """Steals that the page counts do not show, at the rate `boost_hz` while kernel pages are placed in DRAM."""
    if uniform(m.key, m.tick, STREAM_BOOST) < -math.expm1(-m.boost_hz * m.dt_s):
        boost_watermark(m, kernel_zone(m), 1, True)


@jit
def is_slab(cls):
    """Whether a class is slab, whose first try, of a high order, neither reclaims nor wakes kswapd (mm/slub.c:
    allocate_slab clears __GFP_RECLAIM). So it does where `slab_steal_wakes` is off."""
    return cls in (n.SLAB_UNRECLAIM, n.SLAB_RECLAIM)


@jit_inline
def listed_pages(m, z):
    """Free pages of the kernel's blocks in zone z that lie on its per-CPU list already, where it has one of its own."""
    return m.pcp_kernel_pages[z] if m.pcp_by_type == n.ON else 0


@jit_inline
def sizes_of_chunks(largest):
    """How many sizes free chunks come in, powers of two up to `largest`: a claim that fails is tried with each."""
    sizes = 1
    while largest > 1:
        largest >>= 1
        sizes += 1
    return sizes


@jit
def fill_kernel_blocks(m, pages, cls):
    """`pages` of DRAM's highest zone have become kernel pages: from their own blocks, a whole one, or another's.

    Of a block that is less than half free (as far as its largest chunk tells) only the pages that are needed come, and
    who needs more has to try again; each try boosts (mm/page_alloc.c: try_to_claim_block, __rmqueue_steal). Before
    (`claims_half_blocks`) all free pages of the block came, however few (steal_suitable_fallback).

    Where the kernel has a list of its own, what a refill put there has left the blocks already: it is the refill that
    steals, not the page that is handed out later (mm/page_alloc.c: rmqueue_bulk).
    """
    z = kernel_zone(m)
    m.kernel_block_free -= pages
    listed = listed_pages(m, z)
    if m.kernel_block_free >= listed:
        return
    blocks = (listed - m.kernel_block_free + PAGEBLOCK_PAGES - 1) // PAGEBLOCK_PAGES
    if m.free_pages[z] >= (blocks + FRAGMENTED_BLOCKS - 1) * PAGEBLOCK_PAGES:
        m.kernel_block_free += blocks * PAGEBLOCK_PAGES
        return
    chunk, tries = min(m.free_pages[z] // LARGEST_CHUNK, PAGEBLOCK_PAGES), 1
    if m.claims_half_blocks == n.ON and chunk < PAGEBLOCK_PAGES // 2:
        m.kernel_block_free = listed
        tries = sizes_of_chunks(chunk)
    else:
        m.kernel_block_free = max(listed, chunk + m.kernel_block_free)
    boost_watermark(m, z, tries, m.slab_steal_wakes == n.ON or not is_slab(cls))


@jit
def steal_kernel_blocks(m):
    """User pages have left DRAM's highest zone fewer free pages than lay in the kernel's blocks: they took some there.

    They come one by one and claim nothing, so nothing is boosted (mm/page_alloc.c: should_try_claim_block). Before
    (`claims_half_blocks`) any page from another's block was (steal_suitable_fallback). While another zone of the node
    is above high, that boost's run finds nothing it may do for them and takes it back.
    """
    z = kernel_zone(m)
    left = m.free_pages[z] + listed_pages(m, z)
    if left >= m.kernel_block_free:
        return
    m.kernel_block_free = left
    if m.claims_half_blocks == n.OFF and m.boost_pages[z] == 0 and node_deficit(m, n.FAST) > 0:
        boost_watermark(m, z, 1, True)
