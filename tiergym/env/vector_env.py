"""The native vector environment: N machines advanced by one call of the engine."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tiergym.env import render
from tiergym.env.action_forms import action_form as find_form
from tiergym.env.episodes import DEFAULT_SCENARIO, Episodes, Scenarios, Seed
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError

Array = NDArray[Any]
Info = dict[str, Any]


class PlacementVectorEnv(VectorEnv[NDArray[np.float32], Array, Array]):
    """`num_envs` machines, each with its own scenario, seed and random numbers.

    Observations are float32 (N, N_OBS) in [0, 1], rewards float64 (N,); an episode only ever ends by
    truncation, at its scenario's horizon or after `max_episode_steps`. Every returned array is the caller's own: no
    later call writes to it.

    ### Autoreset
    What follows the end of an episode is the `autoreset_mode`:

    - `NextStep`, the default here as in Gymnasium: the following call starts the next episode, whatever the action; its
      `obs` is the first of that episode, its reward 0. Gymnasium's wrappers of observations ask for this mode.
    - `SameStep`: the same call starts it; `obs` is its first observation and `infos["final_obs"]` the last one of the
      episode that ended. No call is spent on it.
    - `Disabled`: `reset(options={"reset_mask": mask})` starts it; `step` raises `ResetNeeded` before that.

    ### Info
    Of `reset` and of `step` alike, each with its boolean mask `_name` (N,) of the machines it speaks for; after
    a reset nothing has been lost or counted yet:

    - `throughput`: (N,) ideal over actual time of the tick just made.
    - `reward_terms`: (N, N_TERMS) seconds lost per second, `tiergym.sim.names.TERMS`: the vector reward, negated.
    - `attribution`: (N, N_CAUSES) the lost time by cause, `names.CAUSES`.
    - `counters`: (N, N_COUNTERS) int64, events of the tick as in /proc/vmstat, `names.COUNTERS`.
    - `action_masks`: (N, M) bool, what the next action may choose.
    - `final_obs`, `final_info`: only when an episode ended (SameStep): its last observation and infos.

    Args:
        num_envs: how many machines.
        scenario: a name, a TOML file or a loaded scenario, or a list that is dealt out to the machines in turn.
        suite: instead, a suite's name or file: the seed of every episode draws one of its scenarios, seeds that follow
            one another in turn.
        action_form: "multidiscrete", "box" or "baseline" (`tiergym.env.action_forms`).
        baselines: what the actions of the form "baseline" mean; default: all static baselines.
        autoreset_mode: an `AutoresetMode`, its name or its value ("NextStep", "SameStep", "Disabled").
        max_episode_steps: episodes are truncated after so many steps, if the horizon has not come before.
        noiseless: leave out the sampling noise of PMU counters in the observation.
        threads: threads of the engine; None chooses by the batch's size.
        render_mode: "ansi" or "rgb_array": `render` returns one frame per machine.
    """

    metadata: dict[str, Any] = {
        "render_modes": list(render.MODES),
        "render_fps": render.FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        scenario: Scenarios = DEFAULT_SCENARIO,
        *,
        suite: str | Path | None = None,
        action_form: str = "multidiscrete",
        baselines: Sequence[str | Path] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        noiseless: bool = False,
        threads: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render.check_mode(render_mode)
        self.num_envs = num_envs
        self.form = find_form(action_form, baselines)
        self._same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._episodes = Episodes(
            scenario,
            num_envs,
            threads=threads,
            noiseless=noiseless,
            next_step=not self._same_step,
            max_episode_steps=max_episode_steps,
            suite=suite,
        )
        self._renderer = render.Renderer(render_mode, num_envs)
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
        self._renderer.add(self._episodes.machines.records)
        return self._episodes.machines.obs.copy(), self._infos()

    def step(self, actions: Array) -> tuple[NDArray[np.float32], Array, Array, Array, Info]:
        """One tick of every machine.

        Returns observations, rewards, terminations (never), truncations and infos, as above. Before any machine moves,
        raises `gymnasium.error.InvalidAction` for actions outside `action_space`, and `ResetNeeded` before the first
        reset and, where autoreset is DISABLED, after the end of an episode.
        """
        if not self._episodes.started:
            raise ResetNeeded("reset() starts the machines; step() came first")
        machines = self._episodes.machines
        if self.autoreset_mode is AutoresetMode.DISABLED and machines.done.any():
            over = ", ".join(map(str, np.flatnonzero(machines.done)))
            raise ResetNeeded(f'episodes are over on machines {over}: reset(options={{"reset_mask": mask}}) goes on')
        machines.step(self.form.to_modes(actions, self.num_envs))
        self._renderer.add(machines.records)
        done = machines.done.copy()
        infos = self._infos()
        if self._same_step and done.any():
            final = {}
            for name, values in self._tick().items():
                final[name], final[f"_{name}"] = values, done.copy()
            infos["final_info"], infos["_final_info"] = final, done.copy()
            infos["final_obs"] = np.where(done[:, None], machines.final_obs, np.float32(0))
            infos["_final_obs"] = done.copy()
        return machines.obs.copy(), machines.reward.copy(), np.zeros_like(done), done, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """What the next action may choose, bool (N, M): a fresh array."""
        return self.form.to_masks(self._episodes.machines.masks)

    def render(self) -> Sequence[Any] | None:  # type: ignore[override]
        """One frame per machine, of its state after the last step; None without a render mode.

        Pictures are drawn when they are looked at, and can be until the next step.
        """
        if self.render_mode is None:
            return None
        return self._renderer.every(self._episodes.machines.records, self.scenario_names)

    def _tick(self) -> dict[str, Array]:
        machines = self._episodes.machines
        return {
            "throughput": machines.throughput.copy(),
            "reward_terms": machines.terms.copy(),
            "attribution": machines.lost.copy(),
            "counters": machines.counters.copy(),
        }

    def _infos(self) -> Info:
        infos: Info = {}
        for name, values in (self._tick() | {"action_masks": self.action_masks()}).items():
            infos[name], infos[f"_{name}"] = values, np.ones(self.num_envs, dtype=np.bool_)
        return infos

    def __copy__(self) -> Self:
        """A copy has machines of its own: two environments over the same ones would be of no use."""
        return copy.deepcopy(self)


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The mode, by itself, its name or its value."""
    for known in AutoresetMode:
        if mode in (known, known.name, known.value):
            return known
    allowed = ", ".join(f"{known.name} ({known.value!r})" for known in AutoresetMode)
    raise UserError(f"autoreset_mode is {mode!r}; allowed: {allowed}")
