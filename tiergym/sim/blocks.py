"""Unmovable pages in the slow tier's memory blocks.

The buddy allocator groups unmovable pages by pageblock and steals whole pageblocks from the low end, so they
cluster in the lowest blocks [F-pinned-blocks]. One unmovable page keeps its whole block online.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline


@jit
def set_block_states(m, first, end, state):
    """The blocks from `first` to before `end`, all in one state, come into another."""
    if first >= end:
        return
    m.blocks_in_state[m.block_state[first]] -= end - first
    m.blocks_in_state[state] += end - first
    for each in range(first, end):
        m.block_state[each] = state
    if state == n.BLOCK_NORMAL:
        m.pin_from = min(m.pin_from, first)


@jit
def end_of_state(m, b):
    """The first block after b that is in another state, or the number of blocks."""
    end = b + 1
    while end < m.blocks and m.block_state[end] == m.block_state[b]:
        end += 1
    return end


@jit
def pin_blocks(m, pages):
    """New kernel pages in the slow NORMAL zone: the lowest block with room takes them."""
    b = m.pin_from
    while pages > 0 and b < m.blocks:
        inside = m.block_unmovable[b]
        if m.block_state[b] == n.BLOCK_NORMAL and inside < m.block_pages:
            put = min(pages, m.block_pages - inside)
            m.block_unmovable[b] = inside + put
            pages -= put
            if inside == 0:
                m.blocks_pinned += 1
                m.pinned_from, m.pinned_end = min(m.pinned_from, b), max(m.pinned_end, b + 1)
            if pages == 0:
                break
        b += 1
    m.pin_from = b


@jit_inline
def unpin_block(m, b, pages):
    """`pages` kernel pages leave block b."""
    if pages > 0:
        m.block_unmovable[b] -= pages
        m.blocks_pinned -= 1 if m.block_unmovable[b] == 0 else 0
        m.pin_from = min(m.pin_from, b)


@jit
def unpin_blocks(m, pages, total):
    """Of the slow NORMAL zone's `total` kernel pages `pages` leave every pinned block in proportion, the highest first.

    Objects die everywhere, not from the top, so a block comes free only when nearly all of them have
    [F-pinned-blocks].
    """
    left, after, top = pages, total, m.pinned_from
    same, share = 0, 0
    while after > 0 and top < m.pinned_end:
        inside = m.block_unmovable[top]
        if inside != same:  # most are full: one division for all of them
            same, share = inside, inside * pages // total
        unpin_block(m, top, share)
        left -= share
        after -= inside
        top += 1
    while left > 0 and top > m.pinned_from:
        top -= 1
        out = min(left, m.block_unmovable[top])
        unpin_block(m, top, out)
        left -= out
    while m.pinned_end > m.pinned_from and m.block_unmovable[m.pinned_end - 1] == 0:
        m.pinned_end -= 1
