"""What changed between releases of Linux, one rule at a time: each field of the table of releases, off and on."""

from typing import Any

import pytest

from tests.builders import Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.kswapd import forget_failures, revive_by_frees
from tiergym.sim.storage import SLOTS_PER_TABLE
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB
from tiergym.sim.zonelist import NODE_BOTH, NODE_FAST, take_from_zonelist

MOVABLE = {"zone": "movable"}
CACHE = {"kind": "cache", "mib": 1200, "grow_s": 8, "access_hz": 0}


def full(**fields: Any) -> Lab:
    """DRAM filled to low with page cache, and CXL nearly empty."""
    return Lab(scenario(regions=[{"kind": "cache", "mib": 1000, "grow_s": 1, "access_hz": 0}], **fields)).ticks(8)


# Allocator [K-busy-node]


@pytest.mark.parametrize("skips", ["off", "on"])
def test_requests_pass_over_a_node_whose_kswapd_works(skips: str) -> None:
    m = full(skip_busy_node=skips).m
    m["kswapd_awake"][n.FAST] = 1
    m["grant_pages"][:] = 0
    assert take_from_zonelist(m, 10, n.WMARK_MIN, NODE_BOTH, False, True) == 10
    assert m["grant_pages"][n.SLOW_NORMAL] == (10 if skips == "on" else 0)
    m["grant_pages"][:] = 0
    assert take_from_zonelist(m, 10, n.WMARK_MIN, NODE_FAST, False, True) == 10  # no other node to look on
    assert m["grant_pages"][n.NORMAL] == 10


def test_where_no_idle_node_has_pages_the_busy_one_serves() -> None:
    m = full(skip_busy_node="on").m
    m["kswapd_awake"][n.FAST] = 1
    m["grant_pages"][:] = 0
    m["free_pages"][n.SLOW_NORMAL] = 0
    assert take_from_zonelist(m, 10, n.WMARK_MIN, NODE_BOTH, False, True) == 10
    assert m["grant_pages"][n.NORMAL] == 10


def test_after_a_run_only_what_came_during_it_passes_over() -> None:
    """kswapd sleeps again before the sub-round ends: those who came later find DRAM as it left it."""
    m = full(skip_busy_node="on").m
    m["kswapd_busy"][n.FAST] = 4.0
    m["grant_pages"][:] = 0
    assert take_from_zonelist(m, 10, n.WMARK_MIN, NODE_BOTH, False, True) == 10
    assert (m["grant_pages"][n.SLOW_NORMAL], m["grant_pages"][n.NORMAL]) == (4, 6)
    assert m["kswapd_busy"][n.FAST] == 0


def test_a_stream_no_longer_refills_what_kswapd_frees() -> None:
    """Page cache over movable CXL: kernel pages wake kswapd, and up to 6.12 the stream takes the pages it frees."""
    stacks = {"threads": {"count": 400, "start_s": 4, "grow_s": 8}}
    steals = {}
    for skips in ("off", "on"):
        lab = Lab(
            scenario(regions=[CACHE], pools=stacks, skip_busy_node=skips, kswapd_pages_per_s=20000), modes=MOVABLE
        )
        lab.ticks(60)
        assert lab.on(n.KSTACK, n.SLOW) == 0 < lab.on(n.KSTACK, n.FAST)
        steals[skips] = lab.total("pgsteal_kswapd_fast")
    assert 0 < steals["on"] < 0.7 * steals["off"]


# Page cache in large folios [K-large-folios]


