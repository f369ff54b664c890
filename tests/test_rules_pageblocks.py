"""Pageblocks of the kernel's own: what claiming one from user pages does (mm/page_alloc.c: __rmqueue_claim)."""

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
        boost_watermark(m, n.NORMAL, 1, False)
        boosts.append(int(m["boost_pages"][n.NORMAL]))
    most = int(1.5 * m["wmark_pages"][n.WMARK_HIGH, n.NORMAL])
    assert boosts[0] == PAGEBLOCK_PAGES < boosts[1]
    assert boosts[-1] == max(boosts) == most


@pytest.mark.parametrize(("lru_gen", "takes"), [("off", True), ("on", False)])
def test_a_boost_alone_takes_file_pages_and_under_the_multi_gen_lru_nothing(lru_gen, takes):
    """balance_pgdat with nr_boost_reclaim: may_swap is off, so only the file LRU is scanned; may_writepage is off too,
    and lru_gen_shrink_node returns at once (p_redis_fill_on: sixteen runs, no page scanned, then none)."""
    dma: dict[str, Any] = {"dma_mib": 15, "lru_gen": lru_gen}  # its free pages keep the node balanced
    for kind in ("cache", "anon"):
        region = {"mib": 970, "grow_s": 0, "kind": kind}
        lab = Lab(scenario(regions=[region], pools=THREADS, demotion="on", swap_mib=64, **dma, **SMALL_GAPS)).ticks(13)
        assert lab.total("kswapd_wakeups_fast") > 0
        assert (lab.total("pgsteal_kswapd_fast") > 0) == (takes and kind == "cache")


@pytest.mark.parametrize("claims", ["off", "on"])
def test_user_pages_that_steal_kernel_blocks_boosted_a_node_that_is_short(claims):
    """Large refills of a small machine take what lies free in the kernel's blocks too. Until 6.12.0 that boosted
    (steal_suitable_fallback); a page that claims no block does not (should_try_claim_block)."""
    stream = {"mib": 1400, "grow_s": 6}
    small: dict[str, Any] = {"dram_mib": 256, "slow_mib": 2048, "pcp_batch_pages": 0, "pcp_scale": 5, "cpus": 2}
    lab = Lab(scenario(regions=[stream], demotion="on", claims_half_blocks=claims, **small)).ticks(30)
    assert lab.m["pcp_refill_pages"][n.NORMAL] > lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]
    assert (lab.total("kswapd_wakeups_fast") > 0) == (claims == "off")
    assert (lab.total("pgdemote_kswapd") > 0) == (claims == "off")


def left_with(free, **fields):
    """A machine that has so many pages free in DRAM's highest zone, none of them in the kernel's blocks."""
    m = Lab(scenario(regions=[{"mib": 985, "grow_s": 0}], **fields)).ticks(1).m
    spare = int(m["free_pages"][n.NORMAL]) - free
    m["free_pages"][n.NORMAL] -= spare
    m["used_pages"][n.ANON, n.NORMAL] += spare
    m["kernel_block_free"] = 0
    return m


@pytest.mark.parametrize(("cls", "wakes"), [(n.PT_LEAF, 1), (n.SLAB_UNRECLAIM, 0)])
def test_the_refill_of_the_kernel_list_steals_and_slab_wakes_nobody_for_it(cls, wakes):
    """rmqueue_bulk; allocate_slab (d_slab_on: a boost of 512 pages stands for ten seconds, kswapd has not run)."""
    m = left_with(400, pcp_by_type="on", slab_steal_wakes="off", claims_half_blocks="off")
    m["kernel_block_free"], m["pcp_kernel_pages"][n.NORMAL] = 20, 10
    fill_kernel_blocks(m, 10, cls)
    assert (m["kernel_block_free"], m["boost_pages"][n.NORMAL]) == (10, 0)
    m["pcp_kernel_pages"][n.NORMAL] = 30  # refilled, with 20 pages more than were left in the kernel's blocks
    fill_kernel_blocks(m, 1, cls)
    left = 400 // LARGEST_CHUNK + 9
    assert (m["kernel_block_free"], m["boost_pages"][n.NORMAL]) == (left, PAGEBLOCK_PAGES)
    assert m["kswapd_awake"][n.FAST] == wakes


@pytest.mark.parametrize(("free", "wanted", "tries"), [(1100, 600, 1), (400, 20, 8)])
def test_of_a_block_that_is_not_half_free_only_single_pages_come(free, wanted, tries):
    """try_to_claim_block: half of the block must be free or the kernel's; else __rmqueue_steal takes the page that is
    wanted, and the next refill tries again. Each size of chunk that it was tried with has boosted (p_memcached_on: 780
    pages at once, which is all that may be)."""
    m = left_with(free, min_free_kib=4096)
    fill_kernel_blocks(m, wanted, n.PT_LEAF)
    most = int(1.5 * m["wmark_pages"][n.WMARK_HIGH, n.NORMAL])
    assert PAGEBLOCK_PAGES < most
    assert m["boost_pages"][n.NORMAL] == min(tries * PAGEBLOCK_PAGES, most)
    m["boost_pages"][n.NORMAL] = 0
    fill_kernel_blocks(m, 20, n.PT_LEAF)
    assert (m["boost_pages"][n.NORMAL] > 0) == (tries > 1), "nothing was left of it"


def test_a_stolen_chunk_serves_the_kernel_until_user_pages_take_it_back():
    """steal_suitable_fallback takes the largest chunk; a movable request falls back once its own lists are empty."""
    m = left_with(400, claims_half_blocks="off")
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
