"""Per-CPU lists: how much a refill moves, whom it helps, and what that does to the watermarks."""

from typing import Any

import pytest

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.pages import refill_pages
from tiergym.sim.percpu import KEPT_BATCHES
from tiergym.sim.watermarks import zone_batchsize

DATA = {"mib": 1500, "grow_s": 8}


@pytest.mark.parametrize(("managed", "batch"), [(3840, 1), (98339, 31), (149379, 31), (262144, 63), (10_000_000, 63)])
def test_a_batch_is_a_share_of_the_zone(managed, batch):
    """mm/page_alloc.c: zone_batchsize, as pcp->high grew by it in recordings of 512 MiB machines (31)."""
    assert zone_batchsize.py_func(managed) == batch  # type: ignore[attr-defined]


@pytest.mark.parametrize(("scale", "doubled"), [(0, 1), (5, 32)])
def test_since_6_7_a_stream_of_allocations_doubles_its_refills(scale, doubled):
    """nr_pcp_alloc, CONFIG_PCP_BATCH_SCALE_MAX = 5: up to 2,016 pages at once [K-per-cpu-lists]."""
    lab = Lab(scenario(regions=[DATA], pcp_batch_pages=0, pcp_scale=scale)).ticks(40)
    assert lab.m["pcp_refill_pages"][n.NORMAL] == 63 * doubled
    low, left = lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL], lab.m["free_pages"][n.NORMAL]
    assert low - 63 * doubled < left <= low  # the last refill looks at no mark
    assert_books_balance(lab.machines.records)


def test_a_list_is_at_most_an_eighth_of_its_zone_over_all_cpus():
    """zone_highsize: many CPUs of a small machine refill by less."""
    many, few = (Lab(scenario(cpus=cpus, pcp_batch_pages=0, pcp_scale=5)).ticks(1) for cpus in (256, 2))
    assert many.m["pcp_refill_pages"][n.NORMAL] < few.m["pcp_refill_pages"][n.NORMAL]


def test_idle_lists_help_nobody_until_they_are_drained():
    """Lists of other CPUs keep their pages while DRAM falls back (rmqueue_pcplist looks at its own CPU's)."""
    lab = Lab(scenario(regions=[DATA], pcp_batch_pages=63)).ticks(1)
    for field in ("pcp_pages", "pcp_idle_pages"):
        lab.m[field][n.NORMAL] += 500
    lab.m["free_pages"][n.NORMAL] -= 500
    lab.ticks(30)
    assert lab.m["pcp_pages"][n.NORMAL] >= 500
    assert lab.region_on(0, n.SLOW) > 0
    assert_books_balance(lab.machines.records)


@pytest.mark.parametrize(("scale", "taken"), [(0, 0), (5, 10 * 63)])
def test_pages_freed_while_kswapd_works_take_a_batch_off_their_list(scale, taken):
    """nr_pcp_high with ZONE_RECLAIM_ACTIVE, since 6.7. kvfree_rcu()'s spare pages are freed by the first run of kswapd,
    which finds nothing else: in recordings DRAM gains 308 to 310 pages by ten of them, with batches of 31."""
    stacks = {"threads": {"count": 1000, "start_s": 10, "grow_s": 250}}
    settings: dict[str, Any] = {"pcp_batch_pages": 0, "pcp_scale": scale, "rcu_cached_pages_per_cpu": 5, "cpus": 2}
    machine = scenario(regions=[DATA], pools=stacks, **settings)
    lab = Lab(machine, modes={"zone": "movable"}).ticks(1)
    assert lab.m["rcu_cached_pages"] == lab.on(n.KERNEL_OTHER, n.FAST) == 10
    for field in ("pcp_pages", "pcp_idle_pages"):
        lab.m[field][n.NORMAL] += 2000
    lab.m["free_pages"][n.NORMAL] -= 2000
    while lab.m["rcu_cached_pages"] > 0:
        assert lab.m["pcp_idle_pages"][n.NORMAL] == 2000
        lab.ticks(1)
        assert lab.m["tick"] < 100
    assert lab.m["pcp_idle_pages"][n.NORMAL] == 2010 - taken  # the ten are listed first
    assert lab.total("pgsteal_kswapd_fast") == 0
    assert_books_balance(lab.machines.records)