@pytest.mark.parametrize(("folio", "tables", "nodes"), [(1, 512, 4), (32, 512, 4), (64, 512, 0), (512, 0, 0)])
def test_folios_spare_page_tables_and_xarray_nodes(folio: int, tables: int, nodes: int) -> None:
    mapped = {"kind": "file_ro", "mib": 1024, "grow_s": 2}
    lab = Lab(scenario(regions=[mapped], file_folio_pages=folio, dram_mib=2048)).ticks(16)
    assert lab.leaf_on(0, n.FAST) + lab.leaf_on(0, n.SLOW) == tables
    assert int(lab.m["region"]["upper"][0].sum()) == 3  # one over 512 ranges of 2 MiB, and the path
    pages = lab.on(n.SLAB_RECLAIM, n.FAST) + lab.on(n.SLAB_RECLAIM, n.SLOW)
    assert pages // 148 == nodes  # 262,144 pages x 584 / 63 bytes make 593 pages of slab


def test_tmpfs_anonymous_and_sparse_mappings_keep_their_tables_and_nodes() -> None:
    regions = [
        {"kind": "anon", "mib": 64, "grow_s": 0},
        {"kind": "file_ro", "mib": 64, "grow_s": 0, "density": 0.5},
        {"kind": "shmem", "mib": 64, "grow_s": 0},
        {"kind": "mapping", "mib": 64, "grow_s": 0},
    ]
    lab = Lab(scenario(regions=regions, file_folio_pages=LEAF_SPAN_PAGES)).ticks(4)
    assert [lab.leaf_on(r, n.FAST) for r in range(4)] == [32, 64, 0, 0]
    assert lab.on(n.SLAB_RECLAIM, n.FAST) > 30  # the nodes of 64 MiB of tmpfs


def test_large_folios_leave_dram_as_soon_as_none_fits_above_low() -> None:
    """No per-CPU list blurs the mark, nobody is woken, and DRAM keeps what does not make a folio."""
    lab = Lab(scenario(regions=[CACHE], file_folio_pages=LEAF_SPAN_PAGES, pcp_batch_pages=63)).ticks(60)
    free, low = lab.free(n.FAST), int(lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL])
    assert low <= free < low + LEAF_SPAN_PAGES
    assert lab.region_on(0, n.FAST) % LEAF_SPAN_PAGES == 0 == lab.region_on(0, n.SLOW) % LEAF_SPAN_PAGES
    assert lab.total("kswapd_wakeups_fast") == 0


def test_large_folios_are_reclaimed_whole() -> None:
    stacks = {"threads": {"count": 1000, "start_s": 9, "grow_s": 4}}
    lab = Lab(scenario(regions=[CACHE], pools=stacks, file_folio_pages=LEAF_SPAN_PAGES), modes=MOVABLE).ticks(60)
    assert lab.total("file_dropped") > 0
    assert lab.total("file_dropped") % LEAF_SPAN_PAGES == 0


# When kswapd gives up [K-hopeless] [K-boosted-runs]


@pytest.mark.parametrize(
    ("reset", "short", "forgotten"),
    [("progress", True, True), ("progress_or_free", True, True), ("balance_or_free", True, False),
     ("balance_or_free", False, True)],
)  # fmt: skip
def test_which_progress_makes_a_hopeless_kswapd_try_again(reset: str, short: bool, forgotten: bool) -> None:
    m = full(hopeless_reset=reset).m
    m["kswapd_failures"][n.FAST] = 16
    m["free_pages"][n.NORMAL] = (
        m["wmark_pages"][n.WMARK_LOW, n.NORMAL] if short else m["wmark_pages"][n.WMARK_HIGH, n.NORMAL] + 100
    )
    forget_failures(m, n.FAST)
    assert (m["kswapd_failures"][n.FAST] == 0) == forgotten


@pytest.mark.parametrize(
    ("reset", "slow_mib", "revived"),
    [("progress", 2048, False), ("progress_or_free", 2048, True), ("progress_or_free", 0, False),
     ("balance_or_free", 2048, True)],
)  # fmt: skip
def test_freed_pages_revive_the_kswapd_of_a_node_with_another_behind_it(
    reset: str, slow_mib: int, revived: bool
) -> None:
    m = full(hopeless_reset=reset, slow_mib=slow_mib).m
    m["kswapd_failures"][n.FAST] = 16
    revive_by_frees(m)
    assert m["kswapd_failures"][n.FAST] == 16  # DRAM is at low
    m["free_pages"][n.NORMAL] = m["wmark_pages"][n.WMARK_HIGH, n.NORMAL] + 100
    revive_by_frees(m)
    assert (m["kswapd_failures"][n.FAST] == 0) == revived


