"""Archives of stable-baselines3 (`model.save("model.zip")`) as models; reading one runs whatever code it holds.

Half of such an archive is pickled, so that it is read only where a person answers for it (`--trust`, SECURITY.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.trust import TRUST

SUFFIX = ".zip"
_KINDS = (
    # sb3-contrib's policies are not subclasses of one another, and PPO's and A2C's are one class.
    ("sb3_contrib", "MaskablePPO", "sb3_contrib.common.maskable.policies", "MaskableActorCriticPolicy"),
    ("sb3_contrib", "RecurrentPPO", "sb3_contrib.common.recurrent.policies", "RecurrentActorCriticPolicy"),
    ("stable_baselines3", "PPO", "stable_baselines3.common.policies", "ActorCriticPolicy"),
    ("stable_baselines3", "DQN", "stable_baselines3.dqn.policies", "DQNPolicy"),
    ("stable_baselines3", "SAC", "stable_baselines3.sac.policies", "SACPolicy"),
    ("stable_baselines3", "TD3", "stable_baselines3.td3.policies", "TD3Policy"),
)
"""Package and class of an algorithm, and of the policy by which an archive is told to be one of it, first match."""


def refuse_archive(path: Path) -> UserError:
    """The error where nobody answers for an archive."""
    return UserError(
        f"{path}: an archive of stable-baselines3 is pickled, and reading a pickle runs the code in it; allowed: "
        f"policy.onnx, which runs none; tiergym evaluate, export and train --from read the archive with {TRUST}, where "
        "you know who wrote it"
    )


def load_archive(path: Path, trust: bool) -> BaseAlgorithm:
    """The model in an archive, on the CPU, without an environment.

    Raises `UserError` without `trust`, before a byte is read; for a file that is no such archive; and for a model of
    other observations or actions. That an archive's 94 observations mean what they mean here, it does not say.
    """
    if not trust:
        raise refuse_archive(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file, or no regular one")
    read: Any = require("stable_baselines3.common.save_util").load_from_zip_file
    try:
        data = read(path, device="cpu")[0] or {}
        model: BaseAlgorithm = _algorithm(data, path).load(path, device="cpu")
    except UserError:
        raise
    except Exception as error:  # a pickle may raise anything
        raise UserError(f"{path}: not a readable archive of stable-baselines3: {error}") from error
    _check_spaces(model, path)
    return model


def _algorithm(data: dict[str, Any], path: Path) -> Any:
    policy = data.get("policy_class")
    for package, algorithm, module, name in _KINDS:
        if isinstance(policy, type) and issubclass(policy, getattr(require(module), name)):
            if algorithm == "PPO" and "n_epochs" not in data:
                algorithm = "A2C"
            return getattr(require(package), algorithm)
    allowed = ", ".join([kind[1] for kind in _KINDS] + ["A2C"])
    raise UserError(f"{path}: its policy is of no algorithm that is known here; allowed: {allowed}")


def _check_spaces(model: BaseAlgorithm, path: Path) -> None:
    seen, done = model.observation_space, model.action_space
    if seen.shape != (N_OBS,):
        raise UserError(f"{path}: its observations have shape {seen.shape}; allowed: ({N_OBS},)")
    if isinstance(done, spaces.Discrete):
        raise UserError(
            f"{path}: its actions are a choice among {done.n} baselines, and the archive does not say which; allowed: "
            "a file that tiergym.policy.export_onnx.export_onnx(model, path, baselines) wrote"
        )
    modes = isinstance(done, spaces.MultiDiscrete) and np.array_equal(done.nvec, act.NVEC)
    if not modes and not (isinstance(done, spaces.Box) and done.shape == (len(act.ENTRIES),)):
        raise UserError(f"{path}: its actions are {done}; allowed: the action forms multidiscrete and box")
