"""Pages of DRAM that are kept aside for page tables, as the policy asks for it (`reserve.pt`).

After the cache of pages for page tables that Mitosis's kernel keeps per node, sized by a sysctl [W-mitosis-cache]. Its
pages are allocated: not free, on no LRU, and no shrinker gives them back.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pageblocks import fill_kernel_blocks
from tiergym.sim.pages import charge_class, free_class, kernel_zone, mark_pages, node_managed, on_tier, take_from_zone
from tiergym.sim.zonelist import NODE_FAST, take_from_zonelist

RESERVE_SHARE = (0.0, 0.002, 0.01)
"""Of DRAM: as much as the tables of dense data that fills DRAM once (1/512), and five times. Our choice: Mitosis's is
whatever an administrator writes [W-mitosis-cache]."""


@jit
def fill_reserve(m, pages):
    """Take up to `pages` of what DRAM has free above high; nobody is woken for more."""
    left = pages
    for z in range(n.NORMAL, -1, -1):
        floor = mark_pages(m, z, n.WMARK_HIGH, False)
        got = take_from_zone(m, z, min(left, max(0, m.free_pages[z] - floor)), floor)
        if got == 0:
            continue
        m.reserved_pages[z] += got
        m.counters[n.C_PGALLOC_FAST] += got
        if z == kernel_zone(m):
            fill_kernel_blocks(m, got, n.PT_LEAF)
        left -= got


@jit
def drain_reserve(m, pages):
    """Give `pages` of the reserve back to their zones, the highest first."""
    left = pages
    for z in range(n.NORMAL, -1, -1):
        out = min(left, m.reserved_pages[z])
        m.reserved_pages[z] -= out
        charge_class(m, n.PT_LEAF, z, out)  # as whose pages they were taken
        free_class(m, n.PT_LEAF, z, out)
        left -= out


@jit
def keep_reserve(m):
    """Once a tick: what is missing of the reserve is filled as far as DRAM allows, what is too much goes back."""
    kept = on_tier(m.reserved_pages, n.FAST)
    mode = m.action[n.A_RESERVE_PT]
    if mode == n.RESERVE_OFF and kept == 0:
        return
    missing = int(node_managed(m, n.FAST) * RESERVE_SHARE[mode]) - kept
    if missing > 0:
        fill_reserve(m, missing)
    elif missing < 0:
        drain_reserve(m, -missing)


@jit
def may_use_reserve(m, cls, mode, mempolicy):
    """Whether a request for page tables wants DRAM first, and there is a reserve."""
    if cls not in (n.PT_LEAF, n.PT_UPPER) or on_tier(m.reserved_pages, n.FAST) == 0:
        return False
    if mode == n.FALLBACK:
        return mempolicy in (n.MPOL_DEFAULT, n.MPOL_BIND_FAST)
    return mode != n.PREFER_SLOW


@jit
def take_with_reserve(m, want):
    """Of `want` page tables, those that DRAM has above low, left in `grant_pages`, and those that the reserve has
    then. Returns both numbers."""
    got = take_from_zonelist(m, want, n.WMARK_LOW, NODE_FAST, False, False)
    return got, min(want - got, on_tier(m.reserved_pages, n.FAST))


@jit
def hand_out_reserve(m, cls, pages):
    """`pages` of the reserve become page tables of class `cls`; adds them to `grant_pages`.

    They are counted as allocated, and lie in the kernel's pageblocks, since they came into the reserve.
    """
    left = pages
    for z in range(n.NORMAL, -1, -1):
        out = min(left, m.reserved_pages[z])
        m.reserved_pages[z] -= out
        m.grant_pages[z] += out
        charge_class(m, cls, z, out)
        left -= out
    m.counters[n.C_PGRESERVE] += pages
