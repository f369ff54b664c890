"""One allocation request, in the order of mm/page_alloc.c: fast path, slow path, direct reclaim, OOM.

Requests are batches of order-0 pages; what a page-by-page loop would get from each zone is computed at once.
The pages got are left in `grant_pages`, per zone, for the caller to hand out.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.dirty import dirty_room, note_written
from tiergym.sim.kswapd import charge_reclaim, forget_failures, kswapd_run, wake_demotion_target, wake_kswapd
from tiergym.sim.limits import is_limited, pages_beyond_limit
from tiergym.sim.oom import out_of_memory, still_scanning
from tiergym.sim.pageblocks import fill_kernel_blocks, steal_kernel_blocks
from tiergym.sim.pages import charge_class, drain_pcp, kernel_zone, on_tier, slow_free_above, tier_of
from tiergym.sim.random_bits import uniform
from tiergym.sim.reclaim import reclaim_node
from tiergym.sim.reserve import hand_out_reserve, may_use_reserve, take_with_reserve
from tiergym.sim.streams import STREAM_THROTTLE, THROTTLE_STREAMS
from tiergym.sim.zonelist import NODE_BOTH, NODE_FAST, NODE_SLOW, clear_grant, take_folios, take_from_zonelist

CLUSTER_PAGES = 32  # SWAP_CLUSTER_MAX
ROUNDS = 16  # MAX_RECLAIM_RETRIES
MAX_PROGRESS_ROUNDS = 256  # bounds a tick: 32 pages each, more than any mark is below another
THROTTLE_MEAN_S = 0.0128  # 4, 20 or 100 ms (one jiffy, ISOLATED, WRITEBACK) with 70, 25 and 5 %
FEW_SLEEPS = 4  # of one reclaim, up to which each is drawn


@jit
def throttle_s(m, batches, futile):
    """Sleeps of direct reclaimers (mm/vmscan.c: reclaim_throttle): heavy-tailed, 4, 20 or 100 ms each.

    Few sleeps are drawn one by one, many by their mean. A futile round sleeps once (VMSCAN_THROTTLE_NOPROGRESS).
    """
    stream = STREAM_THROTTLE + THROTTLE_STREAMS * m.counters[n.C_ALLOCSTALL]
    u = uniform(m.key, m.tick, stream)
    count = int(batches * m.throttle_per_batch + u)
    seconds = 0.004 if futile else 0.0
    if count > FEW_SLEEPS:
        return seconds + count * THROTTLE_MEAN_S
    for i in range(count):
        v = uniform(m.key, m.tick, stream + 1 + i)
        seconds += 0.004 if v < 0.7 else (0.02 if v < 0.95 else 0.1)
    return seconds


@jit
def direct_reclaim(m, want, cls, nodes, premature):
    """try_to_free_pages over the nodes of the request; the caller waits. Returns the pages freed."""
    freed, seconds = 0, 0.0
    m.reclaim_kernel = 1 if cls >= n.FIRST_KERNEL_CLASS else 0
    for tier in range(n.N_TIERS):
        if nodes & (NODE_FAST if tier == n.FAST else NODE_SLOW):
            got, demoted, spent = reclaim_node(m, tier, want, premature and tier == n.FAST)
            m.counters[n.C_PGSTEAL_DIRECT_FAST + tier] += got
            m.counters[n.C_PGDEMOTE_DIRECT] += demoted
            if tier == n.FAST:
                wake_demotion_target(m)
            freed += got
            seconds += spent
            if got > 0:
                forget_failures(m, tier)
    m.reclaim_kernel = 0
    batches = max(want, CLUSTER_PAGES) // CLUSTER_PAGES
    seconds += throttle_s(m, batches, freed == 0)
    m.counters[n.C_ALLOCSTALL] += batches if freed > 0 else 1
    m.stall_s[cls] += seconds
    charge_reclaim(m, cls, premature, freed, seconds)
    return freed


@jit
def request(m, want, cls, nodes, slow_first, movable, direct, may_kill, restricted):
    """Allocate up to `want` pages for class `cls`; adds them to `grant_pages` and returns their number.

    fast path: every zone of the list down to low; nobody is woken (get_page_from_freelist).
    slow path: wake the kswapds of the request's nodes, then take down to min while they work.
    `direct`: then reclaim directly; `may_kill`: after 16 futile rounds call the OOM killer.
    `restricted`: a kernel request that may not use the slow tier; what is reclaimed for it while the slow
    tier has the pages free is premature.
    """
    allowed = nodes
    if not movable and m.managed_pages[n.SLOW_NORMAL] == 0:
        nodes &= NODE_FAST  # gfp_zone: nothing above NORMAL, so no kswapd1 and no reclaim of what it could not use
    left = want - take_from_zonelist(m, want, n.WMARK_LOW, nodes, slow_first, movable)
    if left == 0:
        return want
    premature = restricted and slow_free_above(m, n.WMARK_LOW) >= left
    if nodes & NODE_FAST:
        m.calm_s = 0.0
        wake_kswapd(m, n.FAST, cls, premature, left)
    if nodes & NODE_SLOW:
        wake_kswapd(m, n.SLOW, cls, False, left)
    left -= take_from_zonelist(m, left, n.WMARK_MIN, nodes, slow_first, movable)
    for _ in range(ROUNDS):
        if left == 0:
            return want
        freed = 0
        for tier in range(n.N_TIERS):
            if m.kswapd_awake[tier] == 1 and nodes & (NODE_FAST if tier == n.FAST else NODE_SLOW):
                freed += kswapd_run(m, tier)
        if freed == 0:
            break
        left -= take_from_zonelist(m, left, n.WMARK_MIN, nodes, slow_first, movable)
    if not direct:
        return want - left
    for _ in range(MAX_PROGRESS_ROUNDS):
        if left == 0:
            return want
        if direct_reclaim(m, max(left, CLUSTER_PAGES), cls, nodes, premature) == 0:
            break  # nothing changes between futile rounds of one tick: sixteen fail as one does
        # While there is progress the retries do not count (should_reclaim_retry).
        drain_pcp(m)
        left -= take_from_zonelist(m, left, n.WMARK_MIN, nodes, slow_first, movable)
    if left > 0 and may_kill and still_scanning(m, nodes):
        return want - left
    while left > 0 and may_kill and out_of_memory(m, left, cls, allowed):
        left -= take_from_zonelist(m, left, n.WMARK_MIN, nodes, slow_first, movable)
    return want - left


@jit
def hand_out(m, cls):
    """The granted pages become pages of class `cls`."""
    if m.grant_pages[kernel_zone(m)] > 0:
        if cls >= n.FIRST_KERNEL_CLASS:
            fill_kernel_blocks(m, m.grant_pages[kernel_zone(m)], cls)
        else:
            steal_kernel_blocks(m)
    for z in range(n.N_ZONES):
        pages = m.grant_pages[z]
        if pages > 0:
            charge_class(m, cls, z, pages)
            m.counters[n.C_PGALLOC_FAST + tier_of(z)] += pages


@jit
def interleaved(m, want, mempolicy):
    """Of `want` pages, those whose turn falls on the slow node: every other one, or by the nodes' weights
    (mm/mempolicy.c: interleave_nodes, weighted_interleave_nodes)."""
    if mempolicy == n.MPOL_INTERLEAVE:
        return want // 2
    return int(want * m.interleave_slow / (m.interleave_fast + m.interleave_slow))


@jit
def request_by_policy(m, want, cls, mempolicy, movable, may_kill, restricted):
    """A request under a mempolicy (mm/mempolicy.c); BIND to a node without a zone for it is ignored
    (apply_policy_zone)."""
    if mempolicy == n.MPOL_DEFAULT:
        return request(m, want, cls, NODE_BOTH, False, movable, True, may_kill, restricted)
    if mempolicy == n.MPOL_BIND_FAST:
        return request(m, want, cls, NODE_FAST, False, movable, True, may_kill, False)
    if mempolicy == n.MPOL_BIND_SLOW and (movable or m.managed_pages[n.SLOW_NORMAL] > 0):
        return request(m, want, cls, NODE_SLOW, True, movable, True, may_kill, False)
    if mempolicy in (n.MPOL_INTERLEAVE, n.MPOL_WEIGHTED_INTERLEAVE):
        on_slow = interleaved(m, want, mempolicy)
        got = request(m, on_slow, cls, NODE_BOTH, True, movable, True, may_kill, restricted)
        return got + request(m, want - on_slow, cls, NODE_BOTH, False, movable, True, may_kill, restricted)
    slow_first = mempolicy == n.MPOL_PREFER_SLOW
    return request(m, want, cls, NODE_BOTH, slow_first, movable, True, may_kill, restricted)


@jit
def allocate_kernel(m, cls, want, mempolicy):
    """GFP_KERNEL pages of a class by its placement mode; returns the pages got, none for a class that no entry
    of the action places [K-restriction-forms].

    `mempolicy` is the task's (never the VMA's); it decides where the placement mode is `fallback`.

    fallback: the plain zonelist. prefer_fast: DRAM first without direct reclaim, which wakes kswapd0, then
    everything (alloc_pages_preferred_many). restrict: a nodemask of DRAM: reclaim, then OOM. prefer_slow: CXL first.
    Page tables that want DRAM look there first and then into the reserve for them, if there is one (`reserve.pt`).
    Pages beyond the limit of their class ask for CXL first (`limit.kernel`).
    """
    clear_grant(m)
    entry = n.PLACEMENT_ENTRIES[cls]
    if want <= 0 or entry < 0:
        return 0
    mode = m.action[entry]
    zone_restricts = m.managed_pages[n.SLOW_NORMAL] == 0 and m.managed_pages[n.SLOW_MOVABLE] > 0
    beyond = pages_beyond_limit(m, cls, want) if is_limited(m, mode, mempolicy) else 0
    want -= beyond
    got, reserved = 0, 0
    if may_use_reserve(m, cls, mode, mempolicy):
        got, reserved = take_with_reserve(m, want)
        want -= reserved
    if mode == n.PREFER_FAST:
        got += request(m, want - got, cls, NODE_FAST, False, False, False, False, True)
    if mode == n.RESTRICT:
        got += request(m, want - got, cls, NODE_FAST, False, False, True, True, True)
    elif got < want:
        policy = mempolicy if mode == n.FALLBACK else n.MPOL_DEFAULT
        policy = n.MPOL_PREFER_SLOW if mode == n.PREFER_SLOW else policy
        got += request_by_policy(m, want - got, cls, policy, False, True, zone_restricts)
    if mode != n.PREFER_SLOW and mempolicy == n.MPOL_DEFAULT:
        m.counters[n.C_KERNEL_FALLBACK_SLOW] += m.grant_pages[n.SLOW_NORMAL]
    if beyond > 0:
        got += request_by_policy(m, beyond, cls, n.MPOL_PREFER_SLOW, False, True, zone_restricts)
    hand_out(m, cls)
    if reserved > 0:
        hand_out_reserve(m, cls, reserved)
    return got + reserved


@jit
def request_folios(m, want, mempolicy, unit):
    """Of `want` pages of page cache, those that come as whole folios of `unit`: down to low, from any node of the list
    that has one; nobody is woken for them (mm/readahead.c: ra_alloc_folio). What is left is asked for page by page.

    Folios of interleaved memory take their turns as pages do.
    """
    if mempolicy in (n.MPOL_INTERLEAVE, n.MPOL_WEIGHTED_INTERLEAVE):
        return 0
    nodes = NODE_BOTH
    if mempolicy == n.MPOL_BIND_FAST:
        nodes = NODE_FAST
    elif mempolicy == n.MPOL_BIND_SLOW:
        nodes = NODE_SLOW
    return take_folios(m, want // unit * unit, nodes, mempolicy == n.MPOL_PREFER_SLOW, unit)


@jit
def allocate_user(m, cls, want, mempolicy, may_kill=True):
    """GFP_HIGHUSER_MOVABLE pages by the region's mempolicy; returns the pages got."""
    clear_grant(m)
    if want <= 0:
        return 0
    got = request_by_policy(m, want, cls, mempolicy, True, may_kill, False)
    hand_out(m, cls)
    if mempolicy == n.MPOL_DEFAULT:
        m.counters[n.C_USER_FALLBACK_SLOW] += on_tier(m.grant_pages, n.SLOW)
    return got


