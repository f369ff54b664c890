"""Phases 3 to 5: woken kswapds, user faults, kernel allocations and promotion interleave, in proportion, in
sub-rounds, as they do on a machine where all of them run at once."""

import math

from tiergym.sim import names as n
from tiergym.sim.allocate import allocate_cache, allocate_huge, allocate_kernel, allocate_user
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.demand import tables_wanted
from tiergym.sim.dirty import write_back
from tiergym.sim.headroom import keep_headroom, wants_headroom
from tiergym.sim.kswapd import end_writeback, expect_requests, kswapd_run, run_woken_kswapds, set_kswapd_pace
from tiergym.sim.pageblocks import boost_at_random
from tiergym.sim.pages import kernel_pages_in_zone, mark_pages, obtainable, on_tier, tier_of
from tiergym.sim.percpu import set_doublings
from tiergym.sim.promotion import anybody_promotes, promote_all
from tiergym.sim.regions import (
    folio_pages,
    mapped_whole,
    region_class,
    resident_pages,
    spans_needed,
    swap_backed,
    tables_alone,
    unmapped,
    upper_tables_needed,
)
from tiergym.sim.slab import add_slab_pages, fill_holes, slab_class
from tiergym.sim.storage import begin_reads, end_reads, wait_us
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB

FEW_ROUNDS = 4
MAX_ROUNDS = 64


@jit
def part(total, k, rounds):
    """The k-th of `rounds` whole parts of `total`; they add up to it."""
    if total == 0 or rounds == 1:
        return total
    return total * (k + 1) // rounds - total * k // rounds


@jit_inline
def whole_folios(pages, unit):
    """`pages` down to whole folios of `unit`."""
    return pages if unit == 1 else pages // unit * unit


