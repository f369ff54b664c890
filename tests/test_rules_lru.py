"""The order in which pages leave: what nobody references any more by age, locked pages never, referenced ones late."""

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB

TABLES = {"mib": 160, "density": 1 / LEAF_SPAN_PAGES, "grow_s": 20, "start_s": 4, "kind": "zero"}
OLD = {"mib": 30, "grow_s": 0, "access_hz": 0}
NEWER = {"mib": 900, "start_s": 1, "grow_s": 1, "access_hz": 0}


def squeezed(old, **settings):
    """Page tables squeeze a DRAM of old and newer pages; CXL is MOVABLE."""
    return Lab(scenario(regions=[old, NEWER, TABLES], **{"demotion": "on"} | settings), modes=MOVABLE).ticks(80)


def test_pages_that_nobody_references_leave_in_the_order_of_their_touch():
    """The tail of the LRU (recordings b_sparse_write_dem_mov: an initramfs goes before the first anonymous page)."""
    lab = squeezed(OLD)
    assert lab.total("pgdemote_kswapd") > 30 * PAGES_PER_MIB
    assert lab.region_on(0, n.FAST) == 0 < lab.region_on(1, n.FAST)


def test_a_referenced_page_stays_while_others_are_cold():
    lab = squeezed(OLD | {"access_hz": 10})
    assert lab.region_on(0, n.FAST) == 30 * PAGES_PER_MIB
    assert lab.region_on(1, n.SLOW) > 30 * PAGES_PER_MIB


def test_mlocked_pages_never_leave():
    """mlock(2): the unevictable list is not scanned."""
    lab = squeezed(OLD | {"mlocked": "on"})
    assert lab.region_on(0, n.FAST) == 30 * PAGES_PER_MIB
    assert_books_balance(lab.machines.records)


def test_tmpfs_goes_to_swap_and_page_cache_is_dropped():
    """folio_test_swapbacked: without swap or demotion tmpfs cannot be reclaimed, and the next page table kills."""
    none = {"demotion": "off", "swap_mib": 0}
    cache, tmpfs = (squeezed(OLD | {"kind": kind}, **none) for kind in ("cache", "shmem"))
    swapping = squeezed(OLD | {"kind": "shmem"}, demotion="off", swap_mib=64)
    assert cache.total("file_dropped") > 0 == tmpfs.total("file_dropped")
    assert tmpfs.total("pswpout") == 0 < swapping.total("pswpout")
    assert_books_balance(swapping.machines.records)


def test_kswapd_looks_at_referenced_pages_more_than_once():
    """A region that is all referenced takes kswapd's time without giving much (recordings: scans of 88,000 for 400)."""
    rates = {}
    for hz in (0, 50):
        hog = {"mib": 1000, "grow_s": 0, "access_hz": hz}
        lab = Lab(
            scenario(regions=[hog, TABLES], demotion="on", kswapd_pages_per_s=2000, lru_window_s=4), modes=MOVABLE
        ).ticks(60)
        rates[hz] = lab.total("pgdemote_kswapd")
    assert 0 < rates[50] < rates[0]


def test_reading_untouched_memory_takes_page_tables_alone():
    """do_anonymous_page maps the shared zero page for a read: a table entry, no page; munmap frees the tables."""
    region = {"mib": 256, "kind": "zero", "grow_s": 1, "hold_s": 2, "shrink_s": 1}
    lab = Lab(scenario(regions=[region])).ticks(8)
    assert lab.region_on(0, n.FAST) == 0
    assert lab.leaf_on(0, n.FAST) == 128
    lab.ticks(20)
    assert lab.leaf_on(0, n.FAST) == 0
