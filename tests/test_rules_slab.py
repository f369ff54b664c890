"""Slab: a page returns only when all of its objects are gone, and new objects prefer old holes, wherever they are."""

import math

import pytest

from tests.builders import Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.demand import FILE_SLAB_BYTES
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGES_PER_MIB

HOG = {"kind": "anon", "mib": 1000, "access_hz": 0.01, "grow_s": 1, "hold_s": 5, "shrink_s": 0.25}


def files(count, **fields):
    return {"files": {"count": count, "start_s": 0, "grow_s": 1} | fields}


@pytest.mark.parametrize("per_page", [1, 8, 14, 21])
@pytest.mark.parametrize("kept", [0.1, 0.5])
@pytest.mark.parametrize("shrink_s", [0, 5])
def test_deleting_a_share_frees_that_share_to_the_power_of_n(per_page, kept, shrink_s):
    """mm/slub.c: discard_slab needs inuse == 0; objects that die at random free f^n of the pages [K-slab],
    at once or over time."""
    pools = files(200_000, hold_s=1, shrink_s=shrink_s, low_share=kept)
    lab = Lab(scenario(pools=pools, slab_objects_per_page=per_page)).ticks(7)
    full = lab.on(n.SLAB_RECLAIM, n.FAST)
    assert full == pytest.approx(200_000 * FILE_SLAB_BYTES / PAGE_BYTES, rel=0.001)
    lab.ticks(24)
    freed = 1 - lab.on(n.SLAB_RECLAIM, n.FAST) / full
    assert freed == pytest.approx((1 - kept) ** per_page, abs=0.01)


def test_deleting_everything_frees_everything():
    """No object, no slab."""
    lab = Lab(scenario(pools=files(200_000, hold_s=1, shrink_s=2))).ticks(30)
    assert lab.on(n.SLAB_RECLAIM, n.FAST) == 0


def test_new_objects_take_remote_holes_before_new_pages():
    """mm/slub.c: get_any_partial takes a remote partial slab with 1000/1024, so a cache that has slabs on CXL keeps
    filling them even while DRAM is free; a nodemask of DRAM does not."""
    pools = files(200_000, start_s=2, hold_s=1, shrink_s=0.5, low_share=0.2, period_s=8)
    filled, kept_out = (Lab(scenario(regions=[HOG], pools=pools)).ticks(39) for _ in range(2))
    on_cxl = filled.on(n.SLAB_RECLAIM, n.SLOW)
    assert on_cxl > 50_000 and filled.on(n.SLAB_RECLAIM, n.FAST) == 0
    assert filled.free(n.FAST) > 200_000
    filled.ticks(6)
    assert filled.m["pool_now"][n.POOL_FILES] == 200_000
    objects = filled.m["slab_objects"][n.SLAB_POOL_RECLAIM]
    assert objects[n.SLOW] / objects.sum() > 0.95
    assert filled.on(n.SLAB_RECLAIM, n.SLOW) <= on_cxl
    kept_out.ticks(6, {"place.slab_reclaim": "restrict"})
    objects = kept_out.m["slab_objects"][n.SLAB_POOL_RECLAIM]
    assert objects[n.SLOW] / objects.sum() == pytest.approx(0.2, abs=0.01)


def test_only_movable_caches_migrate():
    """Slab Movable Objects: xarray and maple nodes and vmas can move, inodes and kmalloc cannot [K-slab-movable]."""
    for share in (0, 0.3, 1):
        machine = scenario(regions=[HOG], pools=files(100_000, start_s=2), slab_movable_share=share)
        lab = Lab(machine, modes={"migrate.slab": "idle", "migrate.budget": "high"}).ticks(24)
        born = lab.on(n.SLAB_RECLAIM, n.SLOW)
        assert born > 30_000
        lab.ticks(30)
        left = lab.on(n.SLAB_RECLAIM, n.SLOW)
        assert left / born == pytest.approx(1 - share, abs=0.01)
        assert lab.total("pgmigrate_slab") == pytest.approx(born * share, rel=0.01)


def test_page_cache_brings_its_xarray():
    """lib/xarray.c: one node of 584 bytes per 64 cached pages, 0.226 % of the bytes cached [K-object-sizes]."""
    cache = {"kind": "cache", "mib": 800, "access_hz": 1, "grow_s": 1}
    lab = Lab(scenario(regions=[cache])).ticks(8)
    assert lab.on(n.SLAB_RECLAIM, n.FAST) == math.ceil(800 * PAGES_PER_MIB / 63 * 584 / PAGE_BYTES)


@pytest.mark.parametrize(("deaths", "freed"), [("random", 0.3), ("oldest_first", 0.55), ("newest_first", 0.55)])
def test_objects_that_die_in_order_give_their_pages_back(deaths, freed):
    """Neighbours die together (rm -rf, a whole crowd of threads): pages return in proportion, not by f^n."""
    pool = {"count": 200_000, "grow_s": 1, "hold_s": 1, "shrink_s": 1, "low_share": 0.4, "deaths": deaths}
    lab = Lab(scenario(pools={"files": pool})).ticks(4)
    most = lab.on(n.SLAB_RECLAIM, n.FAST)
    lab.ticks(12)
    share = 1 - lab.on(n.SLAB_RECLAIM, n.FAST) / most
    assert share < freed if deaths == "random" else share > freed


def test_no_shrinker_takes_pinned_files():
    """Dentries of a tmpfs hold a reference (simple_dir_operations): the shrinker skips them."""
    tables = {"mib": 200, "density": 1 / LEAF_SPAN_PAGES, "grow_s": 10, "start_s": 2, "kind": "zero"}
    shrunk = {}
    for pinned in (0, 1):
        pool = {"count": 400_000, "grow_s": 1, "pinned_share": pinned}
        hog = {"mib": 450, "grow_s": 1}
        lab = Lab(scenario(regions=[hog, tables], pools={"files": pool}, slow_mib=0)).ticks(60)
        shrunk[pinned] = lab.total("slab_shrunk")
    assert shrunk[1] == 0 < shrunk[0]
