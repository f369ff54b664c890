"""Speed of learning: stable-baselines3's PPO with the environment, and with one that costs nothing."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from tiergym.bench.steps import SCENARIO
from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.lab import learner
from tiergym.lab.recipe import Recipe, load_recipe, make_recipe
from tiergym.lab.training_env import TrainingVecEnv

RECIPE = "ppo"
ROLLOUTS = 8
"""Rollouts of one repetition."""
STOCK_ENVS, STOCK_STEPS = 8, 256
ROLLOUT_STEPS = {8: 2048, 1024: 32768}
"""Steps of a rollout by the number of environments, where few and many were measured."""


class ConstantVecEnv(VecEnv):
    """Machines that do nothing: the same arrays after every step."""

    def __init__(self, like: VecEnv) -> None:
        self._obs = np.full((like.num_envs, *(like.observation_space.shape or ())), 0.5, dtype=np.float32)
        self._rewards = np.zeros(like.num_envs, dtype=np.float32)
        self._dones = np.zeros(like.num_envs, dtype=np.bool_)
        self._infos: list[dict[str, Any]] = [{}] * like.num_envs
        super().__init__(like.num_envs, like.observation_space, like.action_space)

    def reset(self) -> Any:
        """The constant observations."""
        return self._obs

    def step_async(self, actions: Any) -> None:
        """Ignore the actions."""

    def step_wait(self) -> Any:
        """The constant arrays."""
        return self._obs, self._rewards, self._dones, self._infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The render mode, the only attribute there is."""
        return [{"render_mode": None}[attr_name]] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: there is nothing to set."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: there are no environments inside."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never."""
        return [False] * self.num_envs


def placement(envs: int | None = None, hold_ticks: int = 1) -> Callable[[], float]:
    """Steps per second of PPO learning on the scenario, in the environment that `tiergym.lab.train` uses.

    `envs` machines in place of the recipe's, with rollouts of the same size. A step is `hold_ticks` ticks.
    """
    recipe = load_recipe(RECIPE).resized(envs, None)
    env = TrainingVecEnv(SCENARIO, recipe.envs, seed=0, hold_ticks=hold_ticks)
    model = learner.build(recipe, 0, env)
    env.gamma, env.values = recipe.hyperparameters["gamma"], learner.values_of(model)
    return _rate(recipe, model)


def constant(envs: int | None = None) -> Callable[[], float]:
    """Steps per second of the same PPO on constant arrays."""
    recipe = load_recipe(RECIPE).resized(envs, None)
    env = ConstantVecEnv(TrainingVecEnv(SCENARIO, recipe.envs, seed=0))
    return _rate(recipe, learner.build(recipe, 0, env))


def tuned(policy: str, envs: int) -> Callable[[], float]:
    """Steps per second of PPO on constant arrays with `policy` ("fused" or SB3's own class) and few large minibatches,
    which is how either is fastest."""
    document = load_recipe(RECIPE).document()
    rollout = ROLLOUT_STEPS[envs]
    document |= {"policy": policy, "envs": envs, "threads": 1 if envs < 32 else 2}
    document["hyperparameters"] = document["hyperparameters"] | {
        "n_steps": rollout // envs,
        "batch_size": min(rollout, 8192),
    }
    recipe = make_recipe(RECIPE, document, "bench")
    env = ConstantVecEnv(TrainingVecEnv(SCENARIO, envs, seed=0))
    return _rate(recipe, learner.build(recipe, 0, env))


def stock(constant_arrays: bool) -> Callable[[], float]:
    """Steps per second of PPO with SB3's own policy and hyperparameters, but for shorter rollouts, on 8 machines."""
    env: VecEnv = PlacementSB3VecEnv(SCENARIO, STOCK_ENVS, seed=0)
    env = ConstantVecEnv(env) if constant_arrays else env
    th.set_num_threads(1)
    model = PPO("MlpPolicy", env, n_steps=STOCK_STEPS, seed=0)
    return _learning(model, STOCK_ENVS * STOCK_STEPS, 1)


def _rate(recipe: Recipe, model: BaseAlgorithm) -> Callable[[], float]:
    return _learning(model, ROLLOUTS * recipe.hyperparameters["n_steps"] * recipe.envs, recipe.threads)


def _learning(model: BaseAlgorithm, steps: int, threads: int) -> Callable[[], float]:
    # Without a logger of its own SB3 leaves a folder in the temporary directory per call of learn().
    model.set_logger(Logger(None, []))
    model.learn(max(steps // ROLLOUTS, 1))

    def once() -> float:
        th.set_num_threads(threads)
        started = perf_counter()
        model.learn(steps, reset_num_timesteps=False)  # goes on where it is, as in the middle of a training
        return steps / (perf_counter() - started)

    return once
