"""Freeing leaf page tables that MADV_DONTNEED has left empty, as the policy asks for it (`reclaim.pt_empty`).

Linux frees them at munmap, and since 6.14 in MADV_DONTNEED itself [K-dontneed] (`build:keeps_tables`). RFCs before
wanted empty tables freed whatever emptied them, at once or by reclaim [K-empty-tables]; here a kernel thread looks.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.regions import free_leaf, leaf_tables_needed, resident_pages

TABLES_PER_S = 200000.0
"""That the thread looks at, 400 GiB of address space: our choice, for no kernel has it."""
LOOK_US = 1.0
"""Reading the 512 entries of a table, 64 lines of memory: our choice."""
FREE_US = 1.0
"""Taking an empty one out of its parent, and its part of a flush: our choice."""


@jit
def scan_region(m, r, budget):
    """Look at up to `budget` tables of region r and free those that are empty; its other tables lie among them. Returns
    the tables looked at and freed.

    An address space that has no empty one is not looked at: MADV_DONTNEED queues it.
    """
    region = m.region[r]
    have = 0
    for z in range(n.N_ZONES):
        have += region.leaf[z]
    empty = have - leaf_tables_needed(m, r, resident_pages(m, r) + region.out_pages)
    if empty <= 0:
        return 0, 0
    looked = min(have, budget)
    found = (empty * looked + have - 1) // have
    free_leaf(m, r, found)
    return looked, found


@jit
def reclaim_empty_tables(m):
    """What the thread does in this tick, beside the workers: it costs them the share of a CPU that they would use."""
    if m.action[n.A_RECLAIM_PT_EMPTY] != n.EMPTY_TABLES_SCAN:
        return
    left = int(TABLES_PER_S * m.dt_s)
    seconds = 0.0
    for r in range(m.regions):
        if m.region[r].keeps_tables == 0 or left <= 0:
            continue
        looked, found = scan_region(m, r, left)
        left -= looked
        m.counters[n.C_PGTABLE_RECLAIM] += found
        seconds += (looked * LOOK_US + found * FREE_US) * 1e-6
    m.owed_s[n.LOST_OTHER_RECLAIM] += seconds * min(1.0, m.workers / m.cpus)