@jit_inline
def part_in_folios(total, k, rounds, unit):
    """The k-th of `rounds` parts in whole folios of `unit` pages; what makes none is in the first."""
    if unit == 1:
        return part(total, k, rounds)
    return part(total // unit, k, rounds) * unit + (total % unit if k == 0 else 0)


@jit
def fast_room(m):
    """Pages that user faults still get from DRAM above low: after these the next page table finds DRAM short."""
    room = 0
    for z in range(n.FIRST_SLOW_ZONE):
        room += obtainable(m, z, mark_pages(m, z, n.WMARK_LOW, True))
    return room


@jit
def nobody_reclaims(m, pages, room):
    """Whether `pages` requests are served without waking or meeting a kswapd, DRAM having `room` above low.

    Either DRAM has them above low, or everything may fall back to a slow tier that has them above low, and nothing
    else frees DRAM meanwhile.
    """
    if m.kswapd_awake[n.FAST] == 1 or wants_headroom(m) or anybody_promotes(m):
        return False
    if room >= pages:
        return True
    for entry in range(n.N_PLACEMENTS):
        if m.action[entry] != n.FALLBACK:
            return False
    slow_low = mark_pages(m, n.SLOW_NORMAL, n.WMARK_LOW, True)
    return m.managed_pages[n.SLOW_NORMAL] > 0 and m.free_pages[n.SLOW_NORMAL] - slow_low >= pages


@jit
def rounds_for(m, wanted, births):
    """Sub-rounds of a tick: enough that one does not outrun DRAM's low-to-high gap by more than twice.

    A page table is wanted every LEAF_SPAN_PAGES pages, so kswapd, once woken, works beside the whole stream of faults;
    coarser rounds let a tick's data pass it by (at four gaps 30 to 40 % less is demoted). A demand that is small
    against the gap, or that meets nobody who reclaims, needs few; one where all of it goes to the same tier, because
    no order among the requests then matters. What this costs in accuracy: experiments/sub_rounds.py.
    """
    gap = 1
    for z in range(n.MOVABLE):
        gap += m.wmark_pages[n.WMARK_HIGH, z] - m.wmark_pages[n.WMARK_LOW, z]
    pages = 2 * wanted + int(births) + gap // 4  # at most one table per page, one slab page per object
    wanted += int(births / m.slab_objects_per_page)
    room = fast_room(m)
    if nobody_reclaims(m, pages, room):
        return FEW_ROUNDS if pages >= gap and 0 < room < pages else 1
    return min(min(1 + FEW_ROUNDS * wanted // gap, FEW_ROUNDS) + wanted // (2 * gap), MAX_ROUNDS)


@jit
def touch_tables(m, r, pages):
    """Page tables for `pages` new pages of region r, upper levels first; returns the pages they can map."""
    region = m.region[r]
    if pages <= 0 or unmapped(m, r):
        return pages
    leaf, upper = 0, 0
    for z in range(n.N_ZONES):
        leaf += region.leaf[z]
        upper += region.upper[z]
    need = tables_wanted(m, r, pages)
    spans = leaf + need
    if need == 0:
        if not mapped_whole(m, r):
            return pages
        spans = spans_needed(m, r, resident_pages(m, r) + region.out_pages + pages)
    policy = int(m.process[int(region.process)].mempolicy)
    need_upper = upper_tables_needed(spans) - upper
    if need_upper > 0:
        got = allocate_kernel(m, n.PT_UPPER, need_upper, policy)
        for z in range(n.N_ZONES):
            region.upper[z] += m.grant_pages[z]
        if got < need_upper:
            return 0
    got = allocate_kernel(m, n.PT_LEAF, need, policy)
    for z in range(n.N_ZONES):
        region.leaf[z] += m.grant_pages[z]
    if got == need:
        return pages
    room = int((leaf + got) * LEAF_SPAN_PAGES * region.density) - resident_pages(m, r) - region.out_pages
    return min(pages, max(room, 0))


@jit
def fill_swap_cache(m, r, pages):
    """Of the pages just granted, `pages` of region r were read from swap and stay in the swap cache, slots and all,
    while swap is less than half full and nobody writes to them (mm/memory.c: should_try_to_free_swap; mm/swap.h:
    vm_swap_full)."""
    granted, slow = 0, 0
    for z in range(n.N_ZONES):
        granted += m.grant_pages[z]
        slow += m.grant_pages[z] if tier_of(z) == n.SLOW else 0
    if granted == 0 or 2.0 * m.swap_free_pages < m.swap_mib * PAGES_PER_MIB:
        return
    pages = min(pages, granted)
    on_slow = pages * slow // granted
    m.region[r].swap_cached[n.SLOW] += on_slow
    m.region[r].swap_cached[n.FAST] += pages - on_slow


@jit
def charge_refaults(m, r, pages):
    """Evicted pages came back: the reader waited for storage (premature evictions are booked as such)."""
    region = m.region[r]
    out = region.out_pages
    pages = min(pages, out)
    if pages <= 0:
        return
    premature = region.out_premature * pages // out
    region.out_pages -= pages
    region.out_premature -= premature
    if swap_backed(m, r):
        m.swap_free_pages += pages
        m.counters[n.C_PSWPIN] += pages
        fill_swap_cache(m, r, pages)
    else:
        m.counters[n.C_FILE_REFAULT] += pages
    wait_s = (wait_us(m, r) + m.fault_us) * 1e-6
    m.owed_s[n.LOST_PREMATURE_RECLAIM] += premature * wait_s
    m.owed_s[n.LOST_REFAULT] += (pages - premature) * wait_s


@jit_inline
def may_be_huge(m, r):
    """Whether huge pages serve faults of region r."""
    return m.thp == n.ON and m.region[r].thp_share > 0.0 and m.region[r].kind == n.KIND_ANON


@jit
def touch_huge(m, r, pages):
    """The part of an anonymous region's faults that huge pages serve; returns the pages got."""
    region = m.region[r]
    want = int(pages * region.thp_share)
    if want == 0:
        return 0
    got = allocate_huge(m, n.ANON, want)
    for z in range(n.N_ZONES):
        region.pages[z] += m.grant_pages[z]
    region.huge += got
    return got


@jit
def touch(m, r, new, again):
    """Region r touches `new` pages for the first time and `again` evicted ones; returns the pages it got."""
    region = m.region[r]
    if new + again <= 0 or m.process[int(region.process)].down_s > 0.0:
        return new + again
    mapped = touch_tables(m, r, new)
    if m.kswapd_awake[n.FAST] == 1:
        kswapd_run(m, n.FAST)  # woken for a table, it works while the data faults come in
    if m.process[int(region.process)].down_s > 0.0:
        return new + again  # killed for its own page table
    if tables_alone(m, r):
        region.out_pages += mapped  # a table entry, no page (do_anonymous_page, filemap_map_pages)
        return mapped
    huge = touch_huge(m, r, mapped) if may_be_huge(m, r) else 0
    cls, policy, unit = region_class(m, r), int(region.mempolicy), folio_pages(m, r)
    if unit > 1 or (region.written_share > 0.0 and not swap_backed(m, r)):
        got = huge + allocate_cache(m, cls, mapped - huge + again, policy, region.written_share, unit)
    else:
        got = huge + allocate_user(m, cls, mapped - huge + again, policy)
    for z in range(n.N_ZONES):
        region.pages[z] += m.grant_pages[z]
    charge_refaults(m, r, min(got, again))
    return got


@jit_inline
def grow_slab(m, pool, cls, left, mempolicy):
    """New pages for `left` objects of a slab pool, under a task's mempolicy; caches fetch whole bursts since 7.0
    (mm/slub.c: refill_sheaf) [K-sheaves]."""
    if left < 1e-6:
        return
    wanted, burst = left, m.slab_burst_objects
    if burst > 1.0:
        wanted = math.ceil(left / burst - 1e-9) * burst
    per_page = int(m.slab_objects_per_page)
    want = int((wanted + per_page - 1e-6) / per_page)
    got = allocate_kernel(m, cls, want, mempolicy)
    if got == 0:
        return
    slow = on_tier(m.grant_pages, n.SLOW)
    placed = min(left, float(got * per_page))
    on_slow = placed * slow / got
    if slow > 0:
        add_slab_pages(m, pool, n.SLOW, slow, on_slow)
    if got > slow:
        add_slab_pages(m, pool, n.FAST, got - slow, placed - on_slow)


@jit
def grow_slab_by_policy(m, pool, cls, births):
    """New pages follow the mempolicy of whoever asks, in proportion to the work, until 7.0 (mm/slub.c:
    alloc_slab_page); from then on they are asked for the CPU's node (`slab_follows_policy`) [K-sheaves]. Returns the
    `births` that are left to tasks without one."""
    left = births
    for q in range(m.processes):
        process = m.process[q]
        if process.mempolicy != n.MPOL_DEFAULT and process.down_s <= 0.0:
            left -= births * process.share
            grow_slab(m, pool, cls, births * process.share, int(process.mempolicy))
    return left


@jit
def bear_objects(m, pool, objects):
    """New slab objects: holes of partial slabs first, then new pages by the class's placement mode."""
    if objects <= 0.0:
        return
    cls = slab_class(pool)
    mode = m.action[n.PLACEMENT_ENTRIES[cls]]
    left = fill_holes(m, pool, objects, mode == n.PREFER_SLOW, mode != n.RESTRICT)
    if left < 1e-6:
        return
    if m.bound_processes > 0 and m.slab_follows_policy == n.ON:
        left = grow_slab_by_policy(m, pool, cls, left)
    grow_slab(m, pool, cls, left, n.MPOL_DEFAULT)


@jit
def kernel_pages_in_dram(m):
    """Kernel pages of DRAM, to see whether this tick placed new ones."""
    return kernel_pages_in_zone(m, n.DMA) + kernel_pages_in_zone(m, n.DMA32) + kernel_pages_in_zone(m, n.NORMAL)


@jit
def reclaim_in_background(m, share):
    """What kswapds do in `share` of the tick: reclaim if woken, and keep the headroom that the policy wants."""
    run_woken_kswapds(m, share)
    if wants_headroom(m):
        keep_headroom(m)


@jit_inline
def wanted_pages(m):
    """Pages that this tick asks for: faults of every region, stacks and buffers; slab's objects are counted apart."""
    wanted = m.kernel_want[n.KSTACK] + m.kernel_want[n.KERNEL_OTHER]
    for r in range(m.regions):
        wanted += m.region[r].want + m.region[r].refault
    return wanted


@jit_inline
def handle_faults(m, r, k, rounds):
    """Region r's faults in round k of `rounds`: as many as DRAM has above low, then the others.

    Unserved ones stall their process (VM_FAULT_OOM retries).
    """
    region = m.region[r]
    if region.want + region.coming == 0:
        return
    unit = folio_pages(m, r)
    new = part_in_folios(region.want, k, rounds, unit)
    again = part_in_folios(region.coming, k, rounds, unit)
    if new + again == 0:
        return
    before_low = whole_folios(min(new, fast_room(m)), unit)
    got = touch(m, r, before_low, again) if before_low + again > 0 else 0
    if got == before_low + again and new > before_low:
        got += touch(m, r, new - before_low, 0)
    if got < new + again:
        unserved = 1.0 - got / (new + again)
        share = m.process[int(region.process)].share
        m.owed_s[n.LOST_OTHER_RECLAIM] += unserved * m.dt_s * m.workers * share / rounds


@jit_inline
def allocate_for_kernel(m, k, rounds):
    """Stacks, buffers and slab objects of round k of `rounds`."""
    allocate_kernel(m, n.KSTACK, part(m.kernel_want[n.KSTACK], k, rounds), n.MPOL_DEFAULT)
    allocate_kernel(m, n.KERNEL_OTHER, part(m.kernel_want[n.KERNEL_OTHER], k, rounds), n.MPOL_DEFAULT)
    for pool in range(n.N_SLAB_POOLS):
        bear_objects(m, pool, m.slab_births[pool] / rounds)


@jit_inline
def serve_round(m, k, rounds):
    """Round k of `rounds`: its share of background reclaim, of faults, of kernel allocations and of promotion."""
    reclaim_in_background(m, 1.0 / rounds)
    for r in range(m.regions):
        handle_faults(m, r, k, rounds)
    allocate_for_kernel(m, k, rounds)
    promote_all(m, 1.0 / rounds)


@jit_inline
def begin_serving(m, wanted):
    """The swap device has written, kswapds get their pace, nothing is promoted yet."""
    for r in range(m.regions):
        m.region[r].promoted = 0
    set_doublings(m, wanted)
    end_writeback(m)
    write_back(m)
    begin_reads(m)
    for tier in range(n.N_TIERS):
        set_kswapd_pace(m, tier)
        expect_requests(m, tier, wanted)


@jit
def serve_demand(m):
    """All of this tick's faults and kernel allocations, beside reclaim and promotion."""
    wanted = wanted_pages(m)
    begin_serving(m, wanted)
    births = m.slab_births[n.SLAB_POOL_UNRECLAIM] + m.slab_births[n.SLAB_POOL_RECLAIM]
    if wanted == 0 and births <= 0.0:
        reclaim_in_background(m, 1.0)
        promote_all(m, 1.0)
        return
    placed = kernel_pages_in_dram(m) if m.boost_hz > 0.0 else 0
    rounds = rounds_for(m, wanted, births)
    for k in range(rounds):
        serve_round(m, k, rounds)
    end_reads(m)
    if m.boost_hz > 0.0 and kernel_pages_in_dram(m) > placed:
        boost_at_random(m)
