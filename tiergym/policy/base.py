"""What a policy is, and the check that every action passes before a simulator sees it.

A policy is a batched callable: observations (N, N_OBS) float32 and masks (N, N_MASK) bool to actions
(N, N_ACTIONS) int64, one mode index per entry of `tiergym.env.actions.ENTRIES`. A rule written by a user may be a
plain function; `CheckedPolicy` gives it the name and the `reset` that evaluation relies on.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError, shown
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
    try:
        array = np.array(actions)
    except (ValueError, TypeError) as error:
        raise UserError(f"policy '{name}': actions are no array: {error}") from error
    if array.shape != (num_envs, len(act.ENTRIES)):
        raise UserError(
            f"policy '{name}': actions have shape {array.shape}; allowed: ({num_envs}, {len(act.ENTRIES)}), "
            f"one mode index per machine and entry"
        )
    if array.dtype.kind not in "iu":  # NumPy's time differences are integers, too
        raise UserError(f"policy '{name}': actions are {array.dtype}; allowed: integers (mode indices)")
    wrong = (array < 0) | (array >= act.NVEC)
    if wrong.any():
        machine, index = np.argwhere(wrong)[0]
        entry = act.ENTRIES[index]
        raise UserError(
            f"policy '{name}': {entry.name} is {array[machine, index]} on machine {machine}; "
            f"allowed: 0 to {len(entry.modes) - 1} ({', '.join(entry.modes)})"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def digest_of(policy: Policy) -> str:
    """Of what a policy was loaded from; empty where it is unknown."""
    return str(getattr(policy, "digest", ""))


_LONGEST_TOLD = 2000
"""Characters of what a rule raises."""


class CheckedPolicy:
    """A rule with a name, a `reset` and checked actions (about 20 us per call at 1024 machines).

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
        try:
            return check_actions(self.rule(obs, masks), len(obs), self.name)
        except UserError as error:
            raise UserError(f"{error}; in tick {tick}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"policy '{self.name}' failed in tick {tick}: {told(error)}") from error

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode that the rule may choose: any, if it does not say so itself."""
        found = self._attribute("plausibility", act.COUNTERFACTUAL)
        if found not in PLAUSIBILITIES:
            raise UserError(
                f"policy '{self.name}': plausibility is {shown(found)}; allowed: {', '.join(PLAUSIBILITIES)}"
            )
        return str(found)

    def _attribute(self, name: str, otherwise: object) -> Any:
        """What the rule has of that name. Raises `UserError` for what it raises instead."""
        try:
            return getattr(self.rule, name, otherwise)
        except Exception as error:
            raise UserError(f"policy '{self.name}' failed when asked for its {name}: {told(error)}") from error

    def reset(self, num_envs: int, seed: int) -> None:
        """Passed on to a rule that has a `reset`; a stateless rule needs none."""
        self._tick = 0
        reset = self._attribute("reset", None)
        if reset is None:
            return
        try:
            reset(num_envs, seed)
        except UserError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"policy '{self.name}' failed in its reset: {told(error)}") from error

    def probe(self) -> None:
        """Ask for one action on blank machines, so that a broken rule is refused before any work.

        Raises `UserError` for whatever the rule raises.
        """
        obs = np.zeros((2, N_OBS), dtype=np.float32)
        masks = np.ones((2, act.N_MASK), dtype=np.bool_)
        self.reset(2, 0)
        try:
            check_actions(self.rule(obs, masks), len(obs), self.name)
        except UserError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UserError(f"policy '{self.name}' failed on a blank observation: {told(error)}") from error


def told(error: BaseException) -> str:
    """What a stranger's code raised, for a message.

    >>> told(ValueError("x"))
    'ValueError: x'
    """
    try:
        text = str(error)
    except BaseException:  # code of the stranger's, too
        text = "(what it says cannot be shown)"
    return f"{type(error).__name__}: {text if len(text) <= _LONGEST_TOLD else text[:_LONGEST_TOLD] + '...'}"
