"""From placement to lost time: the curves, the equation, and who is blamed for what."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import MOVABLE, Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.cost import MAX_OVERHEAD, bandwidth_bound, contention, solve_throughput
from tiergym.sim.curves import (
    DRAM_CURVES,
    LOAD,
    REMOTE_CURVES,
    measured_piece,
    multiplier,
    peak_bytes_per_s,
    slow_piece,
)
from tiergym.sim.layout import new_machines
from tiergym.sim.parameters import MACHINE
from tiergym.sim.units import PAGES_PER_MIB

LOADS = np.linspace(0, 1.2, 241)


def on(piece, load):
    """Latency over idle at `load` on the line through a piece."""
    start, value, slope = piece
    return value + slope * (load - start)


@pytest.mark.parametrize("curve", range(len(DRAM_CURVES)))
def test_dram_latency_rises_with_load(curve):
    """[H-dram-curves]: measured curves, at every mix of reads and writes."""
    for mix in (0.0, 0.3, 1.0):
        multiples = np.array([on(measured_piece(DRAM_CURVES, curve, load, mix), load) for load in LOADS])
        assert multiples[0] == 1
        assert (np.diff(multiples) >= 0).all()
    for half_writes in (0, 1):
        at_points = [on(measured_piece(DRAM_CURVES, curve, load, float(half_writes)), load) for load in LOAD]
        np.testing.assert_allclose(at_points, DRAM_CURVES[curve, half_writes], rtol=1e-15)


@given(knee=st.floats(0.05, 0.99), ceiling=st.floats(1, 20))
def test_cxl_latency_is_flat_to_its_knee_and_rises_to_its_ceiling(knee, ceiling):
    """[H-cxl-curves]: flat to the knee, then up to the ceiling."""
    multiples = np.array([on(slow_piece(knee, ceiling, load), load) for load in LOADS])
    assert multiples[0] == 1
    assert (np.diff(multiples) >= -1e-12).all()
    assert multiples[-1] == pytest.approx(ceiling)
    assert on(slow_piece(knee, ceiling, knee), knee) <= 1.05 + 1e-12


def cost_machine(dram_load, slow_load, fixed, weights, mix, knee, ceiling):
    """A record that holds only what the equation reads."""
    records = new_machines(1, 16)
    for field in MACHINE:
        records[field.name] = field.default
    records["slow_knee"], records["slow_ceiling"] = knee, ceiling
    records["write_mix"] = mix
    records["stall_weight"] = weights
    peaks = np.array([peak_bytes_per_s(records[0], tier) for tier in range(n.N_TIERS)])
    records["inverse_peak"] = 1 / peaks
    records["demand_bytes_per_s"] = np.array([dram_load, slow_load]) * peaks
    records["fixed_bytes_per_s"] = np.array(fixed) * peaks
    return records[0]


@pytest.mark.parametrize("curve", range(len(REMOTE_CURVES)))
def test_another_socket_s_dram_has_its_measured_curve(curve):
    """[H-dram-curves]: flat at first, unlike DRAM, and without CXL's knee."""
    for half_writes in (0.0, 1.0):
        m = cost_machine(0, 0, (0, 0), (1, 1), (0, half_writes), 0.6, 4)
        by_knee = [multiplier(m, n.SLOW, load) for load in LOAD]
        m["slow_curve"] = curve + 1
        np.testing.assert_allclose(
            [multiplier(m, n.SLOW, load) for load in LOAD], REMOTE_CURVES[curve, int(half_writes)], rtol=1e-15
        )
        assert by_knee == [on(slow_piece(0.6, 4, load), load) for load in LOAD]


def test_work_that_wants_more_than_dram_s_bandwidth_gets_all_of_it():
    """A stream with latency hidden: bandwidth is what bounds it, and interleaving adds the nodes' bandwidths."""
    stream = {"kind": "anon", "mib": 100, "misses_per_page_s": 1e4, "mlp": 256, "write_share": 0, "grow_s": 0}
    machine = QUIET | {"dram_read_gbps": 10, "slow_read_gbps": 2, "dram_latency_ns": 100, "slow_latency_ns": 100}
    wants = 25600 * 1e4 * 64 / 1e9
    got = {}
    for mempolicy, weight in (("bind_fast", 1), ("interleave", 1), ("weighted_interleave", 5)):
        region = stream | {"mempolicy": mempolicy}
        lab = Lab(scenario(regions=[region], interleave_fast=weight, **machine)).ticks(4)
        got[mempolicy] = lab.machines.throughput[0] * wants
    assert got["bind_fast"] == pytest.approx(10, rel=0.01)
    assert got["interleave"] == pytest.approx(4, rel=0.01)  # twice the slower node's
    assert got["weighted_interleave"] == pytest.approx(12, rel=0.01)  # weights as bandwidths


shares = st.floats(0, 1)
cost_machines = st.builds(
    cost_machine,
    dram_load=st.floats(0, 5),
    slow_load=st.floats(0, 20),
    fixed=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    weights=st.tuples(st.floats(0, 1), st.floats(0, 10)),
    mix=st.tuples(shares, shares),
    knee=st.floats(0.05, 0.99),
    ceiling=st.floats(1, 20),
)


