"""Reclaim: when kswapd runs, stops and gives up, what it takes, and where that goes."""

from typing import Any

import numpy as np
import pytest

from tests.builders import MOVABLE, Lab, everywhere, scenario, threads
from tiergym.sim import names as n
from tiergym.sim.allocate import throttle_s
from tiergym.sim.kswapd import kswapd_run
from tiergym.sim.reclaim import metadata_us
from tiergym.sim.units import PAGES_PER_MIB

HOG = {"kind": "anon", "mib": 1500, "access_hz": 0.01, "grow_s": 2}


def test_sixteen_empty_runs_disable_kswapd_and_progress_enables_it_again():
    """mm/vmscan.c: balance_pgdat counts kswapd_failures, wakeup_kswapd gives up at MAX_RECLAIM_RETRIES (16), and
    shrink_node clears the count when somebody has reclaimed a page."""
    lab = Lab(scenario(regions=[HOG], pools=threads(1000, 4, 250)), modes={"place.kstack": "restrict"}).ticks(16)
    assert lab.total("kswapd_wakeups_fast") == 0
    lab.ticks(15)
    assert lab.total("kswapd_runs_empty") == lab.total("kswapd_wakeups_fast") == 16
    assert lab.m["kswapd_failures"][n.FAST] == 16
    assert lab.total("oom_kill") == 0

    lab.machines.records["demotion"][0] = 1  # echo 1 > /sys/kernel/mm/numa/demotion_enabled
    while lab.total("allocstall") == 0:
        assert lab.total("pgdemote_kswapd") == 0  # hopeless still, until a direct reclaim has made progress
        lab.ticks(1)
        assert lab.m["tick"] < 200
    lab.ticks(5)
    assert lab.total("pgdemote_direct") > 0 and lab.total("pgdemote_kswapd") > 0
    assert lab.m["kswapd_failures"][n.FAST] == 0
    assert lab.total("kswapd_runs_empty") == 16
    assert lab.total("oom_kill") == 0


def test_kswapd_stops_when_any_zone_is_above_high():
    """mm/vmscan.c: pgdat_balanced returns at the first zone above high; reclaim itself spares no zone."""
    lab = Lab(
        scenario(regions=[HOG], pools=threads(400), demotion="on", dma32_mib=256), modes={"place.kstack": "restrict"}
    )
    woken = False
    for _ in range(200):
        lab.ticks(1)
        if lab.machines.counters[0, n.C_PGDEMOTE_KSWAPD] and not lab.m["kswapd_awake"][n.FAST]:
            high = lab.m["wmark_pages"][n.WMARK_HIGH]
            above = (lab.m["free_pages"] - high - lab.m["reserve_movable_pages"])[[n.DMA32, n.NORMAL]]
            assert above.max() >= -200  # stack pages of this tick may have come after
            woken = True
    assert woken
    assert lab.m["free_pages"][n.NORMAL] < 4 * lab.m["wmark_pages"][n.WMARK_HIGH, n.NORMAL]


def run_of_kswapd(lru_gen, dma_mib):
    """A node full of cache, free pages at min, and one run of its kswapd: the record after it, and pages freed."""
    cache = {"kind": "cache", "mib": 1500, "grow_s": 0}
    machine = scenario(regions=[cache], lru_gen=lru_gen, dma_mib=dma_mib, dram_mib=2048, slow_mib=0)
    m = Lab(machine).ticks(1).m
    short = int(m["free_pages"][n.NORMAL] - m["wmark_pages"][n.WMARK_MIN, n.NORMAL])
    m["free_pages"][n.NORMAL] -= short
    m["used_pages"][n.KERNEL_OTHER, n.NORMAL] += short
    if dma_mib:
        short = int(m["free_pages"][n.DMA] - m["reserve_movable_pages"][n.DMA])
        m["free_pages"][n.DMA] -= max(short, 0)
        m["used_pages"][n.KERNEL_OTHER, n.DMA] += max(short, 0)
    m["kswapd_awake"][n.FAST], m["kswapd_budget"][n.FAST] = 1, 1e6
    return m, kswapd_run(m, n.FAST)


