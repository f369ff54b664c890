"""What a policy did: the share of time that each mode was in force, changes of mind, choices that were impossible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.mode_counts import count_modes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ModeUse:
    """Per episode, float64 with any axes before the last: (episodes,) from a run, (runs, episodes) in a comparison.

    in_force: (..., N_MASK) share of ticks under which the mode was in force; an entry's modes add up to 1.
    changes: (..., N_ACTIONS) ticks whose choice differs from that of the tick before.
    overruled: (..., N_ACTIONS) share of ticks whose choice was impossible, so that mode 0 was in force.
    """

    in_force: Array
    changes: Array
    overruled: Array

    def document(self) -> dict[str, Any]:
        """Means over all episodes: entry to `in_force` by mode, `changes`, `overruled`."""
        shares, changes, overruled = (each.reshape(-1, each.shape[-1]).mean(axis=0).tolist() for each in self._all())
        return {
            entry.name: {
                "in_force": dict(zip(entry.modes, shares[first : first + len(entry.modes)], strict=True)),
                "changes": changes[index],
                "overruled": overruled[index],
            }
            for index, (entry, first) in enumerate(zip(act.ENTRIES, act.OFFSETS.tolist(), strict=True))
        }

    def columns(self) -> dict[str, Array]:
        """One column per number, `NAME` of `COLUMNS` to (episodes of all runs,)."""
        flat = np.concatenate([each.reshape(-1, each.shape[-1]) for each in self._all()], axis=1)
        return dict(zip(COLUMNS, flat.T, strict=True))

    def _all(self) -> Iterator[Array]:
        yield from (self.in_force, self.changes, self.overruled)


COLUMNS = (
    *(f"modes/{name}" for name in act.MASK_NAMES),
    *(f"changes/{name}" for name in act.NAMES),
    *(f"overruled/{name}" for name in act.NAMES),
)
"""Names of a Parquet file's columns, the first as in a training run's TensorBoard events."""


def from_columns(columns: dict[str, Array], shape: tuple[int, ...]) -> ModeUse:
    """What `ModeUse.columns` made, in `shape` (runs, episodes)."""
    stacked = np.stack([columns[name] for name in COLUMNS], axis=-1).reshape(*shape, len(COLUMNS))
    last = act.N_MASK + len(act.ENTRIES)
    return ModeUse(stacked[..., : act.N_MASK], stacked[..., act.N_MASK : last], stacked[..., last:])


def stack(runs: Sequence[ModeUse]) -> ModeUse:
    """Several runs of a policy as one, with a first axis of runs."""
    return ModeUse(
        np.stack([run.in_force for run in runs]),
        np.stack([run.changes for run in runs]),
        np.stack([run.overruled for run in runs]),
    )


class ModeCounter:
    """Counts tick by tick what N machines were told."""

    def __init__(self, machines: int) -> None:
        self._last = np.zeros((machines, len(act.ENTRIES)), np.int64)
        self._in_force = np.zeros((machines, act.N_MASK), np.int64)
        self._changes, self._overruled = np.zeros_like(self._last), np.zeros_like(self._last)
        self._later = False

    def add(self, actions: NDArray[np.int64], masks: NDArray[np.bool_], running: NDArray[np.bool_]) -> None:
        """One tick of the machines that are `running` (N,): choices (N, N_ACTIONS), masks before them (N, N_MASK)."""
        count_modes(actions, masks, running, self._later, self._last, self._in_force, self._changes, self._overruled)
        self._later = True

    def use(self, ticks: Array) -> ModeUse:
        """Shares of the `ticks` (N,) that each machine made."""
        made = ticks[:, None]
        return ModeUse(self._in_force / made, self._changes.astype(np.float64), self._overruled / made)


def phrases(use: dict[str, Any]) -> dict[str, str]:
    """Of a `ModeUse.document`, each entry that ever left mode 0 in words: `restrict 80 %, fallback 20 %`."""
    out = {}
    for entry in act.ENTRIES:
        shares = use[entry.name]["in_force"]
        if shares[entry.modes[entry.default]] < 1:
            ordered = sorted(((share, mode) for mode, share in shares.items() if share > 0), key=lambda s: -s[0])
            out[entry.name] = ", ".join(f"{mode} {percent(share)}" for share, mode in ordered)
    return out


def percent(share: float) -> str:
    """A share in percent, never rounded to 0 or 100 unless it is."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"