@settings(max_examples=500)
@given(m=cost_machines, stall=st.floats(0, 20), overhead=st.floats(0, MAX_OVERHEAD))
def test_the_equation_is_solved(m, stall, overhead):
    """Work and its stalls fill the tick, unless bandwidth runs out first; nothing is left over."""
    x = solve_throughput(m, stall, overhead)
    fixed, rising = contention(m, x)
    residual = x * (1 + stall + fixed + rising * x) + overhead - 1
    bound = bandwidth_bound(m)
    assert 0 < x <= bound <= 1
    assert abs(residual) < 1e-9 or (x == bound and residual < 0)


@settings(max_examples=300)
@given(
    m=cost_machines, stall=st.floats(0, 20), more=st.floats(1e-3, 5), overhead=st.floats(0, MAX_OVERHEAD - 0.1),
    tier=st.sampled_from([n.FAST, n.SLOW]),
)  # fmt: skip
def test_more_of_anything_bad_never_helps(m, stall, more, overhead, tier):
    """The left side of the equation rises in every one of them."""
    x = solve_throughput(m, stall, overhead)
    assert solve_throughput(m, stall + more, overhead) <= x + 1e-12
    assert solve_throughput(m, stall, overhead + 0.02 * more) <= x + 1e-12
    for field in ("demand_bytes_per_s", "fixed_bytes_per_s", "stall_weight"):
        before = m[field][tier]
        m[field][tier] = before * (1 + more) + 1e-3
        assert solve_throughput(m, stall, overhead) <= x + 1e-9, field
        m[field][tier] = before


QUIET: dict[str, Any] = {
    "stack_touches_per_s": 0,
    "slab_unreclaim_touches_per_s": 0,
    "slab_reclaim_touches_per_s": 0,
    "memmap_touches_per_s": 0,
    "kernel_other_touches_per_s": 0,
    "dram_latency_ns": 100,
    "slow_latency_ns": 350,
    "slow_knee": 0.99,
}
"""No kernel accesses, 250 ns more on CXL."""


def lost_per_work(lab, cause):
    """Seconds lost to a cause per second of work done."""
    return lab.machines.lost[0, n.CAUSES.index(cause)] / lab.machines.throughput[0]


def test_data_on_cxl_costs_its_misses():
    """Stall = misses x extra latency / (MLP x workers) [H-stall-law]."""
    region = {"kind": "anon", "mib": 100, "misses_per_page_s": 40, "mlp": 5, "mempolicy": "bind_slow", "grow_s": 0}
    lab = Lab(scenario(regions=[region], **QUIET), modes=MOVABLE).ticks(4)
    assert lost_per_work(lab, "data_on_slow") == pytest.approx(25600 * 40 * 250e-9 / (5 * 4))
    assert lost_per_work(lab, "page_tables") == 0


def test_a_table_on_cxl_costs_the_walks_that_miss():
    """TLB misses x chance that the leaf comes from memory x extra latency; walks do not overlap [K-page-walks]."""
    region = {"kind": "anon", "mib": 100, "tlb_misses_per_page_s": 20, "walk_miss": 0.25, "grow_s": 0}
    lab = Lab(scenario(regions=[region], **QUIET), modes={"place.pt_leaf": "prefer_slow"}).ticks(4)
    assert lab.leaf_on(0, n.SLOW) == 50
    assert lost_per_work(lab, "page_tables") == pytest.approx(25600 * 20 * 0.25 * 250e-9 / 4)
    assert lost_per_work(lab, "data_on_slow") == 0


def test_huge_pages_are_not_walked_to_the_leaf():
    """A PMD maps 2 MiB; the deposited leaf table is cold."""
    region = {"kind": "anon", "mib": 100, "tlb_misses_per_page_s": 20, "thp_share": 1, "grow_s": 0}
    lab = Lab(scenario(regions=[region], **QUIET | {"thp": "on"}), modes={"place.pt_leaf": "prefer_slow"}).ticks(4)
    assert lab.m["region"]["huge"][0] == 25600
    assert lost_per_work(lab, "page_tables") == 0


@pytest.mark.parametrize(
    ("place", "touches", "cause", "pools"),
    [
        ("place.kstack", "stack_touches_per_s", "stacks", {"threads": {"count": 100, "grow_s": 0}}),
        ("place.slab_unreclaim", "slab_unreclaim_touches_per_s", "slab", {"sockets": {"count": 1000, "grow_s": 0}}),
        ("place.slab_reclaim", "slab_reclaim_touches_per_s", "slab", {"files": {"count": 1000, "grow_s": 0}}),
        ("place.kernel_other", "kernel_other_touches_per_s", "slab", {"buffers": {"count": 1000, "grow_s": 0}}),
    ],
)
def test_kernel_objects_on_cxl_cost_their_touches(place, touches, cause, pools):
    """Each class has its own rate of cache-missing touches."""
    machine = scenario(pools=pools, **QUIET | {touches: 1e6, "kernel_mlp": 2})
    lab = Lab(machine, modes={place: "prefer_slow"}).ticks(4)
    assert lost_per_work(lab, cause) == pytest.approx(1e6 * 250e-9 / (2 * 4))
    assert Lab(machine).ticks(4).machines.lost[0, n.CAUSES.index(cause)] == 0


