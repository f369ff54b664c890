"""Helpers for hand-written rules: observation entries by name, modes by name.

    class SpareTheStacks:
        def __init__(self):
            self.free = obs_index("free.normal")

        def __call__(self, obs, masks):
            actions = default_actions(len(obs))
            set_mode(actions, "place.kstack", "restrict", where=obs[:, self.free] > 0.1)
            return actions

Rules see all machines of a batch at once, so conditions are boolean arrays, not `if`.
"""

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.errors import UserError, suggest

_OBSERVATIONS = {entry.name: index for index, entry in enumerate(observations.ENTRIES)}


def obs_index(name: str) -> int:
    """Column of the named observation. Raises `UserError` with the nearest name if there is none."""
    if name not in _OBSERVATIONS:
        raise UserError(suggest(name, _OBSERVATIONS, "observation"))
    return _OBSERVATIONS[name]


def raw(obs: NDArray[np.float32], index: int) -> NDArray[np.float64]:
    """What column `index` of `obs` (N, N_OBS) stands for, float64 (N,): pages, events or misses per second of an entry
    that is shown as x / (x + scale), and a share as it is."""
    shown, scale = obs[:, index].astype(np.float64), float(observations.SCALES[index])
    return scale * shown / np.maximum(1.0 - shown, 1e-6) if scale > 0 else shown


def default_actions(num_envs: int) -> NDArray[np.int64]:
    """What an untouched Linux does on each of `num_envs` machines, (N, N_ACTIONS) int64, yours to change."""
    return np.tile(act.DEFAULT, (num_envs, 1))


def set_mode(
    actions: NDArray[np.int64], entry: str, mode: str, where: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Set `entry` to `mode` in `actions` (N, N_ACTIONS), on the machines of `where` (N,) bool or on all.

    Returns `actions`. Raises `UserError` for an unknown entry or mode.
    """
    index = act.from_modes({entry: mode})[act.NAMES.index(entry)]
    actions[slice(None) if where is None else where, act.NAMES.index(entry)] = index
    return actions
