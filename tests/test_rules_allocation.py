"""Allocation: the zonelist, who is woken, what the three restrictions do, and what premature means."""

from typing import Any

import pytest

from tests.builders import MOVABLE, Lab, everywhere, scenario, threads
from tiergym.sim import names as n
from tiergym.sim.allocate import allocate_kernel
from tiergym.sim.units import PAGES_PER_MIB

DATA = {"kind": "anon", "mib": 1800, "access_hz": 0.01, "grow_s": 4}
"""More than DRAM, touched once."""
HOG = {"kind": "anon", "mib": 1500, "access_hz": 0.01, "grow_s": 2, "mempolicy": "default"}
"""Fills DRAM to its low mark and spills."""


def crowded(**scalars):
    """DRAM is at low, CXL is mostly free, and 400 threads (1,600 stack pages) are being born one by one."""
    return scenario(regions=[HOG], pools=threads(400), **scalars)


def test_falling_back_to_cxl_wakes_nobody():
    """mm/page_alloc.c: get_page_from_freelist takes from any zone above low; only the slow path wakes kswapd."""
    lab = Lab(scenario(regions=[DATA], demotion="on")).ticks(40)
    assert lab.region_on(0, n.SLOW) > 180_000
    assert lab.free(n.FAST) == lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]
    for counter in ("kswapd_wakeups_fast", "kswapd_wakeups_slow", "allocstall", "pgdemote_kswapd", "pgdemote_direct"):
        assert lab.total(counter) == 0, counter
    assert lab.total("user_fallback_slow") == lab.region_on(0, n.SLOW)
    assert lab.total("kernel_fallback_slow") == lab.leaf_on(0, n.SLOW) + lab.on(n.PT_UPPER, n.SLOW)


@pytest.mark.parametrize(
    "modes",
    [MOVABLE, {"place.pt_leaf": "restrict"}, {"place.pt_leaf": "prefer_fast"}],
    ids=lambda m: "=".join(*m.items()),
)
def test_a_kernel_request_for_dram_alone_starts_demotion(modes):
    """A page table that may only have DRAM enters __alloc_pages_slowpath: wake_all_kswapds, hence demotion."""
    fallback = Lab(scenario(regions=[DATA], demotion="on")).ticks(40)
    lab = Lab(scenario(regions=[DATA], demotion="on"), modes=modes).ticks(40)
    assert lab.total("kswapd_wakeups_fast") > 0
    assert lab.total("pgdemote_kswapd") > 1000
    assert lab.leaf_on(0, n.SLOW) == 0 < fallback.leaf_on(0, n.SLOW)
    # What was demoted is reclaimed for a request that a fallback would have served from free CXL.
    assert lab.total("premature_reclaim_pages") == lab.total("pgdemote_kswapd") + lab.total("pgdemote_direct")
    assert lab.premature[0, n.PT_LEAF] + lab.premature[0, n.PT_UPPER] + lab.premature[0, n.SLAB_UNRECLAIM] == (
        lab.total("premature_reclaim_pages")
    )


def test_headroom_of_a_restricted_request_is_low_minus_min_then_a_premature_oom():
    """__alloc_pages_slowpath: with nothing to reclaim in DRAM, stacks get low - min pages; then out_of_memory kills
    although CXL is nearly free [F-guest-oom]."""
    lab = Lab(crowded(), modes={"place.kstack": "restrict"}).ticks(16)
    assert lab.free(n.FAST) == lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]
    headroom = lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL] - lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    before = 0
    while lab.total("oom_kill") == 0:
        before = lab.on(n.KSTACK, n.FAST)
        lab.ticks(1)
        assert lab.m["tick"] < 200
    assert headroom - 16 <= before <= headroom  # four threads a tick
    assert lab.total("oom_kill_premature") == 1
    assert lab.total("pgdemote_kswapd") == lab.total("pswpout") == 0


def test_the_same_stacks_fall_back_without_harm():
    """GFP_KERNEL on a NORMAL slow tier: no wake-up, no kill [F-kernel-spills] [F-premature-oom]."""
    lab = Lab(crowded()).ticks(130)
    assert lab.total("oom_kill") == lab.total("kswapd_wakeups_fast") == 0
    assert lab.on(n.KSTACK, n.SLOW) == 1600


