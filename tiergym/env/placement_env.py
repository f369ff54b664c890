"""The single environment: a batch of one through the same engine."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from tiergym.env import render
from tiergym.env.action_forms import action_form as find_form
from tiergym.env.episodes import DEFAULT_SCENARIO, Episodes, ScenarioLike
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

    ### Info
    Of `reset` and of `step` alike, and the row of this machine in those of `PlacementVectorEnv`:

    - `throughput`: a float in (0, 1], ideal over actual time of the tick just made.
    - `reward_terms`: float64 (N_TERMS,) seconds lost per second, `tiergym.sim.names.TERMS`.
    - `attribution`: float64 (N_CAUSES,) the lost time by cause, `names.CAUSES`.
    - `counters`: int64 (N_COUNTERS,) events of the tick as in /proc/vmstat, `names.COUNTERS`.
    - `action_masks`: bool (M,) what the next action may choose.

    `tick` gives the numbers by name. After `reset` nothing has been lost or counted yet.

    ### Versions
    - v3: `limit.kernel`; 17 action entries, 94 observations, layout version 4.
    - v2: `reserve.pt` and `reclaim.pt_empty`; 16 action entries, 93 observations, layout version 3.
    - v1: `migrate.room`; 14 action entries, 91 observations, layout version 2.
    - v0: the first, of tiergym 0.1.0; 13 action entries, 89 observations.

    Only the newest is registered: exported policies carry the layout that they were trained with; another is
    refused.

    Args:
        scenario: a name, a TOML file or a loaded scenario.
        suite: instead, a suite's name or file: the seed of every episode draws one of its scenarios, seeds that follow
            one another in turn.
        action_form: "multidiscrete", "box" or "baseline".
        baselines: what the actions of the form "baseline" mean; default: all static baselines.
        noiseless: leave out the sampling noise of PMU counters in the observation.
        render_mode: "ansi" (text) or "rgb_array" (uint8 (H, W, 3), with the last minute); `gymnasium.make` also makes a
            window of the latter ("human", with pygame).
    """

    metadata: dict[str, Any] = {"render_modes": list(render.MODES), "render_fps": render.FPS}

    def __init__(
        self,
        scenario: ScenarioLike = DEFAULT_SCENARIO,
        *,
        suite: str | Path | None = None,
        action_form: str = "multidiscrete",
        baselines: Sequence[str | Path] | None = None,
        noiseless: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render.check_mode(render_mode)
        self.form = find_form(action_form, baselines)
        # The engine keeps a finished machine as it is until the next call, so that it can be looked at.
        self._episodes = Episodes(scenario, 1, threads=1, noiseless=noiseless, next_step=True, suite=suite)
        self.observation_space = spaces.Box(0.0, 1.0, (N_OBS,), np.float32)
        self.action_space = self.form.space
        self._renderer = render.Renderer(render_mode, 1)
        self._running = False
        self._bind()

    @property
    def scenario_name(self) -> str:
        """Name of the scenario that the machine runs."""
        return self._episodes.scenario_names[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; returns its first observation, float32 (N_OBS,), and its info.

        The same seed gives the same trajectory, here and as any machine of a batch. Without a seed the
        machine goes on to its next episode, and the very first comes from `np_random`.
        `options["scenario"]` changes the scenario from now on. Raises `UserError`.
        """
        super().reset(seed=seed)
        self._episodes.reset(seed, self.np_random, options)
        self._bind()
        self._renderer.add(self._machines.records)
        self._running = True
        return self._machines.obs[0].copy(), self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One tick: observation float32 (N_OBS,), reward, False, whether the horizon is reached, info.

        Raises `gymnasium.error.InvalidAction`, and `ResetNeeded` after the end of an episode.
        """
        if not self._running:
            raise ResetNeeded("the episode is over or was never started: call reset()")
        machines = self._machines
        machines.step(self.form.to_modes(np.asarray(action)[None], 1))
        self._renderer.add(machines.records)
        done = bool(machines.done[0])
        self._running = not done
        return machines.obs[0].copy(), float(machines.reward[0]), False, done, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """What the next action may choose, bool (M,): where sb3-contrib's MaskablePPO looks for it."""
        return self.form.to_masks(self._machines.masks)[0]

    def tick(self) -> dict[str, dict[str, float]]:
        """The tick just made, by name: `reward_terms`, `attribution` of the lost time, and `counters`."""
        machines = self._machines
        return {
            "reward_terms": dict(zip(TERMS, machines.terms[0].tolist(), strict=True)),
            "attribution": dict(zip(CAUSES, machines.lost[0].tolist(), strict=True)),
            "counters": dict(zip(COUNTERS, machines.counters[0].tolist(), strict=True)),
        }

    def render(self) -> Any:
        """The machine's state as text or as a picture; None without a render mode."""
        return self._renderer.frame(self._machines.records, 0, self.scenario_name)

    def __copy__(self) -> Self:
        """A copy has a machine of its own: two environments over one machine would be of no use."""
        return copy.deepcopy(self)

    def _info(self) -> dict[str, Any]:
        machines = self._machines
        return {
            "throughput": float(machines.throughput[0]),
            "reward_terms": machines.terms[0].copy(),
            "attribution": machines.lost[0].copy(),
            "counters": machines.counters[0].copy(),
            "action_masks": self.action_masks(),
        }

    def _bind(self) -> None:
        self._machines = self._episodes.machines
