"""kswapd: one per node, woken only by a request that found every zone it may use below low."""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import class_on_tier, node_managed, on_tier, slow_free_above
from tiergym.sim.percpu import drop_rcu_cache, trim_pcp
from tiergym.sim.reclaim import can_demote, metadata_us, reclaim_node

MAX_RECLAIM_RETRIES = 16
MIN_BATCH_PAGES = 32  # SWAP_CLUSTER_MAX
MIN_LRU_BATCH = 64
LEAST_PRIORITY = 6
"""Where the multi-gen LRU may begin: it scans a 2^6th of the lists (set_initial_priority: DEF_PRIORITY / 2)."""


@jit_inline
def balance_mark(m, z):
    """The mark up to which kswapd works, boost included: high, or promo when NUMA balancing tiers."""
    tiering = m.numa_balancing == n.NUMA_BALANCING_TIERING
    return m.wmark_pages[n.WMARK_PROMO if tiering else n.WMARK_HIGH, z] + m.boost_pages[z]


@jit_inline
def zones_for(m, tier, kernel):
    """The highest zone of a node that requests may use, and the managed pages up to it: `kernel` ones none of MOVABLE
    (classzone_idx, reclaim_idx)."""
    last = n.LAST_ZONE[tier]
    if kernel == 0:
        return last, node_managed(m, tier)
    return last - 1, node_managed(m, tier) - m.managed_pages[last]


@jit_inline
def reserve_pages(m, z, kernel):
    """lowmem_reserve of zone z against requests of the kernel, or of users."""
    return m.reserve_kernel_pages[z] if kernel == 1 else m.reserve_movable_pages[z]


@jit
def deficit(m, tier, kernel):
    """Pages to reclaim until *any* zone that requests of the kernel, or of users, may use is above its mark
    (mm/vmscan.c: pgdat_balanced).

    Reclaim takes all these zones of the node in proportion, so a zone's own deficit counts for the whole node by the
    inverse of its share.
    """
    last, total = zones_for(m, tier, kernel)
    best = -1
    for z in range(n.FIRST_ZONE[tier], last + 1):
        if m.managed_pages[z] == 0:
            continue
        short = balance_mark(m, z) + reserve_pages(m, z, kernel) + 1 - m.free_pages[z]
        if short <= 0:
            return 0
        need = int(short * (total / m.managed_pages[z]))
        if best < 0 or need < best:
            best = need
    return max(best, 0)


@jit
def node_deficit(m, tier):
    """The deficit that this node's kswapd was last woken for."""
    return deficit(m, tier, m.kswapd_kernel[tier])


@jit
def node_boost(m, tier):
    """Pages by which the marks of a node's zones are boosted."""
    return on_tier(m.boost_pages, tier)


@jit
def scan_length(m, tier):
    """Pages after which a scan of the multi-gen LRU ends: the sum of the zones' high marks (mm/vmscan.c:
    kswapd_shrink_node), or before that where every zone of the node is safe (should_abort_scan), which a zone DMA is
    not, whose reserve is larger than itself; and no more than a share of the lists [K-lru-gen].

    So kswapd overshoots: what it frees beyond high is where the next user pages go.
    """
    marks, safe, kernel = 0, 0, m.kswapd_kernel[tier]
    last, total = zones_for(m, tier, kernel)
    for z in range(n.FIRST_ZONE[tier], last + 1):
        if m.managed_pages[z] == 0:
            continue
        high = m.wmark_pages[n.WMARK_HIGH, z] + m.boost_pages[z]
        marks += max(high, MIN_BATCH_PAGES)
        short = balance_mark(m, z) + reserve_pages(m, z, kernel) + MIN_LRU_BATCH - m.free_pages[z]
        safe = max(safe, int(short * (total / m.managed_pages[z])))
    lists = class_on_tier(m, n.ANON, tier) + class_on_tier(m, n.FILE, tier)
    return min(marks, safe, max(lists >> LEAST_PRIORITY, MIN_LRU_BATCH))


