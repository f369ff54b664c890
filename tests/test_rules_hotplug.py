"""Hot-plug: zones, struct pages, watermarks, and which blocks can leave again."""

import pytest

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE

HOG = {"kind": "anon", "mib": 1100, "access_hz": 0.01, "grow_s": 1, "hold_s": 3, "shrink_s": 0.25}
"""Fills DRAM and spills a little, leaves at 4.25 s."""
STACKS = {"threads": {"count": 300, "start_s": 2, "grow_s": 1}}


def remove(mib=2048, at_s=8):
    return {"kind": "hot_remove", "at_s": at_s, "mib": mib}


def add(mib, at_s=4):
    return {"kind": "hot_add", "at_s": at_s, "mib": mib}


def test_struct_pages_of_cxl_are_charged_to_dram():
    """64 B per page, allocated before the first block is online: 1.5625 % of CXL from DRAM in both zones
    (mm/sparse-vmemmap.c: vmemmap_alloc_block) [F-memmap]."""
    for modes in ({}, MOVABLE):
        lab = Lab(scenario(), modes=modes).ticks(1)
        assert lab.on(n.MEMMAP, n.FAST) == 2048 * PAGES_PER_MIB // STRUCT_PAGES_PER_PAGE
        assert lab.on(n.MEMMAP, n.SLOW) == 0
        assert lab.m["managed_pages"][n.SLOW_NORMAL] + lab.m["managed_pages"][n.SLOW_MOVABLE] == 2048 * PAGES_PER_MIB
        assert lab.m["memmap_slow_share"] == 0


def test_memmap_on_memory_takes_it_from_the_block():
    """mm/memory_hotplug.c: mhp_init_memmap_on_memory; 258,048 of 262,144 pages of 1 GiB are managed (recordings)."""
    for modes, zone in (({}, n.SLOW_NORMAL), (MOVABLE, n.SLOW_MOVABLE)):
        lab = Lab(scenario(slow_mib=1024), modes=modes | {"memmap": "on_memory"}).ticks(1)
        assert lab.on(n.MEMMAP, n.FAST) == 0
        assert lab.m["managed_pages"][zone] == 258048
        assert lab.m["memmap_slow_share"] == 1
        assert (lab.m["block_unmovable"] == 0).all()  # it leaves with its block


@pytest.mark.parametrize("regions", [[], [HOG | {"hold_s": 100}]], ids=["DRAM is free", "DRAM is full"])
def test_a_later_range_takes_its_struct_pages_from_its_own_node(regions: list[dict[str, object]]):
    """[K-memmap]: a second range finds the first one online as NORMAL, and asks its own node first."""
    lab = Lab(scenario(regions=regions, events=[add(1024)])).ticks(20)
    assert lab.on(n.MEMMAP, n.SLOW) == 1024 * PAGES_PER_MIB // STRUCT_PAGES_PER_PAGE
    assert lab.m["memmap_slow_share"] == pytest.approx(0.5, abs=0.02)
    movable = Lab(scenario(regions=regions, events=[add(1024)]), modes=MOVABLE).ticks(20)
    assert movable.on(n.MEMMAP, n.SLOW) == 0


def test_onlining_as_normal_lowers_drams_min():
    """__setup_per_zone_wmarks: min_free_kbytes is shared out over all zones but MOVABLE [F-watermarks]."""
    before = Lab(scenario(slow_mib=0)).ticks(1).m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    normal, movable = Lab(scenario()).ticks(1), Lab(scenario(), modes=MOVABLE).ticks(1)
    assert abs(movable.m["wmark_pages"][n.WMARK_MIN, n.NORMAL] - before) <= 5  # recomputed with the high marks in place
    assert normal.m["wmark_pages"][n.WMARK_MIN, n.NORMAL] < 0.6 * before
    later = Lab(scenario(events=[add(2048)])).ticks(10)
    assert later.m["managed_pages"][n.SLOW_NORMAL] == 0
    assert later.m["wmark_pages"][n.WMARK_MIN, n.NORMAL] == before
    later.ticks(10)
    assert later.m["wmark_pages"][n.WMARK_MIN, n.NORMAL] == normal.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]


def test_auto_movable_makes_a_cpuless_node_normal():
    """auto_movable_can_online_movable: numa_aware counts the node's own early pages: it has none [F-auto-movable]."""
    aware = Lab(scenario(), modes={"zone": "auto_movable"}).ticks(1)
    assert aware.m["managed_pages"][n.SLOW_MOVABLE] == 0
    lab = Lab(scenario(slow_mib=4096, auto_movable_numa_aware="off"), modes={"zone": "auto_movable"}).ticks(1)
    ratio = lab.m["managed_pages"][n.SLOW_MOVABLE] / lab.m["managed_pages"][n.NORMAL]
    assert 3.01 - 0.126 < ratio <= 3.01
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 4096 * PAGES_PER_MIB - lab.m["managed_pages"][n.SLOW_MOVABLE]


