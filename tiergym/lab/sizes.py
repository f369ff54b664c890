"""What a recipe would allocate, counted from its numbers before anything is: rollouts, replay buffers, networks."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Protocol

from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError, shown
from tiergym.lab.algorithms import FUSED_GRU, Algorithm
from tiergym.memory import check_bytes

_FLOAT = 4
_N_ACTIONS = len(NVEC)
_OF_A_STEP = _FLOAT * (_N_ACTIONS + 6)
"""Bytes of one step in a rollout, beside the observation: action, reward, value, advantage and the like."""
_OF_A_TRANSITION = _FLOAT * (_N_ACTIONS + 3)
"""Bytes of one step in a replay buffer, beside two observations."""
MOST_REMEMBERED = 1024
"""Ticks that a policy in use looks back, whose observations it keeps of every machine: 376 KiB each."""
_OF_A_WEIGHT = 4 * _FLOAT
"""Bytes of one weight while it learns: itself, its gradient, and Adam's two moments."""
_GATES_OF_GRU, _GATES_OF_LSTM = 3, 4
_NETWORKS = 2
"""Actor and critic, or a network and its target: as many as any algorithm has at least."""
_DEFAULTS = {"n_steps": 5, "buffer_size": 1_000_000, "batch_size": 64, "lstm_hidden_size": 256, "n_lstm_layers": 1}
"""The least of what stable-baselines3 takes where a recipe is silent; buffer_size is the same everywhere."""
_MOST_COLLECTED = {"step": 1_000_000, "episode": 1_000}
"""By unit, between two updates of a learner with a replay buffer."""
_ALWAYS_COLLECTED = 1_000
"""Of either, however little the buffer holds."""
_ENTROPY = {"ent_coef": r"auto(_(?=[0-9.]*[1-9])[0-9]{1,6}(\.[0-9]{1,9})?)?", "target_entropy": "auto"}
"""What SAC takes as text; of other texts it makes numbers, which may be none, or fails in an assertion."""


