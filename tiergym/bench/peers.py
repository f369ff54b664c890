"""Other environments in the same run, and the model without its compiler. A peer that is not installed says so."""

import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tiergym.bench import steps

CARTPOLE = "CartPole-v1"
CARTPOLE_STEPS = 20
ASYNC_ENVS = 64
NATIVE_STEPS = 200

# The uncompiled twin wants records whose fields are attributes; one machine, some ticks of a loaded episode.
_UNCOMPILED = """
from time import perf_counter
import numpy as np
from tiergym.env.actions import DEFAULT
from tiergym.env.machines import Machines
from tiergym.specs import load_scenario
machines = Machines([load_scenario("{scenario}")], 1)
machines.records = machines.records.view(np.recarray)
machines.reset(np.zeros(1, np.uint64))
actions = DEFAULT[None]
for _ in range(8):
    machines.step(actions)
started = perf_counter()
for _ in range({ticks}):
    machines.step(actions)
print((perf_counter() - started) / {ticks})
"""
UNCOMPILED_TICKS = 40


class NotInstalledError(Exception):
    """A peer that cannot be measured here; the message says why."""


def cartpole() -> Callable[[], float]:
    """Microseconds per step of CartPole-v1 through `gymnasium.make`."""
    return steps.step_time(gymnasium.make(CARTPOLE))


def cartpole_sync() -> Callable[[], float]:
    """Steps per second of CartPole-v1 in a SyncVectorEnv."""
    return steps.vector_rate(SyncVectorEnv([lambda: gymnasium.make(CARTPOLE)] * steps.BATCH), CARTPOLE_STEPS)


def cartpole_async() -> Callable[[], float]:
    """Steps per second of CartPole-v1 in an AsyncVectorEnv of 64 processes."""
    return steps.vector_rate(AsyncVectorEnv([lambda: gymnasium.make(CARTPOLE)] * ASYNC_ENVS), CARTPOLE_STEPS)


def cartpole_native() -> Callable[[], float]:
    """Steps per second of CartPole-v1's own NumPy vector environment."""
    envs = gymnasium.make_vec(CARTPOLE, num_envs=steps.BATCH, vectorization_mode="vector_entry_point")
    return steps.vector_rate(envs, NATIVE_STEPS)


def envpool_cartpole() -> Callable[[], float]:
    """Steps per second of EnvPool's CartPole-v1, compiled from C++. Raises `NotInstalledError`."""
    try:
        import envpool
    except Exception as error:
        raise NotInstalledError(f"envpool: {error}") from error
    envs = envpool.make_gymnasium(CARTPOLE, num_envs=steps.BATCH)
    actions = np.zeros(steps.BATCH, dtype=np.int32)
    envs.reset()

    def once() -> float:
        started = perf_counter()
        for _ in range(NATIVE_STEPS):
            envs.step(actions)
        return steps.BATCH * NATIVE_STEPS / (perf_counter() - started)

    return once


def uncompiled() -> Callable[[], float]:
    """Ticks per second of one machine in plain Python: the same sources, NUMBA_DISABLE_JIT=1."""
    code = _UNCOMPILED.format(scenario=steps.SCENARIO, ticks=UNCOMPILED_TICKS)

    def once() -> float:
        environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        return 1.0 / float(done.stdout)

    return once
