"""Weights to begin a training with: of another run, or of an archive of stable-baselines3.

Only the networks are taken: optimisers, counters and SAC's temperature begin anew. The networks must be the same, name
by name and shape by shape, so that a run goes on under another algorithm of the same network (PPO, A2C and MaskablePPO
are three of them), on another scenario, or on a suite.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from tiergym.errors import UserError
from tiergym.lab import checkpoint, run_dir
from tiergym.lab.recipe import ACTIVATIONS, Recipe
from tiergym.lab.tensor_files import digest, like
from tiergym.policy.sb3_archive import SUFFIX, load_archive


@dataclass(frozen=True, slots=True)
class Weights:
    """Arrays by the names of a policy's parameters; `activation` is the class between layers, None if unknown."""

    arrays: dict[str, NDArray[Any]]
    activation: type[th.nn.Module] | None
    source: str
    sha256: str


def read_weights(source: Path, recipe: Recipe, trust: bool) -> Weights:
    """The newest weights of a run, or those of an archive, which only `trust` lets be read.

    Raises `UserError` where there are none, and where the run's actions mean something else than the recipe's.
    """
    if source.suffix == SUFFIX:
        model = load_archive(source, trust)
        arrays = {name: tensor.cpu().numpy() for name, tensor in model.policy.state_dict().items()}
        return Weights(arrays, getattr(model.policy, "activation_fn", None), str(source), digest(source))
    config = run_dir.read(source)
    run_dir.check_versions(source)
    for field in ("action_form", "baselines"):
        theirs, ours = getattr(config.recipe, field), getattr(recipe, field)
        if theirs != ours:
            raise UserError(
                f"{source}: its {field} is {theirs}, that of recipe '{recipe.name}' {ours}; allowed: the same"
            )
    newest = checkpoint.latest(source)
    named = config.recipe.network.get("activation")
    activation = None if named is None else getattr(th.nn, ACTIVATIONS[named])
    return Weights(checkpoint.policy_arrays(newest), activation, str(source), digest(newest / checkpoint.LEARNER))


def put_weights(model: BaseAlgorithm, weights: Weights, recipe: Recipe) -> None:
    """Into a new model of `recipe`. Raises `UserError` where the networks differ, with the first difference."""
    own = model.policy.state_dict()
    left = dict(weights.arrays)
    taken = {}
    try:
        for name, tensor in own.items():
            if name not in left:
                raise ValueError(f"no {name}")
            taken[name] = th.tensor(like(name, left.pop(name), tensor.cpu().numpy()))
            if not th.isfinite(taken[name]).all():
                raise ValueError(f"{name} has numbers that are not finite")
        if left:
            raise ValueError(f"{min(left)} besides")
        activation: Any = getattr(model.policy, "activation_fn", None)
        if None not in (activation, weights.activation) and activation is not weights.activation:
            raise ValueError(f"activation {weights.activation.__name__}, not {activation.__name__}")  # type: ignore[union-attr]
    except ValueError as error:
        raise UserError(
            f"{weights.source}: not the network of recipe '{recipe.name}' ({recipe.algorithm}), whose layers are as "
            f"its [network] says: {error}"
        ) from error
    model.policy.load_state_dict(taken)