def test_one_unmovable_page_pins_its_block():
    """has_unmovable_pages fails the whole block; the pages cluster in the lowest [F-pinned-blocks]."""
    lab = Lab(scenario(regions=[HOG], pools={"buffers": {"count": 1, "start_s": 2}}, events=[remove()])).ticks(30)
    assert lab.on(n.ANON, n.SLOW) == 0
    assert lab.on(n.KERNEL_OTHER, n.SLOW) == 1
    assert lab.m["block_unmovable"].tolist() == [1] + [0] * 255
    lab.ticks(20)
    assert lab.total("blocks_offlined") == 15
    assert lab.total("blocks_failed") == 1
    assert lab.m["block_state"][:16].tolist() == [n.BLOCK_NORMAL] + [n.BLOCK_ABSENT] * 15
    assert lab.on(n.MEMMAP, n.FAST) == 128 * PAGES_PER_MIB // STRUCT_PAGES_PER_PAGE


def test_survivors_pin_every_block_that_they_are_in():
    """Objects die everywhere, not from the top: 1 % left of two blocks' pages still pins both [F-pinned-blocks]."""
    buffers = {"buffers": {"count": 50_000, "start_s": 1, "hold_s": 2, "shrink_s": 0, "low_share": 0.01}}
    lab = Lab(scenario(pools=buffers, events=[remove()]), modes={"place.kernel_other": "prefer_slow"}).ticks(12)
    assert lab.on(n.KERNEL_OTHER, n.SLOW) == 50_000
    lab.ticks(10)
    assert lab.on(n.KERNEL_OTHER, n.SLOW) == 500
    assert (lab.m["block_unmovable"] > 0).sum() == 2
    lab.ticks(20)
    assert (lab.total("blocks_offlined"), lab.total("blocks_failed")) == (14, 2)


def test_kernel_pages_that_left_unpin_their_blocks():
    """Only what is still there pins; blocks go offline with their data moved to DRAM."""
    stacks = {"threads": {"count": 300, "start_s": 2, "grow_s": 1, "hold_s": 2, "shrink_s": 1}}
    cache = {"kind": "cache", "mib": 300, "access_hz": 1, "start_s": 2, "grow_s": 1, "mempolicy": "bind_slow"}
    lab = Lab(scenario(regions=[HOG, cache], pools=stacks, events=[remove()])).ticks(16)
    assert (lab.m["block_unmovable"] > 0).any()
    lab.ticks(24)
    assert lab.total("blocks_offlined") + lab.total("blocks_failed") == 16
    # xarray nodes of the cache are kernel pages too: they may pin; nothing else does.
    pins = lab.on(n.SLAB_RECLAIM, n.SLOW) + lab.on(n.SLAB_UNRECLAIM, n.SLOW)
    assert (lab.total("blocks_failed") > 0) == (pins > 0)


def test_every_movable_block_leaves():
    """ZONE_MOVABLE holds nothing unmovable: the same load leaves with all its blocks (recordings h_unplug_mov)."""
    data = {"kind": "anon", "mib": 300, "access_hz": 1, "start_s": 2, "grow_s": 1, "mempolicy": "bind_slow"}
    lab = Lab(scenario(regions=[HOG, data], pools=STACKS, events=[remove()], demotion="on"), modes=MOVABLE).ticks(40)
    assert lab.total("blocks_offlined") == 16
    assert lab.total("blocks_failed") == 0
    assert lab.m["managed_pages"][n.SLOW_MOVABLE] == 0
    assert lab.region_on(1, n.FAST) == 300 * PAGES_PER_MIB
    assert lab.total("pages_evacuated") == 300 * PAGES_PER_MIB
    assert lab.on(n.MEMMAP, n.FAST) == 0


def test_a_block_stays_if_its_data_fits_nowhere_else():
    """mm/memory_hotplug.c: offline_pages migrates to other nodes only; DRAM is full, nothing can be reclaimed."""
    data = {"kind": "anon", "access_hz": 1, "grow_s": 2}
    regions = [data | {"mib": 2000, "mempolicy": "bind_slow"}, data | {"mib": 960, "mempolicy": "bind_fast"}]
    lab = Lab(scenario(regions=regions, events=[remove()]), modes=MOVABLE).ticks(40)
    assert lab.total("blocks_offlined") == 0
    assert lab.total("blocks_failed") == 16
    assert lab.total("oom_kill") == 0  # RETRY_MAYFAIL
    assert lab.free(n.FAST) >= lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    assert lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW) == 2000 * PAGES_PER_MIB


def test_offlining_gives_drams_min_back():
    """Watermarks are recomputed afterwards (init_per_zone_wmark_min)."""
    lab = Lab(scenario(events=[remove(at_s=1)])).ticks(2)
    low = lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    lab.ticks(10)
    assert lab.total("blocks_offlined") == 16
    assert lab.m["wmark_pages"][n.WMARK_MIN, n.NORMAL] > 1.5 * low


