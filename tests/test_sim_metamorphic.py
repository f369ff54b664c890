"""How results must change when the machine changes in a known way."""

from typing import Any

import numpy as np
import pytest

from tests.builders import MOVABLE, Lab, between, either, everywhere, orders, random_scenario, scenario
from tiergym.env.actions import NVEC, from_modes
from tiergym.env.machines import Machines
from tiergym.sim import names as n
from tiergym.sim.units import LEAF_SPAN_PAGES

POLICIES: tuple[dict[str, str], ...] = (
    {},
    MOVABLE,
    everywhere("restrict"),
    everywhere("prefer_fast"),
    everywhere("prefer_slow"),
    MOVABLE | {"memmap": "on_memory"},
    {"migrate.pt_leaf": "idle", "migrate.slab": "idle", "migrate.budget": "high", "headroom": "large"},
)
WORK = {"kind": "anon", "mib": 1500, "access_hz": 5, "grow_s": 2, "misses_per_page_s": 20, "tlb_misses_per_page_s": 20}
POOLS = {"threads": {"count": 500, "start_s": 2}, "files": {"count": 20_000, "start_s": 2}}


def test_every_policy_is_the_same_on_a_single_tier_machine():
    """Traditional machines are unharmed: to the page and to the bit, whatever the actions."""
    machines = [Machines([random_scenario(128, 700.0, [0], 0.25)], 300, threads=1) for _ in range(2)]
    rng = np.random.default_rng(3)
    for batch in machines:
        batch.reset(np.arange(300, dtype=np.uint64))
    for _ in range(60):
        machines[0].step(np.zeros((300, len(NVEC)), np.int64))
        machines[1].step(rng.integers(NVEC, size=(300, len(NVEC))))
        assert machines[0].records.tobytes() == machines[1].records.tobytes()
        np.testing.assert_array_equal(machines[0].obs, machines[1].obs)
    assert machines[0].throughput.min() < 0.99


def test_equal_tiers_make_placement_irrelevant():
    """No cause of placement loses time when CXL is as fast as DRAM; what remains is contention and moving."""
    equal: dict[str, Any] = {"slow_latency_ns": 114, "slow_read_gbps": 218, "slow_mixed_gbps": 203}
    for modes in POLICIES:
        lab = Lab(scenario(regions=[WORK], pools=POOLS, demotion="on", **equal), modes=modes).ticks(60)
        for cause in ("data_on_slow", "page_tables", "stacks", "slab", "memmap"):
            assert lab.seconds_lost(cause) == 0, cause
    quiet = [
        Lab(scenario(regions=[WORK | {"misses_per_page_s": 1}], pools=POOLS, **equal), modes=modes).ticks(60)
        for modes in ({}, everywhere("prefer_slow"), {"memmap": "on_memory"})
    ]
    means = [float(np.mean(lab.throughputs)) for lab in quiet]
    assert max(means) - min(means) < 1e-3


@pytest.mark.parametrize("modes", POLICIES[:2], ids=["online", "online_movable"])
def test_the_loss_scales_with_the_difference_of_the_latencies(modes):
    """Seconds lost per second of work, by cause: twice the difference, twice the loss; scaling both scales it too."""
    quiet: dict[str, Any] = {"slow_knee": 0.99, "demotion": "on"}
    lost = {}
    for fast, slow in ((100, 200), (100, 300), (200, 400)):
        machine = scenario(
            regions=[WORK | {"misses_per_page_s": 5}], pools=POOLS, dram_latency_ns=fast, slow_latency_ns=slow,
            reclaim_metadata_touches=0, **quiet,
        )  # fmt: skip
        lab = Lab(machine, modes=modes).ticks(40)
        lost[fast, slow] = lab.machines.lost[0, : n.LOST_CONTENTION] / lab.machines.throughput[0]
    assert lost[100, 200][n.LOST_DATA_ON_SLOW] > 0
    np.testing.assert_allclose(lost[100, 300], 2 * lost[100, 200], rtol=1e-9)
    np.testing.assert_allclose(lost[200, 400], 2 * lost[100, 200], rtol=1e-9)


def test_more_dram_never_lowers_throughput_under_fallback():
    """Without reclaim, more DRAM only takes pages off CXL."""
    sizes = (400, 600, 900, 1300, 1600, 2000, 4000)
    labs = [Lab(scenario(regions=[WORK], pools=POOLS, dram_mib=mib)).ticks(60) for mib in sizes]
    assert all(lab.total("oom_kill") == lab.total("allocstall") == 0 for lab in labs)
    means = [float(np.mean(lab.throughputs)) for lab in labs]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.01
    assert labs[-1].on(n.ANON, n.SLOW) == 0


