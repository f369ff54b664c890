"""A policy that never changes its mind: a TOML file of named modes (`tiergym.env.static_actions`)."""

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions
from tiergym.env.static_actions import StaticAction


class StaticPolicy:
    """The same modes in every tick and on every machine."""

    def __init__(self, static: StaticAction) -> None:
        self.name = static.name
        self.description = static.description
        self.action = static.action

    @property
    def plausibility(self) -> str:
        """Of its least plausible mode."""
        return actions.plausibility(self.action)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The fixed action once per machine, (N, N_ACTIONS) int64; a mode that is masked becomes the default there."""
        return np.tile(self.action, (len(obs), 1))
