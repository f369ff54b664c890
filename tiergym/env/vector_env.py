"""The native vector environment: N machines advanced by one call of the engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tiergym.env import render
from tiergym.env.action_forms import action_form as find_form
from tiergym.env.episodes import Episodes, Scenarios, Seed
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError

Array = NDArray[Any]
Info = dict[str, Any]


class PlacementVectorEnv(VectorEnv[NDArray[np.float32], Array, Array]):
    """`num_envs` machines, each with its own scenario, seed and random numbers.

    Observations are float32 (N, N_OBS) in [0, 1], rewards float64 (N,); an episode only ever ends by
    truncation, at its scenario's horizon. With the default SAME_STEP autoreset a finished machine's
    next episode starts in the same call: `obs` is its first observation and `infos["final_obs"]` the
    last one of the episode that ended. With NEXT_STEP the following call starts it, ignoring the action.
    Every returned array is the caller's own: no later call writes to it.

    Infos, each with its boolean mask `_name` (N,) of the machines it speaks for:
        throughput: (N,) ideal over actual time of the tick just made.
        reward_terms: (N, N_TERMS) seconds lost per second, `tiergym.sim.names.TERMS`: the vector reward, negated.
        attribution: (N, N_CAUSES) the lost time by cause, `names.CAUSES`.
        counters: (N, N_COUNTERS) int64, events of the tick as in /proc/vmstat, `names.COUNTERS`.
        action_masks: (N, M) bool, what the next action may choose (also after `reset`).
        final_obs, final_info: only when an episode ended (SAME_STEP): its last observation and infos.

    Args:
        num_envs: how many machines.
        scenario: a name, a TOML file or a loaded scenario, or a list that is dealt out to the machines in turn.
        action_form: "multidiscrete", "box" or "baseline" (`tiergym.env.action_forms`).
        baselines: what the actions of the form "baseline" mean; default: all static baselines.
        autoreset_mode: `AutoresetMode.SAME_STEP` or `AutoresetMode.NEXT_STEP`.
        noiseless: leave out the sampling noise of PMU counters in the observation.
        threads: threads of the engine; None chooses by the batch's size.
        render_mode: "ansi" or "rgb_array": `render` returns one frame per machine.
    """

    metadata: dict[str, Any] = {
        "render_modes": list(render.MODES),
        "render_fps": render.FPS,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        scenario: Scenarios = "llama-1to2",
        *,
        action_form: str = "multidiscrete",
        baselines: Sequence[str | Path] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        noiseless: bool = False,
        threads: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.DISABLED:
            raise UserError("autoreset_mode is DISABLED; allowed: SAME_STEP, NEXT_STEP")
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self.render_mode = render.check_mode(render_mode)
        self.num_envs = num_envs
        self.form = find_form(action_form, baselines)
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._episodes = Episodes(
            scenario, num_envs, threads=threads, noiseless=noiseless, next_step=not self._same_step
        )
        self.single_observation_space = spaces.Box(0.0, 1.0, (N_OBS,), np.float32)
        self.single_action_space = self.form.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """Name of every machine's scenario."""
        return self._episodes.scenario_names

    def reset(self, *, seed: Seed = None, options: Info | None = None) -> tuple[NDArray[np.float32], Info]:
        """Start an episode on every machine; returns observations (N, N_OBS) and infos.

        Machine `i` is seeded with `seed + i`, or with `seed[i]`; a single environment with that seed makes
        the same trajectory. Without a seed every machine goes on to its next episode, and the very first
        ones come from `np_random`. Options: `scenario` gives the machines other scenarios from now on, like
        the constructor's argument; `reset_mask`, bool (N,), restarts only these machines. Raises `UserError`.
        """
        super().reset(seed=int(seed) if isinstance(seed, int | np.integer) else None)
        self._episodes.reset(seed, self.np_random, options)
        return self._episodes.machines.obs.copy(), self._masks()

    def step(self, actions: Array) -> tuple[NDArray[np.float32], Array, Array, Array, Info]:
        """One tick of every machine.

        Returns observations, rewards, terminations (never), truncations and infos, as above. Raises
        `gymnasium.error.InvalidAction` for actions outside `action_space`, before any machine moves.
        """
        if not self._episodes.started:
            raise ResetNeeded("reset() starts the machines; step() came first")
        machines = self._episodes.machines
        machines.step(self.form.to_modes(actions, self.num_envs))
        done = machines.done.copy()
        every = np.ones(self.num_envs, dtype=np.bool_)
        infos: Info = {}
        for name, values in self._tick().items():
            infos[name], infos[f"_{name}"] = values, every.copy()
        if self._same_step and done.any():
            infos["final_info"] = {
                key: values.copy() if not key.startswith("_") else done.copy() for key, values in infos.items()
            }
            infos["_final_info"] = done.copy()
            infos["final_obs"] = np.where(done[:, None], machines.final_obs, np.float32(0))
            infos["_final_obs"] = done.copy()
        infos |= self._masks()
        return machines.obs.copy(), machines.reward.copy(), np.zeros_like(done), done, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """What the next action may choose, bool (N, M): a fresh array."""
        return self.form.to_masks(self._episodes.machines.masks)

    def render(self) -> tuple[Any, ...] | None:
        """One frame per machine, of its state after the last step; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(render.frame(record, self.render_mode) for record in self._episodes.machines.records)

    def _tick(self) -> dict[str, Array]:
        machines = self._episodes.machines
        return {
            "throughput": machines.throughput.copy(),
            "reward_terms": machines.terms.copy(),
            "attribution": machines.lost.copy(),
            "counters": machines.counters.copy(),
        }

    def _masks(self) -> Info:
        return {"action_masks": self.action_masks(), "_action_masks": np.ones(self.num_envs, dtype=np.bool_)}
