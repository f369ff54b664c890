"""What reclaim does to per-CPU lists since Linux 6.7 (`pcp_scale`): a page freed meanwhile takes a batch with it."""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import kernel_zone

KEPT_BATCHES = 4  # nr_pcp_high: batch << 2


@jit
def trim_pcp(m, tier, freed):
    """Give back what `freed` pages take off the per-CPU lists of a node while its kswapd works.

    Each of them finds its list longer than four batches and sends a batch to the zone (mm/page_alloc.c: nr_pcp_high
    with ZONE_RECLAIM_ACTIVE, nr_pcp_free). Before 6.7 lists are seldom that long.
    """
    if m.pcp_scale == 0.0 or freed == 0:
        return
    for z in range(n.FIRST_ZONE[tier], n.LAST_ZONE[tier] + 1):
        if m.managed_pages[z] > 0:
            batch = m.pcp_refill_pages[z] >> int(m.pcp_scale)
            idle = m.pcp_idle_pages[z] - m.pcp_kernel_pages[z]
            pages = min(freed * batch, max(idle - KEPT_BATCHES * batch, 0))
            m.pcp_idle_pages[z] -= pages
            m.pcp_pages[z] -= pages
            m.free_pages[z] += pages


@jit
def drop_rcu_cache(m):
    """The first reclaim of DRAM frees the pages that kvfree_rcu() keeps ready (kernel/rcu/tree.c:
    kfree_rcu_shrink_scan), onto the lists of idle CPUs. Returns their number."""
    pages, z = m.rcu_cached_pages, kernel_zone(m)
    m.rcu_cached_pages = 0
    m.used_pages[n.KERNEL_OTHER, z] -= pages
    m.pcp_pages[z] += pages
    m.pcp_idle_pages[z] += pages
    return pages


@jit_inline
def set_doublings(m, wanted):
    """How often a refill of a tick that asks for `wanted` pages doubles before a page is freed, which starts it anew
    (mm/page_alloc.c: nr_pcp_alloc, free_frozen_page_commit: alloc_factor).

    Only what is freed all the time counts (`churn_pages`, which only replays set): after a burst a stream has its large
    refills at once.
    """
    freed, scale = m.churn_pages, int(m.pcp_scale)
    m.churn_pages = 0
    m.pcp_doublings = scale
    if freed == 0 or scale == 0:
        return
    between = (wanted + freed) // freed
    batch, doublings = m.pcp_refill_pages[kernel_zone(m)] >> scale, 0
    while doublings < scale and between >= batch << doublings:
        between -= batch << doublings
        doublings += 1
    m.pcp_doublings = doublings
