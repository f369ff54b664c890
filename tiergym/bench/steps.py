"""Speed of stepping: the engine under several loads, the vector environment, the single environment.

Every function builds what it measures and returns a closure that runs it once and returns a rate.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tiergym import ENV_ID
from tiergym.env.actions import DEFAULT, NVEC
from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.policy.load import load_policy
from tiergym.specs import Scenario, list_scenarios, load_scenario

SCENARIO = "llama-1to2"
BATCH = 1024
ENGINE_TICKS = 240
"""An episode of the scenario, so that every machine is restarted once."""
SINGLE_STEPS = 4000
VECTOR_STEPS = 100

Actions = Callable[[int, Machines], NDArray[np.int64]]
"""The actions (N, N_ACTIONS) of a tick."""


def untouched(tick: int, machines: Machines) -> NDArray[np.int64]:
    """Stock Linux: every entry at its default mode."""
    return np.broadcast_to(DEFAULT, (machines.num_envs, len(NVEC)))


def at_random(tick: int, machines: Machines) -> NDArray[np.int64]:
    """Every entry drawn anew for every machine and tick: more reclaim and migration than any policy causes."""
    return np.random.default_rng(tick % 16).integers(0, NVEC, (machines.num_envs, len(NVEC)))


def by_rule(name: str) -> Actions:
    """A hand-written policy."""
    policy = load_policy(name)
    return lambda tick, machines: policy(machines.obs.copy(), machines.masks.copy())


def engine(
    actions: Actions = untouched,
    scenarios: Sequence[str | Scenario] = (SCENARIO,),
    batch: int = 0,
    threads: int | None = None,
    ticks: int = 0,
) -> Callable[[], float]:
    """Machine-ticks per second of the engine with observation, reward, attribution, masks and autoreset."""
    loaded = [entry if isinstance(entry, Scenario) else load_scenario(entry) for entry in scenarios]
    batch, ticks = batch or BATCH, ticks or ENGINE_TICKS
    machines = Machines(loaded, batch, threads=threads)
    machines.reset(evaluation_seeds(0, batch))
    machines.step(np.ascontiguousarray(untouched(0, machines)))  # compiles

    def once() -> float:
        stepping_s = 0.0
        for tick in range(ticks):
            chosen = np.ascontiguousarray(actions(tick, machines), np.int64)
            started = perf_counter()
            machines.step(chosen)
            stepping_s += perf_counter() - started
        return batch * ticks / stepping_s

    return once


def mixed() -> Callable[[], float]:
    """The engine with every shipped scenario in one batch, dealt out machine by machine."""
    return engine(scenarios=list_scenarios())


def one_by_one() -> Callable[[], float]:
    """The same scenarios in batches of their own: ticks per second over all of them."""
    runs = [engine(scenarios=[name]) for name in list_scenarios()]
    return lambda: len(runs) / sum(1.0 / run() for run in runs)


def reset(batch: int = BATCH, threads: int | None = None) -> Callable[[], float]:
    """Microseconds per machine to start an episode."""
    machines, seeds = Machines([load_scenario(SCENARIO)], batch, threads=threads), evaluation_seeds(0, batch)
    return _per_machine(batch, lambda: machines.reset(seeds))


def snapshot(batch: int = BATCH) -> Callable[[], float]:
    """Microseconds per machine to save a batch's state and go back to it."""
    machines = Machines([load_scenario(SCENARIO)], batch)
    machines.reset(evaluation_seeds(0, batch))
    return _per_machine(batch, lambda: machines.restore(machines.snapshot()))


def _per_machine(batch: int, work: Callable[[], None]) -> Callable[[], float]:
    times = max(1, 8 * BATCH // batch)
    work()

    def once() -> float:
        started = perf_counter()
        for _ in range(times):
            work()
        return (perf_counter() - started) * 1e6 / (times * batch)

    return once


def vector_env() -> Callable[[], float]:
    """Steps of single machines per second through `gymnasium.make_vec`."""
    envs = gymnasium.make_vec(ENV_ID, num_envs=BATCH, vectorization_mode="vector_entry_point", scenario=SCENARIO)
    return vector_rate(envs, VECTOR_STEPS)


def single_env() -> Callable[[], float]:
    """Microseconds per step through `gymnasium.make`, resets included."""
    return step_time(gymnasium.make(ENV_ID, scenario=SCENARIO))


def vector_rate(envs: gymnasium.vector.VectorEnv, steps: int) -> Callable[[], float]:
    """Steps of single environments per second under one fixed action each."""
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


def step_time(env: gymnasium.Env) -> Callable[[], float]:
    """Microseconds per step of one environment, resets included."""
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
