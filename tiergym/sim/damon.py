"""DAMON's promotion: DAMOS_MIGRATE_HOT moves pages that it saw accessed into DRAM, whoever owns them.

Up to 6.16:

Unlike a hint fault it does not ask whether DRAM stays balanced: its request is GFP_NOWAIT | THISNODE, which goes down
to min and wakes kswapd, but never reclaims (damon_migrate_pages [K-damon]). What it takes below low is the
kernel's own reserve. Where kswapd can demote, it gives it back; else the next kernel page finds nothing.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.kswapd import wake_kswapd
from tiergym.sim.pages import mark_pages, node_managed
from tiergym.sim.regions import promote_region, slow_pages
from tiergym.sim.units import PAGE_BYTES, PAGES_PER_MIB


@jit
def below_low(m):
    """Whether DRAM's zones are all below low, so that a request for DRAM wakes its kswapd."""
    for z in range(n.FIRST_SLOW_ZONE):
        if m.managed_pages[z] > 0 and m.free_pages[z] > mark_pages(m, z, n.WMARK_LOW, True):
            return False
    return True


@jit
def damon_promotes(m):
    """Whether DAMON may take DRAM in any tick."""
    return m.damon_promotion == n.ON


@jit
def copy_within_slow(m, pages):
    """Since 6.17 DAMON's request is an ordinary one: with DRAM below low it gets a page of CXL again, and the hot page
    is copied to where it was (mm/damon/ops-common.c: damon_migrate_folio_list) [K-damon-falls-back]."""
    m.moved_bytes[n.SLOW] += 2 * pages * PAGE_BYTES
    m.owed_s[n.LOST_MIGRATION] += pages * m.migrate_unbatched_us * 1e-6 * min(1.0, m.workers / m.cpus)


@jit
def damon_promote(m, share):
    """Promotion by DAMON during `share` of a tick: hot pages of every region, up to the rate limit, down to min (to low
    where its request falls back).

    Hot is a page referenced within the hot threshold, as for NUMA balancing. kdamond copies in its own time, one
    unbatched migration per page, which costs the workers a CPU's share.
    """
    if node_managed(m, n.SLOW) == 0:
        return
    limit = int(m.promote_limit_mib_per_s * PAGES_PER_MIB * m.dt_s * share)
    falls_back = m.damon_falls_back == n.ON
    tried, moved = 0, 0
    for r in range(m.regions):
        hot = min(int(slow_pages(m, r) * m.region[r].hot), limit - (tried if falls_back else moved))
        tried += hot
        moved += promote_region(m, r, hot, n.WMARK_LOW if falls_back else n.WMARK_MIN)
    if falls_back:
        copy_within_slow(m, tried - moved)
    if moved == 0:
        return
    if below_low(m) and not falls_back:
        wake_kswapd(m, n.FAST, n.ANON, False, moved)
    m.counters[n.C_PGPROMOTE_SUCCESS] += moved
    m.owed_s[n.LOST_MIGRATION] += moved * m.migrate_unbatched_us * 1e-6 * min(1.0, m.workers / m.cpus)
