"""Where the DRAM comes from that kernel pages move to (docs/model.md section 10)."""

from typing import Any

import numpy as np
import pytest

from tests.builders import Lab, assert_books_balance, scenario
from tiergym.env.actions import MASK_NAMES
from tiergym.sim import names as n

IDLE = {"migrate.pt_leaf": "idle", "migrate.budget": "high"}
EXCHANGE, KSWAPD = IDLE | {"migrate.room": "exchange"}, IDLE | {"migrate.room": "kswapd"}
FULL = {"kind": "anon", "mib": 1000, "access_hz": 0.0, "grow_s": 2}
"""Fills DRAM and is not looked at again."""
LATE = {"kind": "anon", "mib": 600, "access_hz": 10, "tlb_misses_per_page_s": 100, "start_s": 3, "grow_s": 2}
"""Comes while DRAM is full, so that its tables are born on CXL."""


def full(first: dict[str, Any] | None = None, **scalars: Any) -> Lab:
    """DRAM full of `first`, with LATE and its tables on CXL, 6 s after the start."""
    return Lab(scenario(regions=[FULL | (first or {}), LATE], **scalars)).ticks(24)


def books(lab: Lab) -> tuple[int, ...]:
    """Free pages, used pages and pages of a zone in all."""
    used = lab.m["used_pages"].sum(axis=0)
    return (*lab.m["free_pages"].tolist(), *used.tolist(), *lab.m["managed_pages"].tolist())


def test_tables_stay_on_cxl_while_dram_is_full():
    """Without free pages above high nothing moves: today's rule."""
    lab = full()
    tables = lab.leaf_on(1, n.SLOW)
    lab.ticks(20, IDLE)
    assert lab.leaf_on(1, n.SLOW) == tables > 250
    assert lab.total("pgexchange") == 0 < lab.total("pgmigrate_fail")


def test_an_exchange_brings_tables_home_when_dram_is_full():
    """A cold page goes to CXL for each table, with demotion off."""
    lab = full()
    tables, spilled = lab.on(n.PT_LEAF, n.SLOW) + lab.on(n.PT_UPPER, n.SLOW), lab.region_on(0, n.SLOW)
    lab.ticks(2, EXCHANGE)
    assert lab.on(n.PT_LEAF, n.SLOW) == lab.on(n.PT_UPPER, n.SLOW) == 0
    assert lab.total("pgmigrate_pt") == lab.total("pgexchange") == lab.region_on(0, n.SLOW) - spilled == tables > 250


def test_an_exchange_frees_and_takes_nothing():
    """Two pages change frames: every zone has as many free and used pages as before."""
    lab = full()
    before = books(lab)
    lab.ticks(1, EXCHANGE)
    assert lab.total("pgexchange") > 250
    assert books(lab) == before
    assert_books_balance(lab.machines.records)


def test_both_copies_of_an_exchange_are_charged():
    """Twice the time of one page migrated alone; both nodes are read and written."""
    lab = full()
    spent = lab.seconds_lost("migration")
    lab.ticks(1, EXCHANGE)
    pairs = lab.total("pgexchange")
    work = lab.seconds_lost("migration") - spent
    assert lab.m["moved_bytes"].tolist() == [2 * 4096 * pairs] * 2
    assert work == pytest.approx(2 * pairs * 5e-6 / lab.m["workers"], rel=0.2)


def test_an_exchange_takes_no_referenced_page():
    """All of DRAM is in use: no cold page, no exchange."""
    lab = full({"access_hz": 100})
    lab.ticks(8, EXCHANGE)
    assert lab.total("pgexchange") == 0 < lab.total("pgmigrate_fail")


def test_an_exchange_takes_no_locked_page_and_no_large_folio():
    """mlocked pages are on no list that reclaim scans; a folio of many pages does not go for one."""
    assert full({"mlocked": "on"}).ticks(8, EXCHANGE).total("pgexchange") == 0
    folios = full({"kind": "file_rw"}, file_folio_pages=512).ticks(8, EXCHANGE)
    assert folios.total("pgexchange") == 0


