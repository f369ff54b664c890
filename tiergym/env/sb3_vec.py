"""stable-baselines3's view of the engine: a VecEnv whose cost per step does not grow with Python work per machine.

Running machines share one empty info, only a machine that has just finished an episode gets its own;
everything else a callback may want travels as arrays in `last_metrics`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from tiergym.env import render
from tiergym.env.action_forms import action_form as find_form
from tiergym.env.episodes import Episodes, Scenarios
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError

Indices = int | Iterable[int] | None


class PlacementSB3VecEnv(VecEnv):
    """`num_envs` machines for PPO and its kin: observations float32 (N, N_OBS), rewards float32 (N,).

    A finished machine starts its next episode in the same step. Its info holds what SB3 expects:
    `terminal_observation`, `TimeLimit.truncated` (always true), and `episode` with the return `r`, the
    length `l` in ticks and the seconds `t` since construction, as `Monitor` gives it, so no Monitor is needed.
    Every returned array is the caller's own: SB3 keeps the last observation by reference until it is stored.

    Args:
        scenario: a name, a TOML file or a loaded scenario, or a list that is dealt out to the machines in turn.
        num_envs: how many machines.
        seed: machine `i` starts from `seed + i`; None takes one from the operating system.
        action_form: "multidiscrete" (PPO, A2C, MaskablePPO, RecurrentPPO), "box" (SAC, TD3), "baseline" (DQN).
        baselines: what the actions of the form "baseline" mean; default: all static baselines.
        noiseless: leave out the sampling noise of PMU counters in the observation.
        threads: threads of the engine; None chooses by the batch's size.
        hold_ticks: ticks for which a choice holds. It earns the sum of their rewards; an episode that ends before
            ends the choice, too.
        render_mode: "ansi" or "rgb_array".
    """

    def __init__(
        self,
        scenario: Scenarios = "llama-1to2",
        num_envs: int = 1,
        seed: int | None = None,
        *,
        action_form: str = "multidiscrete",
        baselines: Sequence[str | Path] | None = None,
        noiseless: bool = False,
        threads: int | None = None,
        hold_ticks: int = 1,
        render_mode: str | None = None,
    ) -> None:
        if hold_ticks < 1:
            raise UserError(f"hold_ticks is {hold_ticks}; allowed: a whole number from 1")
        self.hold_ticks = hold_ticks
        self.render_mode = render.check_mode(render_mode)
        self.form = find_form(action_form, baselines)
        self._attributes: dict[str, list[Any]] = {}
        self._episodes = Episodes(scenario, num_envs, threads=threads, noiseless=noiseless)
        super().__init__(num_envs, spaces.Box(0.0, 1.0, (N_OBS,), np.float32), self.form.space)
        if seed is not None:
            self.seed(seed)
        self._renderer = render.Renderer(render_mode, num_envs)
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._started_s = monotonic()
        self._actions: Any = None

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """Name of every machine's scenario."""
        return self._episodes.scenario_names

    @property
    def last_metrics(self) -> dict[str, NDArray[Any]]:
        """Fresh arrays of the step just made.

        `ticks` (N,) int64 that it took, `throughput` (N,), `reward_terms` (N, N_TERMS) by `names.TERMS`, `attribution`
        (N, N_CAUSES) by `names.CAUSES`, means over them; `counters` (N, N_COUNTERS) int64 by `names.COUNTERS`, sums
        over them; `kernel_slow` (N, N_CLASSES) pages on the slow tier per class, after them.
        """
        machines = self._episodes.machines
        return {
            "ticks": machines.ticks.copy(),
            "throughput": machines.throughput.copy(),
            "reward_terms": machines.terms.copy(),
            "attribution": machines.lost.copy(),
            "counters": machines.counters.copy(),
            "kernel_slow": machines.kernel_slow.copy(),
        }

    def reset(self) -> NDArray[np.float32]:
        """Start an episode on every machine; returns the first observations, float32 (N, N_OBS).

        Seeds and options given by `seed` and `set_options` hold for this reset; without seeds every machine
        goes on to its next episode, and the very first ones come from the operating system.
        """
        scenarios = [options.get("scenario") for options in self._options]
        unknown = {key for options in self._options for key in options} - {"scenario"}
        if unknown:
            raise UserError(f"set_options: unknown option {sorted(unknown)[0]!r} (known: scenario)")
        if any(entry is None for entry in scenarios) and any(entry is not None for entry in scenarios):
            raise UserError("set_options: scenario is given for some machines only; allowed: all or none")
        seeds = [seed for seed in self._seeds if seed is not None]
        options = {} if scenarios[0] is None else {"scenario": scenarios}
        self._episodes.reset(seeds or None, np.random.default_rng(), options)
        self._renderer.add(self._episodes.machines.records)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return self._episodes.machines.obs.copy()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions for `step_wait`; raises `gymnasium.error.InvalidAction` outside the action space."""
        self._actions = self.form.to_modes(actions, self.num_envs)

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One step of every machine: observations, rewards, dones and infos."""
        machines = self._episodes.machines
        machines.step(self._actions, self.hold_ticks)
        self._renderer.add(machines.records)
        self._returns += machines.reward
        self._lengths += machines.ticks
        # One dict for all running machines, new in each step: what a callback puts in it does not last.
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        dones = machines.done.copy()
        if dones.any():
            elapsed_s = round(monotonic() - self._started_s, 6)
            for i in np.flatnonzero(dones):
                infos[i] = {
                    "terminal_observation": machines.final_obs[i].copy(),
                    "TimeLimit.truncated": True,
                    "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": elapsed_s},
                }
            self._returns[dones] = 0
            self._lengths[dones] = 0
        return machines.obs.copy(), machines.reward.astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing to release."""

    def action_masks(self) -> NDArray[np.bool_]:
        """What the next actions may choose, bool (N, M): a fresh array."""
        return self.form.to_masks(self._episodes.machines.masks)

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One picture per machine, uint8 (H, W, 3); None each unless the render mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        return list(self._renderer.every(self._episodes.machines.records, self.scenario_names))

    def has_attr(self, attr_name: str) -> bool:
        """Whether machines have the attribute; without making a list of it."""
        return attr_name in self._attributes or hasattr(self, attr_name)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute once per machine: as set by `set_attr`, else the batch's own. Raises `AttributeError`."""
        values = self._attributes.get(attr_name)
        if values is None:
            values = [getattr(self, attr_name)] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Remember a value per machine for `get_attr`; no machine acts on it."""
        values = self._attributes.setdefault(attr_name, [getattr(self, attr_name, None)] * self.num_envs)
        for i in self._get_indices(indices):
            values[i] = value

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """`action_masks`: the rows of one array, which MaskablePPO asks for in every step; `render`: frames.

        Raises `AttributeError` for any other method.
        """
        if method_name == "action_masks":
            masks = self.action_masks()
            return list(masks) if indices is None else [masks[i] for i in self._get_indices(indices)]
        if method_name == "render" and self.render_mode is not None:
            records = self._episodes.machines.records
            names = self.scenario_names
            return [self._renderer.frame(records, i, names[i]) for i in self._get_indices(indices)]
        raise AttributeError(f"machines have no method {method_name!r}; there are: action_masks, render")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Indices = None) -> list[bool]:
        """True for `Monitor`, whose work this adapter does itself; false for every other wrapper."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]
