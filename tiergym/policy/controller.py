"""The slow controller around a tree, in whole numbers: what `policy.h` does, as arrays over N machines.

Every period it walks the tree once per bucket of pressure (how much of DRAM is free above low) and writes a table,
class of kernel pages by bucket, which an allocation path reads with the pressure of that moment; the other entries of
the action are one mode each, of the pressure when it was written. Around that:

- fallback: what Linux does. It is in force until the first update, and while a guard holds.
- rate limit: a row of the table, or another entry, changes at most once in `HOLD_MS`.
- guards: free DRAM at its floor, kswapd that has given up or is woken all the time, stalls of all tasks, a kill. Each
  puts the fallback in force at once, for `COOL_MS` from when it last held. Those of DRAM and of its kswapd ask only
  where the tree would require DRAM of a class: nothing else in the table keeps a request from going elsewhere.

`policy.h` and this twin decide the same, to the bit (tests/test_policy_header.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import NAMES
from tiergym.policy.fixed_point import ONE, to_fixed
from tiergym.policy.tree import TreePolicy
from tiergym.sim import names as n

TICK_MS: Final = 250
"""Between two calls of a policy on a simulated machine."""
PERIODS_MS: Final = (250, 1000)
"""Shortest and longest time between two updates; the longest is what is generated."""
PRESSURE: Final = "above_low.fast"
"""What the buckets are of: 1 is 5 % of DRAM free above low, 0 is none."""
EDGES: Final = (ONE // 8, ONE // 2, ONE - 1)
"""A bucket ends at each of them, itself included: 0.6 %, 2.5 % and just under 5 % of DRAM."""
MIDDLES: Final = (ONE // 16, ONE * 5 // 16, ONE * 3 // 4, ONE)
"""The pressure that the tree is shown for a bucket that the machine is not in."""
N_BUCKETS: Final = len(MIDDLES)
HOLD_MS: Final = 1000
COOL_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Guard:
    """The fallback is in force where the input is from `low` to `high`, in 1/65536; only where DRAM is required of a
    class, unless `always`."""

    input: str
    why: str
    low: int
    high: int
    always: bool = False


GUARDS: Final = (
    Guard(PRESSURE, "free DRAM is down to its low watermarks", 0, 0),
    Guard("kswapd_failures.fast", "kswapd has found nothing in 8 runs of 16, or has given up", ONE // 2, ONE),
    Guard("rate.kswapd_wakeups_fast", "kswapd is woken more than 900 times a second", ONE * 9 // 10, ONE),
    Guard("psi.full", "every task waits for memory a quarter of the time", ONE // 4, ONE, always=True),
    Guard("rate.oom_kill", "something was killed for want of memory", 1, ONE, always=True),
)
_COLUMNS = {name: NAMES.index(name) for name in (PRESSURE, *(guard.input for guard in GUARDS))}


def bucket_of(pressure: NDArray[np.int32]) -> NDArray[np.int64]:
    """The bucket of each pressure, int64 of its shape."""
    return np.searchsorted(EDGES, pressure, side="left")


class ControllerPolicy:
    """The controller on N machines, asked every `TICK_MS`.

    place: int64 (N, N_PLACEMENTS, N_BUCKETS) modes; setting: int64 (N, N_ACTIONS - N_PLACEMENTS) modes; hold_ms: int64
    (N, N_ACTIONS), how long each row or entry must stay; cool_ms: int64 (N,), how long the fallback is in force.
    """

    def __init__(self, tree: TreePolicy, period_ms: int = PERIODS_MS[1]) -> None:
        self.name = tree.name
        self.tree = tree
        self.period_ms = period_ms
        self.reset(1, 0)

    @property
    def plausibility(self) -> str:
        """Of the tree."""
        return self.tree.plausibility

    def reset(self, num_envs: int, seed: int) -> None:
        """The fallback, everywhere."""
        rest = len(act.ENTRIES) - n.N_PLACEMENTS
        self.place = np.zeros((num_envs, n.N_PLACEMENTS, N_BUCKETS), np.int64)
        self.setting = np.zeros((num_envs, rest), np.int64)
        self.hold_ms = np.zeros((num_envs, len(act.ENTRIES)), np.int64)
        self.cool_ms = np.zeros(num_envs, np.int64)
        self.due_ms = 0

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64; a mode that is masked becomes the default there."""
        fixed = to_fixed(obs)
        if len(fixed) != len(self.place):
            self.reset(len(fixed), 0)
        if self.due_ms <= 0:
            self.update(fixed)
            self.due_ms += self.period_ms
        self.due_ms -= TICK_MS
        bucket = bucket_of(fixed[:, _COLUMNS[PRESSURE]])
        return np.concatenate([self.place[np.arange(len(fixed)), :, bucket], self.setting], axis=1)

    def update(self, fixed: NDArray[np.int32]) -> None:
        """Write the table anew for observations int32 (N, N_OBS)."""
        pressure = fixed[:, _COLUMNS[PRESSURE]]
        now = bucket_of(pressure)
        wanted = np.empty((len(fixed), len(act.ENTRIES), N_BUCKETS), np.int64)
        for bucket, middle in enumerate(MIDDLES):
            shown = fixed.copy()
            shown[:, _COLUMNS[PRESSURE]] = np.where(now == bucket, pressure, middle)
            wanted[:, :, bucket] = self.tree.actions[self.tree.leaves_of(shown)]
        required = (wanted[:, : n.N_PLACEMENTS] == n.RESTRICT).any(axis=(1, 2))
        self.hold_ms = np.maximum(self.hold_ms - self.period_ms, 0)
        self.cool_ms = np.maximum(self.cool_ms - self.period_ms, 0)
        self.cool_ms[guarded(fixed, required)] = COOL_MS
        cooling = self.cool_ms > 0
        wanted[cooling] = act.DEFAULT[None, :, None]
        place, setting = wanted[:, : n.N_PLACEMENTS], wanted[np.arange(len(fixed)), n.N_PLACEMENTS :, now]
        differs = np.concatenate([(place != self.place).any(axis=2), setting != self.setting], axis=1)
        changed = differs & ((self.hold_ms == 0) | cooling[:, None])
        self.hold_ms[changed] = HOLD_MS
        self.place = np.where(changed[:, : n.N_PLACEMENTS, None], place, self.place)
        self.setting = np.where(changed[:, n.N_PLACEMENTS :], setting, self.setting)


def guarded(fixed: NDArray[np.int32], required: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a guard holds, bool (N,), for observations int32 (N, N_OBS); `required` (N,): DRAM is, of a class."""
    held = np.zeros(len(fixed), np.bool_)
    for guard in GUARDS:
        value = fixed[:, _COLUMNS[guard.input]]
        held |= (guard.low <= value) & (value <= guard.high) & (required | guard.always)
    return held
