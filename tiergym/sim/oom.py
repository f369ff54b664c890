"""The OOM killer: the largest process by RSS, swap and page tables, blind to nodes (mm/oom_kill.c)."""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import class_on_tier, node_managed, slow_free_above
from tiergym.sim.reclaim import can_demote
from tiergym.sim.regions import resident_pages, swap_backed, unmap, unmapped
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.sim.zonelist import NODE_FAST, NODE_SLOW

FUTILE_ROUNDS = 16  # MAX_RECLAIM_RETRIES
LOOKS_PER_ROUND = 2  # priority 12 to 0: 1/4096 + ... + 1/2 + 1 of the lists


@jit
def oom_badness(m, q):
    """oom_badness: RSS + swap entries + page-table pages + oom_score_adj/1000 of memory; -1 if never killed."""
    adjustment = m.process_seldom[q].oom_score_adj
    if adjustment <= -1000.0 or m.process[q].down_s > 0.0:
        return -1
    points = 0
    for r in range(m.regions):
        region = m.region[r]
        if int(region.process) != q:
            continue
        if not unmapped(m, r):  # get_mm_rss: page cache that nobody maps is nobody's
            points += resident_pages(m, r)
        if swap_backed(m, r) and not unmapped(m, r):
            points += region.out_pages
        for z in range(n.N_ZONES):
            points += region.leaf[z] + region.upper[z]
    if points == 0:
        return -1
    total = node_managed(m, n.FAST) + node_managed(m, n.SLOW) + int(m.swap_mib * PAGES_PER_MIB)
    points += int(adjustment * total / 1000.0)
    return max(points, 0)


@jit
def kill(m, q):
    """The victim's memory, swap and page tables are freed; it is down, then grows again before it works.

    The reaper and exit_mmap take well under a tick once the victim dies, so its memory is free at once.
    """
    process, drawn = m.process[q], m.process_seldom[q]
    warm = 0.0
    age = m.tick * m.dt_s - process.born_s
    for r in range(m.regions):
        region = m.region[r]
        if int(region.process) != q:
            continue
        unmap(m, r, resident_pages(m, r) + region.out_pages)
        region.want = 0
        region.refault = 0
        warm = max(warm, min(region.start_s + region.grow_s, age))
    process.killed = m.tick + 1
    # On average the kill falls into the middle of its tick.
    process.down_s = max(drawn.restart_s - 0.5 * m.dt_s, 0.5 * m.dt_s)
    process.warm_s = warm
    m.owed_s[n.LOST_OOM] += drawn.lost_s * process.share * m.workers


@jit
def still_scanning(m, nodes):
    """Whether a request that may use `nodes`, whose reclaim has just been futile, has yet to scan before it may kill.

    Where a node can demote, its anonymous pages count as reclaimable, wherever there is room for them or not
    (mm/vmscan.c: can_reclaim_anon_pages, zone_reclaimable_pages). So the verdict waits for all 16 rounds, each of which
    looks at every page of the lists (mm/page_alloc.c: should_reclaim_retry); without demotion the first settles it.
    """
    if not can_demote(m) or m.look_us == 0.0:
        return False
    if m.futile_tick < m.tick:
        m.futile_s = 0.0
    if m.futile_tick < m.tick + 1:
        m.futile_s += m.dt_s
    m.futile_tick = m.tick + 1
    pages = 0
    for tier in range(n.N_TIERS):
        if nodes & (NODE_FAST if tier == n.FAST else NODE_SLOW):
            pages += class_on_tier(m, n.ANON, tier) + class_on_tier(m, n.FILE, tier)
    scan_s = FUTILE_ROUNDS * LOOKS_PER_ROUND * pages * m.look_us * 1e-6
    return m.futile_s < scan_s


@jit
def out_of_memory(m, refused, cls, nodes):
    """Kill one process; `refused` pages of class `cls` were denied to a request that may use `nodes`.

    Returns False if nobody can be killed.
    """
    victim, worst = -1, -1
    for q in range(m.processes):
        points = oom_badness(m, q)
        if points > worst:
            victim, worst = q, points
    if victim < 0:
        return False
    m.counters[n.C_OOM_KILL] += 1
    m.futile_s = 0.0
    m.oom_class = cls
    m.oom_nodes = nodes
    if slow_free_above(m, n.WMARK_MIN) >= refused:
        m.counters[n.C_OOM_KILL_PREMATURE] += 1
    kill(m, victim)
    return True