@pytest.mark.parametrize("counts", ["off", "on"])
def test_a_run_for_a_boost_counts_as_a_failure_or_not(counts: str) -> None:
    """Blocks are claimed while zone DMA keeps the node balanced, and there is nothing to reclaim [K-boosted-runs]."""
    threads = {"threads": {"count": 600, "start_s": 2, "grow_s": 4}}
    gaps: dict[str, Any] = {"min_free_kib": 1024, "dma_mib": 15}
    hog = {"mib": 970, "grow_s": 0}
    lab = Lab(scenario(regions=[hog], pools=threads, boosted_runs_fail=counts, **gaps)).ticks(30)
    assert lab.total("kswapd_wakeups_fast") > 0 == lab.total("pgsteal_kswapd_fast")
    assert (lab.m["kswapd_failures"][n.FAST] > 0) == (counts == "on")


# Page tables after MADV_DONTNEED [K-dontneed]


@pytest.mark.parametrize(
    ("by", "frees", "tables"),
    [("munmap", "off", 0), ("madv_dontneed", "off", 128), ("madv_dontneed", "on", 0)],
)
def test_madv_dontneed_returns_page_tables_or_not(by: str, frees: str, tables: int) -> None:
    heap = {"mib": 256, "grow_s": 1, "hold_s": 1, "shrink_s": 1, "released_by": by}
    lab = Lab(scenario(regions=[heap], dontneed_frees_tables=frees)).ticks(16)
    assert lab.region_on(0, n.FAST) == 0
    assert lab.leaf_on(0, n.FAST) == tables


def test_tables_that_stayed_serve_again_and_go_with_their_process() -> None:
    heap = {"mib": 256, "grow_s": 1, "hold_s": 1, "shrink_s": 1, "period_s": 4, "released_by": "madv_dontneed"}
    lab = Lab(scenario(regions=[heap])).ticks(14)
    assert lab.leaf_on(0, n.FAST) == 128
    lab.ticks(8)
    assert lab.leaf_on(0, n.FAST) == 128 and lab.region_on(0, n.FAST) == 65536
    lab.m["process"]["down_s"][0] = 100.0
    lab.ticks(1)
    assert lab.leaf_on(0, n.FAST) == 0


# DAMON [K-damon-falls-back]


@pytest.mark.parametrize(("falls_back", "mark"), [("off", n.WMARK_MIN), ("on", n.WMARK_LOW)])
def test_damon_takes_the_kernel_s_reserve_or_falls_back(falls_back: str, mark: int) -> None:
    filler, hot = {"mib": 1100, "grow_s": 2, "access_hz": 0}, {"mib": 300, "grow_s": 1, "start_s": 3, "access_hz": 100}
    stacks = {"threads": {"count": 100, "start_s": 6, "grow_s": 1}}
    fields: dict[str, Any] = {"damon_promotion": "on", "damon_falls_back": falls_back}
    lab = Lab(scenario(regions=[filler, hot], **fields)).ticks(22)
    assert abs(lab.free(n.FAST) - int(lab.m["wmark_pages"][mark, n.NORMAL])) <= 1
    before = lab.seconds_lost("migration")
    assert (lab.ticks(1).seconds_lost("migration") > before) == (falls_back == "on")  # copied from CXL to CXL
    behind = Lab(scenario(regions=[filler, hot], pools=stacks, min_free_kib=16384, **fields), modes=MOVABLE).ticks(40)
    assert (behind.total("oom_kill") > 0) == (falls_back == "off")


