"""Which scenario every machine of a batch runs, and from which seed: what all environments share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.errors import UserError, suggest
from tiergym.sim.random_bits import seed_of_next
from tiergym.specs import Scenario, load_scenario, load_suite

ScenarioLike: TypeAlias = str | Path | Scenario
Scenarios: TypeAlias = ScenarioLike | Sequence[ScenarioLike]
"""A scenario's name, its TOML file or the loaded scenario; or a list of these, dealt out to the machines in turn."""

Seed: TypeAlias = int | Sequence[int] | None

MOST_STEPS = 2**31 - 1
"""The longest episode that a machine's record can count."""

DEFAULT_SCENARIO = "llama-1to2"

OPTIONS = ("scenario", "reset_mask")
"""Keys of `reset(options=...)`."""


class Episodes:
    """A batch of machines and the scenario of each.

    `machines` is the engine; it is replaced when `reset` brings scenarios that it does not hold. With a `suite`, the
    seed of every episode draws one of its scenarios: seeds that follow one another draw them in turn.
    """

    def __init__(
        self,
        scenario: Scenarios,
        num_envs: int,
        *,
        threads: int | None = None,
        noiseless: bool = False,
        next_step: bool = False,
        max_episode_steps: int | None = None,
        suite: str | Path | None = None,
    ) -> None:
        if suite is not None and scenario != DEFAULT_SCENARIO:
            raise UserError(f"scenario is {scenario!r} and suite is '{suite}'; allowed: one of them")
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; allowed: 1 or more")
        if max_episode_steps is not None and not 1 <= max_episode_steps <= MOST_STEPS:
            raise UserError(f"max_episode_steps is {max_episode_steps}; allowed: 1 to {MOST_STEPS}, or None")
        self.num_envs = num_envs
        self._settings: dict[str, Any] = {
            "threads": threads,
            "noiseless": noiseless,
            "next_step": next_step,
            "max_episode_steps": max_episode_steps,
            "drawn": suite is not None,
        }
        self._drawn = suite is not None
        self._scenarios: list[Scenario] = []
        self.scenario_index = np.zeros(num_envs, dtype=np.int64)
        self.started = False
        self._choose(scenario if suite is None else load_suite(suite).load_to_run(), np.ones(num_envs, dtype=np.bool_))

    @property
    def scenario_names(self) -> tuple[str, ...]:
        """Name of every machine's scenario: of a suite, once `reset` has drawn it."""
        running = self.machines.records["scenario"] if self._drawn else self.scenario_index
        return tuple(self._scenarios[index].name for index in running)

    def reset(self, seed: Seed, rng: np.random.Generator, options: dict[str, Any] | None = None) -> None:
        """Start an episode on every machine, or on those of `options["reset_mask"]`.

        Machine `i` is seeded with `seed + i` or `seed[i]`. None goes on to each machine's next episode, the
        one that autoreset would start, and seeds the very first ones from `rng`. `options["scenario"]` gives
        the machines another scenario, for this episode and all later ones. Raises `UserError` for seeds and
        options that mean nothing, before any machine changes.
        """
        options = options or {}
        for key in options:
            if key not in OPTIONS:
                raise UserError(f"reset: {suggest(str(key), OPTIONS, 'option')}")
        mask = self._mask(options.get("reset_mask"))
        seeds = self._seeds(seed, rng)
        if options.get("scenario") is not None:
            self._choose(options["scenario"], mask)
        self.machines.reset(seeds, mask=mask, scenario_index=self.scenario_index)
        self.started = True

    def _seeds(self, seed: Seed, rng: np.random.Generator) -> NDArray[np.uint64]:
        if seed is None:
            if self.started:
                # The next episode's key is made of this one's, as the compiled step makes it.
                return seed_of_next(self.machines.records["key"])
            return rng.integers(1 << 63, size=self.num_envs, dtype=np.uint64)
        seeds = [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs or min(seeds) < 0 or max(seeds) >= 1 << 64:
            raise UserError(f"seed is {seed!r}; allowed: an integer from 0, or a list of {self.num_envs} of them")
        return np.array(seeds, dtype=np.uint64)

    def _mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        array = np.asarray(mask)
        if array.shape != (self.num_envs,) or array.dtype != np.bool_:
            raise UserError(
                f"reset_mask is {array.dtype} of shape {array.shape}; allowed: booleans of shape ({self.num_envs},)"
            )
        if not self.started and not array.all():
            raise UserError("reset_mask: the first reset must start every machine")
        return array

    def _choose(self, scenario: Scenarios, mask: NDArray[np.bool_]) -> None:
        chosen = [scenario] if isinstance(scenario, str | Path | Scenario) else list(scenario)
        if self._drawn:
            self._draw_from(chosen, mask)
            return
        if not 1 <= len(chosen) <= self.num_envs:
            raise UserError(f"scenario is a list of {len(chosen)}; allowed: 1 to {self.num_envs}, one per machine")
        held = [] if mask.all() else self._scenarios
        position: dict[str | Scenario, int] = {scenario.name: i for i, scenario in enumerate(held)}
        distinct = list(held)
        index = []
        for entry in chosen:
            key = entry if isinstance(entry, Scenario) else str(entry)
            if key not in position:
                position[key] = len(distinct)
                distinct.append(entry if isinstance(entry, Scenario) else load_scenario(entry))
            index.append(position[key])
        if len(distinct) > len(held):
            if held:
                raise UserError(
                    f"scenario: a reset of some machines chooses among those that the batch already holds "
                    f"({', '.join(s.name for s in held)}); give others at construction or reset every machine"
                )
            self.machines = Machines(distinct, self.num_envs, **self._settings)
            self._scenarios = distinct
        dealt = np.array(index, dtype=np.int64)[np.arange(self.num_envs) % len(index)]
        self.scenario_index = np.where(mask, dealt, self.scenario_index)

    def _draw_from(self, chosen: Sequence[ScenarioLike], mask: NDArray[np.bool_]) -> None:
        if not mask.all():
            raise UserError("scenario: the scenarios of a suite are drawn; allowed: with a reset of every machine")
        if not chosen:
            raise UserError("scenario is a list of 0; allowed: 1 or more, of which every episode draws one")
        self._scenarios = [each if isinstance(each, Scenario) else load_scenario(each) for each in chosen]
        self.machines = Machines(self._scenarios, self.num_envs, **self._settings)
        self.scenario_index = np.zeros(self.num_envs, dtype=np.int64)
