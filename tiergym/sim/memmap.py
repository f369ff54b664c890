"""Whose struct pages are looked at, and where these lie: those of pages in use, block by block.

Who allocates, frees, maps or reclaims a page touches its struct page. Those of free pages stay untouched, but for what
links them in the buddy lists, and nobody looks at those of struct pages [K-memmap].
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.onlining import usable_pages
from tiergym.sim.pages import class_on_tier, movable_used, node_free, node_managed, on_tier
from tiergym.sim.units import STRUCT_PAGES_PER_PAGE


@jit_inline
def pages_in_use(m, tier):
    """Pages of a node that some class holds, struct pages themselves aside."""
    idle = node_free(m, tier) + on_tier(m.pcp_pages, tier) + on_tier(m.reserved_pages, tier)
    return node_managed(m, tier) - idle - class_on_tier(m, n.MEMMAP, tier)


@jit
def blocks_with_memmap_in_dram(m):
    """How many blocks of the slow tier that are online have their struct pages in DRAM: neither in themselves nor in a
    block that came online before them."""
    online = m.blocks_in_state[n.BLOCK_NORMAL] + m.blocks_in_state[n.BLOCK_MOVABLE]
    spilled = m.used_pages[n.MEMMAP, n.SLOW_NORMAL] * STRUCT_PAGES_PER_PAGE / max(m.block_pages, 1)
    return max(online - m.blocks_own_memmap - spilled, 0.0)


@jit
def in_use_with_slow_memmap(m):
    """Pages in use on the slow tier whose struct pages lie there too.

    Where blocks differ, they fill from the lowest up [F-pinned-blocks], and DRAM has the struct pages of those that
    came first.
    """
    if m.memmap_slow_share == 0.0 or m.memmap_slow_share == 1.0:
        return m.memmap_slow_share * pages_in_use(m, n.SLOW)
    normal, movable = movable_used(m, n.SLOW_NORMAL), movable_used(m, n.SLOW_MOVABLE)
    in_dram, found = blocks_with_memmap_in_dram(m), 0.0
    for b in range(m.blocks):
        if m.block_state[b] < n.BLOCK_NORMAL:
            continue
        left = normal if m.block_state[b] == n.BLOCK_NORMAL else movable
        data = min(left, usable_pages(m, b) - m.block_unmovable[b])
        if m.block_state[b] == n.BLOCK_NORMAL:
            normal -= data
        else:
            movable -= data
        here = min(in_dram, 1.0) if m.block_own_memmap[b] == 0 else 0.0
        in_dram -= here
        found += (1.0 - here) * (data + m.block_unmovable[b])
    return min(found, 1.0 * pages_in_use(m, n.SLOW))