class Numbers(Protocol):
    """What of a recipe has to do with sizes."""

    @property
    def envs(self) -> int: ...
    @property
    def hold_ticks(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def policy(self) -> str: ...
    @property
    def learner(self) -> Algorithm: ...
    @property
    def hyperparameters(self) -> Mapping[str, Any]: ...
    @property
    def network(self) -> Mapping[str, Any]: ...


def check_sizes(recipe: Numbers, source: str) -> None:
    """Raise `UserError` where the recipe needs more memory than this machine has, with the size."""
    given = _DEFAULTS | dict(recipe.hyperparameters)
    if recipe.learner.on_policy:
        memory = 4 * _FLOAT * given_network(recipe, "n_lstm_layers") * given_network(recipe, "lstm_hidden_size")
        step = _FLOAT * width(recipe) + _OF_A_STEP + _FLOAT * N_MASK + (memory if recipe.learner.recurrent else 0)
        n_steps = given["n_steps"]
        what = f"{source}: [hyperparameters]: a rollout of n_steps = {n_steps} on envs = {recipe.envs}"
        check_bytes(n_steps * recipe.envs * step, what)
    else:
        for name in ("buffer_size", "batch_size"):
            rows = max(given[name], recipe.envs)
            transition = 2 * _FLOAT * width(recipe) + _OF_A_TRANSITION
            check_bytes(rows * transition, f"{source}: [hyperparameters]: {name} = {given[name]} transitions")
    check_bytes(weights(recipe) * _OF_A_WEIGHT, f"{source}: [network]: {_described(recipe)}, while it learns,")


def width(recipe: Numbers) -> int:
    """Numbers that a decision sees."""
    return recipe.frames * N_OBS


def weights(recipe: Numbers) -> int:
    """Weights of the recipe's networks, at least; those of its memories are all."""
    recurrent = recipe.learner.recurrent
    widths = [given_network(recipe, "lstm_hidden_size") if recurrent else width(recipe)]
    widths += recipe.network.get("hidden", [])
    count = _NETWORKS * sum(ins * outs + outs for ins, outs in pairwise(widths))
    return count + memory_weights(recipe) if recurrent else count


def memory_weights(recipe: Numbers) -> int:
    """Weights of a recurrent recipe's LSTMs or GRUs, of the actor and, unless the recipe says otherwise, the critic."""
    hidden, layers = given_network(recipe, "lstm_hidden_size"), given_network(recipe, "n_lstm_layers")
    inputs = width(recipe) + (layers - 1) * hidden
    of_a_unit = inputs + layers * (hidden + 2)  # two biases of each gate
    gates = _GATES_OF_GRU if recipe.policy == FUSED_GRU else _GATES_OF_LSTM
    return gates * hidden * of_a_unit * (2 if recipe.network.get("enable_critic_lstm", True) else 1)


def given_network(recipe: Numbers, name: str) -> int:
    """A number of [network], or stable-baselines3's own."""
    value = recipe.network.get(name, _DEFAULTS[name])
    return int(value)


def _described(recipe: Numbers) -> str:
    names = ("hidden", "lstm_hidden_size", "n_lstm_layers")
    return ", ".join(f"{name} = {recipe.network[name]}" for name in names if name in recipe.network) or "the network"


def check_frames(recipe: Numbers, source: str) -> None:
    """Raise `UserError` for frames beside a memory, and for more ticks than a policy in use can keep."""
    if recipe.frames > 1 and recipe.learner.recurrent:
        raise UserError(
            f"{source}: frames is {recipe.frames}; {recipe.learner.class_name} allows: 1, since it has its own memory"
        )
    if (recipe.frames - 1) * recipe.hold_ticks > MOST_REMEMBERED:
        raise UserError(
            f"{source}: frames is {recipe.frames} with hold_ticks = {recipe.hold_ticks}; allowed: a look back of at "
            f"most {MOST_REMEMBERED} ticks"
        )


def check_options(recipe: Numbers, source: str) -> None:
    """Raise `UserError` for options that the learner would refuse in an assertion once it learns, or never."""
    numbers, where = recipe.hyperparameters, f"{source}: [hyperparameters]"
    device = numbers.get("device", "cpu")
    if not re.fullmatch("auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise UserError(f"{where}: device is {shown(device)}; allowed: cpu, auto, cuda or cuda:N")
    for name, form in _ENTROPY.items():
        text = numbers.get(name)
        if isinstance(text, str) and not re.fullmatch(form, text):
            beginning = ', "auto_X" with its first value X above 0' if name == "ent_coef" else ""
            raise UserError(f'{where}: {name} is {shown(text)}; allowed: a number, or "auto"{beginning}')
    if "train_freq" in numbers:
        _check_frequency(recipe, where)


def _check_frequency(recipe: Numbers, where: str) -> None:
    """Raise `UserError` for what is not how often to train, or is more than the learner may collect in between.

    It looks at nothing else meanwhile, at `steps` neither; much more than the buffer holds would be lost.
    """
    given = recipe.hyperparameters["train_freq"]
    count, unit = given if isinstance(given, list) and len(given) == 2 else (given, "step")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count or unit not in list(_MOST_COLLECTED):
        raise UserError(f'{where}: train_freq is {shown(given)}; allowed: a whole number from 1, or [number, "step"]')
    if unit == "episode" and recipe.envs != 1:
        raise UserError(
            f'{where}: train_freq is {given} with envs = {recipe.envs}; allowed: [number, "step"], or envs = 1'
        )
    buffer_size = recipe.hyperparameters.get("buffer_size", _DEFAULTS["buffer_size"])
    most = min(_MOST_COLLECTED[unit], max(buffer_size // recipe.envs, _ALWAYS_COLLECTED))
    if count > most:
        raise UserError(
            f"{where}: train_freq is {given} with buffer_size = {buffer_size} and envs = {recipe.envs}; "
            f"allowed: up to {most}"
        )