@jit
def set_kswapd_pace(m, tier):
    """Pages that this kswapd reclaims in a tick of its CPU: fewer when its metadata lies on CXL (MAC)."""
    # Exactly 0 with all metadata in DRAM, and whole pages: a carried fraction would let a rounding error in a latency
    # decide now and then over a page.
    extra_us = metadata_us(m, tier) - m.reclaim_metadata_touches * m.dram_latency_ns * 1e-3
    m.kswapd_pages_per_tick[tier] = math.floor(m.dt_s * 1e6 / (1e6 / m.kswapd_pages_per_s + extra_us))


@jit
def expect_requests(m, tier, wanted):
    """A tick begins in which `wanted` pages are asked for: how many of them come while this kswapd reclaims a page.

    Only who passes over busy nodes asks.
    """
    if m.skip_busy_node == n.OFF:
        return
    m.kswapd_busy[tier] = 0.0
    m.requests_per_page[tier] = wanted / max(m.kswapd_pages_per_tick[tier], 1.0)


@jit
def grant_time(m, tier, share):
    """Give this kswapd `share` of a tick of its CPU, in pages."""
    whole = m.kswapd_pages_per_tick[tier]
    m.kswapd_budget[tier] = min(m.kswapd_budget[tier] + share * whole, whole)


@jit
def forget_failures(m, tier):
    """A node has seen progress: its kswapd, which gives up after 16 runs without, starts to count anew.

    Since 7.0 only if that left the node balanced (mm/vmscan.c: kswapd_try_clear_hopeless) [K-hopeless].
    """
    if m.kswapd_failures[tier] == 0:
        return
    if m.hopeless_reset != n.HOPELESS_BALANCE_OR_FREE or node_deficit(m, tier) == 0:
        m.kswapd_failures[tier] = 0


@jit
def revive_all(m):
    """Every kswapd that gave up tries again."""
    for tier in range(n.N_TIERS):
        m.kswapd_failures[tier] = 0


@jit
def revive_by_frees(m):
    """Since 6.18 freed pages that lift a zone of DRAM above high make its kswapd work again, where there is a further
    node to fall back to (mm/page_alloc.c: free_frozen_page_commit) [K-hopeless]."""
    if m.kswapd_failures[n.FAST] < MAX_RECLAIM_RETRIES or m.hopeless_reset == n.HOPELESS_PROGRESS:
        return
    if node_managed(m, n.SLOW) > 0 and node_deficit(m, n.FAST) == 0:
        m.kswapd_failures[n.FAST] = 0


@jit
def wake_kswapd(m, tier, cls, premature, requests):
    """wakeup_kswapd by `requests` allocations: not if the node is balanced, nor after 16 runs without progress
    (hopeless node). It works for the zones that the widest of these may use (kswapd_highest_zoneidx)."""
    if node_managed(m, tier) == 0 or m.kswapd_failures[tier] >= MAX_RECLAIM_RETRIES:
        return
    kernel = 1 if cls >= n.FIRST_KERNEL_CLASS else 0
    if deficit(m, tier, kernel) == 0 and node_boost(m, tier) == 0:
        return
    m.kswapd_kernel[tier] = kernel if m.kswapd_awake[tier] == 0 else min(kernel, m.kswapd_kernel[tier])
    m.kswapd_awake[tier] = 1
    m.kswapd_class[tier] = cls
    m.kswapd_premature[tier] = 1 if premature else 0
    m.kswapd_requests[tier] += requests
    m.counters[n.C_KSWAPD_WAKEUPS_FAST + tier] += 1


@jit
def wake_demotion_target(m):
    """After reclaim of DRAM: demotion asks the slow node with GFP_NOWAIT, so below low it wakes the kswapd there,
    which drops or swaps what demotion brought (mm/vmscan.c: alloc_migrate_folio)."""
    if can_demote(m) and slow_free_above(m, n.WMARK_LOW) == 0:
        wake_kswapd(m, n.SLOW, n.ANON, False, 1)


