"""What must come out of the model (docs/model.md section 16), on the shipped scenarios and baselines.

The matrix of scenarios and static baselines is computed once, through the public engine.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tiergym import specs
from tiergym.env import static_actions
from tiergym.env.actions import from_modes
from tiergym.env.machines import Machines
from tiergym.sim import names as n
from tiergym.sim.layout import parameter_names
from tiergym.specs import Scenario

SEEDS = np.array([3, 4], dtype=np.uint64)
TIMED = ("online", "online_movable", "soft", "restrict", "migrate", "migrate_headroom", "metadata_slow")
"""Baselines on which ticks of 0.25 s are held against ticks of 0.125 s."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Mean over ticks and two machines: throughput, lost time by cause; counters summed; pages at the end."""

    throughput: float
    lost: dict[str, float]
    counters: dict[str, int]
    on_slow: NDArray[np.int64]
    """int64 (ticks, classes), pages on the slow tier over both machines."""
    in_use: int


def run(scenario: Scenario, action: NDArray[np.int64]) -> Outcome:
    machines = Machines([scenario], len(SEEDS), threads=1)
    machines.reset(SEEDS)
    actions = np.tile(action, (len(SEEDS), 1))
    throughput, lost, counters, on_slow, in_use = [], [], [], [], 0
    while not machines.done.any():
        in_use = int(machines.records["used_pages"].sum())
        machines.step(actions)
        throughput.append(machines.throughput.mean())
        lost.append(machines.lost.mean(axis=0))
        counters.append(machines.counters.sum(axis=0))
        on_slow.append(machines.kernel_slow.sum(axis=0))
    assert machines.done.all(), "an outcome needs machines of one horizon"
    return Outcome(
        float(np.mean(throughput)),
        dict(zip(n.CAUSES, np.mean(lost, axis=0).tolist(), strict=True)),
        dict(zip(n.COUNTERS, np.sum(counters, axis=0).tolist(), strict=True)),
        np.array(on_slow),
        in_use,
    )


def with_parameters(scenario: Scenario, **values: float) -> Scenario:
    """The scenario with other fixed parameters, by their name in the machine's record."""
    table, names = scenario.table.copy(), parameter_names(scenario.regions)
    for name, value in values.items():
        table[names.index(name)] = [n.DRAW_FIXED, value, 0, 0, 0, 0, 0, 0]
    return replace(scenario, table=table)


BASELINES = {name: static.action for name, static in static_actions.shipped().items()}
SCENARIOS = specs.list_scenarios()
TRADITIONAL = tuple(name for name in SCENARIOS if specs.load_scenario(name).slow_pages_max == 0)
TIERED = tuple(name for name in SCENARIOS if name not in TRADITIONAL)


@pytest.fixture(scope="module")
def matrix() -> dict[str, dict[str, Outcome]]:
    """Outcome of every static baseline on every scenario."""
    return {
        scenario: {name: run(specs.load_scenario(scenario), action) for name, action in BASELINES.items()}
        for scenario in SCENARIOS
    }


def test_seed_observation(matrix):
    """llama at 1:2: `online` loses to `online_movable`, through page tables and through which data spilled."""
    online, movable = matrix["llama-1to2"]["online"], matrix["llama-1to2"]["online_movable"]
    assert online.throughput < movable.throughput - 0.02
    assert online.lost["page_tables"] > 0.005
    assert movable.lost["page_tables"] == movable.lost["stacks"] == movable.lost["slab"] == 0.0
    data = online.lost["data_on_slow"] + online.lost["contention"]
    assert data > movable.lost["data_on_slow"] + movable.lost["contention"]
    assert online.counters["pgdemote_kswapd"] == 0, "falling back wakes nobody"
    assert movable.counters["pgdemote_kswapd"] > 0, "page tables that must be in DRAM start demotion"


def test_seed_observation_vanishes_with_equal_tiers(matrix):
    """The same machine with a slow tier as fast as DRAM: where pages lie no longer matters."""
    scenario = specs.load_scenario("llama-1to2")
    names = parameter_names(scenario.regions)
    value = {name: scenario.table[names.index(name), 1] for name in names}
    equal = with_parameters(
        scenario,
        slow_latency_ns=value["dram_latency_ns"],
        slow_read_gbps=value["dram_read_gbps"],
        slow_mixed_gbps=value["dram_mixed_gbps"],
        slow_knee=0.9,
        slow_ceiling=1.6,
    )
    online, movable = run(equal, BASELINES["online"]), run(equal, BASELINES["online_movable"])
    for cause in ("data_on_slow", "page_tables", "stacks", "slab", "memmap"):
        assert online.lost[cause] == movable.lost[cause] == 0.0
    # What is left is the price of demotion itself, which moved pages whatever they gained.
    gap = matrix["llama-1to2"]["online_movable"].throughput - matrix["llama-1to2"]["online"].throughput
    copying = movable.lost["premature_reclaim"] + movable.lost["other_reclaim"] + movable.lost["migration"]
    assert abs(online.throughput - movable.throughput) < copying + 0.002
    assert abs(online.throughput - movable.throughput) < 0.1 * gap