def test_under_the_multi_gen_lru_a_run_reclaims_the_sum_of_the_high_marks():
    """kswapd_shrink_node, should_abort_scan: a zone DMA is never safe behind its reserve; the classic LRU stops at
    high [K-lru-gen]."""
    m, freed = run_of_kswapd("on", 15)
    highs = int(sum(max(high, 32) for high in m["wmark_pages"][n.WMARK_HIGH, [n.DMA, n.NORMAL]]))
    assert highs <= freed <= highs + 1 and m["kswapd_awake"][n.FAST] == 0
    m, freed = run_of_kswapd("off", 15)
    short = int(m["wmark_pages"][n.WMARK_HIGH, n.NORMAL] - m["wmark_pages"][n.WMARK_MIN, n.NORMAL])
    assert short <= freed <= short * 1.05 + 1 < highs / 2


def test_a_run_ends_where_every_zone_is_safe():
    """should_abort_scan on a node of one zone: high and a batch of 64 pages."""
    m, freed = run_of_kswapd("on", 0)
    gap = m["wmark_pages"][n.WMARK_HIGH, n.NORMAL] - m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    assert freed == gap + 64


def test_a_run_that_lacks_time_goes_on_in_the_next_tick():
    """What a scan is to reclaim does not shrink because a zone is above high meanwhile."""
    m, whole = run_of_kswapd("on", 15)
    m, _ = run_of_kswapd("on", 15)
    # the same run, with the time for all but 100 pages
    m["kswapd_awake"][n.FAST], m["kswapd_scan"][n.FAST], m["kswapd_budget"][n.FAST] = 1, whole, float(whole - 100)
    assert kswapd_run(m, n.FAST) == whole - 100
    assert (m["kswapd_awake"][n.FAST], m["kswapd_scan"][n.FAST]) == (1, 100)
    m["kswapd_budget"][n.FAST] = 1e6
    assert kswapd_run(m, n.FAST) == 100
    assert m["kswapd_awake"][n.FAST] == 0


def test_the_rest_of_a_scan_takes_what_its_beginning_took():
    """may_swap is off only in a scan that a boost alone began, above high or not."""
    hog = {"mib": 1500, "grow_s": 0, "access_hz": 0}
    machine = scenario(regions=[hog], lru_gen="on", dram_mib=2048, slow_mib=0, swap_mib=1024)
    for boosted, takes in ((0, 100), (1, 0)):
        m = Lab(machine).ticks(1).m
        m["kswapd_awake"][n.FAST], m["kswapd_scan"][n.FAST], m["kswapd_boosted"][n.FAST] = 1, 100, boosted
        m["kswapd_budget"][n.FAST] = 1e6
        assert kswapd_run(m, n.FAST) == takes


def test_tiering_raises_the_mark_to_promo():
    """pgdat_balanced uses promo_wmark_pages when numa_balancing includes mode 2."""
    ends = []
    for balancing in ("off", "tiering"):
        lab = Lab(
            scenario(regions=[HOG | {"access_hz": 0}], pools=threads(1, 4, 0), demotion="on",
                     numa_balancing=balancing, scan_mib_per_s=0),
            modes={"place.kstack": "restrict"},
        ).ticks(40)  # fmt: skip
        assert lab.total("kswapd_wakeups_fast") > 0
        ends.append(lab.free(n.FAST))
        mark = lab.m["wmark_pages"][n.WMARK_PROMO if balancing == "tiering" else n.WMARK_HIGH, n.NORMAL]
        assert mark - 8 <= ends[-1] <= mark + 64
    assert ends[1] > ends[0]


def test_demotion_ignores_mempolicy():
    """mm/vmscan.c: demote_folio_list knows the node's tier, not the page's policy [F-demotion-policy]."""
    bound = [HOG | {"mib": 900, "mempolicy": "bind_fast"}]
    lab = Lab(scenario(regions=bound, pools=threads(20000), demotion="on"), modes=MOVABLE).ticks(120)
    assert lab.region_on(0, n.SLOW) > 10_000
    assert lab.total("pswpout") == 0


