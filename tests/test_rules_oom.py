"""The OOM killer: whom it kills, what that frees and what it costs."""

from typing import Any

import numpy as np
import pytest

from tests.builders import MOVABLE, Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB


def region(process, mib, **fields):
    return {"process": f"p{process}", "kind": "anon", "mib": mib, "access_hz": 0.01, "grow_s": 1} | fields


FILLER = region(0, 900)
"""Fills DRAM with process 0, which the killer spares."""
SPARED = {"oom_score_adj": -1000}
STACKS = {"threads": {"count": 4000, "start_s": 4, "grow_s": 40}}


def killed(lab, ticks=200):
    """The processes that the first kill took down."""
    for _ in range(ticks):
        lab.ticks(1)
        assert_books_balance(lab.machines.records)
        if lab.total("oom_kill"):
            return np.flatnonzero(lab.m["process"]["down_s"] > 0).tolist()
    return []


def crowd(*candidates, processes, **scalars):
    return scenario(regions=[FILLER, *candidates], processes=[SPARED, *processes], pools=STACKS, **scalars)


def test_the_victim_is_the_largest_by_rss():
    """mm/oom_kill.c: oom_badness."""
    lab = Lab(crowd(region(1, 30), region(2, 50), region(3, 20), processes=[{}, {}, {}]), modes=MOVABLE)
    assert killed(lab) == [2]


def test_the_choice_is_blind_to_nodes():
    """A shortage of DRAM kills the largest process even if all its memory is on CXL [K-oom-killer]."""
    candidates = region(1, 60), region(2, 400, mempolicy="bind_slow")
    lab = Lab(crowd(*candidates, processes=[{}, {}]), modes=MOVABLE)
    assert killed(lab) == [2]
    assert lab.total("oom_kill_premature") == 1


def test_page_tables_and_swap_count():
    """oom_badness: get_mm_rss + MM_SWAPENTS + mm_pgtables_bytes / PAGE_SIZE."""
    sparse = region(1, 30, density=1 / LEAF_SPAN_PAGES)  # 60 MiB with its page tables
    assert killed(Lab(crowd(sparse, region(2, 50), processes=[{}, {}]), modes=MOVABLE)) == [1]
    cold, hot = region(1, 60, access_hz=1e-6), region(2, 50, access_hz=100)
    lab = Lab(crowd(cold, hot, processes=[{}, {}], swap_mib=40), modes=MOVABLE)
    lab.machines.records["region"]["cold"][0, 0] = 0  # the filler is hot too
    assert killed(lab) == [1]
    assert lab.total("pswpout") == 40 * PAGES_PER_MIB


def test_oom_score_adj_shifts_the_choice():
    """oom_badness adds oom_score_adj / 1000 of all memory and swap; -1000 is never killed."""
    candidates = region(1, 30), region(2, 50)
    assert killed(Lab(crowd(*candidates, processes=[{"oom_score_adj": 500}, {}]), modes=MOVABLE)) == [1]
    assert killed(Lab(crowd(*candidates, processes=[{}, {"oom_score_adj": -1000}]), modes=MOVABLE)) == [1]


def test_page_cache_that_nobody_maps_is_not_rss():
    """get_mm_rss counts mapped pages: what read() left in the page cache is no reason to kill its reader."""
    cache = region(1, 400, kind="cache", mempolicy="bind_slow")
    assert killed(Lab(crowd(cache, region(2, 50), processes=[{}, {}]), modes=MOVABLE)) == [2]


def test_nobody_is_killed_when_nobody_may_be():
    """out_of_memory without an eligible task: the request fails and its fault is retried."""
    lab = Lab(crowd(processes=[]), modes=MOVABLE)
    assert killed(lab, 100) == []


def test_a_kill_frees_everything_and_the_process_comes_back():
    """exit_mmap frees RSS, swap and page tables of both nodes; after restart_s the process grows again."""
    victim = region(1, 600, mempolicy="bind_slow", grow_s=2)
    lab = Lab(crowd(victim, processes=[{"restart_s": 3}]), modes=MOVABLE)
    assert killed(lab) == [1]
    assert lab.region_on(1, n.SLOW) == lab.leaf_on(1, n.FAST) == 0
    lab.ticks(8)
    assert lab.region_on(1, n.SLOW) == 0
    kills = lab.total("oom_kill")
    lab.ticks(12)
    assert lab.total("oom_kill") >= kills
    assert lab.region_on(1, n.SLOW) > 0 or lab.total("oom_kill") > kills


def test_filling_both_tiers_kills_without_being_premature():
    """[F-both-full]: `online` fills both nodes to min, then kills; CXL held nothing that was refused."""
    lab = Lab(scenario(regions=[region(0, 4000, grow_s=10)]))
    assert killed(lab) == [0]
    assert lab.total("oom_kill_premature") == 0