def test_no_baseline_is_best_everywhere(matrix):
    best = {s: max(row, key=lambda name: row[name].throughput) for s, row in matrix.items() if s in TIERED}
    for name in BASELINES:
        assert any(matrix[s][name].throughput < matrix[s][best[s]].throughput - 1e-3 for s in TIERED), name


def test_restricting_kills_somewhere_and_wins_somewhere(matrix):
    killed = [s for s in TIERED if matrix[s]["restrict"].counters["oom_kill_premature"] > 0]
    assert killed
    for s in killed:
        assert matrix[s]["restrict"].throughput < matrix[s]["online"].throughput
    others = ("online", "soft", "bind_upper", "radiant", "migrate", "migrate_headroom", "metadata_slow", "restrict_pt")
    assert any(matrix[s]["restrict"].throughput > max(matrix[s][o].throughput for o in others) + 1e-3 for s in TIERED)


def test_only_page_tables_should_be_restricted_somewhere(matrix):
    assert any(
        matrix[s]["restrict_pt"].throughput
        > max(matrix[s][o].throughput for o in ("restrict", "soft", "online", "online_movable")) + 5e-4
        for s in TIERED
    )


def test_metadata_belongs_on_the_slow_tier_somewhere(matrix):
    assert any(
        matrix[s]["metadata_slow"].throughput > max(o.throughput for k, o in matrix[s].items() if k != "metadata_slow")
        for s in TIERED
    )


def test_migration_needs_headroom_somewhere_and_pays_somewhere(matrix):
    def moved(outcome: Outcome) -> int:
        return sum(outcome.counters[c] for c in ("pgmigrate_pt", "pgmigrate_slab", "pgmigrate_kstack"))

    idle = [s for s in TIERED if moved(matrix[s]["migrate"]) == 0 and matrix[s]["migrate"].counters["pgmigrate_fail"]]
    assert idle, "somewhere DRAM has no room for what should move"
    assert any(moved(matrix[s]["migrate_headroom"]) > 0 for s in idle)
    assert any(matrix[s]["migrate"].throughput > matrix[s]["online"].throughput + 0.01 for s in TIERED)


@pytest.mark.parametrize("scenario", TRADITIONAL)
def test_single_tier_machines_are_unharmed(matrix, scenario):
    """Every policy gives the trajectory of `online`, to the page and the bit."""
    online = matrix[scenario]["online"]
    for name, outcome in matrix[scenario].items():
        assert outcome.throughput == online.throughput, name
        assert outcome.counters == online.counters, name


def test_killing_is_always_premature_when_the_slow_tier_is_empty(matrix):
    """On the sparse workload the victim dies of its own page tables while CXL could hold them."""
    outcome = matrix["sparse-1to4"]["restrict"]
    assert outcome.counters["oom_kill"] == outcome.counters["oom_kill_premature"] > 0
    assert outcome.lost["oom"] > 0.5


def test_dying_early_never_pays(matrix):
    """A kill never gives a better episode than the same baseline's machine without one."""
    for s in TIERED:
        lived = [o.throughput for o in matrix[s].values() if o.counters["oom_kill"] == 0]
        died = [o.throughput for o in matrix[s].values() if o.counters["oom_kill"] > 0]
        if lived and died:
            assert max(died) < min(lived), s


@pytest.mark.parametrize("name", SCENARIOS)
def test_tick_length_does_not_matter(matrix, name):
    """A tick (0.25 s, or the scenario's own) against half of it: mean throughput and final placement within 2 %.

    Placement: pages that lie on the other tier at the end, as a share of all pages in use.
    """
    scenario = specs.load_scenario(name)
    half = with_parameters(scenario, dt_s=scenario.sections["episode"]["dt_s"] / 2)
    for baseline in TIMED:
        whole, fine = matrix[name][baseline], run(half, BASELINES[baseline])
        assert fine.throughput == pytest.approx(whole.throughput, rel=0.02), baseline
        elsewhere = np.abs(whole.on_slow[-1] - fine.on_slow[-1]).sum()
        assert elsewhere / whole.in_use < 0.02, baseline


def test_default_mode_is_online(matrix):
    assert (BASELINES["online"] == from_modes({})).all()
