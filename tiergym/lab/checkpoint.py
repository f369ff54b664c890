"""Checkpoints: everything a training needs to go on, written all or nothing, read without executing anything.

    checkpoints/000000065536/
        model.zip           weights and optimiser, as stable-baselines3 saves them (`PPO.load` works too)
        state.json          steps made, counters of the algorithm
        random_state.npz    torch's and NumPy's random numbers
        replay_buffer.npz   off-policy algorithms only, newest checkpoint only

`restore` reads weights with `weights_only` and arrays without pickle, so also a stranger's run can be continued.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from tiergym.errors import UserError

FOLDER = "checkpoints"
_MODEL, _STATE, _RANDOM, _REPLAY = "model.zip", "state.json", "random_state.npz", "replay_buffer.npz"
_COUNTERS = ("_n_updates", "_episode_num", "_n_calls")
_REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Moment:
    """Where a training stands between two rollouts, apart from its weights."""

    steps: int
    counters: dict[str, int]
    action_space_random: dict[str, Any]
    random: dict[str, np.ndarray]


def moment(model: BaseAlgorithm) -> Moment:
    """The present moment of `model`: about 8 KiB, 20 us."""
    # SB3 draws its minibatches from NumPy's global generator.
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    counters = {key: int(getattr(model, key)) for key in _COUNTERS if hasattr(model, key)}
    return Moment(
        model.num_timesteps,
        counters,
        dict(model.action_space.np_random.bit_generator.state),
        {
            "torch": th.get_rng_state().numpy(),
            "numpy_keys": np.asarray(keys),
            "numpy_rest": np.array([position, has_gauss, cached], dtype=np.float64),
        },
    )


def save(run: Path, model: BaseAlgorithm, at: Moment) -> Path:
    """Write the checkpoint of `at` with the model's present weights; returns its folder."""
    final = run / FOLDER / f"{at.steps:012d}"
    if final.is_dir():
        return final
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model.save(draft / _MODEL)
    np.savez(draft / _RANDOM, allow_pickle=False, **at.random)
    replay = getattr(model, "replay_buffer", None)
    if isinstance(replay, ReplayBuffer):
        arrays = {name: getattr(replay, name) for name in _REPLAY_ARRAYS}
        filled = replay.buffer_size if replay.full else replay.pos
        place = np.array([replay.pos, replay.full])
        saved = {name: array[:filled] for name, array in arrays.items()}
        np.savez(draft / _REPLAY, allow_pickle=False, place=place, **saved)
    state = {"steps": at.steps, "counters": at.counters, "action_space_random": at.action_space_random}
    (draft / _STATE).write_text(json.dumps(state), encoding="utf-8")
    draft.replace(final)
    for older in _complete(run)[:-1]:
        (older / _REPLAY).unlink(missing_ok=True)
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
    """Continue `model` from a checkpoint. Raises `UserError` where it does not fit or is damaged."""
    load_weights(path, model)
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        with np.load(path / _RANDOM, allow_pickle=False) as random:
            th.set_rng_state(th.from_numpy(random["torch"]))
            position, has_gauss, cached = random["numpy_rest"]
            legacy = ("MT19937", random["numpy_keys"], int(position), int(has_gauss), float(cached))
            np.random.set_state(legacy)  # noqa: NPY002
        for name, value in state["counters"].items():
            if name in _COUNTERS:
                setattr(model, name, int(value))
        model.num_timesteps = int(state["steps"])
        model.action_space.np_random.bit_generator.state = state["action_space_random"]
        replay = getattr(model, "replay_buffer", None)
        if isinstance(replay, ReplayBuffer):
            with np.load(path / _REPLAY, allow_pickle=False) as saved:
                for name in _REPLAY_ARRAYS:
                    getattr(replay, name)[: len(saved[name])] = saved[name]
                replay.pos, replay.full = int(saved["place"][0]), bool(saved["place"][1])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: missing or damaged: {error}") from error


def _complete(run: Path) -> list[Path]:
    """Checkpoints, oldest first; a draft that a crash left behind has another name."""
    return sorted(path for path in (run / FOLDER).glob("[0-9]*") if (path / _STATE).is_file())