@jit
def charge_reclaim(m, cls, premature, freed, seconds):
    """Book reclaim time, and the pages if the request behind it was refused free CXL."""
    if premature:
        m.owed_s[n.LOST_PREMATURE_RECLAIM] += seconds
        m.counters[n.C_PREMATURE_RECLAIM_PAGES] += freed
        m.premature_by_class[cls] += freed
    else:
        m.owed_s[n.LOST_OTHER_RECLAIM] += seconds


@jit
def pages_in_writeback(m, tier):
    """Pages of a node that wait for the swap device; kswapd takes no more than what these leave missing."""
    return on_tier(m.writeback_pages, tier) if m.swap_out_us > 0.0 else 0


@jit
def start_writeback(m, tier, pages):
    """`pages` that kswapd has just swapped are in the swap cache, which counts as file, and not free before the device
    has written them (mm/page_io.c: swap_writepage; mm/vmscan.c: pageout). Returns their number; 0 if it keeps up."""
    if m.swap_out_us == 0.0:
        return 0
    left = pages
    for z in range(n.LAST_ZONE[tier], n.FIRST_ZONE[tier] - 1, -1):
        held = min(left, m.free_pages[z])
        m.free_pages[z] -= held
        m.used_pages[n.FILE, z] += held
        m.writeback_pages[z] += held
        left -= held
    return pages - left


@jit
def end_writeback(m):
    """The swap device writes for a tick: what it has written is free (mm/page_io.c: end_swap_bio_write).

    A kswapd that waited for it and finds its node balanced ends its pass, and only then takes its boost back
    (mm/vmscan.c: balance_pgdat, `out`).
    """
    if m.swap_out_us == 0.0:
        return
    left = int(m.dt_s * 1e6 / m.swap_out_us)
    for tier in range(n.N_TIERS):
        if pages_in_writeback(m, tier) == 0:
            continue
        for z in range(n.FIRST_ZONE[tier], n.LAST_ZONE[tier] + 1):
            written = min(left, m.writeback_pages[z])
            m.writeback_pages[z] -= written
            m.used_pages[n.FILE, z] -= written
            m.free_pages[z] += written
            left -= written
        if m.kswapd_awake[tier] == 1 and node_deficit(m, tier) == 0:
            end_boost(m, tier)
            m.kswapd_awake[tier] = 0


@jit
def end_boost(m, tier):
    """A kswapd run takes the boost back, whatever it reclaimed (balance_pgdat); one that waits for swap goes on."""
    for z in range(n.FIRST_ZONE[tier], n.LAST_ZONE[tier] + 1):
        m.boost_pages[z] = 0


@jit_inline
def shrink_node(m, tier, want, boosted, premature):
    """Reclaim `want` pages of a node (mm/vmscan.c: kswapd_shrink_node) and what goes with it: swap is written, per-CPU
    lists give back, the boost ends. Returns (pages freed, seconds of kswapd's time)."""
    m.reclaim_files_only = 1 if boosted else 0
    m.reclaim_kernel = m.kswapd_kernel[tier]
    swapped = m.counters[n.C_PSWPOUT]
    freed, demoted, seconds = reclaim_node(m, tier, want, premature)
    m.reclaim_files_only = 0
    m.reclaim_kernel = 0
    swapped = start_writeback(m, tier, m.counters[n.C_PSWPOUT] - swapped)
    trim_pcp(m, tier, freed - swapped + (drop_rcu_cache(m) if tier == n.FAST else 0))
    if freed == 0 or pages_in_writeback(m, tier) == 0 or node_deficit(m, tier) == 0:
        end_boost(m, tier)
    if tier == n.FAST:
        wake_demotion_target(m)
    spent = max(m.reclaim_scanned, freed, MIN_BATCH_PAGES)
    m.kswapd_budget[tier] -= spent
    m.kswapd_busy[tier] += spent * m.requests_per_page[tier]
    m.counters[n.C_PGSTEAL_KSWAPD_FAST + tier] += freed
    m.counters[n.C_PGDEMOTE_KSWAPD] += demoted
    return freed, seconds