# Swap tables [K-swap-table]


@pytest.mark.parametrize("tables", ["off", "on"])
def test_swapped_pages_take_a_kernel_page_per_512_slots(tables: str) -> None:
    hog, other = {"mib": 600, "grow_s": 1, "access_hz": 0}, {"mib": 700, "start_s": 3, "grow_s": 2, "access_hz": 1}
    fields: dict[str, Any] = {"slow_mib": 0, "swap_mib": 1024, "swap_table_pages": tables}
    lab = Lab(scenario(regions=[hog, other], **fields)).ticks(24)
    swapped = 1024 * PAGES_PER_MIB - int(lab.m["swap_free_pages"])
    assert swapped > 50000
    wanted = -(-swapped // SLOTS_PER_TABLE) if tables == "on" else 0
    assert wanted <= lab.on(n.KERNEL_OTHER, n.FAST) <= wanted + 1
    lab.machines.records["region"]["size_pages"] = 0
    lab.ticks(4)
    assert lab.on(n.KERNEL_OTHER, n.FAST) == 0


# Slab [K-sheaves]


@pytest.mark.parametrize(("follows", "slow"), [("on", True), ("off", False)])
def test_slab_of_a_bound_task_lies_where_it_is_bound_or_not(follows: str, slow: bool) -> None:
    files = {"files": {"count": 20000, "grow_s": 1}}
    fields: dict[str, Any] = {"processes": [{"mempolicy": "bind_slow"}], "pools": files}
    lab = Lab(scenario(slab_follows_policy=follows, **fields)).ticks(8)
    assert (lab.on(n.SLAB_RECLAIM, n.SLOW) > 1000) == slow == (lab.on(n.SLAB_RECLAIM, n.FAST) < 100)


def test_slab_follows_each_task_s_policy_in_proportion_to_its_work() -> None:
    processes: list[dict[str, Any]] = [{"mempolicy": "bind_slow", "work_share": 0.25}, {"work_share": 0.75}]
    lab = Lab(scenario(processes=processes, pools={"files": {"count": 20000, "grow_s": 1}})).ticks(8)
    slow, fast = lab.on(n.SLAB_RECLAIM, n.SLOW), lab.on(n.SLAB_RECLAIM, n.FAST)
    assert slow / (slow + fast) == pytest.approx(0.25, abs=0.02)


def test_a_cache_fetches_whole_bursts_of_objects() -> None:
    few = {"sockets": {"count": 1, "grow_s": 0}}  # 3 KiB: 10.5 objects of 293 bytes
    pages = {
        burst: Lab(scenario(pools=few, slab_burst_objects=burst)).ticks(1).on(n.SLAB_UNRECLAIM, n.FAST)
        for burst in (1, 28)
    }
    assert pages == {1: 1, 28: 2}


# Weighted interleave [K-interleave-weights]


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({"dram_read_gbps": 200, "slow_read_gbps": 40}, (26, 5)),
        ({"dram_read_gbps": 200, "slow_read_gbps": 200}, (1, 1)),
        ({"dram_read_gbps": 210, "slow_read_gbps": 1}, (31, 1)),
        ({"dram_read_gbps": 200, "slow_read_gbps": 40, "interleave_fast": 9}, (9, 5)),
    ],
)
def test_weights_that_nobody_wrote_follow_from_bandwidth(fields: dict[str, Any], weights: tuple[int, int]) -> None:
    data = {"mib": 400, "grow_s": 1, "mempolicy": "weighted_interleave"}
    lab = Lab(scenario(regions=[data], **({"interleave_fast": 0, "interleave_slow": 0} | fields))).ticks(8)
    assert (lab.m["interleave_fast"], lab.m["interleave_slow"]) == weights
    share = lab.region_on(0, n.SLOW) / (400 * PAGES_PER_MIB)
    assert share == pytest.approx(weights[1] / sum(weights), abs=0.01)
