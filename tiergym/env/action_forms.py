"""Three spaces for the same decision, so that every algorithm finds one it can use.

`multidiscrete` is the action itself, `box` maps one number per entry to a mode by equal bins, and
`baseline` chooses a named static action as a whole. A form turns a batch of its actions into mode
indices (N, N_ACTIONS) int64, and the machines' masks into masks of its own space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction
from numpy.typing import NDArray

from tiergym.env import static_actions
from tiergym.env.actions import NAMES, NVEC
from tiergym.errors import UserError, suggest

Modes = NDArray[np.int64]
Masks = NDArray[np.bool_]
_UNSIGNED_NVEC = NVEC.astype(np.uint64)
_BINS_PER_UNIT = NVEC / 2
_LAST_MODE = NVEC - 1


class ActionForm(Protocol):
    """How one machine's action looks to a learner."""

    name: str

    @property
    def space(self) -> spaces.Space[Any]:
        """Space of one machine's action."""
        ...

    def to_modes(self, actions: Any, num_envs: int) -> Modes:
        """Mode indices (num_envs, N_ACTIONS) int64, C-contiguous; raises `InvalidAction`."""
        ...

    def to_masks(self, masks: Masks) -> Masks:
        """Masks of this form, a fresh array (N, M), from those of the modes (N, N_MASK)."""
        ...


class MultiDiscreteForm:
    """One mode index per entry: MultiDiscrete(NVEC)."""

    name = "multidiscrete"

    def __init__(self) -> None:
        self.space = spaces.MultiDiscrete(NVEC)

    def to_modes(self, actions: Any, num_envs: int) -> Modes:
        """The actions (num_envs, N_ACTIONS) themselves; raises `InvalidAction` for a mode that does not exist."""
        array = np.asarray(actions)
        if array.shape != (num_envs, len(NVEC)) or array.dtype.kind not in "iu":
            raise _refused(array, f"integers of shape ({num_envs}, {len(NVEC)})")
        modes = np.ascontiguousarray(array, dtype=np.int64)
        # One comparison finds both ends: seen as unsigned, a negative index is huge. Counting is several
        # times faster than `any` on one machine's action.
        if np.count_nonzero(modes.view(np.uint64) >= _UNSIGNED_NVEC):
            machine, entry = np.argwhere((modes < 0) | (modes >= NVEC))[0]
            raise InvalidAction(
                f"machine {machine}: {NAMES[entry]} is {modes[machine, entry]}; allowed: 0 to {NVEC[entry] - 1}"
            )
        return modes

    def to_masks(self, masks: Masks) -> Masks:
        """A copy."""
        return masks.copy()


class BoxForm:
    """One number in [-1, 1] per entry, cut into as many equal bins as the entry has modes."""

    name = "box"

    def __init__(self) -> None:
        self.space = spaces.Box(-1.0, 1.0, (len(NVEC),), np.float32)

    def to_modes(self, actions: Any, num_envs: int) -> Modes:
        """The bin of each number of `actions` (num_envs, N_ACTIONS); numbers outside [-1, 1] belong to the nearest bin.

        Raises `InvalidAction` for numbers that are not finite.
        """
        array = np.asarray(actions)
        if array.shape != (num_envs, len(NVEC)) or array.dtype.kind not in "fiu":
            raise _refused(array, f"numbers of shape ({num_envs}, {len(NVEC)})")
        if np.count_nonzero(np.isfinite(array)) < array.size:
            machine, entry = np.argwhere(~np.isfinite(array))[0]
            raise InvalidAction(
                f"machine {machine}: {NAMES[entry]} is {array[machine, entry]}; allowed: numbers in [-1, 1]"
            )
        inside = np.minimum(np.maximum(array, -1), 1)
        return np.minimum(((inside + 1) * _BINS_PER_UNIT).astype(np.int64), _LAST_MODE)

    def to_masks(self, masks: Masks) -> Masks:
        """A copy of the modes' masks: a Box has none of its own."""
        return masks.copy()


class BaselineForm:
    """The choice of one named static action: Discrete(number of baselines).

    `baselines` names static actions or their TOML files; the default is every one that is shipped, in
    alphabetical order. A learner's action `i` means `baselines[i]`.
    """

    name = "baseline"

    def __init__(self, baselines: Sequence[str | Path] | None = None) -> None:
        if isinstance(baselines, str | Path):
            raise UserError(f"baselines is {str(baselines)!r}; allowed: a list of names or TOML files")
        chosen = static_actions.shipped().values() if baselines is None else map(static_actions.find, baselines)
        self.baselines = tuple(chosen)
        if not self.baselines:
            raise UserError("baselines is empty; allowed: at least one name or TOML file")
        self._table = np.stack([baseline.action for baseline in self.baselines])
        self.space = spaces.Discrete(len(self.baselines))

    @property
    def baseline_names(self) -> tuple[str, ...]:
        """What each action means."""
        return tuple(baseline.name for baseline in self.baselines)

    def to_modes(self, actions: Any, num_envs: int) -> Modes:
        """The chosen baselines' rows for `actions` (num_envs,); raises `InvalidAction` for an index that has none."""
        array = np.asarray(actions)
        if array.shape != (num_envs,) or array.dtype.kind not in "iu":
            raise _refused(array, f"integers of shape ({num_envs},)")
        wrong = (array < 0) | (array >= len(self._table))
        if wrong.any():
            machine = int(wrong.argmax())
            raise InvalidAction(
                f"machine {machine}: baseline {array[machine]}; allowed: 0 to {len(self._table) - 1} "
                f"({', '.join(self.baseline_names)})"
            )
        return self._table[array]

    def to_masks(self, masks: Masks) -> Masks:
        """All true, (N, number of baselines): a machine falls back to the default where a mode is impossible."""
        return np.ones((len(masks), len(self._table)), dtype=np.bool_)


FORMS = ("multidiscrete", "box", "baseline")


def action_form(name: str, baselines: Sequence[str | Path] | None = None) -> ActionForm:
    """The form called `name`; `baselines` only with `baseline`. Raises `UserError`."""
    if name == "baseline":
        return BaselineForm(baselines)
    if baselines is not None:
        raise UserError(f"baselines: only allowed with action_form 'baseline', not '{name}'")
    if name == "multidiscrete":
        return MultiDiscreteForm()
    if name == "box":
        return BoxForm()
    raise UserError(suggest(name, FORMS, "action_form"))


def _refused(array: NDArray[Any], allowed: str) -> InvalidAction:
    return InvalidAction(f"actions are {array.dtype} of shape {array.shape}; allowed: {allowed}")
