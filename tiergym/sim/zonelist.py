"""The zonelist: which zones serve a request, in which order (mm/page_alloc.c: get_page_from_freelist).

What a request gets is left in `grant_pages`, per zone. Waking kswapd is not part of the walk.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.pages import mark_pages, take_from_zone

NODE_FAST, NODE_SLOW, NODE_BOTH = 1, 2, 3


@jit
def clear_grant(m):
    """Start a new request."""
    for z in range(n.N_ZONES):
        m.grant_pages[z] = 0


@jit
def turn_pcp(m):
    """Let the lists of kernel and of user pages change places: each helps requests of its own migrate type alone
    (mm/page_alloc.c: rmqueue_pcplist)."""
    for z in range(n.N_ZONES):
        own = m.pcp_pages[z] - m.pcp_idle_pages[z]
        m.pcp_idle_pages[z] = m.pcp_pages[z] - m.pcp_kernel_pages[z]
        m.pcp_kernel_pages[z] = own


@jit
def busy_part(m, tier, want):
    """Of `want` requests, those that come while the node's kswapd works: all while it is awake; when it has finished,
    those that have not come yet of what comes during its runs of this tick."""
    part = min(want, int(m.kswapd_busy[tier]))
    m.kswapd_busy[tier] -= part
    return want if m.kswapd_awake[tier] == 1 else part


@jit
def pass_over_busy(m, want):
    """Of `want` requests that may use both nodes, those that find one of them busy, and the node that is not.

    Since 6.18 a first walk passes over the nodes whose kswapd works, and only what it has not found is looked for
    everywhere (mm/page_alloc.c: get_page_from_freelist, skip_kswapd_nodes) [K-busy-node]. A request that may use one
    node only has no other to look on.
    """
    fast, slow = busy_part(m, n.FAST, want), busy_part(m, n.SLOW, want)
    return abs(fast - slow), NODE_SLOW if fast > slow else NODE_FAST


@jit_inline
def grant_from_zone(m, z, want, level, movable):
    """Zone z's part of a request: what it gives above the mark goes into `grant_pages`; returns the pages got."""
    mark = mark_pages(m, z, level, movable)
    if m.free_pages[z] <= mark:
        return 0  # three of four zones that a full machine's requests come by: not worth a call
    got = take_from_zone(m, z, want, mark)
    m.grant_pages[z] += got
    return got


@jit_inline
def walk_zonelist(m, want, level, nodes, slow_first, movable):
    """Walk the zonelist for single pages; returns the pages got.

    Node-major: DRAM's zones from MOVABLE (movable requests only) down to DMA, then the slow node's MOVABLE and NORMAL;
    `slow_first` turns the nodes round.
    """
    left = want
    turned = not movable and m.pcp_by_type == n.ON
    if turned:
        turn_pcp(m)
    for step in range(2):
        slow = (step == 1) != slow_first
        if slow and nodes & NODE_SLOW:
            if movable:
                left -= grant_from_zone(m, n.SLOW_MOVABLE, left, level, True)
            left -= grant_from_zone(m, n.SLOW_NORMAL, left, level, movable)
        elif not slow and nodes & NODE_FAST:
            for z in range(n.MOVABLE if movable else n.NORMAL, -1, -1):
                if left == 0:
                    break
                left -= grant_from_zone(m, z, left, level, movable)
        if left == 0:
            break
    if turned:
        turn_pcp(m)
    return want - left


@jit
def take_past_busy_node(m, want, level, slow_first, movable):
    """Single pages for a request that may use both nodes and looks on the one that is not busy first; returns their
    number."""
    aside, node = pass_over_busy(m, want)
    got = walk_zonelist(m, aside, level, node, slow_first, movable) if aside > 0 else 0
    return got if got == want else got + walk_zonelist(m, want - got, level, NODE_BOTH, slow_first, movable)


@jit
def take_from_zonelist(m, want, level, nodes, slow_first, movable):
    """Single pages for a request that may use `nodes`, down to the mark `level`; returns their number."""
    if m.skip_busy_node == n.ON and nodes == NODE_BOTH:
        return take_past_busy_node(m, want, level, slow_first, movable)
    return walk_zonelist(m, want, level, nodes, slow_first, movable)


@jit
def take_folios_from_node(m, tier, want, unit):
    """Whole folios of `unit` pages from a node's zones, its highest first, as long as a zone keeps low free behind each
    (__zone_watermark_ok); returns the pages got.

    Orders above 3 come from the free lists themselves, not through a per-CPU list (mm/page_alloc.c:
    pcp_allowed_order), so nothing blurs the mark. Fragmentation is not modelled: a zone with room for a folio has one.
    """
    left = want
    for z in range(n.LAST_ZONE[tier], n.FIRST_ZONE[tier] - 1, -1):
        room = m.free_pages[z] - mark_pages(m, z, n.WMARK_LOW, True)
        got = min(left, max(room, 0)) // unit * unit
        m.free_pages[z] -= got
        m.grant_pages[z] += got
        left -= got
    return want - left


@jit
def walk_for_folios(m, want, nodes, slow_first, unit):
    """Walk the zonelist for whole folios of `unit` pages of user memory; returns the pages got."""
    got = 0
    for step in range(n.N_TIERS):
        tier = n.SLOW if (step == 1) != slow_first else n.FAST
        if nodes & (NODE_FAST if tier == n.FAST else NODE_SLOW):
            got += take_folios_from_node(m, tier, want - got, unit)
    return got


@jit
def take_folios(m, want, nodes, slow_first, unit):
    """Whole folios of `unit` pages for a request of user memory that may use `nodes`; returns the pages got."""
    got = 0
    if m.skip_busy_node == n.ON and nodes == NODE_BOTH:
        aside, node = pass_over_busy(m, want)
        if aside > 0:
            got = walk_for_folios(m, aside, node, slow_first, unit)
    return got + walk_for_folios(m, want - got, nodes, slow_first, unit)
