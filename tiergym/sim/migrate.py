"""Phase 6: moving kernel pages to DRAM, as the policy asks for it.

Page tables move as Radiant does it [W-radiant]: copy, re-point the parent, flush; about one unbatched page
migration each. Slab moves only where its caches can (xarray, maple nodes, vma), stacks only where the kernel can.
Where DRAM is short of free pages, the policy's `migrate.room` says how it is made.
"""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.exchange import exchange_pages
from tiergym.sim.kswapd import kswapd_run, wake_kswapd
from tiergym.sim.pages import (
    charge_class,
    free_class,
    mark_pages,
    node_managed,
    take_from_zone,
)
from tiergym.sim.slab import slab_class
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES

BUDGET_PAGES_PER_S = (2000.0, 20000.0, 200000.0)
CALM_S = 0.5
"""Low pressure: no request has found DRAM below low for this long."""
KSWAPD_ROUNDS = 64
"""Runs of kswapd0 in a tick for one class at most; its time ends them before."""


@jit
def take_free(m, pages):
    """Pages of DRAM above high, added to `grant_pages`. Returns their number."""
    done = 0
    for z in range(n.NORMAL, -1, -1):
        floor = mark_pages(m, z, n.WMARK_HIGH, False)
        got = take_from_zone(m, z, min(pages - done, max(0, m.free_pages[z] - floor)), floor)
        m.grant_pages[z] += got
        done += got
    return done


@jit
def take_from_kswapd(m, cls, pages):
    """The same, of what kswapd0 frees for a class: it is woken, and works while pages are taken, as for promotion
    (mm/migrate.c: migrate_misplaced_folio_prepare)."""
    done = 0
    for _ in range(KSWAPD_ROUNDS):
        wake_kswapd(m, n.FAST, cls, False, 1)
        if m.kswapd_awake[n.FAST] == 0 or kswapd_run(m, n.FAST) == 0:
            break
        done += take_free(m, pages - done)
        if done == pages:
            break
    return done


@jit
def pull_up(m, cls, pages):
    """Move kernel pages of a class from the slow NORMAL zone to DRAM: what is free above high, then as `migrate.room`
    says; `grant_pages` says where to."""
    for z in range(n.N_ZONES):
        m.grant_pages[z] = 0
    done = take_free(m, pages)
    room = m.action[n.A_MIGRATE_ROOM]
    if done < pages and room == n.ROOM_KSWAPD:
        done += take_from_kswapd(m, cls, pages - done)
    for z in range(n.FIRST_SLOW_ZONE):  # only now: until its objects have come, a slab page would look empty to kswapd
        charge_class(m, cls, z, m.grant_pages[z])
    free_class(m, cls, n.SLOW_NORMAL, done)
    copies = done
    if done < pages and room == n.ROOM_EXCHANGE:
        exchanged = exchange_pages(m, cls, pages - done)
        m.counters[n.C_PGEXCHANGE] += exchanged
        copies += 2 * exchanged  # each page of a pair is unmapped, flushed and copied
        done += exchanged
    m.moved_bytes[n.FAST] += copies * PAGE_BYTES
    m.moved_bytes[n.SLOW] += copies * PAGE_BYTES
    m.owed_s[n.LOST_MIGRATION] += copies * m.migrate_unbatched_us * 1e-6
    m.counters[n.C_PGMIGRATE_FAIL] += pages - done
    return done


@jit
def pull_up_leaf(m, r, pages):
    """Move leaf page tables of region r to DRAM."""
    region = m.region[r]
    done = pull_up(m, n.PT_LEAF, min(pages, region.leaf[n.SLOW_NORMAL]))
    region.leaf[n.SLOW_NORMAL] -= done
    for z in range(n.FIRST_SLOW_ZONE):
        region.leaf[z] += m.grant_pages[z]
    m.counters[n.C_PGMIGRATE_PT] += done
    return done


