"""What a learner has learned, as arrays and numbers by name: weights, optimisers, and tensors outside the policy.

policy/mlp_extractor.policy_net.0.weight    a module's parameters and buffers
policy.optimizer/3/exp_avg                  an optimiser's state of its parameter 3
log_ent_coef                                SAC's temperature, which is in no module
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr

from tiergym.errors import shown
from tiergym.lab.tensor_files import like

_OPTIMISERS = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "RMSprop": {"step", "square_avg"}}
"""What the recipes' optimisers keep of each parameter that they have moved."""
_COUNTS, _SQUARES = ("step",), ("exp_avg_sq", "square_avg")
"""Of these, what is counted, and what is a mean of squares: the root of either is taken."""
_LR = "lr"
_MOST = 2**53
"""Of a learning rate, of steps that were counted, or of a weight: with larger ones a network's outputs overflow."""

Arrays = dict[str, NDArray[Any]]
Numbers = dict[str, float | list[float]]


def take(model: BaseAlgorithm) -> tuple[Arrays, Numbers]:
    """The state of a model: arrays, and what its optimisers keep as plain numbers."""
    parts, variables = model._get_torch_save_params()
    arrays: Arrays = {name: _array(recursive_getattr(model, name)) for name in variables}
    numbers: Numbers = {}
    for name in parts:
        part = recursive_getattr(model, name)
        if isinstance(part, th.optim.Optimizer):
            state = part.state_dict()
            numbers[f"{name}/{_LR}"] = [float(group[_LR]) for group in state["param_groups"]]
            for index, kept in state["state"].items():
                for key, value in kept.items():
                    into: dict[str, Any] = arrays if isinstance(value, th.Tensor) else numbers
                    into[f"{name}/{index}/{key}"] = _array(value) if isinstance(value, th.Tensor) else value
        else:
            arrays |= {f"{name}/{key}": _array(value) for key, value in part.state_dict().items()}
    return arrays, numbers


def put(model: BaseAlgorithm, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
    """Put a state that `take` gave into a model of the same recipe.

    Raises `ValueError` where a name, a shape or a dtype is not the model's, and where a number is not finite or none
    that learning can come to; the model is then of no use.
    """
    if wrong := unsound(arrays):
        raise ValueError(wrong)
    parts, variables = model._get_torch_save_params()
    left = dict(arrays)
    for name in parts:
        part = recursive_getattr(model, name)
        if isinstance(part, th.optim.Optimizer):
            mine = {key: left.pop(key) for key in list(left) if key.startswith(f"{name}/")}
            _put_optimiser(name, part, mine, numbers)
        else:
            own = part.state_dict()
            part.load_state_dict({key: _tensor(left, f"{name}/{key}", value) for key, value in own.items()})
    with th.no_grad():
        for name in variables:
            own = recursive_getattr(model, name)
            own.copy_(_tensor(left, name, own))
    if left:
        raise ValueError(f"unknown tensor {min(left)}")


def unsound(arrays: Mapping[str, NDArray[Any]]) -> str:
    """What is wrong with the first array that learning cannot have come to and gone on from; empty where none is."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"{name} is not finite"
        low, high = _range(name)
        wrong = ~((array >= low) & (array <= high))
        if wrong.any():
            return f"{name} has {array[wrong][0]:g}; allowed: {low:g} to {high:g}"
    return ""


def _range(name: str) -> tuple[float, float]:
    """Least and most of what an array of that name may hold."""
    key = name.rpartition("/")[2]
    if key in _COUNTS or key in _SQUARES:
        return 0.0, _MOST if key in _COUNTS else np.inf
    return -_MOST, _MOST


def _put_optimiser(
    name: str, optimiser: th.optim.Optimizer, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]
) -> None:
    document = optimiser.state_dict()
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    keys = _OPTIMISERS.get(type(optimiser).__name__, set())
    state: dict[int, dict[str, Any]] = {}
    for full, value in [*arrays.items(), *((key, number) for key, number in numbers.items() if _is_of(key, name))]:
        index, _, key = full.removeprefix(f"{name}/").partition("/")
        if key not in keys or not (index.isascii() and index.isdecimal()) or int(index) >= len(parameters):
            raise ValueError(f"unknown tensor {full}")
        parameter = parameters[int(index)]
        if isinstance(value, np.ndarray):
            own = np.zeros(() if value.ndim == 0 else parameter.shape, _array(parameter).dtype)
            value = th.tensor(like(full, value, own))
        elif type(value) is not int or not 0 <= value < _MOST:
            raise ValueError(f"{full} is {shown(value)}; allowed: a whole number from 0 to {_MOST}")
        state.setdefault(int(index), {})[key] = value
    for index_of, kept in state.items():
        if set(kept) != keys:
            raise ValueError(f"{name}/{index_of} has {', '.join(sorted(kept))}; allowed: {', '.join(sorted(keys))}")
    rates = numbers.get(f"{name}/{_LR}")
    if not isinstance(rates, list) or len(rates) != len(document["param_groups"]):
        raise ValueError(f"{name}/{_LR} is missing")
    for group, rate in zip(document["param_groups"], rates, strict=True):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < _MOST:
            raise ValueError(f"{name}/{_LR} has {shown(rate)}; allowed: numbers from 0 to {_MOST}")
        group[_LR] = float(rate)
    optimiser.load_state_dict({"state": state, "param_groups": document["param_groups"]})


def _is_of(key: str, name: str) -> bool:
    return key.startswith(f"{name}/") and key != f"{name}/{_LR}"


def _tensor(arrays: dict[str, NDArray[Any]], name: str, own: th.Tensor) -> th.Tensor:
    """The tensor of that name, taken out of `arrays`, where it is of the same shape and dtype as `own`."""
    if name not in arrays:
        raise ValueError(f"no tensor {name}")
    return th.tensor(like(name, arrays.pop(name), _array(own)))


def _array(tensor: th.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