def test_prefer_fast_takes_down_to_min_then_falls_back():
    """alloc_pages_preferred_many: pass one wakes kswapd and takes down to min, pass two falls back."""
    lab = Lab(crowded(), modes={"place.kstack": "prefer_fast"}).ticks(130)
    assert lab.free(n.FAST) == lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    assert (
        lab.on(n.KSTACK, n.FAST)
        == lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL] - lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    )
    assert lab.on(n.KSTACK, n.FAST) + lab.on(n.KSTACK, n.SLOW) == 1600
    assert lab.total("kswapd_wakeups_fast") > 0
    assert lab.total("allocstall") == lab.total("oom_kill") == 0


def test_the_three_forms_of_restriction_differ():
    """[K-restriction-forms]: fall back silently; wake kswapd, then fall back; wake, reclaim directly, then kill."""
    forms = ("fallback", "prefer_fast", "restrict")
    labs = {form: Lab(crowded(), modes={"place.kstack": form}).ticks(130) for form in forms}
    wakes = {form: lab.total("kswapd_wakeups_fast") > 0 for form, lab in labs.items()}
    stalls = {form: lab.total("allocstall") > 0 for form, lab in labs.items()}
    kills = {form: lab.total("oom_kill") > 0 for form, lab in labs.items()}
    assert wakes == {"fallback": False, "prefer_fast": True, "restrict": True}
    assert stalls == {"fallback": False, "prefer_fast": False, "restrict": True}
    assert kills == {"fallback": False, "prefer_fast": False, "restrict": True}


def test_with_something_to_demote_a_restriction_kills_nobody():
    """The same machine with demotion on: kswapd makes room for both, and no stack lies on CXL [F-premature-oom]."""
    for form in ("prefer_fast", "restrict"):
        lab = Lab(crowded(demotion="on"), modes={"place.kstack": form}).ticks(130)
        assert lab.total("oom_kill") == 0
        assert lab.on(n.KSTACK, n.SLOW) == 0
        assert lab.total("pgdemote_kswapd") > 0


def test_prefer_slow_goes_to_cxl_while_dram_is_free():
    """alloc_pages_node(slow): the slow node's zonelist starts with itself."""
    small = scenario(regions=[{"kind": "anon", "mib": 100}], pools=threads(100, 0, 1))
    lab = Lab(small, modes=everywhere("prefer_slow")).ticks(10)
    assert lab.on(n.KSTACK, n.SLOW) == 400
    assert lab.on(n.KSTACK, n.FAST) == lab.on(n.PT_LEAF, n.FAST) == 0
    assert lab.region_on(0, n.FAST) == 25600


def test_a_movable_slow_tier_never_holds_kernel_pages():
    """gfp_zone: GFP_KERNEL's highest zone is NORMAL [F-movable-clean], also for a task bound to the slow node
    (mm/mempolicy.c: apply_policy_zone)."""
    bound = [{"mempolicy": "bind_slow"}]
    regions = [{"kind": "anon", "mib": 700, "mempolicy": "bind_slow"}]
    lab = Lab(scenario(regions=regions, processes=bound, pools=threads(100, 0, 1)), modes=MOVABLE).ticks(10)
    assert lab.region_on(0, n.SLOW) == 700 * PAGES_PER_MIB
    assert sum(lab.on(cls, n.SLOW) for cls in range(n.FIRST_KERNEL_CLASS, n.N_CLASSES)) == 0


def test_page_tables_follow_the_task_policy_never_the_regions():
    """mm/mempolicy.c: alloc_pages uses get_task_policy; mbind covers the data alone [F-task-policy]."""
    region = {"kind": "anon", "mib": 512}
    by_mbind = Lab(scenario(regions=[region | {"mempolicy": "bind_slow"}])).ticks(10)
    assert by_mbind.region_on(0, n.SLOW) == 131072
    assert by_mbind.leaf_on(0, n.FAST) == 256
    by_task = Lab(scenario(regions=[region], processes=[{"mempolicy": "bind_slow"}])).ticks(10)
    assert by_task.leaf_on(0, n.SLOW) == 256


def test_interleave_halves_and_binding_binds():
    """mm/mempolicy.c: a region's own policy places its data."""
    data = {"kind": "anon", "mib": 400, "grow_s": 1}
    expected = {"default": 102400, "bind_fast": 102400, "bind_slow": 0, "prefer_slow": 0, "interleave": 51200}
    for mempolicy, in_dram in expected.items():
        lab = Lab(scenario(regions=[data | {"mempolicy": mempolicy}])).ticks(8)
        assert abs(lab.region_on(0, n.FAST) - in_dram) <= 64
        assert lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW) == 102400


