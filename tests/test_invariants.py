"""What holds on every machine, at every tick, whatever the policy does: thousands of random machines a batch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.builders import RANDOM_MACHINES, random_scenario, scenario
from tests.invariants import check_results, check_state
from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.layout import BLOCK_SIZES, MOST_COUNTED_MIB, machine_dtype
from tiergym.specs import list_scenarios, load_scenario
from tiergym.specs.feasibility import check

MACHINES = 2000
TICKS = 40


def check_unweighted(machines):
    """Where every term weighs 1, the reward is the share of time that was lost."""
    check_results(machines)
    np.testing.assert_allclose(machines.reward, machines.throughput - 1, atol=1e-9, rtol=0)


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**63 - 1),
    stubborn=st.booleans(),
    **RANDOM_MACHINES,
)
@example(seed=1, block_mib=128, dram_mib=256.0, slow_blocks=[3, 8], dt_s=0.25, stubborn=False)
@example(seed=2, block_mib=128, dram_mib=700.0, slow_blocks=[1, 20], dt_s=0.25, stubborn=True)
def test_pages_time_and_observations_add_up(seed, block_mib, dram_mib, slow_blocks, dt_s, stubborn):
    """Conservation per machine, zone and tick, and every number inside its range, under random actions."""
    rng = np.random.default_rng(seed)
    machines = Machines([random_scenario(block_mib, dram_mib, slow_blocks, dt_s)], MACHINES)
    machines.reset(rng.integers(0, 2**63, MACHINES, dtype=np.uint64))
    actions = rng.integers(NVEC, size=(MACHINES, len(NVEC)))
    for _ in range(TICKS):
        if not stubborn:
            actions = rng.integers(NVEC, size=(MACHINES, len(NVEC)))
        machines.step(actions)
        check_state(machines.records)
        check_unweighted(machines)


def test_the_random_machines_reach_everything():
    """An invariant says nothing about what never happened: every counter and cause of loss moved somewhere."""
    machines = Machines([random_scenario(128, 700.0, [3, 8], 0.25)], MACHINES)
    machines.reset(np.arange(MACHINES, dtype=np.uint64))
    rng = np.random.default_rng(0)
    counters, lost = np.zeros(n.N_COUNTERS, np.int64), np.zeros(n.N_CAUSES)
    premature = np.zeros(n.N_CLASSES, np.int64)
    for _ in range(TICKS):
        machines.step(rng.integers(NVEC, size=(MACHINES, len(NVEC))))
        counters += (machines.counters > 0).sum(axis=0)
        lost += (machines.lost > 0).sum(axis=0)
        premature += (machines.premature_by_class > 0).sum(axis=0)
    assert (counters > 0).all(), [name for name, count in zip(n.COUNTERS, counters, strict=True) if count == 0]
    assert (lost > 0).all(), [name for name, count in zip(n.CAUSES, lost, strict=True) if count == 0]
    assert (premature[n.FIRST_KERNEL_CLASS : n.MEMMAP] > 0).all()


@pytest.mark.parametrize("blocks", BLOCK_SIZES)
def test_the_largest_machine_adds_up(blocks):
    """Counts have 31 bits, of the largest record 64: a machine at the upper end of each fills up, swaps and kills."""
    most: dict[str, Any] = {field.name: field.high for field in (*p.MACHINE, *p.KERNEL)}
    if blocks < BLOCK_SIZES[-1]:
        most["dram_mib"] = MOST_COUNTED_MIB
    kinds = ("anon", "anon", "anon", "cache")
    machines = Machines(
        [
            scenario(
                regions=[{"kind": kind, "mib": most["dram_mib"], "grow_s": 5, "turnover_hz": 0.5} for kind in kinds],
                pools={"files": {"count": 1e10, "grow_s": 5}, "threads": {"count": 1e6, "grow_s": 5}},
                **{name: most[name] for name in ("dram_mib", "swap_mib", "watermark_scale_factor", "min_free_kib")},
                slow_mib=min(blocks, BLOCK_SIZES[1]) * most["block_mib"],
                block_mib=most["block_mib"],
            )
        ],
        64,
    )
    assert machines.records.dtype == machine_dtype(16, blocks)
    machines.reset(np.arange(64, dtype=np.uint64))
    rng = np.random.default_rng(3)
    seen = np.zeros(n.N_COUNTERS, np.int64)
    for _ in range(60):
        machines.step(rng.integers(NVEC, size=(64, len(NVEC))))
        seen += machines.counters.max(axis=0)
        check_state(machines.records)
        check_unweighted(machines)
    assert machines.records["managed_pages"].max() > 2e9 * (1 - machines.records["boot_reserved_share"][0])
    assert (seen[[n.C_PSWPOUT, n.C_OOM_KILL, n.C_PGALLOC_SLOW]] > 0).all()


@pytest.mark.parametrize("name", list_scenarios())
def test_shipped_scenarios_add_up(name):
    """The same on what people run."""
    machines = Machines([load_scenario(name)], 12, threads=1)
    machines.reset(np.arange(12, dtype=np.uint64))
    rng = np.random.default_rng(7)
    for tick in range(int(machines.records["ticks"].min())):
        if tick % 5 == 0:
            actions = rng.integers(NVEC, size=(12, len(NVEC)))
        machines.step(actions)
        check_unweighted(machines)
        if tick % 10 == 0:
            check_state(machines.records)


def extreme_values(field):
    """A field's limits and its default, as TOML spells them."""
    if field.choices:
        return list(field.choices)
    values = [field.low, field.default, field.high]
    return [int(value) for value in values] if field.integer else values


def extreme_scenario(rng):
    """The default machine with a handful of fields at the limits that the reader allows."""

    def some(fields, count):
        return {
            fields[i].name: rng.choice(np.array(extreme_values(fields[i]), dtype=object))
            for i in rng.choice(len(fields), count, replace=False)
        }

    scalars: dict[str, Any] = {}
    for fields in (p.MACHINE, p.KERNEL, p.COSTS, p.EPISODE, p.WORKLOAD):
        scalars |= some(fields, 2)
    scalars["horizon_s"] = 86400
    region = [field for field in p.REGION if field.name not in ("process", "mib")]
    regions = [
        {"kind": "anon", "mib": float(rng.choice([0.01, 500, 3000])), "grow_s": 1} | some(region, 4) for _ in range(5)
    ]
    pools = {name: {"count": float(10 ** rng.uniform(0, 7))} | some(p.POOL[1:], 2) for name in n.POOLS}
    return scenario(regions=regions, processes=[some(p.PROCESS, 2)], pools=pools, **scalars)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=150)
def test_what_the_reader_lets_through_adds_up(seed):
    """Values at the limits of their ranges: whatever feasibility does not refuse must simulate."""
    rng = np.random.default_rng(seed)
    possible = []
    for _ in range(150):
        candidate = extreme_scenario(rng)
        try:
            check(candidate.sections, "extreme")
        except UserError:
            continue
        if candidate.sections["machine"]["slow_latency_ns"] >= candidate.sections["machine"]["dram_latency_ns"]:
            possible.append(candidate)
    assert len(possible) > 20
    machines = Machines(possible, len(possible), threads=1)
    machines.reset(rng.integers(0, 2**63, len(possible), dtype=np.uint64))
    for _ in range(20):
        machines.step(rng.integers(NVEC, size=(len(possible), len(NVEC))))
        check_state(machines.records)
        check_unweighted(machines)
