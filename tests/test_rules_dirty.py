"""Dirty page cache: the limit of a node, what it spreads, and what writing back does to it."""

from typing import Any

import pytest

from tests.builders import Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

WRITTEN: dict[str, Any] = {"kind": "cache", "mib": 600, "grow_s": 4, "written_share": 1}
KEPT_DIRTY: dict[str, Any] = {"dirty_expire_s": 3600, "dirty_background_ratio": 100}
DRAM = 1024 * PAGES_PER_MIB


def test_written_cache_leaves_a_node_at_its_dirty_limit_though_it_has_pages_free():
    """get_page_from_freelist passes over a node that is not node_dirty_ok: above its share of dirty pages."""
    lab = Lab(scenario(regions=[WRITTEN], **KEPT_DIRTY)).ticks(20)
    assert lab.m["dirty_pages"][n.FAST] == pytest.approx(0.2 * DRAM, rel=0.05)
    assert lab.region_on(0, n.FAST) == pytest.approx(0.2 * DRAM, rel=0.05)
    assert lab.region_on(0, n.SLOW) > 300 * PAGES_PER_MIB
    assert lab.free(n.FAST) > 0.7 * DRAM
    assert lab.total("kswapd_wakeups_fast") == 0


def test_what_was_only_read_is_not_spread():
    """Without __GFP_WRITE the limit is not looked at."""
    lab = Lab(scenario(regions=[WRITTEN | {"written_share": 0}], **KEPT_DIRTY)).ticks(20)
    assert lab.region_on(0, n.SLOW) == 0
    assert lab.m["dirty_pages"].sum() == 0


def test_with_all_nodes_at_their_limit_the_slow_path_asks_no_more():
    """__alloc_pages_slowpath clears spread_dirty_pages and finds DRAM first again; a balanced node wakes nobody."""
    lab = Lab(scenario(regions=[WRITTEN], dirty_ratio=5, **KEPT_DIRTY)).ticks(20)
    assert lab.region_on(0, n.FAST) > 0.3 * DRAM
    assert lab.total("kswapd_wakeups_fast") == 0


def test_dirty_cache_is_written_when_it_is_old_and_beyond_the_background_limit():
    """wb_check_old_data_flush and wb_check_background_flush: clean pages no longer count against the limit."""
    old: dict[str, Any] = {"dirty_expire_s": 0.5, "dirty_background_ratio": 100}
    many: dict[str, Any] = {"dirty_background_ratio": 1}
    for kernel in (old, many):
        lab = Lab(scenario(regions=[WRITTEN], **kernel)).ticks(40)
        assert lab.m["dirty_pages"].sum() < 0.02 * 3 * DRAM
        assert lab.region_on(0, n.SLOW) < 0.1 * lab.region_on(0, n.FAST)


def test_written_cache_has_a_buffer_head_per_page():
    """create_empty_buffers (fs/buffer.c) gives each block that ext4 writes one of 104 bytes, 39 to a slab page."""
    slab = []
    for share in (0, 1):
        lab = Lab(scenario(regions=[WRITTEN | {"written_share": share}])).ticks(20)
        slab.append(lab.on(n.SLAB_RECLAIM, n.FAST) + lab.on(n.SLAB_RECLAIM, n.SLOW))
    assert slab[1] - slab[0] == pytest.approx(600 * PAGES_PER_MIB / 39, rel=0.02)