@pytest.mark.parametrize(("fast", "slow"), [(9, 1), (1, 1), (1, 3)])
def test_weighted_interleave_deals_pages_by_the_nodes_weights(fast, slow):
    """mm/mempolicy.c: weighted_interleave_nodes."""
    data = {"kind": "anon", "mib": 400, "grow_s": 1, "mempolicy": "weighted_interleave"}
    lab = Lab(scenario(regions=[data], interleave_fast=fast, interleave_slow=slow)).ticks(8)
    assert lab.region_on(0, n.FAST) == pytest.approx(102400 * fast / (fast + slow), abs=64)
    assert lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW) == 102400


def test_huge_pages_stay_in_dram_and_drain_it_to_min():
    """vma_thp_gfp_mask: THISNODE without reclaim, so THP never lands on CXL, and the slow path leaves DRAM at min;
    the deposited page tables are as many as without THP [F-huge-pages]."""
    small = Lab(scenario(regions=[DATA])).ticks(40)
    huge = Lab(scenario(regions=[DATA | {"thp_share": 1}], thp="on")).ticks(40)
    m = huge.m
    assert m["wmark_pages"][n.WMARK_MIN, n.NORMAL] <= huge.free(n.FAST) < m["wmark_pages"][n.WMARK_MIN, n.NORMAL] + 512
    assert m["region"]["huge"][0] > 200_000
    assert m["region"]["huge"][0] <= huge.region_on(0, n.FAST)
    assert huge.on(n.PT_LEAF, n.FAST) + huge.on(n.PT_LEAF, n.SLOW) == 900
    assert small.on(n.PT_LEAF, n.FAST) + small.on(n.PT_LEAF, n.SLOW) == 900
    assert huge.total("kswapd_wakeups_fast") == 0


def test_per_cpu_lists_blur_the_low_mark_by_one_refill():
    """mm/page_alloc.c: rmqueue_bulk refills a batch at once, so the last one leaves pages on the list [F-fallback]."""
    lab = Lab(scenario(regions=[DATA], pcp_batch_pages=63)).ticks(40)
    low = lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]
    assert low - 63 < lab.free(n.FAST) <= low
    assert low <= lab.free(n.FAST) + lab.m["pcp_pages"][n.NORMAL] < low + 63


def test_reclaim_for_anybody_else_is_not_premature():
    """Both tiers are full: what the kernel then swaps would not have fitted CXL either (docs/model.md section 5)."""
    full = scenario(regions=[{"kind": "anon", "mib": 3400, "access_hz": 0.01, "grow_s": 4}], swap_mib=4096)
    for modes in ({}, MOVABLE, everywhere("restrict")):
        lab = Lab(full, modes=modes).ticks(8)
        early = lab.total("premature_reclaim_pages")
        lab.ticks(20)
        assert lab.total("pswpout") > 50_000
        assert lab.total("pswpout") - (lab.total("premature_reclaim_pages") - early) > 50_000
    assert Lab(full).ticks(28).total("premature_reclaim_pages") == 0


def test_a_kernel_request_cannot_use_what_it_reclaims_from_movable_cxl():
    """mm/vmscan.c: shrink_zones walks the request's zonelist; GFP_KERNEL's has no MOVABLE zone, so a stack page
    refused by DRAM neither wakes kswapd1 nor reclaims from the slow node."""
    hog = [HOG | {"mempolicy": "bind_slow", "mib": 1900}, HOG | {"mempolicy": "bind_fast", "mib": 1000}]
    slow_kswapd: dict[str, Any] = {"kswapd_pages_per_s": 100, "swap_mib": 4096}
    lab = Lab(scenario(regions=hog, pools=threads(4000), **slow_kswapd), modes=MOVABLE).ticks(16)
    before = lab.region_on(0, n.SLOW)
    lab.ticks(60)
    assert lab.total("allocstall") > 0
    assert lab.region_on(0, n.SLOW) == before
    assert lab.total("kswapd_wakeups_slow") == lab.total("pgsteal_direct_slow") == 0


@pytest.mark.parametrize(("cls", "name"), list(enumerate(n.CLASSES)), ids=n.CLASSES)
def test_a_class_without_an_action_entry_gets_no_kernel_page(cls, name):
    """It does not borrow another's placement mode."""
    m = Lab(scenario()).ticks(1).m
    assert allocate_kernel(m, cls, 10, n.MPOL_DEFAULT) == (10 if f"place.{name}" in n.ACTIONS else 0)
    assert int(m["grant_pages"].sum()) == (10 if f"place.{name}" in n.ACTIONS else 0)
