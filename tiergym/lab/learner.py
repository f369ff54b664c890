"""From a recipe to a stable-baselines3 model, with or without machines to learn on."""

from typing import Any

import gymnasium
import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from tiergym.env.action_forms import ActionForm, BaselineForm, action_form
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError, shown
from tiergym.lab.hyperparameters import schedules
from tiergym.lab.recipe import ACTIVATIONS, Recipe
from tiergym.lab.training_env import Values
from tiergym.policy.export_onnx import Actor, Frames, make_actor


class SpacesOnly(gymnasium.Env[NDArray[np.float32], Any]):
    """What a model is built around that will be exported and never acts: two spaces and no machine."""

    def __init__(self, recipe: Recipe) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (recipe.frames * N_OBS,), np.float32)
        self.action_space = form_of(recipe).space


def form_of(recipe: Recipe) -> ActionForm:
    """The form in which the recipe's learner sees the action."""
    return action_form(recipe.action_form, recipe.baselines or None)


def baseline_table(form: ActionForm) -> np.ndarray | None:
    """What the choices of the form `baseline` mean, int64 (K, N_ACTIONS); None for the other forms."""
    return np.stack([baseline.action for baseline in form.baselines]) if isinstance(form, BaselineForm) else None


def build(recipe: Recipe, seed: int, env: VecEnv | None = None) -> BaseAlgorithm:
    """An untrained model; without `env` one that can load weights and be exported.

    Raises `UserError` with the algorithm's own words where it refuses the recipe.
    """
    arguments = schedules(recipe.hyperparameters)
    if "action_noise" in arguments:
        size = form_of(recipe).space.shape or ()
        arguments["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, arguments["action_noise"]))
    learner = recipe.learner
    try:
        model: BaseAlgorithm = learner.cls(
            learner.policy_class(recipe.policy),
            DummyVecEnv([lambda: SpacesOnly(recipe)] * recipe.envs) if env is None else env,
            seed=seed,
            policy_kwargs=_policy_arguments(recipe),
            **{"device": "cpu", **arguments},
        )
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"recipe '{recipe.name}': {learner.class_name} refuses it: {error}") from error
    return model


def check_device(recipe: Recipe) -> None:
    """Raise `UserError` where torch has no such device: stable-baselines3 would train on the CPU and say nothing.

    For training only: on a machine without it, what was trained there can still be read and exported.
    """
    there = [f"cuda:{number}" for number in range(th.cuda.device_count())] if th.cuda.is_available() else []
    allowed = ["cpu", "auto", *(["cuda"] if there else []), *there]
    device = recipe.hyperparameters.get("device", "cpu")
    if device not in allowed:
        raise UserError(
            f"recipe '{recipe.name}': [hyperparameters]: device is {shown(device)}, which torch does not have here; "
            f"allowed: {', '.join(allowed)}"
        )


def actor_of(model: BaseAlgorithm, recipe: Recipe) -> Actor:
    """The deterministic actor of a model of the recipe, which decides every tick."""
    return make_actor(model, baseline_table(form_of(recipe)), Frames(recipe.frames, recipe.hold_ticks))


def values_of(model: BaseAlgorithm) -> Values:
    """The critic of an on-policy model as a function of observations."""
    policy: Any = model.policy

    def values(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        with th.no_grad():
            out = policy.predict_values(policy.obs_to_tensor(obs)[0])
        return np.asarray(out.flatten().cpu())

    return values


def _policy_arguments(recipe: Recipe) -> dict[str, Any]:
    arguments = dict(recipe.network)
    if "hidden" in arguments:
        arguments["net_arch"] = arguments.pop("hidden")
    if "activation" in arguments:
        arguments["activation_fn"] = getattr(th.nn, ACTIVATIONS[arguments.pop("activation")])
    return arguments