def test_demotion_fills_cxl_to_its_min_and_no_further():
    """mm/vmscan.c: alloc_migrate_folio asks with GFP_NOWAIT, THISNODE: down to min, without reserves."""
    regions = [HOG | {"mib": 900, "mempolicy": "bind_fast"}]
    lab = Lab(scenario(regions=regions, pools=threads(40000), demotion="on", slow_mib=256), modes=MOVABLE)
    while lab.total("oom_kill") == 0:
        lab.ticks(1)
        assert lab.m["tick"] < 400
    demoted = lab.total("pgdemote_kswapd") + lab.total("pgdemote_direct")
    assert demoted == 256 * PAGES_PER_MIB - lab.m["wmark_pages"][n.WMARK_MIN, n.SLOW_MOVABLE]


def test_without_demotion_reclaim_swaps_although_cxl_is_free():
    """mm/vmscan.c: can_demote is off by default; then anonymous pages are swapped [F-swap-beside-free-cxl]."""
    lab = Lab(scenario(regions=[HOG], pools=threads(2000), swap_mib=1024), modes=MOVABLE).ticks(130)
    assert lab.total("pswpout") > 5000
    assert lab.total("pgdemote_kswapd") == lab.total("pgdemote_direct") == lab.total("oom_kill") == 0
    assert lab.free(n.SLOW) > 300_000


def test_demotion_takes_the_cold_and_leaves_the_referenced():
    """mm/vmscan.c: shrink_folio_list rotates referenced pages; the coldest data goes to CXL, not the newest."""
    regions = [
        {"kind": "anon", "mib": 400, "access_hz": 100, "grow_s": 1},
        {"kind": "anon", "mib": 400, "access_hz": 0.001, "grow_s": 1},
        {"kind": "anon", "mib": 600, "access_hz": 100, "start_s": 2, "grow_s": 4},
    ]
    demoting = Lab(scenario(regions=regions, demotion="on"), modes=MOVABLE).ticks(60)
    assert demoting.region_on(0, n.SLOW) == 0
    assert demoting.region_on(1, n.SLOW) > 50_000
    spilling = Lab(scenario(regions=regions, demotion="on")).ticks(60)
    assert spilling.region_on(1, n.SLOW) == 0
    assert spilling.region_on(2, n.SLOW) > demoting.region_on(2, n.SLOW)


def test_clean_page_cache_is_dropped_for_kernel_pages_but_not_for_fallback():
    """`online` falls back before it reclaims clean cache; `online_movable` reclaims it [F-clean-cache]."""
    cache = {"kind": "cache", "mib": 1500, "access_hz": 0.01, "grow_s": 2}
    both = scenario(regions=[cache], pools=threads(2000))
    online, movable = Lab(both).ticks(130), Lab(both, modes=MOVABLE).ticks(130)
    assert online.total("file_dropped") == 0 < movable.total("file_dropped")
    assert online.on(n.KSTACK, n.SLOW) > 0 == movable.on(n.KSTACK, n.SLOW)
    assert movable.total("oom_kill") == 0


def test_shrinkers_see_their_node_only():
    """mm/vmscan.c: shrink_node calls shrink_slab(nid): pressure on DRAM leaves the slab of CXL alone."""
    regions = [HOG | {"mib": 600}, HOG | {"mib": 500, "start_s": 3}]
    files = {"files": {"count": 800_000, "start_s": 0, "grow_s": 7}}
    lab = Lab(scenario(regions=regions, pools=files | threads(3000, 8), demotion="on")).ticks(30)
    fast, slow = lab.on(n.SLAB_RECLAIM, n.FAST), lab.on(n.SLAB_RECLAIM, n.SLOW)
    assert fast > 0 and slow > 0
    objects = lab.m["slab_objects"][n.SLAB_POOL_RECLAIM].copy()
    lab.ticks(30, {"place.kstack": "restrict", "place.slab_reclaim": "restrict"})
    assert lab.total("pgdemote_kswapd") > 0
    left = lab.m["slab_objects"][n.SLAB_POOL_RECLAIM]
    assert left[n.FAST] < 0.99 * objects[n.FAST]
    assert lab.on(n.SLAB_RECLAIM, n.SLOW) == slow
    assert left[n.SLOW] == objects[n.SLOW]


def test_reclaimable_slab_is_shrunk_before_anybody_is_killed():
    """mm/vmscan.c: do_shrink_slab scans freeable >> priority; at priority 0 that is all of it."""
    pools = {"files": {"count": 100_000, "grow_s": 1}} | threads(3000)
    lab = Lab(scenario(regions=[HOG], pools=pools), modes={"place.kstack": "restrict"})
    lab.ticks(16)
    assert lab.on(n.SLAB_RECLAIM, n.FAST) > 30_000
    lab.ticks(50)
    assert lab.total("slab_shrunk") > 1000
    assert lab.total("oom_kill") == 0


