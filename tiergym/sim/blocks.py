"""Unmovable pages in the slow tier's memory blocks.

The buddy allocator groups unmovable pages by pageblock and steals whole pageblocks from the low end, so they
cluster in the lowest blocks (recordings, F10). One unmovable page keeps its whole block online.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit


@jit
def pin_blocks(m, pages):
    """New kernel pages in the slow NORMAL zone: the lowest block with room takes them."""
    for b in range(m.blocks):
        if pages == 0:
            return
        if m.block_state[b] == n.BLOCK_NORMAL:
            put = min(pages, m.block_pages - m.block_unmovable[b])
            m.block_unmovable[b] += put
            pages -= put


@jit
def unpin_blocks(m, pages):
    """Kernel pages freed from the slow NORMAL zone leave every pinned block in proportion, the highest first.

    Objects die everywhere, not from the top, so a block comes free only when nearly all of them have (F10).
    """
    total = 0
    for b in range(m.blocks):
        total += m.block_unmovable[b]
    if total == 0 or pages == 0:
        return
    left = pages
    for b in range(m.blocks):
        if m.block_unmovable[b] > 0:
            out = m.block_unmovable[b] * pages // total
            m.block_unmovable[b] -= out
            left -= out
    for b in range(m.blocks - 1, -1, -1):
        if left == 0:
            return
        out = min(left, m.block_unmovable[b])
        m.block_unmovable[b] -= out
        left -= out
