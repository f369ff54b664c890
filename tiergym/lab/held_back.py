"""Draws that training never sees, of the very scenarios that it trains on: what a policy is measured by meanwhile.

They are neither those of `tiergym evaluate`, so that a checkpoint chosen by them is not chosen by the numbers that are
reported later, nor scenarios of another suite: what is for measuring alone, training refuses before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.lab.evaluate import run_episodes, stream_seeds
from tiergym.lab.evaluations import Evaluated
from tiergym.lab.metrics import Array, per_episode
from tiergym.lab.tensorboard_log import DETERMINISTIC

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

HELD_BACK_STREAM = 0x68656C64
"""Key of their seeds in the SeedSequence tree of the run's seed."""
LOGGED = (
    "throughput",
    "p99_tick_slowdown",
    "oom_kills",
    "premature_kills_per_hour",
    "premature_reclaim_pages",
    "slow_kernel_pages",
    "migrated_pages",
    "demoted_pages",
)
"""Metrics of `tiergym.lab.metrics` that are logged beside the return, as `eval/NAME`."""


def held_back_seeds(seed: int, machines: int) -> NDArray[np.uint64]:
    """Seeds of the held-back machines of a run, uint64 (machines,); no seed of training has their highest bit."""
    return stream_seeds(seed, HELD_BACK_STREAM, machines)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """`episodes` machines of each scenario, and `scales` (scenarios,): factors of the returns that are learned from."""

    scenarios: Sequence[Scenario]
    episodes: int
    seed: int
    scales: Array

    def evaluate(self, policy: Policy, steps: int) -> tuple[Evaluated, dict[str, float]]:
        """One episode of every machine: what is kept of it, and what is logged, by tag."""
        count = len(self.scenarios)
        seeds = held_back_seeds(self.seed, count * self.episodes)
        policy.reset(len(seeds), self.seed)
        totals, _ = run_episodes(policy, self.scenarios, seeds)
        values = per_episode(totals)
        scaled = values["return"] * self.scales[np.arange(len(seeds)) % count]
        logged = {DETERMINISTIC: float(values["return"].mean())}
        logged |= {f"eval/{name}": float(values[name].mean()) for name in LOGGED}
        logged["eval/mean_reward"] = logged[DETERMINISTIC]
        logged["eval/score"] = float(scaled.mean())
        if count > 1:
            names = (scenario.name for scenario in self.scenarios)
            logged |= {f"eval_return/{name}": float(values["return"][i::count].mean()) for i, name in enumerate(names)}
        kills = float(values["premature_kills_per_hour"].mean())
        return Evaluated(steps, tuple(scaled.tolist()), kills), logged
