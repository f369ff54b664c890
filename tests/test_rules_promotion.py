"""NUMA balancing: what is promoted, and the gates before it (kernel/sched/fair.c, mm/migrate.c)."""

import math
from itertools import pairwise
from typing import Any

import pytest

from tests.builders import PASSING_HOG, Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

TIERING: dict[str, Any] = {"numa_balancing": "tiering", "scan_mib_per_s": 1000}


def on_slow(kind="anon", **fields):
    """Data that starts on CXL because a hog fills DRAM for its first six seconds."""
    return {"kind": kind, "mib": 400, "access_hz": 10, "start_s": 3, "grow_s": 1} | fields


@pytest.mark.parametrize(("kind", "moves"), [("anon", True), ("file_rw", True), ("file_ro", False), ("cache", False)])
def test_read_only_file_mappings_are_never_promoted(kind, moves):
    """task_numa_work skips VMAs of files that are readable and not writable; unmapped page cache has no hint faults."""
    lab = Lab(scenario(regions=[PASSING_HOG, on_slow(kind)], **TIERING)).ticks(24)
    assert lab.region_on(1, n.SLOW) == 400 * PAGES_PER_MIB
    lab.ticks(60)
    assert (lab.total("pgpromote_success") > 0) == moves
    assert (lab.region_on(1, n.FAST) > 0) == moves


@pytest.mark.parametrize("mempolicy", ["bind_slow", "prefer_slow", "interleave"])
def test_an_explicit_policy_is_not_balanced(mempolicy):
    """vma_policy_mof: hint faults are taken only where the policy has MPOL_F_MOF, which set_mempolicy gives nobody."""
    lab = Lab(scenario(regions=[on_slow(mempolicy=mempolicy)], **TIERING)).ticks(60)
    assert lab.region_on(0, n.SLOW) > 50_000
    assert lab.total("numa_hint_faults") == lab.total("pgpromote_success") == 0


def test_nothing_is_promoted_without_numa_balancing():
    """task_tick_numa: nothing is scanned with kernel.numa_balancing 0."""
    lab = Lab(scenario(regions=[PASSING_HOG, on_slow()], numa_balancing="off")).ticks(60)
    assert lab.total("numa_hint_faults") == lab.total("pgpromote_success") == 0


def test_normal_mode_promotes_cold_pages_too_but_wakes_nobody():
    """should_numa_migrate_memory knows a threshold, and migrate_misplaced_folio_prepare wakes kswapd, in tiering mode
    only: mode 1 moves every hinted page that fits and gives up on the others."""
    cold: dict[str, Any] = {
        "regions": [PASSING_HOG, on_slow(access_hz=0.3)],
        "scan_mib_per_s": 1000,
        "hot_threshold_ms": 10,
    }
    normal = Lab(scenario(numa_balancing="normal", **cold)).ticks(60)
    tiering = Lab(scenario(numa_balancing="tiering", **cold)).ticks(60)
    assert normal.total("pgpromote_success") > 2 * tiering.total("pgpromote_success")
    full = PASSING_HOG | {"hold_s": 1000, "mib": 1100}
    futile = Lab(scenario(regions=[full, on_slow()], numa_balancing="normal", scan_mib_per_s=1000)).ticks(40)
    assert futile.total("pgpromote_candidate") > 0
    assert futile.total("pgpromote_success") == futile.total("kswapd_wakeups_fast") == 0


def test_a_slow_node_in_the_top_tier_is_not_scanned():
    """change_pte_range: in tiering mode alone, top-tier pages get no hint faults [K-numa-balancing]."""
    lab = Lab(scenario(regions=[PASSING_HOG, on_slow()], slow_in_lower_tier="off", **TIERING)).ticks(60)
    assert lab.total("numa_hint_faults") == lab.total("pgpromote_success") == 0


