"""The plainest rule that reacts: one observation, one threshold, one set of modes on each side of it.

`tiergym tune threshold` searches them at random: what is reached without anybody having thought about it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.policy.rule_parameters import choice, choices, tunable
from tiergym.policy.rules import obs_index

_DEFAULTS = {entry.name: entry.modes[entry.default] for entry in act.ENTRIES}
_MODES = {entry.name: entry.modes for entry in act.ENTRIES}


@dataclass
class Threshold:
    """Modes `above` where the observation is above the threshold, `below` elsewhere."""

    observation: str = choice("psi.some", observations.NAMES)
    threshold: float = tunable(0.1, 0.0, 1.0, "of the observation as it is shown")
    below: dict[str, str] = choices(_DEFAULTS, _MODES)
    above: dict[str, str] = choices(_DEFAULTS, _MODES)

    def __post_init__(self) -> None:
        self._index = obs_index(self.observation)
        self._actions = np.stack([act.from_modes(self.below), act.from_modes(self.above)])

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode on either side."""
        return act.plausibility(self._actions)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions, int64 (N, N_ACTIONS)."""
        return self._actions[(obs[:, self._index] > self.threshold).astype(np.int64)]
