"""The relaxed bound: no policy gets more, on thousands of random machines, and it is no more generous than it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.builders import RANDOM_MACHINES, Lab, between, either, orders, random_scenario, scenario
from tiergym.env.actions import NVEC, from_modes
from tiergym.env.machines import Machines
from tiergym.lab.bound import Arena
from tiergym.lab.relaxed import relaxed, relaxed_on
from tiergym.specs import Scenario, load_scenario
from tiergym.specs.table import build_table

MACHINES, TICKS = 400, 40
ROUNDING = 1e-9
HOT = {"kind": "anon", "mib": 100, "grow_s": 0, "misses_per_page_s": 10, "mlp": 2}
COLD = {"kind": "anon", "mib": 300, "grow_s": 0, "misses_per_page_s": 1, "mlp": 2}


def episodes(machine: Scenario, seeds: NDArray[np.uint64], rng: np.random.Generator, held: int) -> NDArray[np.float64]:
    """Returns, float64 (N,), of random actions that change every `held` ticks."""
    machines = Machines([machine], len(seeds))
    machines.reset(seeds)
    total, running = np.zeros(len(seeds)), np.ones(len(seeds), np.bool_)
    tick = 0
    while running.any():
        if tick % held == 0:
            actions = rng.integers(NVEC, size=(len(seeds), len(NVEC)))
            actions[::4] = 0
        machines.step(actions)
        total += np.where(running, machines.reward, 0.0)
        running &= ~machines.done
        tick += 1
    return total


def quiet(**changes: Any) -> Scenario:
    """256 MiB of DRAM, 512 MiB of CXL, data and nothing else: what is touched of the kernel costs nothing."""
    none = ("stack", "slab_unreclaim", "slab_reclaim", "memmap", "kernel_other")
    scalars: dict[str, Any] = {"dram_mib": 256, "slow_mib": 512, "horizon_s": 10} | {
        f"{name}_touches_per_s": 0 for name in none
    }
    return scenario(**(scalars | changes))


def with_horizon(machine: Scenario, ticks: int, dt_s: float) -> Scenario:
    """The same scenario with episodes of so many ticks."""
    machine.sections["episode"]["horizon_s"] = ticks * dt_s
    return replace(machine, table=build_table(machine.sections, machine.regions))


def frugal(dt_s: float) -> Scenario:
    """A distribution over machines that lose time by little but what the bound counts: kernel pages and reclaim cost
    next to nothing, bandwidth is ample, kills are cheap, and evicted pages are seldom touched."""
    regions = [
        {
            "process": f"p{i % 3}",
            "kind": either("anon", "anon", "file_ro", "cache", "shmem"),
            "mib": orders(10, 300),
            "misses_per_page_s": orders(0.1, 300),
            "mlp": 1,
            "access_hz": orders(0.01, 100),
            "mlocked": either("off", "off", "on"),
            "mempolicy": either("default", "default", "bind_fast", "bind_slow"),
            "reads": either("random", "stream"),
            "start_s": between(0, 2),
            "grow_s": either(0, 1),
            "hold_s": either(1, 1000),
            "shrink_s": either(0, 1),
            "low_share": between(0, 1),
            "period_s": either(0, 3),
            "turnover_hz": either(0, 0, 1),
            "drift_group": either(0, 1),
            "drift_s": either(0, 0.7),
        }
        for i in range(6)
    ]
    processes = [
        {
            "oom_score_adj": either(-1000, 0, 500),
            "work_share": between(0, 1),
            "restart_s": either(0, 2),
            "lost_s": either(0, 1),
        }
        for _ in range(3)
    ]
    scalars: dict[str, Any] = dict.fromkeys(
        ("fault_us", "migrate_batched_us", "migrate_unbatched_us", "reclaim_us"), 0.01
    )
    none = ("stack", "slab_unreclaim", "slab_reclaim", "memmap", "kernel_other")
    scalars |= {f"{name}_touches_per_s": 0 for name in none}
    return scenario(
        regions=regions,
        processes=processes,
        dram_mib=256,
        slow_mib=either(0, 128, 512),
        demotion=either("off", "on"),
        swap_mib=either(0, 256),
        swap=either("disk", "zswap_lz4"),
        numa_balancing=either("off", "tiering"),
        dt_s=dt_s,
        horizon_s=TICKS * dt_s,
        look_us=0,
        reclaim_metadata_touches=0,
        hint_fault_us=0,
        dram_read_gbps=20000,
        dram_mixed_gbps=20000,
        slow_read_gbps=20000,
        slow_mixed_gbps=20000,
        **scalars,
    )


@settings(max_examples=5)
@given(seed=st.integers(0, 2**63 - 1), dt_s=st.sampled_from([0.05, 0.25, 1.0]), held=st.sampled_from([1, 5, TICKS]))
@example(seed=1, dt_s=0.25, held=1)
@example(seed=2, dt_s=1.0, held=1)
def test_no_policy_gets_more_where_little_else_costs(seed: int, dt_s: float, held: int) -> None:
    """What the bound forgets, such as that evicted pages cost less than those on the slow tier, shows here."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 2**63, MACHINES, dtype=np.uint64)
    bound = relaxed_on(frugal(dt_s), seeds)
    got = episodes(frugal(dt_s), seeds, rng, held)
    assert (got <= bound + ROUNDING).all(), (got - bound).max()