def test_a_long_reclaim_leaves_four_batches_on_an_idle_list():
    """nr_pcp_high: batch << 2 while ZONE_RECLAIM_ACTIVE."""
    stacks = {"threads": {"count": 2000, "start_s": 10, "grow_s": 10}}
    machine = scenario(regions=[DATA], pools=stacks, pcp_batch_pages=0, pcp_scale=5, demotion="on")
    lab = Lab(machine, modes={"zone": "movable"}).ticks(1)
    for field in ("pcp_pages", "pcp_idle_pages"):
        lab.m[field][n.NORMAL] += 2000
    lab.m["free_pages"][n.NORMAL] -= 2000
    lab.ticks(100)
    assert lab.total("pgdemote_kswapd") > 0
    assert lab.m["pcp_idle_pages"][n.NORMAL] in (0, KEPT_BATCHES * 63)  # 0: direct reclaim has drained it besides
    assert_books_balance(lab.machines.records)


@pytest.mark.parametrize("by_type", ["off", "on"])
def test_kernel_pages_come_off_lists_of_their_own(by_type):
    """rmqueue_pcplist: a list holds pages of one migrate type. Kernel pages come off theirs, and what user pages have
    left on the other helps them not."""
    stacks = {"threads": {"count": 100, "start_s": 1, "grow_s": 10}}
    lab = Lab(scenario(pools=stacks, pcp_batch_pages=63, pcp_by_type=by_type)).ticks(1)
    before, listed = int(lab.m["pcp_pages"][n.NORMAL]), 800
    lab.m["pcp_pages"][n.NORMAL] += 2 * listed  # for user pages and for kernel pages
    lab.m["free_pages"][n.NORMAL] -= 2 * listed
    lab.m["pcp_idle_pages"][n.NORMAL] = lab.m["pcp_kernel_pages"][n.NORMAL] = listed
    free = int(lab.m["free_pages"][n.NORMAL])
    lab.ticks(50)
    born = lab.on(n.KSTACK, n.FAST) + lab.on(n.SLAB_UNRECLAIM, n.FAST)
    assert 400 <= born < listed and lab.m["free_pages"][n.NORMAL] == free
    users = int(lab.m["pcp_pages"][n.NORMAL] - lab.m["pcp_idle_pages"][n.NORMAL])
    assert (users == before + listed) == (by_type == "on")
    assert (lab.m["pcp_kernel_pages"][n.NORMAL] < listed) == (by_type == "on")
    assert_books_balance(lab.machines.records)


@pytest.mark.parametrize(("scale", "awake", "refill"), [(0, 1, 63), (5, 0, 32 * 63), (5, 1, 1200 // 4 - 63)])
def test_a_list_refills_by_little_while_kswapd_works(scale, awake, refill):
    """nr_pcp_alloc: within pcp->high, which reclaim lowers to its least (x_llama_swap_mov: 382 pages a CPU)."""
    m = Lab(scenario(regions=[DATA], pcp_batch_pages=63, pcp_scale=scale)).ticks(1).m
    m["kswapd_awake"][n.FAST], m["wmark_pages"][n.WMARK_LOW, n.NORMAL] = awake, 1200
    assert refill_pages(m, n.NORMAL) == refill


@pytest.mark.parametrize(("data_mib", "wakes"), [(900, False), (1500, True)])
def test_steady_churn_wakes_kswapd_only_where_dram_is_at_low(data_mib: int, wakes: bool) -> None:
    """get_page_from_freelist tests the mark before it looks at a list: what a CPU frees and asks for again needs the
    zone above low all the same, and then nothing else."""
    data = {"kind": "file_ro", "mib": data_mib, "grow_s": 1, "access_hz": 0.5}
    churn = {"buffers": {"count": 2000, "grow_s": 0, "turnover_hz": 0.5}}
    lab = Lab(scenario(regions=[data], pools=churn, disk_latency_us=1), modes=MOVABLE).ticks(20)
    before = lab.total("kswapd_wakeups_fast")
    lab.ticks(40)
    assert (lab.total("kswapd_wakeups_fast") > before) == wakes


@pytest.mark.parametrize(("freed", "doublings"), [(0, 5), (40, 2), (2000, 0)])
def test_a_refill_doubles_only_while_nothing_is_freed(freed: int, doublings: int) -> None:
    """nr_pcp_alloc doubles alloc_factor, free_frozen_page_commit halves it: who frees a page in fifty gets batches
    (p_memcached_on: lists of 20 to 250 pages; a_llama_anon_on, which only grows: 3,368)."""
    region = {"mib": 800, "grow_s": 4}
    lab = Lab(scenario(regions=[region], pcp_batch_pages=0, pcp_scale=5)).ticks(8)
    lab.m["churn_pages"] = freed
    m = lab.ticks(1).m
    assert (m["pcp_doublings"], m["churn_pages"]) == (doublings, 0)
    assert refill_pages(m, n.NORMAL) == (int(m["pcp_refill_pages"][n.NORMAL]) >> 5) << doublings
