"""Where the time of a training goes, and how far its update is from what the machine can multiply."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from tiergym.bench.steps import SCENARIO
from tiergym.env.observations import N_OBS
from tiergym.lab import learner
from tiergym.lab.recipe import load_recipe
from tiergym.lab.training_env import TrainingVecEnv

RECIPE = "ppo"
SQUARE, PRODUCTS = 1024, 8
"""Rows of the matrices whose product is the roof, and products of which the fastest counts."""


@dataclass(frozen=True, slots=True)
class LearnerShare:
    """Of one rollout and its update: medians of the seconds in the environment, in choosing actions, in the update.

    decisions: of the rollout. flops: multiplications and additions of an update's matrix products. roof_gflops: of the
    product of two large matrices, on the recipe's threads, in GFLOP/s.
    """

    recipe: str
    decisions: int
    env_s: float
    acting_s: float
    update_s: float
    flops: int
    roof_gflops: float

    @property
    def bound_s(self) -> float:
        """Seconds of an update that did nothing but its products, at the roof."""
        return self.flops / (1e9 * self.roof_gflops)


class _TimedVecEnv(TrainingVecEnv):
    """Notes the seconds in its steps."""

    spent_s: float = 0.0

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        started = perf_counter()
        out = super().step_wait()
        self.spent_s += perf_counter() - started
        return out


class _Clock(BaseCallback):
    """Seconds of every rollout, of its environment, and of the update after it."""

    def __init__(self, env: _TimedVecEnv) -> None:
        super().__init__()
        self.env = env
        self.rollouts: list[float] = []
        self.in_env: list[float] = []
        self.updates: list[float] = []

    def _on_rollout_start(self) -> None:
        now = perf_counter()
        if self.rollouts:
            self.updates.append(now - self._ended)
        self._started, self.env.spent_s = now, 0.0

    def _on_rollout_end(self) -> None:
        self._ended = perf_counter()
        self.rollouts.append(self._ended - self._started)
        self.in_env.append(self.env.spent_s)

    def _on_step(self) -> bool:
        return True


def learner_share(repetitions: int) -> LearnerShare:
    """Measure PPO's recipe as it is shipped, on the benchmark's scenario, after a rollout that does not count."""
    recipe = load_recipe(RECIPE)
    env = _TimedVecEnv(SCENARIO, recipe.envs, seed=0, hold_ticks=recipe.hold_ticks)
    model = learner.build(recipe, 0, env)
    env.gamma, env.values = recipe.hyperparameters["gamma"], learner.values_of(model)
    model.set_logger(Logger(None, []))
    decisions = recipe.hyperparameters["n_steps"] * recipe.envs
    th.set_num_threads(recipe.threads)
    clock = _Clock(env)
    model.learn((repetitions + 2) * decisions, callback=clock)  # no rollout begins after the last update
    rollout_s, env_s = median(clock.rollouts[1:]), median(clock.in_env[1:])
    update_s = median(clock.updates[1:])
    flops = recipe.hyperparameters["n_epochs"] * decisions * flops_per_sample(model)
    return LearnerShare(RECIPE, decisions, env_s, rollout_s - env_s, update_s, flops, roof_gflops())


def flops_per_sample(model: BaseAlgorithm) -> int:
    """Of the matrix products of one sample, forward and back: nothing asks for the gradient of an observation."""
    matrices = [parameter for parameter in model.policy.parameters() if parameter.ndim == 2]
    return sum(2 * matrix.numel() * (2 if matrix.shape[1] == N_OBS else 3) for matrix in matrices)


def roof_gflops() -> float:
    """GFLOP/s of the product of two large matrices of float32, on torch's threads: the fastest of some."""
    left, right = (th.rand(SQUARE, SQUARE, generator=th.Generator().manual_seed(seed)) for seed in (0, 1))
    best = float("inf")
    for _ in range(PRODUCTS):
        started = perf_counter()
        left @ right
        best = min(best, perf_counter() - started)
    return 2e-9 * SQUARE**3 / best
