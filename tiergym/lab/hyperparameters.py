"""Checking a recipe's numbers against the signature of the class they are meant for, and preparing them."""

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from tiergym.errors import UserError, shown, suggest

MANAGED = {
    "policy", "env", "seed", "verbose", "tensorboard_log", "policy_kwargs", "_init_setup_model", "self",
    "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class", "replay_buffer_kwargs",
    "observation_space", "action_space", "lr_schedule", "net_arch", "activation_fn", "features_extractor_class",
    "features_extractor_kwargs", "optimizer_class", "optimizer_kwargs", "normalize_images", "lstm_kwargs",
}  # fmt: skip
"""Arguments that training sets itself, or that have no value in TOML."""
SCHEDULE_KEYS = {"start", "end"}

_RANGES: dict[str, tuple[float, float]] = {
    "learning_rate": (0, 1e3),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "tau": (0, 1),
    "n_steps": (1, 1e7),
    "batch_size": (2, 1e8),
    "n_epochs": (1, 1e4),
    "clip_range": (1e-6, 1e3),
    "clip_range_vf": (1e-6, 1e6),
    "ent_coef": (0, 1e6),
    "target_entropy": (-1e6, 1e6),
    "vf_coef": (0, 1e6),
    "max_grad_norm": (1e-12, 1e12),
    "target_kl": (1e-9, 1e6),
    "buffer_size": (1, 1e9),
    "learning_starts": (0, 1e12),
    "train_freq": (1, 1e6),
    "gradient_steps": (-1, 1e5),
    "target_update_interval": (1, 1e12),
    "exploration_fraction": (0, 1),
    "exploration_initial_eps": (0, 1),
    "exploration_final_eps": (0, 1),
    "action_noise": (0, 2),
    "policy_delay": (1, 1e6),
    "lstm_hidden_size": (1, 1e5),
    "n_lstm_layers": (1, 100),
    "stats_window_size": (1, 1e6),
    "sde_sample_freq": (-1, 1e9),
    "n_critics": (1, 100),
    "target_policy_noise": (0, 1e3),
    "target_noise_clip": (0, 1e3),
    "log_std_init": (-20, 2),
    "clip_mean": (0, 1e6),
    "rms_prop_eps": (1e-30, 1),
}


def check_arguments(
    values: Mapping[str, Any], target: Any, source: str, extra: Mapping[str, Any] | None = None
) -> None:
    """Refuse values that `target`, a class, cannot be called with.

    `extra` maps further names to the types they take. Raises `UserError`, naming `source`, the name, the value
    and what is allowed.
    """
    parameters = {
        name: parameter.annotation
        for name, parameter in inspect.signature(target.__init__).parameters.items()
        if name not in MANAGED
    } | dict(extra or {})
    for name, value in values.items():
        if name not in parameters:
            raise UserError(f"{source}: {suggest(name, parameters, f'argument of {target.__name__}')}")
        kinds = _kinds(parameters[name])
        if not any(_is(kind, value) for kind in kinds):
            raise UserError(f"{source}: {name} is {shown(value)}; allowed: {' or '.join(dict.fromkeys(kinds))}")
        numbers = value.values() if isinstance(value, Mapping) else [value]
        for number in numbers:
            _check_range(name, number, source)


def schedules(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with each `{start, end}` as a line over the training, and lists as tuples."""
    from stable_baselines3.common.utils import LinearSchedule

    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            out[name] = LinearSchedule(float(value["start"]), float(value["end"]), 1.0)
        else:
            out[name] = tuple(value) if isinstance(value, list) else value
    return out


def _check_range(name: str, value: Any, source: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    # Compared, not asked with isfinite: an integer has no bound and would overflow there.
    if not (abs(value) < math.inf and low <= value <= high):
        allowed = f"{low:g} to {high:g}" if name in _RANGES else "a finite number"
        raise UserError(f"{source}: {name} is {shown(value)}; allowed: {allowed}")


def _kinds(annotation: Any) -> list[str]:
    """The kinds of TOML values that an annotated argument takes, in words."""
    arms = typing.get_args(annotation) if isinstance(annotation, types.UnionType | typing._UnionGenericAlias) else ()  # type: ignore[attr-defined]
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        collections.abc.Callable: "{ start, end }",
        tuple: "a list",
        list: "a list",
    }
    origins = [typing.get_origin(arm) or arm for arm in arms or (annotation,)]
    return [words[origin] for origin in origins if origin in words]


def _is(kind: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "true or false": isinstance(value, bool),
        "a whole number": number and isinstance(value, int),
        "a number": number,
        "a text": isinstance(value, str),
        "{ start, end }": isinstance(value, Mapping)
        and set(value) == SCHEDULE_KEYS
        and all(_is("a number", v) for v in value.values()),
        "a list": isinstance(value, list),
    }[kind]
