"""NUMA balancing's promotion, by hint faults (kernel/sched/fair.c).

Candidates are pages whose hint fault came within the hot threshold; with plenty of free DRAM, every fault. Without room
above high, kswapd0 is woken for it (promotion is what makes a NORMAL slow tier demote). Where HMAT came too late, CXL
is in the top tier, and tiering mode scans no top-tier page (mm/mprotect.c: change_pte_range). Normal mode knows no
threshold and wakes nobody: what does not fit stays (migrate_misplaced_folio_prepare). With pghot, which no mainline
kernel has, pages are hot that had two hint faults within a window, and a thread moves them in batches.
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.kswapd import kswapd_run, wake_kswapd
from tiergym.sim.pages import mark_pages, node_managed
from tiergym.sim.regions import promote_region, slow_pages, unmapped
from tiergym.sim.units import PAGES_PER_MIB

MAX_ROUNDS = 64
PLENTY_PAGES = 262144  # 1 GiB: pgdat_free_space_enough
RARE_REFERENCES = 1e-3  # within the hot threshold: fewer come at any time of it alike


@jit
def promotable(m, r):
    """Hint faults skip read-only file mappings, pages without a mapping, and whatever has a mempolicy of its own
    or its task's (task_numa_work: vma_migratable, vma_policy_mof)."""
    region = m.region[r]
    kind, q = region.kind, int(region.process)
    if kind == n.KIND_FILE_RO or unmapped(m, r):
        return False
    if region.mempolicy != n.MPOL_DEFAULT or m.process[q].mempolicy != n.MPOL_DEFAULT:
        return False
    return m.process[q].down_s <= 0.0