STRUCT_PAGES = QUIET | {"memmap_touches_per_s": 1e6, "kernel_mlp": 2}


def in_use(lab, tier):
    """Pages of a node that hold anything but struct pages."""
    zones = n.TIER_ZONES[tier]
    return lab.m["used_pages"][:, zones].sum() - lab.on(n.MEMMAP, tier)


def test_memmap_on_memory_costs_struct_page_accesses():
    """struct page is touched for pages in use, of both tiers alike."""
    region = {"kind": "anon", "mib": 500, "misses_per_page_s": 0, "mempolicy": "bind_slow", "grow_s": 0}
    machine = scenario(regions=[region], **STRUCT_PAGES)
    assert Lab(machine).ticks(4).machines.lost[0, n.LOST_MEMMAP] == 0
    lab = Lab(machine, modes={"memmap": "on_memory"}).ticks(4)
    share = in_use(lab, n.SLOW) / (in_use(lab, n.FAST) + in_use(lab, n.SLOW))
    assert 0.5 < share < 1
    assert lost_per_work(lab, "memmap") == pytest.approx(1e6 * share * 250e-9 / (2 * 4))


def test_struct_pages_of_free_pages_are_not_touched():
    """Who allocates nothing from CXL looks at no struct page there, however much of it is online."""
    for slow_mib in (1024, 8192):
        lab = Lab(scenario(slow_mib=slow_mib, **STRUCT_PAGES), modes={"memmap": "on_memory"}).ticks(4)
        assert lab.machines.lost[0, n.LOST_MEMMAP] == 0


@pytest.mark.parametrize(("mib", "beyond_mib"), [(900, 0), (1500, 500)])
def test_struct_pages_are_touched_block_by_block(mib, beyond_mib):
    """Struct pages of a later range lie in the first [K-memmap]: they cost once the first is full, and what is there.

    Blocks fill from the lowest up [F-pinned-blocks].
    """
    region = {"kind": "anon", "mib": mib, "misses_per_page_s": 0, "mempolicy": "bind_slow", "start_s": 6, "grow_s": 1}
    events = [{"kind": "hot_add", "at_s": 4, "mib": 1024}]
    lab = Lab(scenario(regions=[region], events=events, **STRUCT_PAGES)).ticks(40)
    assert lab.m["memmap_slow_share"] == pytest.approx(0.5, abs=0.02)
    assert lab.on(n.ANON, n.SLOW) == mib * PAGES_PER_MIB
    beyond = beyond_mib * PAGES_PER_MIB
    share = beyond / (in_use(lab, n.FAST) + in_use(lab, n.SLOW))
    assert lost_per_work(lab, "memmap") == pytest.approx(1e6 * share * 250e-9 / (2 * 4), rel=0.05)


def test_bandwidth_and_not_latency_limits_past_saturation():
    """Traffic at full speed is three times what CXL carries: a third of the work gets done."""
    region = {"kind": "anon", "mib": 100, "misses_per_page_s": 4000, "mlp": 256, "write_share": 0,
              "mempolicy": "bind_slow", "grow_s": 0}  # fmt: skip
    demand = 25600 * 4000 * 64
    lab = Lab(scenario(regions=[region], slow_read_gbps=demand / 3e9, **QUIET), modes=MOVABLE).ticks(4)
    assert lab.machines.throughput[0] == pytest.approx(1 / 3)
    assert lab.m["utilisation"][n.SLOW] == pytest.approx(1)
    assert lab.machines.lost[0, n.LOST_CONTENTION] > 0.3


def test_the_decision_itself_can_cost():
    """episode.decision_us is charged to every tick."""
    lab = Lab(scenario(decision_us=10_000)).ticks(4)
    assert lab.machines.lost[0, n.LOST_MIGRATION] == pytest.approx(0.01 / (4 * 0.25))


def test_the_books_of_lost_time_close():
    """What is owed beyond a tick is paid later, no more and no less: seconds charged = seconds lost."""
    cache = {"kind": "cache", "mib": 1500, "access_hz": 0.2, "grow_s": 2}
    machine = scenario(regions=[cache], slow_mib=256, disk_latency_us=2000, **QUIET)
    lab = Lab(machine, modes=MOVABLE).ticks(20)
    assert lab.m["owed_s"].sum() > 0
    owed, lost = lab.m["owed_s"].sum(), lab.lost_s.sum()
    lab.machines.records["region"]["size_pages"][0] = 0  # nobody reads again: old debts and no new ones
    lab.ticks(400)
    assert lab.m["owed_s"].sum() == pytest.approx(0, abs=1e-6)
    assert lab.lost_s.sum() - lost == pytest.approx(owed / 4, rel=1e-6)
