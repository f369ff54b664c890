"""The learners' policy classes: stable-baselines3's own, with the fused action distribution.

A recipe names them `policy = "fused"`. Networks, initialisation and checkpoints are those of the stock classes;
only the arithmetic of a MultiDiscrete action is another (see `tiergym.policy.multi_categorical`).
"""

from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy

from tiergym.policy.multi_categorical import FusedMultiCategorical


class _FusedHead:
    """Replaces the action distribution before SB3 builds the networks around it."""

    action_space: spaces.Space
    action_dist: Any

    def _build(self, lr_schedule: Any) -> None:
        if isinstance(self.action_space, spaces.MultiDiscrete):
            self.action_dist = FusedMultiCategorical([int(width) for width in self.action_space.nvec])
        super()._build(lr_schedule)  # type: ignore[misc]


class FusedActorCriticPolicy(_FusedHead, ActorCriticPolicy):
    """For PPO and A2C."""


class FusedMaskablePolicy(_FusedHead, MaskableActorCriticPolicy):
    """For MaskablePPO."""


class FusedRecurrentPolicy(_FusedHead, RecurrentActorCriticPolicy):
    """For RecurrentPPO."""