@jit
def migrate_tables_with_data(m, budget):
    """A promoted page takes its leaf table along: promotion walks the address space in order, so the pages
    promoted in a tick share tables as densely as the region's hot pages lie."""
    for r in range(m.regions):
        region = m.region[r]
        moved = region.promoted
        if moved == 0 or region.leaf[n.SLOW_NORMAL] == 0 or budget <= 0:
            continue
        per_table = max(1.0, LEAF_SPAN_PAGES * region.density * max(region.hot, 1e-3))
        budget -= pull_up_leaf(m, r, min(budget, int(moved / per_table) + 1))
    return budget


@jit
def migrate_idle_tables(m, budget):
    """Under low pressure, the most walked region's tables first, then the next; upper levels before all."""
    for r in range(m.regions):
        region = m.region[r]
        upper = min(budget, region.upper[n.SLOW_NORMAL])
        if upper > 0:
            done = pull_up(m, n.PT_UPPER, upper)
            region.upper[n.SLOW_NORMAL] -= done
            for z in range(n.FIRST_SLOW_ZONE):
                region.upper[z] += m.grant_pages[z]
            m.counters[n.C_PGMIGRATE_PT] += done
            budget -= done
    for _ in range(3):
        best, most = -1, -1.0
        for r in range(m.regions):
            region = m.region[r]
            if region.leaf[n.SLOW_NORMAL] > 0 and region.tlb > most:
                best, most = r, region.tlb
        if best < 0 or budget <= 0:
            break
        done = pull_up_leaf(m, best, min(budget, m.region[best].leaf[n.SLOW_NORMAL]))
        budget -= done
        if done == 0:
            break
    return budget


@jit
def migrate_slab(m, pool, budget):
    """Move slab pages whose caches can migrate, with their share of the objects."""
    cls = slab_class(pool)
    on_slow = m.used_pages[cls, n.SLOW_NORMAL]
    want = min(budget, min(int(m.slab_movable[pool]), on_slow))
    if want <= 0:
        return budget
    done = pull_up(m, cls, want)
    if done > 0:
        there = m.slab_objects[pool, n.SLOW]
        objects = min(there * done / on_slow, there)  # a product rounds up now and then
        m.slab_objects[pool, n.SLOW] -= objects
        m.slab_objects[pool, n.FAST] += objects
        m.slab_movable[pool] -= done
        m.slab_changed[pool, n.SLOW] = 1
        m.slab_changed[pool, n.FAST] = 1
        m.counters[n.C_PGMIGRATE_SLAB] += done
    return budget - done


@jit
def migrate_kernel_pages(m):
    """What the action asks to move in this tick, within its budget."""
    # An exchange takes no free page, so it has no calm to wait for.
    calm = m.calm_s >= CALM_S or m.action[n.A_MIGRATE_ROOM] == n.ROOM_EXCHANGE
    if node_managed(m, n.SLOW) == 0:
        return
    budget = int(BUDGET_PAGES_PER_S[m.action[n.A_MIGRATE_BUDGET]] * m.dt_s)
    mode = m.action[n.A_MIGRATE_PT_LEAF]
    if mode != n.MIGRATE_TABLES_OFF:
        budget = migrate_tables_with_data(m, budget)
    if not calm:
        return
    if mode == n.MIGRATE_TABLES_IDLE:
        budget = migrate_idle_tables(m, budget)
    if m.action[n.A_MIGRATE_SLAB] == n.MIGRATE_OBJECTS_IDLE:
        for pool in range(n.N_SLAB_POOLS):
            budget = migrate_slab(m, pool, budget)
    if m.action[n.A_MIGRATE_KSTACK] == n.MIGRATE_OBJECTS_IDLE:
        want = min(budget, m.used_pages[n.KSTACK, n.SLOW_NORMAL])
        if want > 0:
            m.counters[n.C_PGMIGRATE_KSTACK] += pull_up(m, n.KSTACK, want)
