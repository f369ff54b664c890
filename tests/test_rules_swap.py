"""Swap: pages wait for the device on their way out and in, and stay in the swap cache, which counts as file."""

import numpy as np

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.kswapd import end_writeback, start_writeback
from tiergym.sim.units import PAGEBLOCK_PAGES, PAGES_PER_MIB

HOG = {"mib": 1000, "grow_s": 0, "access_hz": 0}
STACKS = {"threads": {"count": 3000, "start_s": 2, "grow_s": 10}}


def swapping(**settings):
    """Stacks squeeze a DRAM of anonymous pages; CXL is MOVABLE and there is swap."""
    return Lab(scenario(regions=[HOG], pools=STACKS, swap_mib=1024, **settings), modes=MOVABLE)


def test_what_kswapd_swaps_counts_as_file_and_is_free_when_written():
    """pageout, end_swap_bio_write: the device writes one page in `swap_out_us`, and no faster."""
    slow, quick = swapping(swap_out_us=3000), swapping()
    highest = 0
    for _ in range(60):
        slow.ticks(1)
        waiting = int(slow.m["writeback_pages"].sum())
        highest = max(highest, waiting)
        assert slow.on(n.FILE, n.FAST) == waiting
        assert_books_balance(slow.machines.records)
    quick.ticks(60)
    assert highest > 0 == quick.m["writeback_pages"].sum() == quick.on(n.FILE, n.FAST)
    assert slow.total("pgsteal_kswapd_fast") < quick.total("pgsteal_kswapd_fast")


def test_a_boost_stands_until_the_pass_that_waits_for_swap_ends():
    """balance_pgdat: the boost is taken back at `out`, when the node is balanced, not while its pages are written."""
    m = Lab(scenario(regions=[HOG | {"mib": 500}], swap_mib=1024, swap_out_us=0.25e6 / 100)).ticks(1).m
    high = int(m["wmark_pages"][n.WMARK_HIGH, n.NORMAL])
    spare = int(m["free_pages"][n.NORMAL]) - (high + PAGEBLOCK_PAGES - 20)
    m["free_pages"][n.NORMAL] -= spare
    m["used_pages"][n.KERNEL_OTHER, n.NORMAL] += spare
    m["boost_pages"][n.NORMAL], m["kswapd_awake"][n.FAST] = PAGEBLOCK_PAGES, 1
    assert start_writeback(m, n.FAST, 150) == 150
    end_writeback(m)
    assert (m["writeback_pages"][n.NORMAL], m["kswapd_awake"][n.FAST]) == (50, 1)
    assert m["boost_pages"][n.NORMAL] == PAGEBLOCK_PAGES
    m["free_pages"][n.NORMAL] += 100
    m["used_pages"][n.KERNEL_OTHER, n.NORMAL] -= 100
    end_writeback(m)
    assert (m["writeback_pages"][n.NORMAL], m["boost_pages"][n.NORMAL], m["kswapd_awake"][n.FAST]) == (0, 0, 0)


def read_back(swap_latency_us, share_out=0.25, swap_mib=1024):
    """A hog a part of which is in swap, and which is touched again at once by four workers."""
    hog = HOG | {"access_hz": 100, "mib": 900}
    lab = Lab(scenario(regions=[hog], swap_mib=swap_mib, swap_latency_us=swap_latency_us)).ticks(1)
    m, pages = lab.m, int(share_out * PAGES_PER_MIB * hog["mib"])
    m["region"]["pages"][0, n.NORMAL] -= pages
    m["used_pages"][n.ANON, n.NORMAL] -= pages
    m["free_pages"][n.NORMAL] += pages
    m["region"]["out_pages"][0] = pages
    m["swap_free_pages"] -= pages
    return lab, pages


def test_every_worker_waits_for_the_pages_that_it_reads_back():
    """do_swap_page: four workers read four pages in one latency of the device; the others wait on."""
    lab, pages = read_back(swap_latency_us=1000)
    assert [int(lab.ticks(1).m["region"]["out_pages"][0]) for _ in range(3)] == [pages - 1000 * k for k in (1, 2, 3)]
    quick, _ = read_back(swap_latency_us=1)
    assert quick.ticks(1).m["region"]["out_pages"][0] == 0


def test_pages_read_back_stay_in_the_swap_cache_until_they_leave():
    """should_try_to_free_swap, vm_swap_full: they keep their slots while swap is less than half full."""
    lab, pages = read_back(swap_latency_us=1)
    lab.ticks(1)
    assert lab.m["region"]["swap_cached"][0].tolist() == [pages, 0]
    lab.m["region"]["size_pages"][0] //= 2
    lab.ticks(1)
    assert abs(lab.m["region"]["swap_cached"][0, n.FAST] - pages / 2) <= 1
    full, _ = read_back(swap_latency_us=500, swap_mib=300)
    full.ticks(1)
    assert full.m["region"]["swap_cached"].sum() == 0
    assert_books_balance(np.concatenate([lab.machines.records, full.machines.records]))


def test_swapped_pages_leave_nodes_of_the_swap_cache_in_dram():
    """__delete_from_swap_cache stores a shadow entry, so 64 slots keep an xarray node while they are used; reclaim
    allocates it with PF_MEMALLOC, which looks at no mark."""
    lab = swapping()
    before = lab.on(n.SLAB_RECLAIM, n.FAST)
    lab.ticks(60)
    swapped = int(lab.m["region"]["out_pages"].sum())
    assert swapped > 5_000
    pages = lab.on(n.SLAB_RECLAIM, n.FAST) - before
    assert abs(pages - swapped * 584 / 63 / 4096) <= 2
    assert lab.on(n.SLAB_RECLAIM, n.SLOW) == 0
    assert_books_balance(lab.machines.records)
