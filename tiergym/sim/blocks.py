"""Unmovable pages in the slow tier's memory blocks.

The buddy allocator groups unmovable pages by pageblock and steals whole pageblocks from the low end, so they
cluster in the lowest blocks [F-pinned-blocks]. One unmovable page keeps its whole block online.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit


@jit
def count_blocks(m):
    """How many blocks are offline, online as NORMAL or MOVABLE, and pinned; counted anew only after a change."""
    if m.blocks_changed == 0:
        return
    offline, normal, movable, pinned = 0, 0, 0, 0
    for b in range(m.blocks):
        state = m.block_state[b]
        if state == n.BLOCK_ADDED or state == n.BLOCK_OFFLINE:
            offline += 1
        elif state == n.BLOCK_NORMAL:
            normal += 1
            pinned += 1 if m.block_unmovable[b] > 0 else 0
        elif state == n.BLOCK_MOVABLE:
            movable += 1
    m.blocks_offline, m.blocks_normal, m.blocks_movable, m.blocks_pinned = offline, normal, movable, pinned
    m.blocks_changed = 0


@jit
def pin_blocks(m, pages):
    """New kernel pages in the slow NORMAL zone: the lowest block with room takes them."""
    for b in range(m.blocks):
        if pages == 0:
            return
        if m.block_state[b] == n.BLOCK_NORMAL:
            put = min(pages, m.block_pages - m.block_unmovable[b])
            if put > 0 and m.block_unmovable[b] == 0:
                m.blocks_changed = 1
            m.block_unmovable[b] += put
            pages -= put


@jit
def unpin_blocks(m, pages, total):
    """Of the slow NORMAL zone's `total` kernel pages `pages` leave every pinned block in proportion, the highest first.

    Objects die everywhere, not from the top, so a block comes free only when nearly all of them have
    [F-pinned-blocks].
    """
    left, after, top = pages, total, 0
    while after > 0 and top < m.blocks:
        inside = m.block_unmovable[top]
        if inside > 0:
            out = inside * pages // total
            m.block_unmovable[top] -= out
            left -= out
            after -= inside
            if out == inside:
                m.blocks_changed = 1
        top += 1
    while left > 0 and top > 0:
        top -= 1
        inside = m.block_unmovable[top]
        out = min(left, inside)
        m.block_unmovable[top] -= out
        left -= out
        if out == inside and out > 0:
            m.blocks_changed = 1