def test_an_exchange_takes_the_oldest_pages_first():
    """Of pages that nobody looks at any more those that came first, as at the LRU's tail."""
    halves = [FULL | {"mib": 500, "grow_s": 1, "start_s": start} for start in (0, 1.25)]
    lab = Lab(scenario(regions=[*halves, LATE])).ticks(24)
    before = [lab.region_on(r, n.SLOW) for r in range(2)]
    lab.ticks(2, EXCHANGE)
    gone = [lab.region_on(r, n.SLOW) - was for r, was in enumerate(before)]
    assert gone == [lab.total("pgexchange"), 0]
    assert gone[0] > 250


def test_the_budget_bounds_exchanges():
    """Pages of the kernel per second, as of every move."""
    lab = full(LATE | {"mib": 1000, "access_hz": 0.0, "start_s": 0})
    lab.ticks(1, EXCHANGE | {"migrate.budget": "low"})
    assert 0 < lab.total("pgmigrate_pt") <= 500


def test_stacks_and_slab_come_home_by_exchange_too():
    """The same for every class that can move."""
    pools = {"threads": {"count": 500, "start_s": 3, "grow_s": 2}}
    lab = full(pools=pools, stack_migration="on")
    stacks, slab = lab.on(n.KSTACK, n.SLOW), lab.on(n.SLAB_UNRECLAIM, n.SLOW)
    modes = {"migrate.kstack": "idle", "migrate.slab": "idle", "migrate.budget": "high", "migrate.room": "exchange"}
    lab.ticks(4, modes)
    assert lab.on(n.KSTACK, n.SLOW) == 0 < stacks
    assert lab.on(n.SLAB_UNRECLAIM, n.SLOW) < slab
    assert_books_balance(lab.machines.records)


def test_without_kernel_pages_on_cxl_room_costs_nothing():
    """No cost, no gain: the episode of an untouched Linux, to the bit."""
    machine = scenario(regions=[FULL | {"mib": 600}])
    runs = [Lab(machine, modes=modes).ticks(40) for modes in ({}, EXCHANGE, KSWAPD)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.throughputs, runs[0].throughputs)
        np.testing.assert_array_equal(run.totals, runs[0].totals)


def test_kswapd_makes_room_by_demotion_where_that_is_on():
    """wakeup_kswapd for a page that found no room above high; kswapd0 demotes, and the tables come."""
    lab = full(demotion="on")
    lab.ticks(20, KSWAPD)
    assert lab.leaf_on(1, n.SLOW) == 0
    assert lab.total("pgdemote_kswapd") > 0 == lab.total("file_dropped") + lab.total("pswpout")
    assert lab.seconds_lost("other_reclaim") > 0 == lab.seconds_lost("premature_reclaim")


def test_kswapd_reclaims_where_demotion_is_off():
    """Pages of files are dropped although CXL is free."""
    lab = full({"kind": "file_rw"})
    dropped = lab.total("file_dropped")
    lab.ticks(20, KSWAPD)
    assert lab.leaf_on(1, n.SLOW) == 0
    assert lab.total("file_dropped") > dropped
    assert lab.total("pgdemote_kswapd") == lab.total("pgexchange") == 0


def test_a_kswapd_that_can_take_nothing_makes_no_room():
    """Anonymous pages, no swap, demotion off: nothing moves."""
    lab = full()
    tables = lab.leaf_on(1, n.SLOW)
    lab.ticks(20, KSWAPD)
    assert lab.leaf_on(1, n.SLOW) == tables
    assert lab.m["kswapd_failures"][n.FAST] > 0


def test_a_machine_without_cxl_has_no_room_to_choose():
    """Every mode but the default is masked."""
    lab = Lab(scenario(slow_mib=0)).ticks(1)
    shown = {
        name: bool(on)
        for name, on in zip(MASK_NAMES, lab.machines.masks[0], strict=True)
        if name.startswith("migrate.room=")
    }
    assert shown == {"migrate.room=free": True, "migrate.room=kswapd": False, "migrate.room=exchange": False}