def test_promotion_needs_a_zone_above_high_and_wakes_kswapd_for_it():
    """migrate_misplaced_folio_prepare: not below high; in tiering mode kswapd0 is woken instead. This is what makes a
    NORMAL slow tier demote."""
    full = PASSING_HOG | {"hold_s": 1000, "mib": 1100}
    futile = Lab(scenario(regions=[full, on_slow()], **TIERING)).ticks(40)
    assert futile.total("pgpromote_candidate") > 0
    assert futile.total("pgpromote_success") == 0
    assert futile.total("kswapd_wakeups_fast") > 0
    assert futile.total("kswapd_runs_empty") == 16
    demoting = Lab(scenario(regions=[full, on_slow()], demotion="on", **TIERING)).ticks(16)
    for _ in range(60):
        demoting.ticks(1)
        if demoting.machines.counters[0, n.C_PGPROMOTE_SUCCESS]:
            assert demoting.free(n.FAST) >= demoting.m["wmark_pages"][n.WMARK_HIGH, n.NORMAL]
    assert demoting.total("pgpromote_success") > 10_000
    assert demoting.total("pgdemote_kswapd") > 10_000
    assert demoting.total("premature_reclaim_pages") == 0  # no restricted request asked for it


def test_cold_pages_are_not_hot_enough():
    """numa_hint_fault_latency below hot_threshold_ms, unless DRAM has plenty free (pgdat_free_space_enough)."""
    full = PASSING_HOG | {"hold_s": 1000}
    for hz in (0.01, 1, 10):
        lab = Lab(scenario(regions=[full, on_slow(access_hz=hz)], scan_period_s=1000, scan_mib_per_s=1))
        lab.ticks(20)  # all of it is on CXL now
        lab.machines.records["numa_balancing"] = n.NUMA_BALANCING.index("tiering")
        lab.machines.records["process"]["scan_s"] = 1000.0
        lab.ticks(16)
        assert lab.total("pgpromote_candidate") == pytest.approx(400 * PAGES_PER_MIB * -math.expm1(-hz), rel=0.05)


PGHOT: dict[str, Any] = {"promote_accesses": 2}
FULL = PASSING_HOG | {"hold_s": 1000, "mib": 1100, "access_hz": 0}


def test_pghot_promotes_at_the_second_hint_fault():
    """pghot counts a page's hint faults: those of the first pass make none hot, those of the second nearly all."""
    lab = Lab(scenario(regions=[FULL, on_slow()], scan_period_s=1000, scan_mib_per_s=1, **PGHOT)).ticks(20)
    lab.machines.records["numa_balancing"] = n.NUMA_BALANCING.index("tiering")
    candidates = []
    for _ in range(2):
        before = lab.total("pgpromote_candidate")
        lab.machines.records["process"]["scan_s"] = 1000.0
        lab.ticks(4)
        candidates.append(lab.total("pgpromote_candidate") - before)
    pages = 400 * PAGES_PER_MIB
    assert candidates[0] == 0
    assert candidates[1] > 0.7 * pages  # but for those forgotten meanwhile


@pytest.mark.parametrize("sweep_s", [1, 4, 16])
def test_pghot_counts_faults_within_a_window_only(sweep_s):
    """Each second a pass marks q of the pages, of which d = exp(-1/4) are remembered from the pass before
    (promote_window_s is 4): p = q d / (1 - (1 - q) d) of first faults have a second that counts, after which their page
    counts anew. So p / (1 + p) of all faults are seconds."""
    kernel = TIERING | PGHOT | {"scan_mib_per_s": 400 / sweep_s}
    lab = Lab(scenario(regions=[FULL, on_slow(access_hz=100)], **kernel)).ticks(200)
    before = lab.total("numa_hint_faults"), lab.total("pgpromote_candidate")
    lab.ticks(400)
    faults = lab.total("numa_hint_faults") - before[0]
    share = (lab.total("pgpromote_candidate") - before[1]) / faults
    marked, remembered = faults / 100 / (400 * PAGES_PER_MIB), math.exp(-1 / 4)
    chance = marked * remembered / (1 - (1 - marked) * remembered)
    assert share == pytest.approx(chance / (1 + chance), rel=0.02)
    marks = lab.m["region_seldom"][1]
    assert 0 <= marks["seen_once"] + marks["marked_once"] <= lab.region_on(1, n.SLOW)


def test_pghot_knows_no_latency_and_no_plenty():
    """Pages of 1 reference a second are no candidates by a threshold of 10 ms, and are by count; and one fault is not
    enough, however much of DRAM is free (pgdat_free_space_enough is a rule of the latency)."""
    slow_pages: dict[str, Any] = {"regions": [FULL, on_slow(access_hz=1)], "hot_threshold_ms": 10}
    by_latency = Lab(scenario(**slow_pages, **TIERING)).ticks(100)
    by_count = Lab(scenario(**slow_pages, **TIERING, **PGHOT)).ticks(100)
    assert by_count.total("pgpromote_candidate") > 10 * by_latency.total("pgpromote_candidate")
    rare = TIERING | PGHOT | {"promote_window_s": 0.01}
    roomy = Lab(scenario(regions=[PASSING_HOG, on_slow()], dram_mib=8192, **rare)).ticks(100)
    assert roomy.total("pgpromote_candidate") <= 0.02 * roomy.total("numa_hint_faults")


