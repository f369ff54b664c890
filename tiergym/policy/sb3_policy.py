"""The learners' policy classes: stable-baselines3's own, with the fused action distribution.

A recipe names them `policy = "fused"`, or `"fused_gru"` for a recurrent one with another cell. Networks, initialisation
and checkpoints are those of the stock classes; only the arithmetic of a MultiDiscrete action is another (see
`tiergym.policy.multi_categorical`).
"""

from functools import wraps
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

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


Pair = tuple[th.Tensor, th.Tensor]


class PairedGru(nn.GRU):
    """A GRU (Cho et al. 2014) where sb3-contrib has an LSTM: of the pair of states the second is handed on as it is."""

    def forward(self, inputs: th.Tensor, states: Pair) -> tuple[th.Tensor, Pair]:  # type: ignore[override]
        """Outputs (T, N, hidden) of inputs (T, N, features), and the states (layers, N, hidden) after them."""
        hidden, unused = states
        outputs, hidden = super().forward(inputs, hidden)
        return outputs, (hidden, unused)


class FusedGruPolicy(FusedRecurrentPolicy):
    """For RecurrentPPO, with a GRU of as many layers and units where it has an LSTM."""

    @wraps(RecurrentActorCriticPolicy.__init__)  # type: ignore[misc]  # a recipe's arguments are checked by its signature
    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, lr_schedule: Any, *args: Any, **named: Any
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, *args, **named)
        optimizer: Any = self.optimizer_class
        self.lstm_actor = self._gru()
        if self.enable_critic_lstm:
            self.lstm_critic = self._gru()
        self.optimizer = optimizer(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _gru(self) -> Any:
        layers, _, hidden = self.lstm_hidden_state_shape
        return PairedGru(self.features_dim, hidden, num_layers=layers, **self.lstm_kwargs)