def test_demotion_delays_the_kill_by_its_futile_rounds():
    """zone_reclaimable_pages counts anonymous pages of a node that can demote, room or not: 16 rounds look at every
    page before the verdict, two looks each (priority 12 to 0). Without it the first is enough [F-scan-before-kill]."""
    look_us = 1.0
    full: dict[str, Any] = {"regions": [region(0, 4000, grow_s=10)], "look_us": look_us}
    at_once = Lab(scenario(demotion="off", **full))
    later = Lab(scenario(demotion="on", **full))
    assert killed(at_once) == killed(later) == [0]
    scan_s = 16 * 2 * 3000 * PAGES_PER_MIB * look_us * 1e-6
    delay_s = (later.m["tick"] - at_once.m["tick"]) * later.m["dt_s"]
    assert delay_s == pytest.approx(scan_s, abs=1.0)


@pytest.mark.parametrize("lost_s", [0, 4, 20])
def test_a_kill_costs_the_restart_and_the_lost_work(lost_s):
    """docs/model.md section 8: its work is lost and it restarts later; neither hides behind the other."""
    hog = region(0, 1000, grow_s=1)
    burst = {"threads": {"count": 2000, "start_s": 4, "grow_s": 1, "hold_s": 0.5, "shrink_s": 0}}
    machine = scenario(regions=[hog], processes=[{"restart_s": 3, "lost_s": lost_s}], pools=burst)
    lab = Lab(machine, modes={"place.kstack": "restrict"}).ticks(200)
    assert lab.total("oom_kill") == 1
    regrow_s = 1
    assert lab.seconds_lost("oom") == pytest.approx(3 + regrow_s + lost_s, abs=0.6)


def test_a_share_of_the_work_is_lost_with_its_process():
    """Two processes share the work; one is down."""
    regions = [region(0, 500), region(1, 600, mempolicy="bind_slow")]
    processes = [SPARED | {"work_share": 0.75}, {"work_share": 0.25, "restart_s": 1000, "lost_s": 0}]
    lab = Lab(scenario(regions=[*regions, region(0, 600)], processes=processes, pools=STACKS), modes=MOVABLE)
    assert killed(lab) == [1]
    lab.ticks(5)
    assert lab.machines.lost[0, n.LOST_OOM] == pytest.approx(0.25)
    assert lab.machines.throughput[0] <= 0.75


def measured(modes, demotion):
    """[F-guest-oom]: 768 + 1,536 MiB, one page touched per 2 MiB until somebody dies. MiB just before that tick.

    655 MiB are managed, 30 MiB of it used at boot and 24 MiB by struct pages; THP raises the marks.
    """
    sparse = {"kind": "anon", "mib": 1400, "density": 1 / LEAF_SPAN_PAGES, "grow_s": 400, "access_hz": 0.001}
    machine = scenario(
        regions=[sparse], dram_mib=768, dma_mib=15, dma32_mib=4096, boot_reserved_share=113 / 768, boot_kernel_mib=30,
        slow_mib=1536, thp="on", pcp_batch_pages=63, cpus=1, workers=1, demotion=demotion,
    )  # fmt: skip
    lab = Lab(machine, modes=modes)
    while lab.total("oom_kill") == 0:
        tiers = n.FAST, n.SLOW
        pages = (
            [lab.leaf_on(0, tier) for tier in tiers] + [lab.region_on(0, tier) for tier in tiers] + [lab.free(n.SLOW)]
        )
        lab.ticks(1)
        assert lab.m["tick"] < 1600
    return lab, [count / PAGES_PER_MIB for count in pages]


def test_measured_oom_of_a_movable_slow_node():
    """Killed with 1,528 of 1,536 MiB of CXL free, after 16 runs of kswapd0 that found nothing."""
    lab, (tables, tables_slow, data, _, free_slow) = measured(MOVABLE, "off")
    assert tables == pytest.approx(287, rel=0.02)
    assert tables_slow == 0
    assert data == pytest.approx(282, rel=0.02)
    assert free_slow == pytest.approx(1528, rel=0.02)
    assert lab.total("kswapd_runs_empty") == 16
    assert lab.total("oom_kill_premature") == 1


def test_measured_oom_of_a_movable_slow_node_with_demotion():
    """All data was demoted, DRAM is full of page tables, and 62 % of CXL is free."""
    lab, (tables, tables_slow, data, data_slow, free_slow) = measured(MOVABLE, "on")
    assert tables == pytest.approx(571, rel=0.02)
    assert tables_slow == 0 and data < 3
    assert data_slow == pytest.approx(570, rel=0.02)
    assert free_slow == pytest.approx(957, rel=0.02)
    demoted = lab.total("pgdemote_kswapd") + lab.total("pgdemote_direct")
    assert demoted == pytest.approx(119_286 + 2_890, rel=0.2)
    assert lab.total("oom_kill_premature") == 1


def test_measured_oom_of_a_normal_slow_node():
    """Data and tables fill both nodes alike; kswapd stays asleep until the very end, and nothing was premature."""
    lab, (tables, tables_slow, data, data_slow, free_slow) = measured({}, "off")
    assert tables == pytest.approx(288, rel=0.02)
    assert tables_slow == pytest.approx(747, rel=0.02)
    assert data + data_slow == pytest.approx(1033, rel=0.02)
    assert free_slow < 50
    assert lab.total("oom_kill_premature") == 0
