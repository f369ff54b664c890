"""How long learning takes to beat a rule: wall time of training until its deterministic policy scores as much.

`python -m tiergym.bench.time_to_score AGENT SUITE|SCENARIO[,SCENARIO...] [SEEDS] [BUDGET_S] > times.json`. What is
compared is the mean return over the scenarios, on evaluation seeds that no training sees; the time of evaluations does
not count. The suite `tuning` is the largest mixture that may be trained on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Annotated

import numpy as np
import torch as th
import typer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from tiergym.lab import learner
from tiergym.lab.evaluate import evaluation_seeds, run_episodes
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.policy.base import Policy
from tiergym.policy.load import list_policies, load_policy
from tiergym.policy.torch_policy import TorchPolicy
from tiergym.specs import Scenario, list_suites, load_scenario, load_suite

REFERENCE = "online"
TUNED = "adaptive"
"""The rule whose thresholds were chosen on scenarios."""
CHANCE = "random"
EPISODES = 32
"""Of a score, shared among scenarios, but at least FEW_EPISODES of each."""
FEW_EPISODES = 8
EVERY = 1.05
"""Training is scored when it has taken this much longer than at the last time: times are known to 5 %."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of training until each rule's return was reached, per seed; None: not within budget and steps.

    The rules are `online` (which must be beaten), the best untuned one, and the tuned one.
    """

    agent: str
    scenarios: list[str]
    returns: dict[str, float]
    reached_s: dict[str, list[float | None]]
    final_return: list[float]
    steps_per_s: list[float]


def score(policy: Policy, scenarios: Sequence[Scenario]) -> float:
    """Mean return over the scenarios, on evaluation seeds."""
    returns = []
    episodes = max(EPISODES // len(scenarios), min(FEW_EPISODES, EPISODES))
    for scenario in scenarios:
        policy.reset(episodes, 0)
        totals, _ = run_episodes(policy, [scenario], evaluation_seeds(0, episodes))
        returns.append(float(totals.reward.mean()))
    return float(np.mean(returns))


class _Watch(BaseCallback):
    """Scores the policy before rollouts, until all rules are reached or the budget is spent."""

    def __init__(
        self, recipe: Recipe, scenarios: Sequence[Scenario], targets: Mapping[str, float], budget_s: float
    ) -> None:
        super().__init__()
        self.recipe, self.scenarios, self.targets, self.budget_s = recipe, scenarios, targets, budget_s
        self.reached: dict[str, float] = {}
        self.last = float("-inf")
        self.training_s = 0.0
        self._due_s = 0.0

    def _on_training_start(self) -> None:
        self._policy = TorchPolicy(learner.actor_of(self.model, self.recipe), self.recipe.name)
        self._resumed = perf_counter()

    def _on_rollout_start(self) -> None:
        self.training_s += perf_counter() - self._resumed
        self._resumed = perf_counter()
        if self.training_s < self._due_s:
            return
        self._due_s = self.training_s * EVERY
        self.last = score(self._policy, self.scenarios)
        for name, target in self.targets.items():
            if self.last >= target:
                self.reached.setdefault(name, self.training_s)
        self._resumed = perf_counter()

    def _on_step(self) -> bool:
        return self.training_s < self.budget_s and len(self.reached) < len(self.targets)


def measure(recipe: Recipe, names: Sequence[str], seeds: int, budget_s: float) -> Times:
    """Train with `seeds` seeds until both targets are reached, the recipe's steps are done or the budget is spent."""
    scenarios = [load_scenario(name) for name in names]
    rules = {name: score(load_policy(name), scenarios) for name in list_policies() if name != CHANCE}
    best = max((name for name in rules if name != TUNED), key=lambda name: rules[name])
    targets = {name: rules[name] for name in dict.fromkeys((REFERENCE, best, TUNED))}
    targets[REFERENCE] = float(np.nextafter(targets[REFERENCE], np.inf))
    watches, rates = [], []
    for seed in range(seeds):
        env = TrainingVecEnv(
            scenarios,
            recipe.envs,
            action_form=recipe.action_form,
            hold_ticks=recipe.hold_ticks,
            frames=recipe.frames,
        )
        model = learner.build(recipe, seed, env)
        env.gamma, env.values = recipe.hyperparameters.get("gamma", 0.99), learner.values_of(model)
        env.seed(1000 + seed)
        model.set_logger(Logger(None, []))
        th.set_num_threads(recipe.threads)
        watch = _Watch(recipe, scenarios, targets, budget_s)
        model.learn(recipe.steps, watch)
        watches.append(watch)
        rates.append(model.num_timesteps / watch.training_s)
    return Times(
        recipe.name,
        list(names),
        targets,
        {name: [watch.reached.get(name) for watch in watches] for name in targets},
        [watch.last for watch in watches],
        rates,
    )


def main(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="A recipe.")],
    scenarios: Annotated[str, typer.Argument(metavar="SUITE|SCENARIO[,...]", help="What it is trained on.")],
    seeds: Annotated[int, typer.Argument(min=1, metavar="SEEDS", help="Trainings.")] = 5,
    budget_s: Annotated[float, typer.Argument(min=1, metavar="SECONDS", help="At most, for each.")] = 300.0,
) -> None:
    """Print the times as JSON."""
    names = load_suite(scenarios).scenarios if scenarios in list_suites() else scenarios.split(",")
    times = measure(load_recipe(agent), names, seeds, budget_s)
    sys.stdout.write(json.dumps(asdict(times), indent=1) + "\n")


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