@jit
def plenty_free(m):
    """Whether some zone of DRAM has so much free that every hint fault may promote (pgdat_free_space_enough)."""
    enough = max(PLENTY_PAGES, node_managed(m, n.FAST) // 16)
    for z in range(n.FIRST_SLOW_ZONE):
        mark = m.wmark_pages[n.WMARK_PROMO, z] + m.boost_pages[z] + m.reserve_movable_pages[z]
        if m.free_pages[z] > mark + enough:
            return True
    return False


@jit
def scan(m, q, share):
    """Passes of the scan over process q in `share` of a tick, by its CPU time (kernel/sched/fair.c: task_tick_numa).

    A pass marks so much that has no mark yet, all at once (task_numa_work, numa_balancing_scan_size_mb): a marked page
    is not marked again before its hint fault. Whether that fault will come within the hot threshold is settled here.
    """
    process = m.process[q]
    process.scan_s += m.process_seldom[q].cpu_share * m.dt_s * share
    passes = math.floor(process.scan_s / m.scan_period_s + 1e-9)
    if passes < 1.0:
        return
    process.scan_s = max(process.scan_s - passes * m.scan_period_s, 0.0)
    total = 0.0
    for r in range(m.regions):
        if int(m.region[r].process) == q and promotable(m, r):
            marks = m.region_seldom[r]
            total += slow_pages(m, r) - marks.marked_hot - marks.marked_cold
    if total <= 0.0:
        return
    marked = min(1.0, passes * m.scan_period_s * m.scan_mib_per_s * PAGES_PER_MIB / total)
    for r in range(m.regions):
        region, marks = m.region[r], m.region_seldom[r]
        if int(region.process) == q and promotable(m, r):
            new = (slow_pages(m, r) - marks.marked_hot - marks.marked_cold) * marked
            marks.marked_hot += new * region.hot
            marks.marked_cold += new * (1.0 - region.hot)
            marks.marked_once += marks.seen_once * marked
            marks.seen_once -= marks.seen_once * marked
    # The page that the thread works with is marked too, and referenced at once.
    m.promote_part += 1.0
    m.hint_part += 1.0


@jit
def hint_faults(m, r, seconds):
    """Marked pages of region r that are referenced within `seconds`: (within the hot threshold of their mark, later).

    References are a Poisson process, so those within the threshold come after 1/hz at most, half of the threshold if
    they are rare, and the others 1/hz behind it. Pages that have left the slow tier took their marks along.
    """
    region, marks = m.region[r], m.region_seldom[r]
    marked = marks.marked_hot + marks.marked_cold
    if marked <= 0.0 or region.hz <= 0.0:
        return 0.0, 0.0
    stay = min(1.0, slow_pages(m, r) / marked)
    threshold_s = m.hot_threshold_ms * 1e-3
    wait_s = 0.5 * threshold_s
    if region.hz * threshold_s > RARE_REFERENCES:
        wait_s = 1.0 / region.hz - threshold_s * (1.0 - region.hot) / region.hot
    hot = marks.marked_hot * stay * -math.expm1(-seconds / wait_s)
    cold = marks.marked_cold * stay * -math.expm1(-seconds / (threshold_s + 1.0 / region.hz))
    marks.marked_hot = marks.marked_hot * stay - hot
    marks.marked_cold = marks.marked_cold * stay - cold
    return hot, cold


@jit
def second_faults(m, r, faults, marked, seconds):
    """Of region r's hint faults within `seconds`, those of pages that had one already within promote_window_s.

    pghot counts hint faults per page and knows no latency ([K-pghot]). `marked`: its marked pages before the faults. A
    page seen once is forgotten after promote_window_s on average, marked again or not.
    """
    marks = m.region_seldom[r]
    kept = math.exp(-seconds / m.promote_window_s) * min(1.0, slow_pages(m, r) / max(marked, 1.0))
    again = 0.0
    if marked > 0.0:
        again = min(marks.marked_once * kept * faults / marked, faults)
    marks.marked_once = marks.marked_once * kept - again
    marks.seen_once = min(marks.seen_once * math.exp(-seconds / m.promote_window_s) + faults - again, slow_pages(m, r))
    return again


@jit
def promotion_room(m):
    """Pages that fit into DRAM above high (migrate_balanced_pgdat)."""
    room = 0
    for z in range(n.FIRST_SLOW_ZONE):
        room += max(0, m.free_pages[z] - mark_pages(m, z, n.WMARK_HIGH, True))
    return room


@jit
def numa_promotes(m):
    """Whether NUMA balancing may take DRAM in any tick."""
    return m.numa_balancing != n.NUMA_BALANCING_OFF


@jit
def counts_accesses(m):
    """Whether a page is hot by the number of its hint faults: tiering mode with pghot."""
    return m.promote_accesses > 1.0 and m.numa_balancing == n.NUMA_BALANCING_TIERING


@jit_inline
def take_hint_faults(m, share, tiering):
    """Every process takes the hint faults of `share` of a tick's scanning; each region asks for promotion (`asked`).

    Returns (candidates, what fell short of one page in regions that ask for none).
    """
    counts = counts_accesses(m)
    every_fault = not tiering or (not counts and plenty_free(m))
    total, parts = 0, 0.0
    for q in range(m.processes):
        scan(m, q, share)
    for r in range(m.regions):
        region = m.region[r]
        region.asked = 0
        if not promotable(m, r):
            continue
        marked = m.region_seldom[r].marked_hot + m.region_seldom[r].marked_cold
        hot, cold = hint_faults(m, r, m.dt_s * share)
        wanted = hot + cold if every_fault else hot
        if counts:
            wanted = second_faults(m, r, hot + cold, marked, m.dt_s * share)
        region.asked = int(wanted + 0.5)
        parts += wanted - region.asked if wanted < 0.5 else 0.0
        total += region.asked
        m.hint_part += hot + cold
        m.owed_s[n.LOST_MIGRATION] += (hot + cold) * m.hint_fault_us * 1e-6
    m.counters[n.C_NUMA_HINT_FAULTS] += int(m.hint_part)
    m.hint_part -= math.floor(m.hint_part)
    return total, parts


@jit_inline
def note_rare_faults(m, parts, tiering):
    """Rare hint faults move too little to count, but one is enough to find no room and wake kswapd."""
    m.promote_part += parts
    if m.promote_part >= 1.0:
        m.promote_part -= math.floor(m.promote_part)
        if tiering and promotion_room(m) == 0:
            wake_kswapd(m, n.FAST, n.ANON, False, 1)


@jit_inline
def make_room(m, wanted, tiering):
    """Pages that fit into DRAM now; in tiering mode kswapd is woken where fewer do than are wanted, and works."""
    room = promotion_room(m)
    if room < wanted and tiering:
        wake_kswapd(m, n.FAST, n.ANON, False, 1)
        if m.kswapd_awake[n.FAST] == 1:
            kswapd_run(m, n.FAST)
            room = promotion_room(m)
    return min(wanted, room)


@jit_inline
def promote_candidates(m, total, tiering):
    """Move what regions asked for, `total` in all, within the rate limit and DRAM's room; returns the pages moved."""
    limit = min(total, int(m.promote_credit))
    moved = 0
    for _ in range(MAX_ROUNDS):  # kswapd makes room while promotion uses it up
        room = make_room(m, limit - moved, tiering)
        before = moved
        for r in range(m.regions):
            region = m.region[r]
            ask = region.asked * room // total
            if ask > 0:
                done = promote_region(m, r, ask, n.WMARK_HIGH)
                region.promoted += done
                moved += done
        if moved in (before, limit):
            break
    return moved


@jit
def numa_promote(m, share):
    """Promotion by NUMA balancing during `share` of a tick; `promoted` of the regions adds up over the tick."""
    tiering = m.numa_balancing == n.NUMA_BALANCING_TIERING
    if node_managed(m, n.SLOW) == 0 or (tiering and m.slow_in_lower_tier == n.OFF):
        return
    per_s = m.promote_limit_mib_per_s * PAGES_PER_MIB
    m.promote_credit = min(m.promote_credit + per_s * m.dt_s * share, max(per_s, 1.0))
    total, parts = take_hint_faults(m, share, tiering)
    note_rare_faults(m, parts, tiering)
    if total == 0:
        return
    m.counters[n.C_PGPROMOTE_CANDIDATE] += total
    moved = promote_candidates(m, total, tiering)
    m.promote_credit -= moved
    m.counters[n.C_PGPROMOTE_SUCCESS] += moved
    page_us = m.migrate_batched_us if counts_accesses(m) else m.migrate_unbatched_us
    m.owed_s[n.LOST_MIGRATION] += moved * page_us * 1e-6
