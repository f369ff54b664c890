"""Run policies on fresh machines and measure them: one batch of episodes, the same seeds for everybody.

Evaluation never touches training: it builds its own engine, and its seeds come from a stream of their
own. Same policy, scenario, episodes and seed: the same numbers, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.lab.metrics import Array, Totals, per_episode
from tiergym.policy.plan import PlanPolicy
from tiergym.sim import names as n

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

EVALUATION_STREAM = 0x6576616C
"""Key of the evaluation seeds in the SeedSequence tree of a seed."""

OnTick = Callable[[int], None]
"""Called after each tick with the episodes finished so far."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy on one scenario: `values` maps each metric to float64 (episodes,)."""

    values: dict[str, Array]
    decision_us: float
    """Time of one decision of one machine in this batch; the only number here that is not reproducible."""


def evaluation_seeds(seed: int, episodes: int) -> NDArray[np.uint64]:
    """Seeds of the evaluation's machines, uint64 (episodes,).

    Their highest bit is set and that of no training seed is (a training seed is a non-negative int64),
    so no machine is ever both trained and evaluated on.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(EVALUATION_STREAM,))
    return sequence.generate_state(episodes, np.uint64) | np.uint64(1 << 63)


def evaluate(policy: Policy, scenario: Scenario, episodes: int, seed: int, on_tick: OnTick | None = None) -> Evaluation:
    """Evaluate `policy` (see `tiergym.policy.load.load_policy`) for `episodes` episodes of `scenario`, in one batch.

    Raises:
        UserError: the policy answers with actions that are none, or is a plan for episodes of another length.
    """
    policy.reset(episodes, seed)
    totals, deciding_s = run_episodes(policy, scenario, evaluation_seeds(seed, episodes), on_tick)
    return Evaluation(per_episode(totals), deciding_s * 1e6 / (episodes * len(totals.throughput_by_tick)))


def run_episodes(
    policy: Policy, scenario: Scenario, seeds: NDArray[np.uint64], on_tick: OnTick | None = None
) -> tuple[Totals, float]:
    """One episode of every machine of `seeds`, uint64 (N,), as one batch; and the seconds spent in the policy."""
    episodes = len(seeds)
    machines = Machines([scenario], episodes)
    machines.reset(seeds)
    rule = getattr(policy, "rule", policy)
    if isinstance(rule, PlanPolicy):
        rule.check_horizon(int(machines.records["ticks"].max()))
    running = np.ones(episodes, dtype=bool)
    ticks, reward, throughput = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes)
    terms, lost = np.zeros((episodes, n.N_TERMS)), np.zeros((episodes, n.N_CAUSES))
    counters, kernel_slow = np.zeros((episodes, n.N_COUNTERS)), np.zeros((episodes, n.N_CLASSES))
    by_tick: list[Array] = []
    deciding_s = 0.0
    while running.any():
        # The engine reuses its buffers; a policy may keep what it is given.
        obs, masks = machines.obs.copy(), machines.masks.copy()
        started = perf_counter()
        actions = policy(obs, masks)
        deciding_s += perf_counter() - started
        machines.step(actions)
        # The engine restarts a machine that finishes early; its later episodes do not count.
        by_tick.append(np.where(running, machines.throughput, np.nan))
        ticks += running
        reward += np.where(running, machines.reward, 0)
        throughput += np.where(running, machines.throughput, 0)
        for total, now in (
            (terms, machines.terms),
            (lost, machines.lost),
            (counters, machines.counters),
            (kernel_slow, machines.kernel_slow),
        ):
            np.add(total, now, out=total, where=running[:, None])
        running &= ~machines.done
        if on_tick is not None:
            on_tick(episodes - int(running.sum()))
    return Totals(ticks, reward, terms, lost, counters, kernel_slow, throughput, np.stack(by_tick)), deciding_s
