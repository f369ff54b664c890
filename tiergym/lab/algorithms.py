"""The learners that a recipe can name, and which forms of the action each of them can use.

Nothing of stable-baselines3 is imported before an algorithm's class is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.extras import require

FUSED = "fused"
"""A recipe's name for the policy class with our action distribution (`tiergym.policy.sb3_policy`)."""
FUSED_GRU = "fused_gru"
"""The same with a GRU in place of an LSTM."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm of stable-baselines3 or sb3-contrib.

    `own` are its classes in `tiergym.policy.sb3_policy` by the name that a recipe gives them, the usual one first;
    `stock` is SB3's own policy.
    `on_policy` ones learn from rollouts of `n_steps` per machine, the others from a replay buffer;
    `recurrent` ones carry a memory from tick to tick.
    """

    package: str
    class_name: str
    forms: tuple[str, ...]
    stock: str = "MlpPolicy"
    own: Mapping[str, str] = field(default_factory=dict)
    on_policy: bool = True
    recurrent: bool = False

    @property
    def cls(self) -> Any:
        """Its class. Raises `UserError` where the package is not installed."""
        return getattr(require(self.package), self.class_name)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names that a recipe's `policy` may have."""
        return (*self.own, self.stock)

    def policy_class(self, name: str) -> Any:
        """The policy class called `name`. Raises `UserError`, as `cls` does, and for an unknown name."""
        if name not in self.policies:
            raise UserError(suggest(name, self.policies, f"policy of {self.class_name}"))
        algorithm = self.cls
        if name in self.own:
            return getattr(import_module("tiergym.policy.sb3_policy"), self.own[name])
        return algorithm.policy_aliases[name]


_SB3, _CONTRIB = "stable_baselines3", "sb3_contrib"
_ANY = ("multidiscrete", "box", "baseline")
ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(_SB3, "PPO", _ANY, own={FUSED: "FusedActorCriticPolicy"}),
    "a2c": Algorithm(_SB3, "A2C", _ANY, own={FUSED: "FusedActorCriticPolicy"}),
    "dqn": Algorithm(_SB3, "DQN", ("baseline",), on_policy=False),
    "sac": Algorithm(_SB3, "SAC", ("box",), on_policy=False),
    "td3": Algorithm(_SB3, "TD3", ("box",), on_policy=False),
    "maskable_ppo": Algorithm(
        _CONTRIB, "MaskablePPO", ("multidiscrete", "baseline"), own={FUSED: "FusedMaskablePolicy"}
    ),
    "recurrent_ppo": Algorithm(
        _CONTRIB,
        "RecurrentPPO",
        _ANY,
        stock="MlpLstmPolicy",
        own={FUSED: "FusedRecurrentPolicy", FUSED_GRU: "FusedGruPolicy"},
        recurrent=True,
    ),
}