@jit
def allocate_cache(m, cls, want, mempolicy, written_share, unit):
    """As `allocate_user`, of page cache: in folios of `unit` where that can be, `written_share` of it for write(2)
    (__GFP_WRITE).

    The fast path takes none of these from a node over its dirty limit; where both are, the slow path asks no more.
    """
    clear_grant(m)
    if want <= 0:
        return 0
    written = int(want * written_share + 0.5)
    got = 0
    if mempolicy == n.MPOL_DEFAULT and written > 0:
        beyond = written - min(written, dirty_room(m, n.FAST))
        got = take_from_zonelist(m, min(beyond, dirty_room(m, n.SLOW)), n.WMARK_LOW, NODE_SLOW, True, True)
    if unit > 1:
        got += request_folios(m, want - got, mempolicy, unit)
    got += request_by_policy(m, want - got, cls, mempolicy, True, True, False)
    note_written(m, min(written, got), got)
    hand_out(m, cls)
    if mempolicy == n.MPOL_DEFAULT:
        m.counters[n.C_USER_FALLBACK_SLOW] += on_tier(m.grant_pages, n.SLOW)
    return got


@jit
def allocate_huge(m, cls, want):
    """Huge pages for `want` pages of faults: GFP_TRANSHUGE_LIGHT | THISNODE (vma_thp_gfp_mask).

    DRAM only, down to min because the slow path retries there, without waking kswapd or reclaiming; whatever
    is missing falls back to 4 KiB pages. So THP never lands on CXL by default, and leaves DRAM at min.
    """
    clear_grant(m)
    for level in (n.WMARK_LOW, n.WMARK_MIN):
        got = on_tier(m.grant_pages, n.FAST)
        take_from_zonelist(m, want - got, level, NODE_FAST, False, True)
    hand_out(m, cls)
    return on_tier(m.grant_pages, n.FAST)
