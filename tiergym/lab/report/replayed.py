"""An episode of a source again: the policy that it is about, or that does best, beside stock Linux, on the scenario
where it wins most; and how often each mode was in force at each time, over several episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.errors import UserError
from tiergym.lab.compare import REFERENCE
from tiergym.lab.episode_log import EpisodeLog, log_episode
from tiergym.lab.evaluate import evaluation_seeds, run_episodes
from tiergym.lab.report.parts import Entry, Part, Replayable, SuitePart
from tiergym.policy.base import digest_of
from tiergym.specs import Scenario, load_suite, scenario_digest

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

MOST_EPISODES = 16
"""Of those that were measured, over which shares of modes are taken."""


@dataclass(frozen=True)
class ModeShares:
    """Of a policy's episodes, those that still run: by entry, float64 (T, modes of the entry), the share that has each
    mode in force at each tick. `episodes`: how many there are; `seconds`: their length."""

    policy: str
    episodes: int
    seconds: float
    shares: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Replay:
    """`logs` and `shares` of one or two policies, the one that is shown first."""

    scenario: str
    logs: list[EpisodeLog]
    shares: list[ModeShares]


def replay(part: Part) -> Replay | str:
    """Run it again, or why that cannot be: another model, scenario or policy than those that were measured."""
    loaded = part.replayable
    if loaded is None:
        return "The results are of another model, or do not say of which."
    names = [loaded.about, REFERENCE] if loaded.about else best_two(part)
    try:
        entry = _where(part, names)
        scenario = loaded.scenario(entry)
        _same(f"scenario {entry.scenario}", [entry.digest], scenario_digest(scenario))
        policies = {name: _load(part, loaded, name, entry.scenario) for name in names}
        logs = [log_episode(policy, name, scenario, part.seed, 0) for name, policy in policies.items()]
        episodes = min(part.episodes, MOST_EPISODES)
        shares = [mode_shares(policy, name, scenario, part.seed, episodes) for name, policy in policies.items()]
    except UserError as error:
        return str(error)
    return Replay(entry.scenario, logs, shares)


def best_two(part: Part) -> list[str]:
    """The policy that does best over all, and stock Linux, or the next one where that is the best."""
    if part.suites:
        ranked = part.suites[0].ranking()
    else:
        means = {
            name: np.mean([entry.mean(name, "return") for entry in part.entries]) for name in part.entries[0].policies
        }
        ranked = sorted(means, key=lambda name: -float(means[name]))
    first, *others = ranked
    return [first, *([REFERENCE] if REFERENCE in others else others[:1])]


def mode_shares(policy: Policy, name: str, scenario: Scenario, seed: int, episodes: int) -> ModeShares:
    """Over the first `episodes` of the machines that `tiergym evaluate --seed` measures."""
    noted = _Noting(policy)
    policy.reset(episodes, seed)
    totals, _ = run_episodes(noted, [scenario], evaluation_seeds(seed, episodes))
    in_force = np.stack(noted.in_force)
    running = np.arange(len(in_force))[:, None] < totals.ticks
    shares = {}
    for index, entry in enumerate(act.ENTRIES):
        of_mode = in_force[:, :, index, None] == np.arange(len(entry.modes))
        shares[entry.name] = (of_mode & running[:, :, None]).sum(axis=1) / running.sum(axis=1)[:, None]
    return ModeShares(name, episodes, float(len(in_force) * totals.dt_s.max()), shares)


class _Noting:
    """A policy whose modes in force are noted: int64 (N, entries) of each tick."""

    def __init__(self, policy: Policy) -> None:
        self.rule = getattr(policy, "rule", policy)
        self.name, self.plausibility = policy.name, policy.plausibility
        self.in_force: list[NDArray[np.int64]] = []
        self._policy = policy

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        chosen = self._policy(obs, masks)
        possible = np.take_along_axis(masks, act.OFFSETS + chosen, axis=1)
        self.in_force.append(np.where(possible, chosen, act.DEFAULT))
        return chosen

    def reset(self, num_envs: int, seed: int) -> None:
        self._policy.reset(num_envs, seed)


def _where(part: Part, names: Sequence[str]) -> Entry:
    """The scenario on which the first policy wins most over the second."""
    if part.entries:
        return max(part.entries, key=lambda entry: entry.mean(names[0], "return") - entry.mean(names[-1], "return"))
    first = _first_scenario(part.suites[0])
    return Entry(first.name, "", scenario_digest(first), {}, {}, {})


def _first_scenario(suite: SuitePart) -> Scenario:
    loaded = load_suite(suite.spec or suite.name)
    return loaded.load()[0]


def _load(part: Part, loaded: Replayable, name: str, scenario: str) -> Policy:
    policy = loaded.policy(name, scenario)
    _same(f"policy {name}", part.agents.get(name, []), digest_of(policy))
    return policy


def _same(what: str, said: Sequence[str], here: str) -> None:
    if any(said) and here not in said:
        raise UserError(f"The {what} is another one here ({here}) than the one that was measured ({said[0]}).")
