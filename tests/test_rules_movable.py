"""ZONE_MOVABLE: what it is made of, whom it serves, and that reclaim for the kernel spares it."""

from typing import Any

import pytest

from tests.builders import MOVABLE, Lab, scenario, threads
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim.pages import mark_pages
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.specs.feasibility import check

ZONES: dict[str, Any] = {"dram_mib": 1024, "dma_mib": 15, "dma32_mib": 200, "movable_mib": 500, "slow_mib": 0}
CACHE: dict[str, Any] = {"kind": "cache", "mib": 940, "grow_s": 4, "access_hz": 0}


def test_movable_is_the_end_of_normal():
    """find_zone_movable_pfns_for_nodes: movablecore= takes the end of the node's highest zone."""
    m = Lab(scenario(**ZONES)).ticks(1).m
    assert m["managed_pages"].tolist() == [mib * PAGES_PER_MIB for mib in (15, 200, 309, 500, 0, 0)]


def test_movable_has_few_pages_below_min_and_the_zones_below_keep_a_reserve_from_its_requests():
    """__setup_per_zone_wmarks: 1/1024 of it, 32 to 128 pages; setup_per_zone_lowmem_reserve: ratios 256, 256, 32."""
    m = Lab(scenario(**ZONES)).ticks(1).m
    managed = m["managed_pages"]
    assert m["wmark_pages"][n.WMARK_MIN, n.MOVABLE] == managed[n.MOVABLE] // 1024
    above = [managed[z + 1 : n.FIRST_SLOW_ZONE].sum() for z in range(n.MOVABLE)]
    assert m["reserve_movable_pages"][: n.MOVABLE].tolist() == [above[0] // 256, above[1] // 256, above[2] // 32]
    assert m["reserve_kernel_pages"][n.NORMAL] == 0
    whole = Lab(scenario(**ZONES | {"movable_mib": 0})).ticks(1).m
    assert m["min_free_kbytes"] < whole["min_free_kbytes"], "lowmem is what the kernel may use"


def test_user_pages_fill_movable_first_and_kernel_pages_never():
    """The zonelist of a GFP_HIGHUSER_MOVABLE request begins there."""
    lab = Lab(scenario(regions=[{"mib": 400, "grow_s": 0}], pools=threads(2000, 1, 2), **ZONES)).ticks(20)
    used = lab.m["used_pages"]
    assert used[n.ANON, n.MOVABLE] == used[n.ANON].sum() > 0
    assert used[n.FIRST_KERNEL_CLASS :, n.MOVABLE].sum() == 0
    assert used[n.KSTACK, n.NORMAL] > 0


def test_reclaim_for_the_kernel_spares_movable():
    """sc->reclaim_idx is the classzone of whoever asks: kswapd, woken for stacks, takes cache below MOVABLE only."""
    lab = Lab(scenario(regions=[CACHE], pools=threads(20000, 6, 60), **ZONES)).ticks(24)
    before = lab.m["used_pages"][n.FILE].copy()
    assert lab.total("pgsteal_kswapd_fast") == 0
    lab.ticks(100)
    after = lab.m["used_pages"][n.FILE]
    assert lab.total("pgsteal_kswapd_fast") > 0 and lab.m["kswapd_kernel"][n.FAST] == 1
    assert before[n.MOVABLE] == after[n.MOVABLE] and before[: n.MOVABLE].sum() > after[: n.MOVABLE].sum()


def test_free_movable_pages_do_not_balance_a_node_for_the_kernel():
    """pgdat_balanced looks no higher than the classzone: a slow node of both kinds wakes its kswapd for kernel pages,
    though MOVABLE has enough, and takes nothing from there."""
    hog = {"kind": "cache", "mib": 150, "grow_s": 2, "mempolicy": "bind_slow"}
    mixed: dict[str, Any] = {"dram_mib": 256, "slow_mib": 512, "auto_movable_numa_aware": "off"}
    machine = scenario(regions=[hog], pools=threads(60000, 3, 30), auto_movable_ratio=100, **mixed)
    lab = Lab(machine, modes={"zone": "auto_movable"}).ticks(1)
    assert (lab.m["managed_pages"][[n.SLOW_NORMAL, n.SLOW_MOVABLE]] > 0).all()
    while lab.total("oom_kill") == 0 and lab.m["tick"] < 140:
        lab.ticks(1)
    assert lab.m["kswapd_failures"][n.SLOW] > 0 == lab.total("pgsteal_kswapd_slow")
    assert lab.m["free_pages"][n.SLOW_MOVABLE] > lab.m["wmark_pages"][n.WMARK_HIGH, n.SLOW_MOVABLE]


def test_a_kernel_request_is_killed_for_beside_free_movable_dram():
    """As with CXL all MOVABLE: no reclaim, no demotion, and the next stack is an OOM."""
    lab = Lab(scenario(regions=[{"mib": 300, "grow_s": 0}], pools=threads(60000, 1, 30), **ZONES)).ticks(140)
    assert lab.total("oom_kill") > 0
    assert lab.m["oom_class"] >= n.FIRST_KERNEL_CLASS
    assert lab.m["free_pages"][n.MOVABLE] > lab.m["wmark_pages"][n.WMARK_HIGH, n.MOVABLE]


@pytest.mark.parametrize(("movable_mib", "allowed"), [(309, False), (308, True)])
def test_movable_leaves_some_normal(movable_mib, allowed):
    changed = scenario(**ZONES | {"dram_mib": 524, "movable_mib": movable_mib, "boot_reserved_share": 0})
    if allowed:
        check(changed.sections, "x.toml")
        return
    with pytest.raises(UserError, match=r"x.toml: machine.movable_mib = 309; allowed: less than the 309 MiB"):
        check(changed.sections, "x.toml")


def test_a_slow_node_below_4_gib_keeps_its_dma32_from_whoever_may_use_normal():
    """setup_per_zone_lowmem_reserve on node 1: 1/256 of the NORMAL zone above."""
    above: dict[str, Any] = {"slow_at_boot": "on", "slow_mib": 2048, "dram_mib": 4096}
    whole, split = (Lab(scenario(slow_dma32_mib=mib, **above)).ticks(1).m for mib in (0, 512))
    reserve = (whole["managed_pages"][n.SLOW_NORMAL] - 512 * PAGES_PER_MIB) // 256
    for movable in (False, True):
        low = [mark_pages(m, n.SLOW_NORMAL, n.WMARK_LOW, movable) for m in (whole, split)]
        assert low[1] - low[0] == reserve > 1000


@pytest.mark.parametrize(("at_boot", "mib"), [("off", 512), ("on", 4000)])
def test_only_a_slow_node_at_boot_has_a_dma32(at_boot, mib):
    refused = scenario(slow_at_boot=at_boot, slow_mib=2048, slow_dma32_mib=mib)
    with pytest.raises(UserError, match=rf'slow_dma32_mib = {mib}; allowed: 0, or with machine.slow_at_boot = "on" at'):
        check(refused.sections, "x.toml")


def test_cxl_all_movable_is_as_before():
    """Nothing of this is seen where no node has both kinds of zones."""
    lab = Lab(scenario(regions=[CACHE], pools=threads(2000)), modes=MOVABLE).ticks(40)
    assert lab.m["managed_pages"][n.MOVABLE] == 0
