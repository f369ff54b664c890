"""A bound on premature OOM kills while training: a Lagrange multiplier that rises as long as it is exceeded.

The constrained problem (Altman 1999) as in Ray, Achiam and Amodei's PPO-Lagrangian (2019): the reward less the price
of a kill times kills, and the price goes up with the rate's excess over the bound, and down with what is left of it,
after every rollout, never below 0. It is part of the machines' state, so a resumed run goes on with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from tiergym.sim import names as n

STEP = 0.05
"""Of the price per rollout, for each kill per hour beyond the bound."""
HIGHEST = 1000.0
"""What a kill costs at most, in units of the reward that is learned from."""
SECONDS_PER_HOUR = 3600


class ConstraintCallback(BaseCallback):
    """Counts premature kills per hour of a machine, and sets `TrainingVecEnv.kill_price` after each rollout."""

    def __init__(self, oom_per_hour: float) -> None:
        super().__init__()
        self.bound = oom_per_hour
        self._kills, self._seconds = 0.0, 0.0

    def _on_training_start(self) -> None:
        self._env: Any = self.training_env.unwrapped

    def _on_step(self) -> bool:
        machines = self._env._episodes.machines
        self._kills += float(machines.counters[:, n.C_OOM_KILL_PREMATURE].sum())
        self._seconds += float((machines.ticks * np.asarray(machines.records["dt_s"])).sum())
        return True

    def _on_rollout_end(self) -> None:
        if not self._seconds:
            return
        rate = SECONDS_PER_HOUR * self._kills / self._seconds
        price = self._env.kill_price + STEP * (rate - self.bound)
        self._env.kill_price = float(np.clip(price, 0.0, HIGHEST))
        self.logger.record("constraint/oom_per_hour", rate)
        self.logger.record("constraint/kill_price", self._env.kill_price)
        self._kills, self._seconds = 0.0, 0.0
