"""The last ticks of a batch of machines, kept for their pictures."""

import numpy as np
from numpy.typing import NDArray

from tiergym.sim import names as n

LENGTH = 240
"""Steps that are kept: a minute of ticks of the default length."""


def per_tier(pages: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sum over the zones, the last axis, of each tier: int64 (..., N_TIERS)."""
    return np.stack([pages[..., zones].sum(axis=-1, dtype=np.int64) for zones in n.TIER_ZONES], axis=-1)


class History:
    """Rings over the last `LENGTH` steps of N machines, the newest one in the last place of `last`.

    pages: float32 (LENGTH, N, N_CLASSES, N_TIERS). free, marks: float32 (LENGTH, N) and (LENGTH, N, N_WMARKS), of
    DRAM's largest zone, in pages. lost: float32 (LENGTH, N, N_CAUSES). killed: bool (LENGTH, N).
    """

    def __init__(self, machines: int) -> None:
        self._steps = np.zeros(machines, np.int64)
        self._ticks = np.zeros(machines, np.int64)
        self.pages = np.zeros((LENGTH, machines, n.N_CLASSES, n.N_TIERS), np.float32)
        self.free = np.zeros((LENGTH, machines), np.float32)
        self.marks = np.zeros((LENGTH, machines, n.N_WMARKS), np.float32)
        self.lost = np.zeros((LENGTH, machines, n.N_CAUSES), np.float32)
        self.killed = np.zeros((LENGTH, machines), np.bool_)

    def add(self, records: NDArray[np.void]) -> None:
        """The state after a step, records (N,). A machine that has started an episode since has no past."""
        ticks = records["tick"].astype(np.int64)
        self._steps[ticks <= self._ticks] = 0
        self._ticks = ticks
        machines = np.flatnonzero(ticks > 0)
        at = self._steps[machines] % LENGTH
        zone = largest_zone(records)[machines]
        self.pages[at, machines] = per_tier(records["used_pages"][machines])
        self.free[at, machines] = records["free_pages"][machines, zone]
        self.marks[at, machines] = records["wmark_pages"][machines, :, zone]
        self.lost[at, machines] = records["lost"][machines]
        self.killed[at, machines] = records["counters"][machines, n.C_OOM_KILL] > 0
        self._steps[machines] += 1

    def order(self, machine: int) -> NDArray[np.int64]:
        """Where the kept steps of a machine lie, the oldest one first: int64 (steps,), at most `LENGTH` of them."""
        steps = int(self._steps[machine])
        return np.arange(max(0, steps - LENGTH), steps) % LENGTH


def largest_zone(records: NDArray[np.void]) -> NDArray[np.int64]:
    """DRAM's zone with the most pages, int64 (N,): whose marks decide about reclaim."""
    return np.asarray(records["managed_pages"][:, n.TIER_ZONES[n.FAST]].argmax(axis=1))
