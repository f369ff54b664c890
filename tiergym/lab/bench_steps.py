"""Speed of stepping: the engine, the vector environment, the single environment, and CartPole beside them.

Every function builds what it measures and returns a closure that runs it once and returns a rate.
"""

from collections.abc import Callable
from time import perf_counter

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

from tiergym import ENV_ID
from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.specs import load_scenario

SCENARIO = "llama-1to2"
BATCH = 1024
ENGINE_TICKS = 240
"""An episode of the scenario, so that every machine is restarted once."""
SINGLE_STEPS = 4000
VECTOR_STEPS = 100
CARTPOLE_VECTOR_STEPS = 20


def engine() -> Callable[[], float]:
    """Machine-ticks per second with observation, reward and autoreset, under random actions."""
    machines = Machines([load_scenario(SCENARIO)], BATCH)
    machines.reset(evaluation_seeds(0, BATCH))
    actions = np.random.default_rng(0).integers(0, NVEC, (16, BATCH, len(NVEC)))
    machines.step(actions[0])  # compiles

    def once() -> float:
        started = perf_counter()
        for tick in range(ENGINE_TICKS):
            machines.step(actions[tick % len(actions)])
        return BATCH * ENGINE_TICKS / (perf_counter() - started)

    return once


def vector_env() -> Callable[[], float]:
    """Steps of single machines per second through `gymnasium.make_vec`."""
    envs = gymnasium.make_vec(ENV_ID, num_envs=BATCH, vectorization_mode="vector_entry_point", scenario=SCENARIO)
    return _vector_rate(envs, VECTOR_STEPS)


def cartpole_sync() -> Callable[[], float]:
    """Steps of single environments per second, CartPole-v1 in a SyncVectorEnv."""
    return _vector_rate(SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * BATCH), CARTPOLE_VECTOR_STEPS)


def single_env() -> Callable[[], float]:
    """Microseconds per step through `gymnasium.make`, resets included."""
    return _step_time(gymnasium.make(ENV_ID, scenario=SCENARIO))


def cartpole() -> Callable[[], float]:
    """The same of CartPole-v1."""
    return _step_time(gymnasium.make("CartPole-v1"))


def _vector_rate(envs: gymnasium.vector.VectorEnv, steps: int) -> Callable[[], float]:
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = envs.action_space.sample()
    envs.step(actions)  # compiles

    def once() -> float:
        started = perf_counter()
        for _ in range(steps):
            envs.step(actions)
        return envs.num_envs * steps / (perf_counter() - started)

    return once


def _step_time(env: gymnasium.Env) -> Callable[[], float]:
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    env.step(actions[0])  # compiles

    def once() -> float:
        started = perf_counter()
        for step in range(SINGLE_STEPS):
            _, _, terminated, truncated, _ = env.step(actions[step % len(actions)])
            if terminated or truncated:
                env.reset()
        return (perf_counter() - started) / SINGLE_STEPS * 1e6

    return once
