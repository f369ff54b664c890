"""One scenario under one policy, as arrays over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.policy.base import Policy
from tiergym.specs import Scenario

SEED = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What N machines did in T ticks, measured from tick `start` on.

    throughput (T, N); misses_per_s (T, N, N_TIERS), per tier; counters (T, N, N_COUNTERS); stall_s (T, N, N_CLASSES),
    direct reclaim per class; used_pages (T, N, N_CLASSES, N_ZONES), per class and zone. `records`: the machines after
    the last tick, fields as in `tiergym.sim.layout`. `regions`: names in the order of the records' axis.
    """

    dt_s: float
    start: int
    throughput: NDArray[np.float64]
    misses_per_s: NDArray[np.float64]
    counters: NDArray[np.int64]
    stall_s: NDArray[np.float64]
    used_pages: NDArray[np.int64]
    records: NDArray[np.void]
    regions: tuple[str, ...]

    def region(self, name: str) -> int:
        """Place of a region. Raises `UserError` for a name that the scenario does not have."""
        if name not in self.regions:
            raise UserError(f"region '{name}'; allowed: {', '.join(self.regions)}")
        return self.regions.index(name)


def run(scenario: Scenario, policy: Policy, episodes: int, from_s: float) -> Run:
    """One episode of `episodes` machines under `policy`, tick by tick. Raises `UserError` for invalid actions."""
    # The next step restarts a finished machine, so its last state can be read.
    machines = Machines([scenario], episodes, next_step=True)
    machines.reset(evaluation_seeds(SEED, episodes))
    policy.reset(episodes, SEED)
    of_engine, of_record = ("throughput", "counters"), ("misses_per_s", "stall_s", "used_pages")
    series: dict[str, list[Any]] = {name: [] for name in (*of_engine, *of_record)}
    while not machines.done.any():
        machines.step(policy(machines.obs.copy(), machines.masks.copy()))
        for name in of_engine:
            series[name].append(getattr(machines, name).copy())
        for name in of_record:
            series[name].append(machines.records[name].copy())
    dt_s = float(machines.records["dt_s"][0])
    return Run(
        dt_s=dt_s,
        start=round(from_s / dt_s),
        records=machines.records.copy(),
        regions=tuple(region["name"] for region in scenario.sections["regions"]),
        **{name: np.stack(values) for name, values in series.items()},
    )
