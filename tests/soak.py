"""Random machines under random actions for as long as wanted: what holds on every machine, memory, threads, batches.

    python -m tests.soak --seconds 3600

Every round makes another scenario's machines, steps them and looks at all of them after every tick; then it repeats
some on two threads, and one alone, which must give the same to the bit. Memory of the process must not grow.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.builders import random_scenario
from tests.invariants import check_results, check_state
from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.specs import Scenario, list_scenarios, load_scenario

BATCH = 4096
TICKS = 40
BLOCKS = ([0, 1, 2], [3, 8], [1, 20], [0])
WARM = 8
"""Rounds after which records of every size are compiled, and the allocator has what it will need again."""
GROWTH_MIB = 64
"""Of the process since then, that is still no growth."""


@dataclass
class Soaked:
    """What was looked at, and the process's memory when it was warm and at its largest later."""

    rounds: int = 0
    machine_ticks: int = 0
    compared: int = 0
    warm_mib: float = 0.0
    most_mib: float = 0.0


def drawn(rng: np.random.Generator, number: int) -> Scenario:
    """A shipped scenario in every fourth round, else one that draws nearly everything."""
    if number % 4 == 3:
        return load_scenario(rng.choice(list(list_scenarios())))
    block_mib, dram_mib, dt_s = (
        int(rng.choice([128, 256])),
        float(rng.choice([256, 700, 3000])),
        rng.choice([0.05, 0.25, 1]),
    )
    return random_scenario(block_mib, dram_mib, BLOCKS[rng.integers(len(BLOCKS))], float(dt_s))


def step(scenario: Scenario, seeds: np.ndarray, actions: np.ndarray, threads: int, look: bool) -> np.ndarray:
    """Step machines of these seeds; their observations, rewards and counters of every tick, as bytes per machine."""
    machines = Machines([scenario], len(seeds), threads=threads)
    machines.reset(seeds)
    shown = []
    for action in actions:
        machines.step(action[: len(seeds)])
        if look:
            check_results(machines)
            check_state(machines.records)
        rows = (machines.obs, machines.reward[:, None], machines.counters, machines.lost)
        shown.append(np.concatenate([np.ascontiguousarray(row).view(np.uint8) for row in rows], axis=1))
    return np.stack(shown, axis=1)


def memory_mib() -> float:
    """What of this process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(seconds: float, seed: int, batch: int = BATCH) -> Soaked:
    """Rounds until the time is over, at least two after it is warm; raises where something does not hold."""
    rng = np.random.default_rng(seed)
    told, end = Soaked(), time.monotonic() + seconds
    while told.rounds < WARM + 2 or time.monotonic() < end:
        scenario = drawn(rng, told.rounds)
        seeds = rng.integers(0, 2**63, batch, dtype=np.uint64)
        actions = rng.integers(NVEC, size=(TICKS, batch, len(NVEC)))
        one = step(scenario, seeds, actions, threads=1, look=True)
        assert (step(scenario, seeds, actions, threads=2, look=False) == one).all(), "on two threads"
        machine = int(rng.integers(batch))
        alone = step(scenario, seeds[machine : machine + 1], actions[:, machine : machine + 1], threads=1, look=True)
        assert (alone[0] == one[machine]).all(), "alone"
        told.machine_ticks += (2 * batch + 1) * TICKS
        told.compared += batch + 1
        told.rounds += 1
        del one, alone
        if told.rounds <= WARM:
            told.warm_mib = memory_mib()
        else:
            told.most_mib = max(told.most_mib, memory_mib())
            assert told.most_mib < told.warm_mib + GROWTH_MIB, (told.warm_mib, told.most_mib)
    return told


def main() -> None:
    """Print what was looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    parser.add_argument("--batch", type=int, default=BATCH)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    told = soak(asked.seconds, asked.seed, asked.batch)
    print(f"{told.rounds} scenarios, {told.machine_ticks:,} ticks of machines: all holds on every one")
    print(f"{told.compared:,} episodes the same to the bit on 1 and 2 threads, or alone and among {asked.batch}")
    print(f"memory: {told.warm_mib:.0f} MiB after {WARM} rounds, {told.most_mib:.0f} MiB at most later")


if __name__ == "__main__":
    main()