def test_headroom_is_demoted_ahead_and_never_swapped():
    """TPP's decoupled watermark, or memory.reclaim: demotion alone, no swap (mm/vmscan.c: shrink_folio_list)."""
    for level, share in (("small", 0.005), ("medium", 0.02), ("large", 0.05)):
        for batch in (1, 63):
            lab = Lab(
                scenario(regions=[HOG], demotion="on", swap_mib=512, pcp_batch_pages=batch), modes={"headroom": level}
            ).ticks(60)
            goal = int(lab.m["managed_pages"][n.NORMAL] * share) + lab.m["wmark_pages"][n.WMARK_HIGH, n.NORMAL]
            assert goal - 64 <= lab.free(n.FAST) <= goal + 64
            assert lab.total("pgdemote_proactive") > 0
            assert lab.total("pswpout") == 0


def test_headroom_without_a_demotion_target_does_nothing():
    """can_demote: off, or CXL in the same tier as DRAM because HMAT came too late [K-demotion]."""
    settings: tuple[dict[str, Any], ...] = ({"demotion": "off"}, {"demotion": "on", "slow_in_lower_tier": "off"})
    for scalars in settings:
        lab = Lab(scenario(regions=[HOG], swap_mib=512, **scalars), modes={"headroom": "large"}).ticks(40)
        assert lab.total("pgdemote_proactive") == lab.total("pswpout") == 0
        assert lab.free(n.FAST) == lab.m["wmark_pages"][n.WMARK_LOW, n.NORMAL]


def test_migration_without_headroom_moves_nothing_and_with_it_moves_all():
    """No page table moves up while DRAM has none free above high; demotion ahead of need makes the room."""
    machine = scenario(regions=[HOG], demotion="on")
    asked = {"migrate.pt_leaf": "idle", "migrate.budget": "high"}
    lab = Lab(machine, modes=asked).ticks(60)
    stranded = lab.leaf_on(0, n.SLOW)
    assert stranded > 200
    assert lab.total("pgmigrate_pt") == 0 < lab.total("pgmigrate_fail")
    lab.ticks(20, asked | {"headroom": "large"})
    assert lab.leaf_on(0, n.SLOW) == 0
    assert lab.total("pgmigrate_pt") >= stranded


def test_demotion_wakes_the_slow_nodes_kswapd():
    """The demotion target is asked with GFP_NOWAIT, which has __GFP_KSWAPD_RECLAIM: below low, node 1's kswapd
    drops page cache there [K-demotion], and demotion goes on."""
    regions = [
        {"kind": "cache", "mib": 500, "access_hz": 0.001, "grow_s": 1, "mempolicy": "bind_slow"},
        HOG | {"mib": 900, "mempolicy": "bind_fast"},
    ]
    lab = Lab(scenario(regions=regions, pools=threads(40000), demotion="on", slow_mib=512), modes=MOVABLE).ticks(100)
    assert lab.total("kswapd_wakeups_slow") > 0
    assert lab.total("pgsteal_kswapd_slow") > 0
    assert lab.region_on(0, n.SLOW) < 500 * PAGES_PER_MIB
    assert lab.total("pgdemote_kswapd") + lab.total("pgdemote_direct") > 0


def test_page_tables_of_swapped_data_stay():
    """mm/vmscan.c: swapping out leaves a swap entry in the table, so the table stays [K-page-tables]."""
    lab = Lab(scenario(regions=[HOG | {"mib": 900}], pools=threads(20000), swap_mib=2048), modes=MOVABLE).ticks(120)
    assert lab.m["region"]["out_pages"][0] > 10_000
    assert lab.m["region"]["out_pages"][0] + lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW) == 900 * PAGES_PER_MIB
    assert lab.leaf_on(0, n.FAST) == 450


