"""The table of agents/selector.py: for each configuration of the tuning suite, the shipped rule that is best there.

    python -m tiergym.lab.selecting

prints it; paste it into the file. It takes no suite: held-out scenarios are never tuned on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiergym import specs
from tiergym.env.actions import COUNTERFACTUAL
from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluate, evaluation_seeds
from tiergym.lab.ladder_run import NOT_A_RULE
from tiergym.policy.load import list_policies, load_policy

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

SUITE = "train"
EPISODES, SEED = 8, 0
REFERENCE = "online"
NOT_CHOSEN = (*NOT_A_RULE, "selector")
Configuration = str


class Then:
    """A policy for the first tick, and another from then on: what a selector's second choice is measured with."""

    name = "then"
    plausibility = COUNTERFACTUAL

    def __init__(self, first: Policy, then: Policy) -> None:
        self.first, self.then = first, then
        self.reset(1, 0)

    def reset(self, num_envs: int, seed: int) -> None:
        """Start both."""
        self.started = False
        self.first.reset(num_envs, seed)
        self.then.reset(num_envs, seed)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The decision of whose turn it is; the other sees the tick too."""
        first, then = self.first(obs, masks), self.then(obs, masks)
        started, self.started = self.started, True
        return then if started else first


class _Losses:
    """Losses of every rule by configuration, in units of what `online` loses on the scenario."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.rows: dict[Configuration, list[NDArray[np.float64]]] = defaultdict(list)

    def add(self, keys: Sequence[Configuration], returns: NDArray[np.float64], scale: float) -> None:
        """`returns`: float64 (rules, episodes); `keys` of the episodes."""
        for episode, key in enumerate(keys):
            self.rows[key].append(-returns[:, episode] / scale)

    def best(self) -> dict[Configuration, str]:
        """The best rule of every configuration."""
        return {key: self._least(rows) for key, rows in sorted(self.rows.items())}

    def best_of_all(self) -> str:
        """The best rule over everything."""
        return self._least([row for rows in self.rows.values() for row in rows])

    def _least(self, rows: Sequence[NDArray[np.float64]]) -> str:
        """The first within a thousandth of the least mean."""
        means = np.mean(rows, axis=0)
        return self.names[int(np.argmax(means <= means.min() + 1e-3))]


def select(
    scenarios: Sequence[Scenario], rules: Mapping[str, Policy], selector: Any, episodes: int, seed: int
) -> tuple[dict[Configuration, str], str]:
    """The best rule per configuration, and the best of all.

    First for what is known before the first tick; then, with these as first tick, for what is known after it. Of equals
    `online` wins, then the first by name. `selector` tells configurations, as agents/selector.py does.
    """
    names = [REFERENCE, *sorted(set(rules) - {REFERENCE})]
    seeds = evaluation_seeds(seed, episodes)
    before, after, scales = _Losses(names), _Losses(names), []

    def returns(scenario: Scenario, policies: Sequence[Policy]) -> NDArray[np.float64]:
        return np.stack([evaluate(policy, scenario, episodes, seed).values["return"] for policy in policies])

    for scenario in scenarios:
        alone = returns(scenario, [rules[name] for name in names])
        scales.append(max(-float(alone[0].mean()), 1e-9))
        machines = Machines([scenario], episodes)
        machines.reset(seeds)
        before.add(selector.configurations(machines.obs), alone, scales[-1])
    table = before.best()
    for scenario, scale in zip(scenarios, scales, strict=True):
        machines = Machines([scenario], episodes)
        machines.reset(seeds)
        # Of the machines of one scenario, some may begin otherwise than others.
        starts = [table[key] for key in selector.configurations(machines.obs)]
        actions = {name: rules[name](machines.obs.copy(), machines.masks.copy()) for name in _started(rules, starts)}
        machines.step(np.stack([actions[name][episode] for episode, name in enumerate(starts)]))
        keys = selector.configurations(machines.obs)
        for start in sorted(set(starts)):
            begun = [episode for episode, name in enumerate(starts) if name == start]
            continued = returns(scenario, [Then(rules[start], rules[name]) for name in names])
            after.add([keys[episode] for episode in begun], continued[:, begun], scale)
    return dict(sorted((after.best() | table).items())), before.best_of_all()


def _started(rules: Mapping[str, Policy], starts: Sequence[str]) -> list[str]:
    """The names among `starts`, their rules reset for as many machines."""
    names = sorted(set(starts))
    for name in names:
        rules[name].reset(len(starts), SEED)
    return names


def main() -> None:
    """Measure and print."""
    scenarios = specs.load_suite(SUITE).load_all()
    rules = {name: load_policy(name) for name in list_policies() if name not in NOT_CHOSEN}
    selector: Any = load_policy("selector")
    table, best = select(scenarios, rules, selector.rule, EPISODES, SEED)
    print("TABLE = {")
    for key, name in table.items():
        print(f'    "{key}": "{name}",')
    print(f'}}\nOTHERWISE = "{best}"')


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
