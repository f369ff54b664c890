"""A model's deterministic actor as a policy, while the model still learns: what its export would decide."""

from __future__ import annotations

import numpy as np
import torch as th
from numpy.typing import NDArray

from tiergym.env.actions import COUNTERFACTUAL
from tiergym.policy.export_onnx import Actor


class TorchPolicy:
    """Decisions of an actor (`tiergym.policy.export_onnx.make_actor`), its weights as they are at each call.

    One with a state keeps it between calls, from `reset` on.
    """

    plausibility = COUNTERFACTUAL

    def __init__(self, actor: Actor, name: str) -> None:
        self.name = name
        self._actor = actor
        self._device = actor.offsets.device
        self._width = actor.state_width
        self._state = th.zeros(0, 0)

    def reset(self, num_envs: int, seed: int) -> None:
        """Blank state for `num_envs` new episodes; the seed plays no part."""
        self._state = th.zeros(num_envs, self._width, device=self._device)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64 for observations (N, N_OBS) float32 and masks (N, N_MASK) bool."""
        inputs = [th.as_tensor(array, device=self._device) for array in (obs, masks)]
        with th.no_grad():
            if self._width:
                actions, self._state = self._actor(*inputs, self._state)
            else:
                actions = self._actor(*inputs)
        return np.asarray(actions.cpu())