@jit_inline
def end_empty_run(m, tier, requests, boosted):
    """A run that found nothing counts against the node (kswapd_failures), and ends.

    Every allocation that comes to the slow path wakes kswapd: the runs for the other `requests` that came before this
    one find nothing either, up to the sixteenth. A run for a boost counts as one of them, until 6.19
    (`boosted_runs_fail`) [K-boosted-runs].
    """
    runs = min(1 if boosted else requests, MAX_RECLAIM_RETRIES - m.kswapd_failures[tier])
    if boosted and m.boosted_runs_fail == n.OFF:
        runs = 0
    m.kswapd_failures[tier] += runs
    m.kswapd_awake[tier] = 0
    m.counters[n.C_KSWAPD_RUNS_EMPTY] += runs
    m.counters[n.C_KSWAPD_WAKEUPS_FAST + tier] += max(runs - 1, 0)


@jit_inline
def end_run_for_boost(m, tier):
    """The multi-gen LRU scans nothing for a boost alone, since such a run may not write (mm/vmscan.c:
    lru_gen_shrink_node with may_writepage off): it takes the boost back and has failed."""
    requests = m.kswapd_requests[tier]
    m.kswapd_requests[tier] = 0
    end_boost(m, tier)
    end_empty_run(m, tier, requests, True)
    return 0


@jit
def kswapd_run(m, tier):
    """One run of a woken kswapd, within its budget of this tick (mm/vmscan.c: balance_pgdat). Returns the pages freed.

    A node that only a boost woke it for, any zone of which is above high, gives back as many file pages as the boost
    and nothing else (may_swap is off while balance_pgdat has nr_boost_reclaim); under the multi-gen LRU, nothing.
    """
    want = node_deficit(m, tier)
    if m.kswapd_scan[tier] == 0:
        m.kswapd_boosted[tier] = 1 if want == 0 else 0
    boosted = want == 0 and m.kswapd_boosted[tier] == 1
    if boosted and m.lru_gen == n.ON and node_boost(m, tier) > 0:
        return end_run_for_boost(m, tier)
    if boosted:
        want = node_boost(m, tier)
    if m.lru_gen == n.ON and m.kswapd_scan[tier] == 0 and want > 0:
        m.kswapd_scan[tier] = scan_length(m, tier)
    want = max(want, m.kswapd_scan[tier])
    if want == 0:
        m.kswapd_awake[tier] = 0
        return 0
    budget = int(m.kswapd_budget[tier])
    want -= pages_in_writeback(m, tier)
    if budget <= 0 or want <= 0:
        return 0
    requests = max(m.kswapd_requests[tier], 1)
    m.kswapd_requests[tier] = 0
    premature = m.kswapd_premature[tier] == 1 and tier == n.FAST
    freed, seconds = shrink_node(m, tier, min(max(want, MIN_BATCH_PAGES), budget), boosted, premature)
    if freed == 0:
        m.kswapd_scan[tier] = 0
        end_empty_run(m, tier, requests, boosted)
        return 0
    m.kswapd_scan[tier] = max(m.kswapd_scan[tier] - freed, 0)
    forget_failures(m, tier)
    # kswapd runs beside the workers: it costs them one CPU's share of its time.
    charge_reclaim(m, m.kswapd_class[tier], premature, freed, seconds * min(1.0, m.workers / m.cpus))
    if m.kswapd_scan[tier] == 0 and (boosted or node_deficit(m, tier) == 0):
        m.kswapd_awake[tier] = 0
    return freed


@jit
def run_woken_kswapds(m, share):
    """Phase 3: awake kswapds work for `share` of the tick, up to high; a sleeping one saves no time up."""
    revive_by_frees(m)
    for tier in range(n.N_TIERS):
        if m.kswapd_awake[tier] == 0:
            m.kswapd_budget[tier] = 0.0
        grant_time(m, tier, share)
        for _ in range(4):
            if m.kswapd_awake[tier] == 0 or kswapd_run(m, tier) == 0:
                break