def test_blocks_come_back_in_the_zone_of_the_day():
    """The zone is decided when a block comes online, by the policy in force then."""
    machine = scenario(events=[remove(1024, 1), add(1024, 2)])
    # hot_add events bring blocks that are absent at boot
    lab = Lab(machine).ticks(1)
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 1024 * PAGES_PER_MIB
    lab.ticks(4)
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 0
    lab.ticks(6, MOVABLE)
    assert lab.m["managed_pages"][n.SLOW_MOVABLE] == 1024 * PAGES_PER_MIB
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 0


def test_prefer_slow_is_masked_without_a_normal_zone():
    """docs/reference/actions.md: impossible modes are masked, and chosen all the same become the default."""
    lab = Lab(scenario(pools=STACKS), modes=MOVABLE | {"place.kstack": "prefer_slow"}).ticks(20)
    assert not lab.machines.masks[0, n.PREFER_SLOW]
    assert lab.m["action"][n.A_PLACE_KSTACK] == n.FALLBACK
    assert lab.on(n.KSTACK, n.FAST) == 1200
    normal = Lab(scenario(pools=STACKS), modes={"place.kstack": "prefer_slow"}).ticks(20)
    assert normal.machines.masks[0, n.PREFER_SLOW]
    assert normal.on(n.KSTACK, n.SLOW) == 1200


def test_offline_in_place_keeps_the_memmap_and_online_brings_the_blocks_back():
    """Writing offline to memory<n>/state: the block stays plugged, so its struct pages stay allocated."""
    events = [{"kind": "offline", "at_s": 1, "mib": 2048}, {"kind": "online", "at_s": 3, "mib": 128}]
    lab = Lab(scenario(events=events)).ticks(6)
    memmap = lab.on(n.MEMMAP, n.FAST)
    assert memmap == 2048 * PAGES_PER_MIB // STRUCT_PAGES_PER_PAGE
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 0
    lab.ticks(10)
    assert lab.m["managed_pages"][n.SLOW_NORMAL] == 2048 * PAGES_PER_MIB
    assert lab.on(n.MEMMAP, n.FAST) == memmap
    assert_books_balance(lab.machines.records)


def test_offline_in_place_tries_as_many_blocks_as_asked():
    """A test of offlining asks block by block: one that fails is not made up for by another."""
    table = {"mib": 16, "density": 1 / LEAF_SPAN_PAGES, "grow_s": 0}
    full = {"mib": 1024, "grow_s": 0}
    events = [{"kind": "offline", "at_s": 2, "mib": 2048}]
    lab = Lab(scenario(regions=[full, table], events=events)).ticks(12)
    assert lab.total("blocks_offlined") + lab.total("blocks_failed") == 16
    assert lab.total("blocks_failed") >= 1


def test_data_fills_the_lowest_blocks_so_the_highest_go_offline_though_dram_is_full():
    """Recordings h_unplug_on: with DRAM full and a block's worth of data on CXL, the empty blocks go all the same."""
    spilled = {"mib": 1024 + 100, "grow_s": 0}
    events = [{"kind": "offline", "at_s": 2, "mib": 2048}]
    lab = Lab(scenario(regions=[spilled], events=events), modes=MOVABLE).ticks(12)
    assert lab.total("blocks_offlined") >= 14
    assert 1 <= lab.total("blocks_failed") <= 2


def test_a_node_that_is_there_at_boot_is_normal_and_keeps_its_own_struct_pages():
    """sparse_init_nid: memhp_default_state has no say, DRAM pays nothing, and the lowest block never goes offline."""
    at_boot = Lab(scenario(slow_at_boot="on"), modes=MOVABLE).ticks(1)
    m = at_boot.m
    assert (m["managed_pages"][n.SLOW_NORMAL], m["managed_pages"][n.SLOW_MOVABLE]) == (2048 * 256, 0)
    assert at_boot.on(n.MEMMAP, n.SLOW) == 2048 * 256 // 64 and at_boot.on(n.MEMMAP, n.FAST) == 0
    assert m["memmap_slow_share"] == 1.0
    gone = Lab(scenario(slow_at_boot="on", events=[{"kind": "hot_remove", "at_s": 0.5, "mib": 2048}])).ticks(4)
    assert gone.total("blocks_offlined") == 16 - 1 and gone.m["block_unmovable"][0] > 0


def test_what_is_plugged_later_comes_online_as_ever():
    later = {"kind": "hot_add", "at_s": 0.5, "mib": 1024}
    m = Lab(scenario(slow_at_boot="on", events=[later]), modes=MOVABLE).ticks(4).m
    assert (m["managed_pages"][[n.SLOW_NORMAL, n.SLOW_MOVABLE]] == 1024 * 256).all()


def test_an_event_behind_one_that_is_drawn_away_happens_still():
    drawn = {"kind": {"choice": ["none", "offline"]}, "at_s": 0.5, "mib": 128}
    seen = set()
    for seed in range(8):
        lab = Lab(scenario(events=[drawn, {"kind": "hot_remove", "at_s": 1, "mib": 2048}]), seed=seed).ticks(4)
        seen.add(lab.total("blocks_offlined"))
        lab.ticks(3)
        assert (lab.m["block_state"][:15] == n.BLOCK_ABSENT).all()
    assert seen == {0, 1}, "drawn away, or not"
