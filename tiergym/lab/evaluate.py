"""Run policies on fresh machines and measure them: one batch of episodes, the same seeds for everybody.

Evaluation never touches training: it builds its own engine, and its seeds come from a stream of their
own. Same policy, scenario, episodes and seed: the same numbers, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.lab.metrics import Array, Totals, per_episode
from tiergym.lab.mode_use import ModeCounter, ModeUse
from tiergym.memory import check_bytes
from tiergym.policy.plan import PlanPolicy
from tiergym.sim import names as n

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

EVALUATION_STREAM = 0x6576616C
"""Key of the evaluation seeds in the SeedSequence tree of a seed."""

OnTick = Callable[[int, int], None]
"""Called after each tick with the ticks so far and those of the longest episode."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy on one scenario: `values` maps each metric to float64 (episodes,), `modes` is what it did."""

    values: dict[str, Array]
    modes: ModeUse
    decision_us: float
    """Time of one decision of one machine in this batch; the only number here that is not reproducible."""


def evaluation_seeds(seed: int, episodes: int) -> NDArray[np.uint64]:
    """Seeds of the evaluation's machines, uint64 (episodes,).

    Their highest bit is set and that of no training seed is (a training seed is a non-negative int64),
    so no machine is ever both trained and evaluated on.
    """
    return stream_seeds(seed, EVALUATION_STREAM, episodes)


def stream_seeds(seed: int, stream: int, machines: int) -> NDArray[np.uint64]:
    """Seeds of machines that no training draws, uint64 (machines,), of one stream of their own."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(stream,))
    return sequence.generate_state(machines, np.uint64) | np.uint64(1 << 63)


def evaluate(policy: Policy, scenario: Scenario, episodes: int, seed: int, on_tick: OnTick | None = None) -> Evaluation:
    """Evaluate `policy` (see `tiergym.policy.load.load_policy`) for `episodes` episodes of `scenario`, in one batch.

    Raises:
        UserError: the policy answers with actions that are none, or is a plan for episodes of another length.
    """
    policy.reset(episodes, seed)
    totals, deciding_s = run_episodes(policy, [scenario], evaluation_seeds(seed, episodes), on_tick)
    return Evaluation(per_episode(totals), totals.modes, deciding_s * 1e6 / (episodes * len(totals.throughput_by_tick)))


def check_horizon(policy: Policy, machines: Machines) -> None:
    """Raises `UserError` where the policy is a plan for episodes of another length than the machines' longest."""
    rule = getattr(policy, "rule", policy)
    if isinstance(rule, PlanPolicy):
        rule.check_horizon(int(machines.records["ticks"].max()))


def run_episodes(
    policy: Policy, scenarios: Sequence[Scenario], seeds: NDArray[np.uint64], on_tick: OnTick | None = None
) -> tuple[Totals, float]:
    """One episode of every machine of `seeds`, uint64 (N,), as one batch; and the seconds spent in the policy.

    Several scenarios are dealt out to the machines in turn.
    """
    episodes = len(seeds)
    machines = Machines(scenarios, episodes)
    machines.reset(seeds)
    check_horizon(policy, machines)
    longest = int(machines.records["ticks"].max())
    check_bytes(2 * 8 * longest * episodes, f"throughputs of {longest} ticks of {episodes} episodes")
    running = np.ones(episodes, dtype=bool)
    dt_s = machines.records["dt_s"].copy()
    ticks, reward, throughput = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes)
    terms, lost = np.zeros((episodes, n.N_TERMS)), np.zeros((episodes, n.N_CAUSES))
    counters, kernel_slow = np.zeros((episodes, n.N_COUNTERS)), np.zeros((episodes, n.N_CLASSES))
    by_tick: list[Array] = []
    modes = ModeCounter(episodes)
    deciding_s = 0.0
    while running.any():
        # The engine reuses its buffers; a policy may keep what it is given.
        obs, masks = machines.obs.copy(), machines.masks.copy()
        started = perf_counter()
        actions = policy(obs, masks)
        deciding_s += perf_counter() - started
        modes.add(actions, masks, running)
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
            on_tick(len(by_tick), longest)
    return Totals(
        ticks, dt_s, reward, terms, lost, counters, kernel_slow, throughput, np.stack(by_tick), modes.use(ticks)
    ), deciding_s
