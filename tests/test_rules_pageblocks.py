"""Pageblocks of the kernel's own: what stealing one from user pages does (mm/page_alloc.c: steal_suitable_fallback)."""

from typing import Any

import pytest

from tests.builders import Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.pageblocks import LARGEST_CHUNK, boost_watermark, fill_kernel_blocks, steal_kernel_blocks
from tiergym.sim.units import PAGEBLOCK_PAGES

THREADS = {"threads": {"count": 600, "start_s": 2, "grow_s": 4}}
SMALL_GAPS: dict[str, Any] = {"min_free_kib": 1024, "pcp_batch_pages": 1}


def test_kernel_pages_fill_their_own_blocks_in_silence():
    """With whole blocks free nobody is boosted and nobody woken."""
    lab = Lab(scenario(pools=THREADS, demotion="on")).ticks(40)
    assert lab.m["boost_pages"].max() == 0
    assert lab.total("kswapd_wakeups_fast") == 0


def test_a_stolen_block_boosts_the_marks_of_a_full_zone():
    """boost_watermark wakes kswapd where kernel pages steal; off with a factor of 0 [K-pageblocks]."""
    full = {"mib": 985, "grow_s": 0}
    boosted, off = (
        Lab(scenario(regions=[full], pools=THREADS, boost_factor=factor, **SMALL_GAPS)).ticks(40)
        for factor in (15000, 0)
    )
    assert boosted.total("kswapd_wakeups_fast") > 0 == off.total("kswapd_wakeups_fast")
    assert off.m["boost_pages"].max() == 0


def test_a_boost_is_one_pageblock_and_at_most_so_much_of_high():
    """vm.watermark_boost_factor, in 1/10000 of high."""
    m = Lab(scenario(min_free_kib=4096)).ticks(1).m
    boosts = []
    for _ in range(5):
        boost_watermark(m, n.NORMAL, False)
        boosts.append(int(m["boost_pages"][n.NORMAL]))
    most = int(1.5 * m["wmark_pages"][n.WMARK_HIGH, n.NORMAL])
    assert boosts[0] == PAGEBLOCK_PAGES < boosts[1]
    assert boosts[-1] == max(boosts) == most


def test_a_boost_alone_takes_file_pages_and_nothing_that_swap_backs():
    """balance_pgdat with nr_boost_reclaim: may_swap is off, so only the file LRU is scanned."""
    dma: dict[str, Any] = {"dma_mib": 15}  # its free pages keep the node balanced
    kinds = {}
    for kind in ("cache", "anon"):
        region = {"mib": 970, "grow_s": 0, "kind": kind}
        lab = Lab(scenario(regions=[region], pools=THREADS, demotion="on", swap_mib=64, **dma, **SMALL_GAPS)).ticks(13)
        kinds[kind] = lab.total("pgsteal_kswapd_fast")
    assert kinds["anon"] == 0 < kinds["cache"]


def test_user_pages_that_steal_kernel_blocks_boost_a_node_that_is_short():
    """Large refills of a small machine take what lies free in the kernel's blocks too (a_llama_anon_tier_on)."""
    stream = {"mib": 1400, "grow_s": 6}
    small: dict[str, Any] = {"dram_mib": 256, "slow_mib": 2048, "pcp_batch_pages": 0, "pcp_scale": 5, "cpus": 2}
    boosted, off = (
        Lab(scenario(regions=[stream], demotion="on", boost_factor=factor, **small)).ticks(30) for factor in (15000, 0)
    )
    assert boosted.m["pcp_refill_pages"][n.NORMAL] > boosted.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]
    assert boosted.total("kswapd_wakeups_fast") > 0 == off.total("kswapd_wakeups_fast")
    assert boosted.total("pgdemote_kswapd") > 0 == off.total("pgdemote_kswapd")


@pytest.mark.parametrize(("cls", "wakes"), [(n.PT_LEAF, 1), (n.SLAB_UNRECLAIM, 0)])
def test_the_refill_of_the_kernel_list_steals_and_slab_wakes_nobody_for_it(cls, wakes):
    """rmqueue_bulk; allocate_slab (d_slab_on: a boost of 512 pages stands for ten seconds, kswapd has not run)."""
    machine = scenario(regions=[{"mib": 985, "grow_s": 0}], pcp_by_type="on", slab_steal_wakes="off")
    m = Lab(machine).ticks(1).m
    spare = int(m["free_pages"][n.NORMAL]) - 400
    m["free_pages"][n.NORMAL] -= spare
    m["used_pages"][n.ANON, n.NORMAL] += spare
    m["kernel_block_free"], m["pcp_kernel_pages"][n.NORMAL] = 20, 10
    fill_kernel_blocks(m, 10, cls)
    assert (m["kernel_block_free"], m["boost_pages"][n.NORMAL]) == (10, 0)
    m["pcp_kernel_pages"][n.NORMAL] = 30  # refilled, with 20 pages more than were left in the kernel's blocks
    fill_kernel_blocks(m, 1, cls)
    left = 400 // LARGEST_CHUNK + 9
    assert (m["kernel_block_free"], m["boost_pages"][n.NORMAL]) == (left, PAGEBLOCK_PAGES)
    assert m["kswapd_awake"][n.FAST] == wakes


def test_a_stolen_chunk_serves_the_kernel_until_user_pages_take_it_back():
    """steal_suitable_fallback takes the largest chunk; a movable request falls back once its own lists are empty."""
    m = Lab(scenario(regions=[{"mib": 985, "grow_s": 0}])).ticks(1).m
    spare = int(m["free_pages"][n.NORMAL]) - 400
    m["free_pages"][n.NORMAL] -= spare
    m["used_pages"][n.ANON, n.NORMAL] += spare
    m["kernel_block_free"] = 0
    for stolen in (1, 0, 0):
        m["boost_pages"][n.NORMAL] = 0
        fill_kernel_blocks(m, 20, n.PT_LEAF)
        assert (m["boost_pages"][n.NORMAL] > 0) == stolen
    m["boost_pages"][n.NORMAL] = 0
    m["free_pages"][n.NORMAL] = 25
    steal_kernel_blocks(m)
    assert (m["kernel_block_free"], m["boost_pages"][n.NORMAL]) == (25, PAGEBLOCK_PAGES)
    m["boost_pages"][n.NORMAL] = 0
    steal_kernel_blocks(m)
    assert m["boost_pages"][n.NORMAL] == 0, "they took it already"
