"""Checkpoints: everything a training needs to go on as if it had never stopped, written all or nothing.

    checkpoints/000000065536/
        model.zip           weights and optimiser, as stable-baselines3 saves them (`PPO.load` works too)
        state.json          steps made, counters of the algorithm
        random_state.npz    torch's and NumPy's random numbers
        machines.npz        the machines in mid-episode; newest checkpoint only
        replay_buffer.npz   off-policy algorithms; newest checkpoint only

Nothing in them is executed: weights are read with `weights_only`, arrays without pickle. Continue only your own
runs all the same: compiled code trusts the machines' state.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from tiergym.errors import UserError
from tiergym.lab.training_env import TrainingVecEnv

FOLDER = "checkpoints"
_MODEL, _STATE, _RANDOM = "model.zip", "state.json", "random_state.npz"
_MACHINES, _REPLAY = "machines.npz", "replay_buffer.npz"
_NUMBERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)
_REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save(run: Path, model: BaseAlgorithm, env: TrainingVecEnv) -> Path:
    """Write a checkpoint of the present moment, which must lie between two rollouts; returns its folder."""
    final = run / FOLDER / f"{model.num_timesteps:012d}"
    if final.is_dir():
        return final
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.save(draft / _MODEL)
    _savez(draft / _RANDOM, _random_state())
    memory = {name: tensor.detach().cpu().numpy() for name, tensor in _memory(model).items()}
    _savez(draft / _MACHINES, {**env.state(), "episode_starts": np.asarray(model._last_episode_starts), **memory})
    replay = getattr(model, "replay_buffer", None)
    if isinstance(replay, ReplayBuffer):
        filled = replay.buffer_size if replay.full else replay.pos
        arrays = {name: getattr(replay, name)[:filled] for name in _REPLAY_ARRAYS}
        _savez(draft / _REPLAY, {**arrays, "place": np.array([replay.pos, replay.full])})
    numbers = {name: getattr(model, name) for name in _NUMBERS if hasattr(model, name)}
    state = {"numbers": numbers, "action_space": model.action_space.np_random.bit_generator.state}
    (draft / _STATE).write_text(json.dumps(state, default=_plain), encoding="utf-8")
    draft.replace(final)
    for older in _complete(run)[:-1]:
        for name in (_MACHINES, _REPLAY):
            (older / name).unlink(missing_ok=True)
    return final


def latest(run: Path) -> Path:
    """The newest checkpoint of a run. Raises `UserError` where there is none."""
    found = _complete(run)
    if not found:
        raise UserError(f"{run}: no checkpoint in {run / FOLDER}; the training stopped before the first; start it anew")
    return found[-1]


def steps(path: Path) -> int:
    """Steps made before a checkpoint."""
    return int(path.name)


def load_weights(path: Path, model: BaseAlgorithm) -> None:
    """Weights and optimiser of a checkpoint into `model`. Raises `UserError` where they do not fit or are damaged."""
    try:
        model.set_parameters(str(path / _MODEL), exact_match=True, device=model.device)
    except Exception as error:
        raise UserError(f"{path / _MODEL}: not a checkpoint of this recipe: {error}") from error


def restore(path: Path, model: BaseAlgorithm) -> None:
    """Weights, counters, random numbers and replay buffer into `model`. Raises `UserError` as `load_weights` does."""
    load_weights(path, model)
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        for name, value in state["numbers"].items():
            if name in _NUMBERS:
                setattr(model, name, type(getattr(model, name))(value))
        model.action_space.np_random.bit_generator.state = state["action_space"]
        _set_random_state(_loadz(path / _RANDOM))
        replay = getattr(model, "replay_buffer", None)
        if isinstance(replay, ReplayBuffer):
            saved = _loadz(path / _REPLAY)
            for name in _REPLAY_ARRAYS:
                getattr(replay, name)[: len(saved[name])] = saved[name]
            replay.pos, replay.full = int(saved["place"][0]), bool(saved["place"][1])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: missing or damaged: {error}") from error


def restore_episodes(path: Path, model: BaseAlgorithm, env: TrainingVecEnv) -> None:
    """Machines, and what the learner remembers of them, into mid-episode. Raises `UserError` as `restore` does."""
    try:
        saved = _loadz(path / _MACHINES)
        model._last_obs = env.restore(saved)
        model._last_episode_starts = saved["episode_starts"]
        for name, memory in _memory(model).items():
            memory.copy_(th.from_numpy(saved[name]))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path / _MACHINES}: missing or damaged: {error}") from error


def _memory(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    """A recurrent learner's hidden and cell states, of actor and critic; empty for others."""
    states = getattr(model, "_last_lstm_states", None)
    if states is None:
        return {}
    names = ("actor_hidden", "actor_cell", "critic_hidden", "critic_cell")
    return dict(zip(names, (tensor for pair in states for tensor in pair), strict=True))


def _random_state() -> dict[str, NDArray[Any]]:
    # SB3 draws its minibatches from NumPy's global generator.
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    rest = np.array([position, has_gauss, cached], dtype=np.float64)
    return {"torch": th.get_rng_state().numpy(), "numpy_keys": np.asarray(keys), "numpy_rest": rest}


def _set_random_state(saved: Mapping[str, NDArray[Any]]) -> None:
    th.set_rng_state(th.from_numpy(saved["torch"]))
    position, has_gauss, cached = saved["numpy_rest"]
    np.random.set_state(("MT19937", saved["numpy_keys"], int(position), int(has_gauss), float(cached)))  # noqa: NPY002


def _savez(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _loadz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except BadZipFile as error:
        raise ValueError(str(error)) from error


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which some bit generators keep in their state, for JSON."""
    return value.tolist()


def _complete(run: Path) -> list[Path]:
    """Checkpoints, oldest first; a draft that a crash left behind has another name."""
    return sorted(path for path in (run / FOLDER).glob("[0-9]*") if (path / _STATE).is_file())