def test_reclaim_through_metadata_on_cxl_is_slower():
    """MAC, OSDI'26 [W-mac]: struct page and xarray on CXL slow kswapd and the direct reclaimer themselves."""
    cache = {"kind": "cache", "mib": 900, "access_hz": 0.001, "grow_s": 1}
    machine = {"pools": threads(20000, 2, 20), "slow_latency_ns": 1000, "reclaim_metadata_touches": 20}
    spent = []
    for boot_memmap in ("dram", "slow"):
        lab = Lab(scenario(regions=[cache], boot_memmap=boot_memmap, **machine), modes=everywhere("restrict")).ticks(80)
        freed = lab.total("pgsteal_kswapd_fast") + lab.total("pgsteal_direct_fast")
        assert freed > 10_000
        spent.append((lab.seconds_lost("premature_reclaim") + lab.seconds_lost("other_reclaim")) / freed)
    assert np.isfinite(spent).all()
    assert spent[1] > 1.5 * spent[0]


def test_struct_pages_slow_the_reclaim_of_their_own_node():
    """A page's struct page lies with its node's (memmap_on_memory), DRAM's in DRAM unless an experiment moves them:
    half of the touches are struct pages, at 1000 instead of 114 ns [W-mac]."""
    slower = 20 * 0.5 * 0.886
    for modes, boot, extra in (
        ({}, "dram", (0, 0)),
        ({"memmap": "on_memory"}, "dram", (0, slower)),
        ({"memmap": "on_memory"}, "slow", (slower, slower)),
    ):
        lab = Lab(
            scenario(regions=[], slow_latency_ns=1000, reclaim_metadata_touches=20, boot_memmap=boot), modes=modes
        ).ticks(1)
        for tier in (n.FAST, n.SLOW):
            assert metadata_us(lab.m, tier) == pytest.approx(20 * 0.114 + extra[tier])


def test_stalls_are_booked_to_the_class_that_waited():
    """Direct reclaim for a restricted class: its own requests wait, nobody else's."""
    lab = Lab(
        scenario(regions=[HOG], pools=threads(8000, 4, 2), demotion="on", kswapd_pages_per_s=1000),
        modes={"place.kstack": "restrict"},
    ).ticks(16)
    waited = np.zeros(n.N_CLASSES)
    for _ in range(10):
        lab.ticks(1)
        waited += lab.m["stall_s"]
    assert waited[n.KSTACK] > 0
    assert waited.sum() == waited[n.KSTACK]
    assert lab.ticks(20).m["stall_s"].sum() == 0  # per tick


def test_fragmentation_boosts_wake_kswapd_under_fallback():
    """mm/page_alloc.c: boost_watermark. A kernel page that steals a movable pageblock raises the marks and wakes
    kswapd0, which takes the boost back; nothing else wakes it under a NORMAL slow tier [F-boosts]."""
    almost_full = HOG | {"mib": 984}
    labs = {
        hz: Lab(scenario(regions=[almost_full], pools=threads(60), demotion="on", boost_hz=hz)).ticks(80)
        for hz in (0, 10)
    }
    assert labs[0].total("kswapd_wakeups_fast") == labs[0].total("pgdemote_kswapd") == 0
    assert labs[10].total("kswapd_wakeups_fast") > 0 and labs[10].total("pgdemote_kswapd") > 0
    assert labs[10].total("premature_reclaim_pages") == 0
    assert labs[10].m["boost_pages"].max() <= 1.5 * labs[10].m["wmark_pages"][n.WMARK_HIGH, n.NORMAL]


def test_throttles_are_heavy_tailed():
    """mm/vmscan.c: reclaim_throttle sleeps 4, 20 or 100 ms [K-throttles]; a futile round sleeps one jiffy more."""
    record = Lab(scenario(throttle_per_batch=1)).ticks(1).m
    sleeps = []
    for tick in range(4000):
        record["tick"] = tick
        sleeps.append(round(1000 * throttle_s(record, 1, False)))
        assert round(1000 * throttle_s(record, 1, True)) == sleeps[-1] + 4
    assert set(sleeps) == {4, 20, 100}
    shares = [sleeps.count(length) / len(sleeps) for length in (4, 20, 100)]
    np.testing.assert_allclose(shares, (0.7, 0.25, 0.05), atol=0.03)
    np.testing.assert_allclose(throttle_s(record, 1000, False), 1000 * np.mean(sleeps) / 1000, rtol=0.1)
