"""How the cost of a tick grows: with machines, regions, memory blocks and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tiergym.bench import steps
from tiergym.sim.layout import machine_dtype
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.specs import Scenario, load_scenario
from tiergym.specs.writing import complete_toml

MACHINES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
REGIONS = (8, 16, 32, 64)
BLOCKS = (8, 32, 64, 128, 256)
BATCH = 1024
SERVERS = 256
SLOW_MIB = 16384
TICKS_PER_POINT = 200_000
"""Machine-ticks of one repetition, at least."""
LARGE = 16384
"""Batches from this size on are measured once: an episode of them is millions of ticks."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve, the median of its repetitions: nanoseconds per machine, for a tick (`machines`, `regions`,
    `blocks`), for `reset`, or for `snapshot` and restore together."""

    curve: str
    x: int
    threads: int
    ns: float
    bytes_per_machine: int


def points(repetitions: int, threads: int, on_point: Callable[[str], None]) -> Iterator[Point]:
    """Every curve on one thread, and that of machines on `threads` too. `on_point` is told what comes next."""
    base = load_scenario(steps.SCENARIO)
    for used in sorted({1, threads}):
        for count in MACHINES:
            on_point(f"{count} machines, {used} threads")
            yield _point("machines", count, used, base, count, repetitions)
            yield _other("reset", count, used, base, steps.reset(count, used), repetitions)
    for count in MACHINES:
        on_point(f"snapshots of {count} machines")
        yield _other("snapshot", count, 1, base, steps.snapshot(count), repetitions)
    for regions in REGIONS:
        on_point(f"{regions} regions")
        yield _point("regions", regions, 1, with_regions(base, regions), BATCH, repetitions)
    for blocks in BLOCKS:
        on_point(f"{blocks} blocks")
        yield _point("blocks", blocks, 1, with_blocks(base, blocks), BATCH, repetitions)


def with_regions(scenario: Scenario, regions: int) -> Scenario:
    """The scenario with its regions split until there are `regions` of them, all as active as before."""
    given = scenario.sections["regions"]
    copies = [regions // len(given) + (k < regions % len(given)) for k in range(len(given))]
    split = [
        {**region, "name": f"{region['name']}_{i}", "mib": scaled(region["mib"], 1.0 / copies[k])}
        for k, region in enumerate(given)
        for i in range(copies[k])
    ]
    return _reloaded({**scenario.sections, "regions": split})


def split_regions(regions: int, batch: int = 0, ticks: int = 0) -> Callable[[], float]:
    """Machine-ticks per second of the engine on the benchmark's scenario with so many regions."""
    return steps.engine(scenarios=[with_regions(load_scenario(steps.SCENARIO), regions)], batch=batch, ticks=ticks)


def with_blocks(scenario: Scenario, blocks: int) -> Scenario:
    """The scenario at an eighth of its size, with so many memory blocks: 16 GiB of slow tier, or more where the
    smallest block, 128 MiB, needs it. The workload and what lies where stay the same."""
    block_mib = max(SLOW_MIB // blocks, 128)
    machine = {
        **scenario.sections["machine"],
        "dram_mib": SLOW_MIB // 2,
        "slow_mib": blocks * block_mib,
        "block_mib": block_mib,
    }
    share = SLOW_MIB / (scenario.slow_pages_max / PAGES_PER_MIB)
    regions = [{**region, "mib": scaled(region["mib"], share)} for region in scenario.sections["regions"]]
    return _reloaded({**scenario.sections, "machine": machine, "regions": regions})


def with_memory(scenario: Scenario, dram_mib: float, slow_mib: float) -> Scenario:
    """The scenario on a machine of that memory, as full as before: regions grow with it, and what is touched per second
    stays the same."""
    more = (dram_mib + slow_mib) / (scenario.sections["machine"]["dram_mib"] + scenario.slow_pages_max / PAGES_PER_MIB)
    rates = ("access_hz", "misses_per_page_s", "tlb_misses_per_page_s")
    regions = [
        {**region, "mib": scaled(region["mib"], more), **{rate: scaled(region[rate], 1.0 / more) for rate in rates}}
        for region in scenario.sections["regions"]
    ]
    machine = {**scenario.sections["machine"], "dram_mib": dram_mib, "slow_mib": slow_mib}
    return _reloaded({**scenario.sections, "machine": machine, "regions": regions})


def servers(dram_gib: int, slow_gib: int) -> Callable[[], float]:
    """Machine-ticks per second of `SERVERS` machines of that size under the benchmark's workload."""
    scenario = with_memory(load_scenario(steps.SCENARIO), 1024.0 * dram_gib, 1024.0 * slow_gib)
    return steps.engine(scenarios=[scenario], batch=SERVERS)


def _reloaded(sections: dict[str, Any]) -> Scenario:
    with TemporaryDirectory(prefix="tiergym-bench-") as folder:
        path = Path(folder) / "changed.toml"
        path.write_text(complete_toml(sections), encoding="utf-8")
        return load_scenario(path)


def scaled(value: Any, factor: float) -> Any:
    """A number, or a distribution's bounds, times `factor`."""
    if isinstance(value, dict):
        return {key: scaled(entry, factor) for key, entry in value.items()}
    if isinstance(value, list):
        return [scaled(entry, factor) for entry in value]
    return value * factor


def _point(curve: str, x: int, threads: int, scenario: Scenario, batch: int, repetitions: int) -> Point:
    episode = steps.ENGINE_TICKS
    episodes = max(1, TICKS_PER_POINT // (batch * episode))
    run = steps.engine(scenarios=[scenario], batch=batch, threads=threads, ticks=episodes * episode)
    rate = median(run() for _ in range(repetitions if batch < LARGE else 1))
    return Point(curve, x, threads, 1e9 / rate, machine_dtype(scenario.regions).itemsize)


def _other(curve: str, x: int, threads: int, scenario: Scenario, once: Callable[[], float], repetitions: int) -> Point:
    """A point of what is measured in microseconds per machine."""
    once_us = median(once() for _ in range(repetitions if x < LARGE else 1))
    return Point(curve, x, threads, 1e3 * once_us, machine_dtype(scenario.regions).itemsize)
