"""The single environment: a batch of one through the same engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from tiergym.env import render
from tiergym.env.action_forms import action_form as find_form
from tiergym.env.episodes import Episodes, ScenarioLike
from tiergym.env.observations import N_OBS
from tiergym.sim.names import CAUSES, COUNTERS, TERMS


class PlacementEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """Where should the kernel pages of one machine live, and which should be moved?

    ### Action space
    `MultiDiscrete(NVEC)`, entries of named modes: `tiergym.env.actions.ENTRIES` lists them with
    the kernel mechanism behind each. A mode that the machine's state makes impossible counts as the
    entry's default; `action_masks` says which are possible. `action_form="box"` and `"baseline"` offer the
    same decision as a Box and as a Discrete choice among named baselines (`tiergym.env.action_forms`).

    ### Observation space
    `Box(0, 1, (N_OBS,), float32)`: what a kernel could know at that tick, scaled; names, Linux sources and
    scales in `tiergym.env.observations.ENTRIES`.

    ### Reward
    `-(access_latency + premature_reclaim + migration + oom)` with the scenario's weights: seconds of work
    lost per second. The terms are `info["reward_terms"]`, unweighted.

    ### Start and end
    `reset` draws the scenario's distributions and starts its workload on an empty machine. Nothing
    terminates an episode, an OOM kill neither; it is truncated at the scenario's horizon.

    Args:
        scenario: a name, a TOML file or a loaded scenario.
        action_form: "multidiscrete", "box" or "baseline".
        baselines: what the actions of the form "baseline" mean; default: all static baselines.
        noiseless: leave out the sampling noise of PMU counters in the observation.
        render_mode: "ansi" (text) or "rgb_array" (uint8 (H, W, 3)).

    Version 0: the first.
    """

    metadata: dict[str, Any] = {"render_modes": list(render.MODES), "render_fps": render.FPS}

    def __init__(
        self,
        scenario: ScenarioLike = "llama-1to2",
        *,
        action_form: str = "multidiscrete",
        baselines: Sequence[str | Path] | None = None,
        noiseless: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render.check_mode(render_mode)
        self.form = find_form(action_form, baselines)
        # The engine keeps a finished machine as it is until the next call, so that it can be looked at.
        self._episodes = Episodes(scenario, 1, threads=1, noiseless=noiseless, next_step=True)
        self.observation_space = spaces.Box(0.0, 1.0, (N_OBS,), np.float32)
        self.action_space = self.form.space
        self._running = False
        self._bind()

    @property
    def scenario_name(self) -> str:
        """Name of the scenario that the machine runs."""
        return self._episodes.scenario_names[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; returns its first observation, float32 (N_OBS,), and an empty info.

        The same seed gives the same trajectory, here and as any machine of a batch. Without a seed the
        machine goes on to its next episode, and the very first comes from `np_random`.
        `options["scenario"]` changes the scenario from now on. Raises `UserError`.
        """
        super().reset(seed=seed)
        self._episodes.reset(seed, self.np_random, options)
        self._bind()
        self._running = True
        return self._machines.obs[0].copy(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One tick: observation float32 (N_OBS,), reward, False, whether the horizon is reached, info.

        Info: `throughput`, a float in (0, 1], and `reward_terms`, their names to seconds lost per second;
        `tick` gives everything else. Raises `gymnasium.error.InvalidAction`, and `ResetNeeded` after the
        end of an episode.
        """
        if not self._running:
            raise ResetNeeded("the episode is over or was never started: call reset()")
        machines = self._machines
        machines.step(self.form.to_modes(np.asarray(action)[None], 1))
        done = bool(machines.done[0])
        self._running = not done
        info = {
            "throughput": float(machines.throughput[0]),
            "reward_terms": dict(zip(TERMS, machines.terms[0].tolist(), strict=True)),
        }
        return machines.obs[0].copy(), float(machines.reward[0]), False, done, info

    def action_masks(self) -> NDArray[np.bool_]:
        """What the next action may choose, bool (M,): where sb3-contrib's MaskablePPO looks for it."""
        return self.form.to_masks(self._machines.masks)[0]

    def tick(self) -> dict[str, dict[str, float]]:
        """The tick just made in full: `attribution` of the lost time by cause, and `counters` as in /proc/vmstat."""
        machines = self._machines
        return {
            "attribution": dict(zip(CAUSES, machines.lost[0].tolist(), strict=True)),
            "counters": dict(zip(COUNTERS, machines.counters[0].tolist(), strict=True)),
        }

    def render(self) -> Any:
        """The machine's state as text or as a picture; None without a render mode."""
        if self.render_mode is None:
            return None
        return render.frame(self._machines.records[0], self.render_mode)

    def _bind(self) -> None:
        self._machines = self._episodes.machines