def test_pghot_moves_pages_in_batches():
    """kmigrated pays for a page of a batch, promotion at the fault for a page alone."""
    lost = {}
    for name, kernel in (("alone", {}), ("batch", PGHOT)):
        lab = Lab(scenario(regions=[PASSING_HOG, on_slow()], hint_fault_us=0, **TIERING, **kernel)).ticks(100)
        lost[name] = lab.seconds_lost("migration") / lab.total("pgpromote_success")
    assert lost["batch"] == pytest.approx(lost["alone"] * 1.2 / 5.0, rel=0.05)


def test_pghot_changes_only_tiering_mode():
    """Modes off and normal are what they are without it."""
    for mode in ("off", "normal"):
        kernel: dict[str, Any] = {"numa_balancing": mode, "scan_mib_per_s": 1000}
        with_it, without = (
            Lab(scenario(regions=[PASSING_HOG, on_slow()], **kernel, **pghot)).ticks(60) for pghot in (PGHOT, {})
        )
        assert (with_it.machines.records["free_pages"] == without.machines.records["free_pages"]).all()
        assert with_it.total("pgpromote_success") == without.total("pgpromote_success")


def test_a_marked_page_is_not_marked_again_before_its_fault():
    """change_pte_range leaves a page alone that is PROT_NONE already: one of 0.05 references a second has a hint fault
    every 21 s, however often the scan passes by."""
    full = PASSING_HOG | {"hold_s": 1000, "mib": 1100}
    lab = Lab(scenario(regions=[full, on_slow(access_hz=0.05)], **TIERING)).ticks(400)
    before = lab.total("numa_hint_faults")
    lab.ticks(400)
    faults_per_page_s = (lab.total("numa_hint_faults") - before) / 100 / (400 * PAGES_PER_MIB)
    assert faults_per_page_s == pytest.approx(1 / (1 / 0.05 + 0.5), rel=0.1)


def test_a_pass_takes_cpu_time_of_the_process():
    """task_tick_numa compares sum_exec_runtime: who sleeps is not scanned, who runs half of the time half as often."""

    def passes(cpu_share):
        full = PASSING_HOG | {"hold_s": 1000, "mib": 1100}
        lab = Lab(scenario(regions=[full, on_slow()], processes=[{"cpu_share": cpu_share}], **TIERING)).ticks(24)
        faults = []
        for _ in range(80):
            before = lab.total("numa_hint_faults")
            lab.ticks(1)
            faults.append(lab.total("numa_hint_faults") - before)
        return sum(later > 2 * earlier + 1000 for earlier, later in pairwise(faults))

    assert passes(0.0) == 0
    assert passes(0.5) == pytest.approx(10, abs=1)
    assert passes(1.0) == pytest.approx(20, abs=1)


def test_the_rate_limit_bounds_promotion():
    """numa_promotion_rate_limit: pages per second beyond the limit are left."""
    lab = Lab(scenario(regions=[PASSING_HOG, on_slow()], promote_limit_mib_per_s=8, **TIERING)).ticks(24)
    before = lab.total("pgpromote_success")
    lab.ticks(40)
    promoted = lab.total("pgpromote_success") - before
    assert promoted == pytest.approx(10 * 8 * PAGES_PER_MIB, abs=8 * PAGES_PER_MIB)  # the limit is one of a second
    none = Lab(scenario(regions=[PASSING_HOG, on_slow()], promote_limit_mib_per_s=0, **TIERING)).ticks(60)
    assert none.total("pgpromote_success") == 0 < none.total("pgpromote_candidate")


def test_scanning_bounds_hint_faults():
    """task_numa_work marks numa_balancing_scan_size_mb per second and process; marks of one pass hardly outlast it."""
    lab = Lab(scenario(regions=[PASSING_HOG, on_slow()], numa_balancing="tiering", scan_mib_per_s=16)).ticks(20)
    before = lab.total("numa_hint_faults")
    lab.ticks(20)
    assert 0 < lab.total("numa_hint_faults") - before <= 6 * 16 * PAGES_PER_MIB
