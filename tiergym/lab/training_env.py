"""The machines as training wants them: at different moments of their episodes, and with a value after the last one."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tiergym.env.actions import DEFAULT, OFFSETS
from tiergym.env.observations import N_OBS
from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.errors import UserError
from tiergym.lab.restored import check_episodes, check_machines
from tiergym.sim import names as n

Values = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Observations (K, frames x N_OBS) to their values (K,)."""

STARTS = 16
"""Moments of an episode at which the machines of a batch start, at most."""


class TrainingVecEnv(PlacementSB3VecEnv):
    """`PlacementSB3VecEnv` with three additions and a state that can be saved.

    **Staggered start.** After `reset`, machines have between nothing and 15/16 of their first episode behind them,
    under untouched Linux. Machines in step would show the learner all beginnings, then all middles: a rollout is
    shorter than an episode. Those of one start end together, so that the critic is asked 16 times per episode.

    **Batched bootstrap.** An episode that is cut off at its horizon still had a future: with `values` set, the
    reward of its last step gets `gamma * values(last observation)`, for all machines that finish at once in one
    call. SB3 asks its network once per machine, 14 % of its speed at 1024 machines and 200 ticks; the last
    observations are taken out of the infos, so that it does not add them again.

    **Frames.** With `frames` above 1 an observation is those of the last decisions, the newest first, float32
    (N, frames x N_OBS), zeros before an episode began.

    What is learned from may be another reward than the environment's: `scales`, float64 (scenarios,), are its factors
    (`tiergym.lab.reward_scales`), and each premature OOM kill costs `kill_price` besides, which a constraint sets
    (`tiergym.lab.constraint`). Returns in the infos stay those of the environment.

    Of the step just made: `last_modes`, what each machine was told and what was in effect at its first tick, int64
    (N, N_ACTIONS) both, and `last_scenarios` (N,), which of `distinct_scenarios` it ran.
    """

    last_modes: tuple[NDArray[np.int64], NDArray[np.int64]]
    last_scenarios: NDArray[np.int64]

    gamma: float = 1.0
    values: Values | None = None
    scales: NDArray[np.float64] | None = None
    kill_price: float = 0.0

    def __init__(self, *arguments: Any, frames: int = 1, **named: Any) -> None:
        """As `PlacementSB3VecEnv`."""
        super().__init__(*arguments, **named)
        self._frames = frames
        self._seen = np.zeros((self.num_envs, frames * N_OBS), np.float32)
        if frames > 1:
            self.observation_space = spaces.Box(0.0, 1.0, (frames * N_OBS,), np.float32)

    @property
    def distinct_scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios, each once."""
        return tuple(scenario.name for scenario in self._episodes.machines.scenarios)

    def reset(self) -> NDArray[np.float32]:
        """Staggered machines; their observations, float32 (N, frames x N_OBS)."""
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
        return self._framed(machines.obs.copy(), np.ones(self.num_envs, np.bool_))

    def _framed(self, obs: NDArray[np.float32], begun: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Observations (N, N_OBS) before those that were seen, of machines that have not `begun` (N,) an episode."""
        if self._frames == 1:
            return obs
        self._seen = np.concatenate([obs, self._seen[:, :-N_OBS]], axis=1)
        self._seen[begun, N_OBS:] = 0.0
        return self._seen.copy()

    def _restart(self, mask: NDArray[np.bool_]) -> None:
        if mask.any():
            self._episodes.reset(None, np.random.default_rng(0), {"reset_mask": mask})
            self._returns[mask] = 0

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One decision of every machine: observations, rewards, dones and infos."""
        scenario = self._episodes.scenario_index.copy()  # of the step; the next episode's may be another
        masks = np.take_along_axis(self._episodes.machines.masks, self._actions + OFFSETS, axis=1)
        self.last_scenarios, self.last_modes = scenario, (self._actions, np.where(masks, self._actions, DEFAULT))
        obs, rewards, dones, infos = super().step_wait()
        if self.scales is not None:
            rewards *= self.scales[scenario].astype(np.float32)
        if self.kill_price:
            kills = self._episodes.machines.counters[:, n.C_OOM_KILL_PREMATURE]
            rewards -= np.float32(self.kill_price) * kills.astype(np.float32)
        finished = np.flatnonzero(dones)
        if self._frames > 1:
            for i in finished:
                infos[i]["terminal_observation"] = np.append(infos[i]["terminal_observation"], self._seen[i, :-N_OBS])
        if self.values is not None and len(finished):
            last = np.stack([infos[i].pop("terminal_observation") for i in finished])
            rewards[finished] += np.float32(self.gamma) * self.values(last)
        return self._framed(obs, dones), rewards, dones, infos

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that the next steps depend on; a copy."""
        own: dict[str, NDArray[Any]] = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        own["kill_price"] = np.array([self.kill_price])
        if self._frames > 1:
            own["seen"] = self._seen.copy()
        return {**self._episodes.machines.snapshot(), **own}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Continue from a `state` of machines of the same scenarios; returns the observations, (N, frames x N_OBS).

        Raises `UserError` where the state is of other machines, or of none that can be.
        """
        super().reset()
        machines = self._episodes.machines
        try:
            check_machines(state["records"], [scenario.counts for scenario in machines.scenarios])
            check_episodes(state)
            machines.restore(state)
        except ValueError as error:
            raise UserError(f"machines' state: {error}") from error
        self._returns[:], self._lengths[:] = state["returns"], state["lengths"]
        self.kill_price = float(state["kill_price"][0])
        if self._frames == 1:
            return machines.obs.copy()
        self._seen[:] = state["seen"]
        return self._seen.copy()
