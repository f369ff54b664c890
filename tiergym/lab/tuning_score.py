"""What tuning maximises: the share of stock Linux's lost time that a policy saves, as a mean over scenarios.

Every scenario counts alike, whatever it loses, and harm counts as much as gain. Machines come from seeds of their own:
none is ever evaluated on (`tiergym.lab.evaluate`), and what was tuned is checked on draws that it was not tuned on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.lab.evaluate import run_episodes
from tiergym.lab.metrics import Array
from tiergym.lab.rungs import NOTHING, REFERENCE
from tiergym.lab.statistics import Interval, stratified
from tiergym.policy.load import load_policy

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

TUNING, CHECKING = 0x74756E65, 0x63686B
"""Keys of the seeds' streams: of the machines that are tuned on, and of those that the result is checked on."""


@dataclass(frozen=True)
class Arena:
    """Machines of some scenarios, `episodes` of each: `seeds` uint64 (episodes * scenarios,), dealt out in turn;
    of each scenario, int64 and float64 (scenarios,), `ticks` are an episode's, `losses` what stock Linux loses."""

    scenarios: tuple[Scenario, ...]
    episodes: int
    seed: int
    seeds: NDArray[np.uint64]
    ticks: NDArray[np.int64]
    losses: Array

    @property
    def steps(self) -> int:
        """What one policy costs: ticks of all machines together."""
        return self.episodes * int(self.ticks.sum())

    def saved(self, policy: Policy) -> Array:
        """What the policy saves of stock Linux's loss, float64 (scenarios, episodes)."""
        return 1.0 - _lost(policy, self.scenarios, self.seeds, self.seed) / self.losses[:, None]


def tuning_arena(scenarios: Sequence[Scenario], episodes: int, seed: int, stream: int) -> Arena:
    """Machines to tune or check on, of a stream of `seed`."""
    drawn = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(episodes * len(scenarios), np.uint64)
    return arena(scenarios, seed, drawn & np.uint64((1 << 63) - 1))  # the highest bit is that of evaluation


def arena(scenarios: Sequence[Scenario], seed: int, seeds: NDArray[np.uint64]) -> Arena:
    """Machines of these seeds, uint64 (episodes * scenarios,), with what stock Linux loses there."""
    losses = _lost(load_policy(REFERENCE), scenarios, seeds, seed).mean(axis=1)
    episodes = len(seeds) // len(scenarios)
    return Arena(tuple(scenarios), episodes, seed, seeds, ticks_of(scenarios), np.maximum(losses, NOTHING))


def ticks_of(scenarios: Sequence[Scenario]) -> NDArray[np.int64]:
    """Ticks of an episode of each scenario, int64 (scenarios,)."""
    machines = Machines(scenarios, len(scenarios))
    machines.reset(np.arange(len(scenarios), dtype=np.uint64))
    return machines.records["ticks"].astype(np.int64)


def steps_of_one(scenarios: Sequence[Scenario]) -> int:
    """Ticks of one episode of each scenario, together."""
    return int(ticks_of(scenarios).sum())


def mean_saved(saved: Sequence[Array]) -> float:
    """The score: of every scenario its mean over episodes, of these the mean."""
    return round(float(np.mean([each.mean() for each in saved])), 12) + 0.0  # stock Linux saves 0, not -1e-17


def difference(saved: Array, other: Array, seed: int) -> Interval:
    """By how much one policy's score is above another's on the same machines, resampled within each scenario."""
    return stratified(mean_saved, list(saved - other), seed)


def _lost(policy: Policy, scenarios: Sequence[Scenario], seeds: NDArray[np.uint64], seed: int) -> Array:
    """Negative returns, float64 (scenarios, episodes)."""
    policy.reset(len(seeds), seed)
    totals, _ = run_episodes(policy, scenarios, seeds)
    return -totals.reward.reshape(-1, len(scenarios)).T
