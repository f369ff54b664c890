"""Pages of DRAM kept aside for page tables (docs/model.md section 5)."""

from typing import Any

import numpy as np
import pytest

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.env.actions import MASK_NAMES
from tiergym.sim import names as n
from tiergym.sim.reserve import RESERVE_SHARE

SMALL, LARGE = {"reserve.pt": "small"}, {"reserve.pt": "large"}
FULL = {"kind": "anon", "mib": 1000, "access_hz": 0.0, "start_s": 1, "grow_s": 2}
"""Fills DRAM and is not looked at again."""
LATE = {"kind": "anon", "mib": 600, "access_hz": 10, "tlb_misses_per_page_s": 100, "start_s": 4, "grow_s": 2}
"""Comes while DRAM is full: 300 leaf tables."""
DRAM_PAGES = 1024 * 256


def full(modes: dict[str, str], late: dict[str, Any] | None = None, **scalars: Any) -> Lab:
    """DRAM full of FULL, with LATE, 7 s after the start."""
    return Lab(scenario(regions=[FULL, LATE | (late or {})], **scalars), modes=modes).ticks(28)


def kept(lab: Lab) -> int:
    """Pages in the reserve."""
    return int(lab.m["reserved_pages"].sum())


@pytest.mark.parametrize(("mode", "share"), list(zip(n.TABLE_RESERVES, RESERVE_SHARE, strict=True)))
def test_a_reserve_is_its_share_of_dram(mode: str, share: float) -> None:
    """While DRAM is free above high it is full after one tick, and what it holds is not free."""
    lab, without = (Lab(scenario(), modes={"reserve.pt": each}).ticks(1) for each in (mode, "off"))
    assert kept(lab) == int(DRAM_PAGES * share)
    assert without.free(n.FAST) - lab.free(n.FAST) == kept(lab)
    assert_books_balance(lab.machines.records)


def test_tables_take_from_the_reserve_when_dram_has_none_above_low() -> None:
    """All 300 leaf tables of data on CXL lie in DRAM; without a reserve nearly none does."""
    assert full({}).leaf_on(1, n.SLOW) > 250
    lab = full(LARGE)
    assert lab.region_on(1, n.SLOW) > 100 * 256
    assert lab.on(n.PT_LEAF, n.SLOW) + lab.on(n.PT_UPPER, n.SLOW) == 0
    assert 250 < lab.total("pgreserve") == int(DRAM_PAGES * RESERVE_SHARE[n.RESERVE_LARGE]) - kept(lab)
    assert_books_balance(lab.machines.records)


def test_tables_fall_back_when_the_reserve_is_empty() -> None:
    """Sparse memory needs more tables than there are in it: the others go to CXL."""
    lab = full(SMALL, {"density": 1 / 64, "mib": 100})
    assert kept(lab) == 0
    assert lab.total("pgreserve") == int(DRAM_PAGES * RESERVE_SHARE[n.RESERVE_SMALL])
    assert lab.leaf_on(1, n.SLOW) > 1000
    assert_books_balance(lab.machines.records)


def test_an_empty_reserve_fills_again_when_dram_is_free_above_high_and_not_before() -> None:
    """Nobody is woken or reclaimed for it."""
    hog = FULL | {"hold_s": 5, "shrink_s": 0.25}
    lab = Lab(scenario(regions=[hog, LATE | {"density": 1 / 64, "mib": 100}]), modes=SMALL).ticks(28)
    assert kept(lab) == 0
    lab.ticks(8)
    assert kept(lab) == int(DRAM_PAGES * RESERVE_SHARE[n.RESERVE_SMALL])
    assert lab.total("kswapd_wakeups_fast") == lab.total("allocstall") == 0
    assert_books_balance(lab.machines.records)


def test_nobody_else_takes_from_the_reserve() -> None:
    """Stacks and slab spill, data spills, and the reserve stays."""
    lab = Lab(scenario(regions=[FULL], pools={"threads": {"count": 4000, "start_s": 4, "grow_s": 1}}), modes=LARGE)
    lab.ticks(16)
    before = kept(lab)
    lab.ticks(12)
    assert kept(lab) == before > 0
    assert lab.on(n.KSTACK, n.SLOW) > 10_000 and lab.on(n.SLAB_UNRECLAIM, n.SLOW) > 0


def test_no_shrinker_gives_the_reserve_back() -> None:
    """Where kernel pages cannot go to CXL, stacks kill although the reserve is full."""
    pools = {"threads": {"count": 20_000, "start_s": 4, "grow_s": 1}}
    lab = Lab(scenario(regions=[FULL | {"mempolicy": "bind_fast"}], pools=pools), modes=MOVABLE | LARGE).ticks(28)
    assert lab.total("oom_kill") > 0 < kept(lab)


def test_a_reserve_puts_off_reclaim_for_restricted_tables() -> None:
    """Tables that may lie in DRAM only wake nobody as long as it lasts."""
    restrict = {"place.pt_leaf": "restrict", "place.pt_upper": "restrict"}
    with_reserve, without = full(restrict | LARGE), full(restrict)
    assert with_reserve.total("kswapd_wakeups_fast") == with_reserve.total("oom_kill") == 0
    assert without.total("kswapd_wakeups_fast") > 0


@pytest.mark.parametrize("modes", [{"place.pt_leaf": "prefer_slow", "place.pt_upper": "prefer_slow"}, {}])
def test_tables_that_want_cxl_leave_the_reserve_alone(modes: dict[str, str]) -> None:
    """By their placement, or by the mempolicy of their task."""
    process = {"mempolicy": "default" if modes else "bind_slow"}
    lab = Lab(scenario(regions=[FULL, LATE | {"process": "p1"}], processes=[{}, process]), modes=LARGE).ticks(16)
    before = lab.total("pgreserve")
    lab.ticks(12, modes | LARGE)
    assert lab.total("pgreserve") == before
    assert lab.leaf_on(1, n.SLOW) == 300


def test_a_reserve_that_is_given_up_is_free_again() -> None:
    """As draining it by sysctl: every page goes back to its zone."""
    lab, never = Lab(scenario(), modes=LARGE).ticks(4), Lab(scenario()).ticks(4)
    lab.ticks(1, SMALL)
    assert kept(lab) == int(DRAM_PAGES * RESERVE_SHARE[n.RESERVE_SMALL])
    lab.ticks(1, {})
    assert kept(lab) == 0
    assert lab.free(n.FAST) == never.ticks(2).free(n.FAST)
    assert_books_balance(lab.machines.records)


def test_without_pressure_a_reserve_changes_nothing_but_what_is_free() -> None:
    """No need, no gain: the same pages in the same places, and the same speed to the bit."""
    machine = scenario(regions=[FULL | {"mib": 600}, LATE | {"mib": 200}])
    runs = [Lab(machine, modes=modes).ticks(40) for modes in ({}, LARGE)]
    np.testing.assert_array_equal(runs[1].throughputs, runs[0].throughputs)
    np.testing.assert_array_equal(runs[1].m["used_pages"], runs[0].m["used_pages"])
    assert runs[1].total("pgreserve") == 0


def test_a_machine_without_cxl_has_no_reserve_to_choose() -> None:
    """Every mode but the default is masked."""
    lab = Lab(scenario(slow_mib=0), modes=LARGE).ticks(1)
    masks = dict(zip(MASK_NAMES, lab.machines.masks[0].tolist(), strict=True))
    assert [masks[f"reserve.pt={mode}"] for mode in n.TABLE_RESERVES] == [True, False, False]
    assert kept(lab) == 0
