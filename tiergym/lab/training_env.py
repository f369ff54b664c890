"""The machines as training wants them: at different moments of their episodes, and with a value after the last one."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import DEFAULT
from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.errors import UserError

Values = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Observations (K, N_OBS) to their values (K,)."""

STARTS = 16
"""Moments of an episode at which the machines of a batch start, at most."""


class TrainingVecEnv(PlacementSB3VecEnv):
    """`PlacementSB3VecEnv` with two additions and a state that can be saved.

    **Staggered start.** After `reset`, machines have between nothing and 15/16 of their first episode behind them,
    under untouched Linux. Machines in step would show the learner all beginnings, then all middles: a rollout is
    shorter than an episode. Those of one start end together, so that the critic is asked 16 times per episode.

    **Batched bootstrap.** An episode that is cut off at its horizon still had a future: with `values` set, the
    reward of its last step gets `gamma * values(last observation)`, for all machines that finish at once in one
    call. SB3 asks its network once per machine, 14 % of its speed at 1024 machines and 200 ticks; the last
    observations are taken out of the infos, so that it does not add them again.
    """

    gamma: float = 1.0
    values: Values | None = None

    def reset(self) -> NDArray[np.float32]:
        """Staggered machines; their observations, float32 (N, N_OBS)."""
        super().reset()
        machines = self._episodes.machines
        starts = min(self.num_envs, STARTS)
        behind = np.arange(self.num_envs) * starts // self.num_envs * machines.records["ticks"] // starts
        starts = behind.max() - behind
        untouched = np.tile(DEFAULT, (self.num_envs, 1))
        for tick in range(int(behind.max())):
            self._restart(starts == tick)
            machines.step(untouched)
            self._returns += machines.reward
        self._restart(behind == 0)
        self._lengths[:] = behind
        return machines.obs.copy()

    def _restart(self, mask: NDArray[np.bool_]) -> None:
        if mask.any():
            self._episodes.reset(None, np.random.default_rng(0), {"reset_mask": mask})
            self._returns[mask] = 0

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One decision of every machine: observations, rewards, dones and infos."""
        obs, rewards, dones, infos = super().step_wait()
        if self.values is not None and dones.any():
            finished = np.flatnonzero(dones)
            last = np.stack([infos[i].pop("terminal_observation") for i in finished])
            rewards[finished] += np.float32(self.gamma) * self.values(last)
        return obs, rewards, dones, infos

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that the next steps depend on; a copy."""
        own = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        return {**self._episodes.machines.snapshot(), **own}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Continue from a `state` of machines of the same scenarios; returns the observations, float32 (N, N_OBS).

        Raises `UserError` where the state is of other machines.
        """
        super().reset()
        try:
            self._episodes.machines.restore(state)
        except ValueError as error:
            raise UserError(f"machines' state: {error}") from error
        self._returns[:], self._lengths[:] = state["returns"], state["lengths"]
        return self._episodes.machines.obs.copy()