def test_all_fast_beats_all_slow():
    """The same data and kernel objects in DRAM and on CXL."""
    small = WORK | {"mib": 600}
    fast = Lab(scenario(regions=[small], pools=POOLS)).ticks(40)
    slow = Lab(
        scenario(regions=[small | {"mempolicy": "bind_slow"}], pools=POOLS),
        modes=everywhere("prefer_slow") | {"memmap": "on_memory"},
    ).ticks(40)
    assert np.mean(fast.throughputs) > np.mean(slow.throughputs) + 0.01
    for cause in ("data_on_slow", "page_tables", "stacks", "slab", "memmap"):
        assert fast.seconds_lost(cause) == 0 < slow.seconds_lost(cause)


def test_a_kill_costs_more_than_ample_memory():
    """The same load and policy: with DRAM for the stacks nobody dies."""
    returns, kills = [], []
    for dram_mib in (1024, 2500):
        lab = Lab(
            scenario(regions=[WORK], pools={"threads": {"count": 2000, "start_s": 4}}, dram_mib=dram_mib),
            modes=everywhere("restrict"),
        ).ticks(120)
        returns.append(float(np.sum(lab.throughputs)))
        kills.append(lab.total("oom_kill"))
    assert kills[0] > 0 == kills[1]
    assert returns[0] < returns[1] - 20


@pytest.mark.parametrize("lost_s", [0, 10])
def test_dying_never_pays(lost_s):
    """Random one-process machines: where restricting kills and falling back does not, restricting returns less,
    however the episode ends, even if no work is thrown away."""
    count, ticks = 400, 80
    machine = scenario(
        regions=[
            WORK | {"mib": between(500, 2500), "misses_per_page_s": orders(1, 300), "access_hz": orders(0.01, 100),
                    "tlb_misses_per_page_s": orders(1, 300), "density": orders(1 / LEAF_SPAN_PAGES, 1),
                    "start_s": between(0, 8)},
            WORK | {"mib": between(100, 600), "start_s": between(0, 12), "hold_s": between(1, 20)},
        ],
        processes=[{"restart_s": either(0, 1, 5), "lost_s": lost_s}],
        pools={"threads": {"count": orders(10, 5000), "start_s": between(0, 15)}},
        slow_latency_ns=between(200, 800),
        slow_read_gbps=orders(5, 100),
        horizon_s=ticks * 0.25,
    )  # fmt: skip
    totals = {}
    for name, modes in (("fallback", {}), ("restrict", everywhere("restrict")), ("movable", MOVABLE)):
        machines = Machines([machine], count, threads=1)
        machines.reset(np.arange(count, dtype=np.uint64))
        action = np.tile(from_modes(modes), (count, 1))
        returned, kills = np.zeros(count), np.zeros(count, np.int64)
        for _ in range(ticks):
            machines.step(action)
            returned += machines.reward
            kills += machines.counters[:, n.C_OOM_KILL]
        totals[name] = returned, kills
    alive = totals["fallback"][1] == 0
    for name in ("restrict", "movable"):
        killed = alive & (totals[name][1] > 0)
        assert killed.sum() > 20
        assert (totals[name][0][killed] < totals["fallback"][0][killed]).all()


def test_a_slower_page_table_tier_only_hurts_those_who_use_it():
    """online against restrict_pt on a walk-heavy machine: the more CXL costs, the wider the gap."""
    walks = WORK | {"tlb_misses_per_page_s": 200, "misses_per_page_s": 1, "mib": 1400}
    gaps = []
    for slow_ns in (150, 300, 600):
        machine = scenario(regions=[walks], slow_latency_ns=slow_ns, demotion="on", lru_window_s=0.01)
        tables_in_dram = {"place.pt_leaf": "restrict", "place.pt_upper": "restrict"}
        online, restricted = Lab(machine).ticks(80), Lab(machine, modes=tables_in_dram).ticks(80)
        assert restricted.on(n.PT_LEAF, n.SLOW) == 0 < online.on(n.PT_LEAF, n.SLOW)
        assert restricted.seconds_lost("page_tables") == 0
        gaps.append(online.seconds_lost("page_tables"))
    assert gaps[0] < gaps[1] < gaps[2]
