"""The observation's table and the code that fills it, entry by entry and by name."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from tiergym.env.actions import NAMES as ACTIONS
from tiergym.env.actions import NVEC
from tiergym.env.observations import N_OBS, NAMES, fill
from tiergym.policy.rules import obs_index
from tiergym.sim import names as n
from tiergym.sim.layout import new_machines

Fields = dict[str | tuple[str, int] | tuple[str, int, int], float]
"""Numbers of a record: by its field, or by field and index."""

BLANK: Fields = {
    **{("managed_pages", zone): pages for zone, pages in enumerate((1000, 2000, 2000, 1000, 4000, 6000))},
    **{("free_pages", zone): 100 for zone in range(n.N_ZONES)},
    **{("wmark_pages", n.WMARK_LOW, zone): 100 for zone in range(n.N_ZONES)},
    "dt_s": 0.25,
    "swap_mib": 4,
    "blocks": 8,
    "dram_latency_ns": 100,
    "slow_latency_ns": 100,
    "dram_read_gbps": 30,
}
"""A machine that shows 0 everywhere but for its free pages, `config.slow_share` and no threads, files or modes."""


@dataclass(frozen=True)
class Shown:
    """`fields` of a record show `value` at the entry `name`; of all others, those of `shared` alone move too."""

    name: str
    fields: Fields
    value: float
    shared: set[str] = field(default_factory=set)


def of_zones_and_classes() -> Iterator[Shown]:
    """A zone's free pages also count against low, a class's pages also where its share on the slow node is shown."""
    in_dram = dict.fromkeys(n.ZONES[: n.FIRST_SLOW_ZONE], "above_low.fast")
    for zone, name in enumerate(n.ZONES):
        free = 0.25 * BLANK["managed_pages", zone]
        yield Shown(f"free.{name}", {("free_pages", zone): free}, 0.25, {in_dram.get(name, f"above_low.{name}")})
    low: Fields = {("wmark_pages", n.WMARK_LOW, n.NORMAL): 55.0, ("wmark_pages", n.WMARK_LOW, n.MOVABLE): 70.0}
    yield Shown("above_low.fast", low, 20 * 75 / 6000)
    yield Shown("above_low.slow_normal", {("wmark_pages", n.WMARK_LOW, n.SLOW_NORMAL): 50}, 20 * 50 / 4000)
    yield Shown("above_low.slow_movable", {("wmark_pages", n.WMARK_LOW, n.SLOW_MOVABLE): 25}, 20 * 75 / 6000)
    for cls, name in enumerate(n.CLASSES):
        fast, slow = ("used_pages", cls, n.DMA32), ("used_pages", cls, n.SLOW_NORMAL)
        kernel = cls >= n.FIRST_KERNEL_CLASS
        yield Shown(f"pages.{name}.fast", {fast: 1500}, 0.25)
        yield Shown(f"pages.{name}.slow", {slow: 2500}, 0.25, {f"on_slow.{name}"} if kernel else set())
        if kernel:
            shared = {f"pages.{name}.fast", f"pages.{name}.slow"}
            yield Shown(f"on_slow.{name}", {fast: 300, slow: 100}, 0.25, shared)


def of_rates() -> Iterator[Shown]:
    """What a tick of a quarter of a second counted: one half at 50,000 pages or 100 events per second."""
    events = {"kswapd_wakeups_fast": 25, "allocstall": 25, "oom_kill": 0.25}
    for name in NAMES:
        if name.startswith("rate."):
            counter = name.removeprefix("rate.")
            half = events.get(counter, 12500)
            # Counters are whole numbers, so a quarter of a kill is out of reach: four times as many are four fifths.
            yield Shown(name, {("counters", n.COUNTERS.index(counter)): 4 * half}, 0.8)
    yield Shown("kswapd_failures.fast", {("kswapd_failures", n.FAST): 4}, 0.25)
    yield Shown("psi.some", {"psi_some": 0.25}, 0.25)
    yield Shown("psi.full", {"psi_full": 0.25}, 0.25)


def of_samples() -> Iterator[Shown]:
    """PMU counters without their noise."""
    for tier, name in enumerate(n.TIERS):
        yield Shown(f"pmu.misses.{name}", {("misses_per_s", tier): 1e8}, 0.5)
        yield Shown(f"pmu.walks.{name}", {("walks_per_s", tier): 1e8}, 0.5)
        yield Shown(f"pmu.load.{name}", {("utilisation", tier): 0.25}, 0.25)


def of_state() -> Iterator[Shown]:
    """Modes, populations, blocks, configuration. The slow node's size is also what its free pages are a share of."""
    for entry, name in enumerate(ACTIONS):
        yield Shown(f"last.{name}", {("action", entry): 1}, 1 / (NVEC[entry] - 1))
    for pool, count in (("threads", 5000), ("files", 1_000_000), ("sockets", 100_000)):
        yield Shown(pool, {("pool_now", n.POOLS.index(pool)): count}, 0.5)
    states = {"offline": (n.BLOCK_ADDED, n.BLOCK_OFFLINE), "normal": (n.BLOCK_NORMAL,), "movable": (n.BLOCK_MOVABLE,)}
    for name, counted in states.items():
        blocks: Fields = {("blocks_in_state", state): 2 / len(counted) for state in counted}
        yield Shown(f"blocks.{name}", blocks, 0.25)
    yield Shown("blocks.pinned", {"blocks_pinned": 2}, 0.25)
    yield Shown("swap_free", {"swap_free_pages": 256}, 0.25)
    yield Shown("calm", {"calm_s": 4}, 0.5)
    yield Shown("config.slow_share", {("managed_pages", n.SLOW_MOVABLE): 14000}, 0.75, {"free.slow_movable"})
    yield Shown("config.demotion", {"demotion": 1}, 1)
    yield Shown("config.tiering", {"numa_balancing": 2}, 1)
    yield Shown("config.latency", {"slow_latency_ns": 200}, 0.5)
    yield Shown("config.bandwidth", {"slow_read_gbps": 10}, 0.25)


CASES = {case.name: case for cases in (of_zones_and_classes, of_rates, of_samples, of_state) for case in cases()}


def observed(fields: Fields) -> NDArray[np.float32]:
    """What a blank machine with these numbers shows, without sampling noise: float32 (N_OBS,)."""
    machines = new_machines(1, 16)
    for key, value in (BLANK | fields).items():
        name, *index = (key,) if isinstance(key, str) else key
        machines[name][(0, *index)] = value
    obs = np.full(N_OBS, np.nan, np.float32)
    assert fill(machines[0], obs, True) == N_OBS
    return obs


def test_every_entry_has_a_case() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_shows_the_fields_that_it_names_and_nothing_else_does(name: str) -> None:
    case = CASES[name]
    before, after = observed({}), observed(case.fields)
    assert after[obs_index(name)] == np.float32(case.value)
    assert {NAMES[i] for i in np.flatnonzero(after != before)} == {name, *case.shared}
