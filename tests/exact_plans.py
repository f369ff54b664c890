"""The best plan of a tiny instance, by dynamic programming over the states that its machine can reach."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.specs import Scenario

FORGOTTEN = ("action", "counters", "lost", "terms", "throughput", "premature_by_class", "stall_s")
"""Of a machine's record, what a tick begins by overwriting: states that differ in nothing else have one future."""

State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Exact:
    """The best return of all plans, a plan that has it, int64 (pieces, N_ACTIONS), and how many states each piece began
    with."""

    best: float
    plan: NDArray[np.int64]
    states: tuple[int, ...]


def solve(machine: Scenario, seed: int, edges: NDArray[np.int64], actions: NDArray[np.int64]) -> Exact:
    """Over plans that choose one of `actions`, int64 (A, N_ACTIONS), for each piece between `edges`, in ticks, on the
    evaluation's first machine of `seed`.

    Forward: of all ways into a state only the best goes on, for what follows depends on the state alone (Bellman). The
    random numbers of a tick are a function of the machine's key and the tick, which are part of the state.
    """
    start = Machines([machine], 1)
    start.reset(evaluation_seeds(seed, 1))
    states, values = start.snapshot(), np.zeros(1)
    counts, came_by = [], []
    for first, last in pairwise(edges):
        counts.append(len(values))
        reached, gained = _expand(machine, states, actions, int(last - first))
        totals = np.repeat(values, len(actions)) + gained
        kept = _best_of_equal(reached["records"], totals)
        states, values = {name: array[kept] for name, array in reached.items()}, totals[kept]
        came_by.append(kept)
    at = int(values.argmax())
    plan = []
    for kept in reversed(came_by):
        at, action = divmod(int(kept[at]), len(actions))
        plan.append(actions[action])
    return Exact(float(values.max()), np.array(plan[::-1]), tuple(counts))


def _expand(
    machine: Scenario, states: State, actions: NDArray[np.int64], ticks: int
) -> tuple[State, NDArray[np.float64]]:
    """Every state under every action for so many ticks: what it becomes, and the rewards on the way."""
    count = len(states["records"])
    machines = Machines([machine], count * len(actions))
    machines.restore({name: np.repeat(array, len(actions), axis=0) for name, array in states.items()})
    chosen, gained = np.tile(actions, (count, 1)), np.zeros(machines.num_envs)
    for _ in range(ticks):
        machines.step(chosen)
        gained += machines.reward
    return machines.snapshot(), gained


def _best_of_equal(records: NDArray[np.void], totals: NDArray[np.float64]) -> NDArray[np.intp]:
    """Of each set of records with the same future, the index of the one with the highest total."""
    remembered = records.copy()
    for name in FORGOTTEN:
        remembered[name] = 0
    best: dict[bytes, int] = {}
    for index, record in enumerate(remembered):
        key = record.tobytes()
        if key not in best or totals[index] > totals[best[key]]:
            best[key] = index
    return np.array(list(best.values()))
