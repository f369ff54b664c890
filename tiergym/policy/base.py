"""What a policy is, and the check that every action passes before a simulator sees it.

A policy is a batched callable: observations (N, N_OBS) float32 and masks (N, N_MASK) bool to actions
(N, N_ACTIONS) int64, one mode index per entry of `tiergym.env.actions.ENTRIES`. A rule written by a user may be a
plain function; `CheckedPolicy` gives it the name and the `reset` that evaluation relies on.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError, shown
from tiergym.policy.guarding import guarded
from tiergym.sim.names import PLAUSIBILITIES

Rule = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.int64]]
"""The least a policy must be: `rule(obs, masks) -> actions`."""


@runtime_checkable
class Policy(Protocol):
    """A named, resettable `Rule`."""

    name: str

    @property
    def plausibility(self) -> str:
        """One of `tiergym.sim.names.PLAUSIBILITIES`: of the least plausible mode that it may choose."""
        ...

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64 for observations (N, N_OBS) float32 and masks (N, N_MASK) bool."""
        ...

    def reset(self, num_envs: int, seed: int) -> None:
        """Start new episodes on `num_envs` machines; a random policy draws from `seed` from now on."""
        ...


def check_actions(actions: object, num_envs: int, name: str) -> NDArray[np.int64]:
    """`actions` as a contiguous int64 array (num_envs, N_ACTIONS).

    A copy, so that what was checked stays as it is, whoever else holds the array. Raises `UserError` for another shape,
    for numbers that are not integers, and for a mode that its entry does not have.
    """
    array = _as_array(actions, num_envs, name)
    if array.shape != (num_envs, len(act.ENTRIES)):
        raise UserError(
            f"policy '{name}': actions have shape {array.shape}; allowed: ({num_envs}, {len(act.ENTRIES)}), "
            f"one mode index per machine and entry"
        )
    if array.dtype.kind not in "iu":  # NumPy's time differences are integers, too
        raise UserError(f"policy '{name}': actions are {array.dtype}; allowed: integers (mode indices)")
    array = np.array(array)
    wrong = (array < 0) | (array >= act.NVEC)
    if wrong.any():
        machine, index = np.argwhere(wrong)[0]
        entry = act.ENTRIES[index]
        raise UserError(
            f"policy '{name}': {entry.name} is {array[machine, index]} on machine {machine}; "
            f"allowed: 0 to {len(entry.modes) - 1} ({', '.join(entry.modes)})"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _as_array(actions: object, num_envs: int, name: str) -> NDArray[Any]:
    """What a rule returned, not yet a copy of an array.

    No object of the rule's is asked how long it is or what is in it, for the answer may be wrong or never end, and what
    one says of its memory (`__array_interface__`) may kill the process.
    """
    if isinstance(actions, np.ma.MaskedArray):
        raise UserError(f"policy '{name}': actions are a masked array; allowed: an array, in which every mode is said")
    if isinstance(actions, np.ndarray):
        return np.asarray(actions)
    if type(actions) in (list, tuple):
        return _of_rows(cast("list[object]", actions), num_envs, name)
    if hasattr(actions, "__array__"):
        made = actions.__array__()
        if not isinstance(made, np.ndarray):
            raise UserError(
                f"policy '{name}': actions are no array: __array__ of a {type(actions).__name__} gives none"
            )
        return np.asarray(made)
    return np.empty((), object)


def _of_rows(rows: list[object], num_envs: int, name: str) -> NDArray[Any]:
    """An array of lists of numbers, or of an array for each machine."""
    entries = len(act.ENTRIES)
    if len(rows) != num_envs:
        raise UserError(f"policy '{name}': actions are no array: a list of {len(rows)}; allowed: {num_envs} rows")
    for row in rows:
        if isinstance(row, np.ndarray) and not isinstance(row, np.ma.MaskedArray):
            shape = np.asarray(row).shape
        elif type(row) in (list, tuple) and all(map(_is_number, cast("list[object]", row)[: entries + 1])):
            shape = (len(cast("list[object]", row)),)
        else:
            raise UserError(f"policy '{name}': actions are no array: a row is no list of numbers")
        if shape != (entries,):
            raise UserError(f"policy '{name}': actions are no array: a row has the shape {shape}; allowed: {entries}")
    return np.array(rows)


def _is_number(value: object) -> bool:
    return type(value) in (int, float, bool) or isinstance(value, np.generic)


def digest_of(policy: Policy) -> str:
    """Of what a policy was loaded from; empty where it is unknown."""
    return str(getattr(policy, "digest", ""))


class CheckedPolicy:
    """A rule with a name, a `reset` and checked actions (14 us per call for one machine, 42 us for 1024).

    `digest` tells what it was loaded from: of the file's bytes, empty for an object that came from none.
    """

    def __init__(self, rule: Rule, name: str, digest: str = "") -> None:
        self.rule = rule
        self.name = name
        self.digest = digest
        self._tick = 0

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The rule's actions, (N, N_ACTIONS) int64.

        Raises `UserError` that says in which tick since the last reset, from 0, where they are not valid actions, and
        for whatever the rule raises; a rule that exits ends nothing.
        """
        tick, self._tick = self._tick, self._tick + 1
        with guarded(f"policy '{self.name}' failed in tick {tick}", again=True):
            try:
                return check_actions(self.rule(obs, masks), len(obs), self.name)
            except UserError as error:
                raise UserError(f"{error}; in tick {tick}") from error

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode that the rule may choose: any, if it does not say so itself."""
        found = self._attribute("plausibility", act.COUNTERFACTUAL)
        if type(found) is not str or found not in PLAUSIBILITIES:
            raise UserError(
                f"policy '{self.name}': plausibility is {shown(found)}; allowed: {', '.join(PLAUSIBILITIES)}"
            )
        return str(found)

    def _attribute(self, name: str, otherwise: object) -> Any:
        """What the rule has of that name. Raises `UserError` for what it raises instead."""
        with guarded(f"policy '{self.name}' failed when asked for its {name}"):
            return getattr(self.rule, name, otherwise)

    def reset(self, num_envs: int, seed: int) -> None:
        """Passed on to a rule that has a `reset`; a stateless rule needs none."""
        self._tick = 0
        reset = self._attribute("reset", None)
        if reset is None:
            return
        with guarded(f"policy '{self.name}' failed in its reset"):
            reset(num_envs, seed)

    def probe(self) -> None:
        """Ask for one action on blank machines, so that a broken rule is refused before any work.

        Raises `UserError` for whatever the rule raises.
        """
        obs = np.zeros((2, N_OBS), dtype=np.float32)
        masks = np.ones((2, act.N_MASK), dtype=np.bool_)
        self.reset(2, 0)
        with guarded(f"policy '{self.name}' failed on a blank observation"):
            check_actions(self.rule(obs, masks), len(obs), self.name)