@settings(max_examples=5)
@given(
    seed=st.integers(0, 2**63 - 1),
    held=st.sampled_from([1, 5, TICKS]),
    **RANDOM_MACHINES,
)
@example(seed=1, block_mib=128, dram_mib=256.0, slow_blocks=[3, 8], dt_s=0.25, held=1)
@example(seed=2, block_mib=128, dram_mib=700.0, slow_blocks=[1, 20], dt_s=0.25, held=TICKS)
@example(seed=3, block_mib=128, dram_mib=256.0, slow_blocks=[0], dt_s=1.0, held=5)
def test_no_policy_gets_more(
    seed: int, block_mib: int, dram_mib: float, slow_blocks: list[int], dt_s: float, held: int
) -> None:
    """Random machines run short of everything: they swap, drop, kill, restart, and leave requests unserved."""
    rng = np.random.default_rng(seed)
    machine = with_horizon(random_scenario(block_mib, dram_mib, slow_blocks, dt_s), TICKS, dt_s)
    seeds = rng.integers(0, 2**63, MACHINES, dtype=np.uint64)
    bound = relaxed_on(machine, seeds)
    assert (bound <= 0).all()
    got = episodes(machine, seeds, rng, held)
    assert (got <= bound + ROUNDING).all(), (got - bound).max()


def test_the_bound_is_what_the_coldest_data_cost_that_dram_has_no_room_for() -> None:
    """100 MiB of hot data and 156 of cold ones fit; 144 MiB of cold ones miss at CXL's latency."""
    machine = quiet(regions=[COLD, HOT], dram_latency_ns=100, slow_latency_ns=300)
    stall = 144 * 256 * 1 * 200e-9 / (2 * 4)  # pages, misses/s, extra latency, over mlp and workers
    np.testing.assert_allclose(relaxed(machine, 2, 0), -40 * stall / (1 + stall))


def test_nothing_is_lost_where_all_data_fit() -> None:
    assert (relaxed(quiet(regions=[HOT]), 3, 0) == 0).all()


def test_stock_linux_comes_near_it_where_hot_data_come_first() -> None:
    """Without kernel pages to place there is little that it loses beyond the bound."""
    machine = quiet(regions=[HOT | {"misses_per_page_s": 1000}, COLD | {"start_s": 0.5, "misses_per_page_s": 200}])
    online = Arena(machine, 2, 0).returns(np.zeros((1, 1, len(NVEC)), np.int64))[0]
    bound = relaxed(machine, 2, 0).mean()
    assert 1.2 * bound < online <= bound < -1


def test_eviction_is_priced_by_what_reading_back_costs() -> None:
    """A cache that is read now and then, and larger than the only tier: stock Linux loses little beyond the bound."""
    free: dict[str, Any] = {"fault_us": 0.01, "reclaim_us": 0.01, "look_us": 0, "reclaim_metadata_touches": 0}
    cache = {"kind": "cache", "mib": 400, "grow_s": 0, "access_hz": 0.05, "misses_per_page_s": 100, "mlp": 2}
    machine = quiet(slow_mib=0, regions=[cache], **free)
    online = Arena(machine, 2, 0).returns(np.zeros((1, 1, len(NVEC)), np.int64))[0]
    bound = relaxed(machine, 2, 0).mean()
    assert 1.35 * bound < online <= bound < -1


def killing(oom_score_adj: int) -> Scenario:
    """A process that does little work fills DRAM and misses in 400 MiB from 4 s on; the other wants tables at 5 s."""
    return quiet(
        processes=[
            {"work_share": 1},
            {"work_share": 0.01, "restart_s": 0, "lost_s": 0, "oom_score_adj": oom_score_adj},
        ],
        regions=[
            {"kind": "anon", "mib": 8, "density": 1 / 512, "start_s": 5, "grow_s": 1},
            {"process": "p1", "kind": "anon", "mib": 400, "start_s": 4, "grow_s": 0.5, "misses_per_page_s": 300},
        ],
    )


def test_kills_are_part_of_the_bound() -> None:
    """A request for DRAM alone kills: that is cheaper than the data that go with it, and no cheaper than bounded."""
    restrict = from_modes({"place.pt_leaf": "restrict"})
    lab = Lab(killing(0), modes={"place.pt_leaf": "restrict"}).ticks(40)
    assert lab.total("oom_kill") >= 1
    killed, online = Arena(killing(0), 1, 0).returns(np.stack([restrict, 0 * restrict])[:, None])
    without, bound = relaxed(killing(-1000), 1, 0)[0], relaxed(killing(0), 1, 0)[0]
    assert online < killed <= bound and without < bound < 0


@pytest.mark.parametrize("name", ["llama-1to2", "sparse-1to4"])
def test_the_bound_says_something_of_shipped_scenarios(name: str) -> None:
    machine = load_scenario(name)
    online = Arena(machine, 2, 0).returns(np.zeros((1, 1, len(NVEC)), np.int64))[0]
    bound = relaxed(machine, 2, 0)
    assert (bound < 0).all() and online < bound.mean()


def test_the_bound_can_be_repeated() -> None:
    machine = load_scenario("llama-1to2")
    assert (relaxed(machine, 2, 3) == relaxed(machine, 2, 3)).all()
    assert relaxed(machine, 2, 3)[0] == relaxed(machine, 1, 3)[0]
