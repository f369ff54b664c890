"""Checkpoints: everything a training needs to go on as if it had never stopped, written all or nothing.

    checkpoints/000000065536/
        learner.safetensors         weights, optimisers, tensors outside the policy (`tiergym.lab.learner_state`)
        random_state.safetensors    torch's and NumPy's random numbers
        machines.safetensors        the machines in mid-episode; newest checkpoint only
        replay_buffer.safetensors   off-policy algorithms; newest checkpoint only
                                    (older ones go on with new episodes and an empty buffer)
        state.json                  steps made, counters of the algorithm, plain numbers of the optimisers
        checkpoint.json             the format's version, SHA-256 of each other file, a seal (`tiergym.lab.own_key`)

Nothing in them is executed: safetensors and JSON hold data alone, and no archive of stable-baselines3 is read, for it
unpickles. The digests find damage and mixtures; they are no signature. Compiled code, which checks no index, goes on
with the machines as they are: so the seal says whether this user wrote them, for this very configuration.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from tiergym import files
from tiergym.errors import UserError, shown
from tiergym.lab import learner_state, own_key, run_dir, tensor_files
from tiergym.lab.tensor_files import like
from tiergym.lab.training_env import TrainingVecEnv

SCHEMA = 2
LEARNER, RANDOM, MACHINES, REPLAY = (
    f"{name}.safetensors" for name in ("learner", "random_state", "machines", "replay_buffer")
)
POLICY = "policy/"
"""What the names of the networks' arrays begin with."""
STATE, MANIFEST = "state.json", "checkpoint.json"
_SEALS = ("seal", "next_seal")
"""In the manifest: of the run's configuration, and of the one to come where it is made longer."""
_BEFORE = "model.zip"
"""An archive of stable-baselines3, as earlier versions wrote it; torch and cloudpickle read such."""
_MT19937_WORDS = 624
_MOST = 2**53
"""Of a counter, or of a reward."""
_NUMBERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)
_SHARES = ("exploration_rate", "_current_progress_remaining")
"""Of the numbers, those between 0 and 1."""
_REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save(run: Path, model: BaseAlgorithm, env: TrainingVecEnv) -> Path:
    """Write a checkpoint of the present moment, which must lie between two rollouts; returns its folder.

    Raises `UserError` where the disk is full, or the run's folder is read-only or has vanished, and where learning has
    diverged.
    """
    check_sound(run, model)
    final = run / run_dir.CHECKPOINTS / f"{model.num_timesteps:012d}"
    if final in _complete(run):
        return final
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        final.parent.mkdir(exist_ok=True)
        for left in final.parent.glob(".*"):  # by a process that was killed: the folder is ours alone now
            shutil.rmtree(left, ignore_errors=True)
        draft.mkdir()
        _write(draft, run, model, env)
        shutil.rmtree(final, ignore_errors=True)  # what damage has left of one
        draft.replace(final)
    except OSError as error:
        raise UserError(f"{final}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for older in _complete(run)[:-1]:
        _lighten(older)
    return final


def check_sound(run: Path, model: BaseAlgorithm) -> None:
    """Raise `UserError` where what was learned is no numbers, or too large ones, which no checkpoint may have."""
    if wrong := learner_state.unsound(learner_state.take(model)[0]):
        raise UserError(
            f"{run}: learning has diverged after {model.num_timesteps} steps: {wrong}; try a lower learning_rate"
        )


def _write(draft: Path, run: Path, model: BaseAlgorithm, env: TrainingVecEnv) -> None:
    """All files of a checkpoint, into a folder of its own."""
    learned, optimisers = learner_state.take(model)
    tensor_files.save(draft / LEARNER, learned)
    tensor_files.save(draft / RANDOM, _random_state())
    memory = {name: tensor.detach().cpu().numpy() for name, tensor in _memory(model).items()}
    starts = {"episode_starts": np.asarray(model._last_episode_starts)}
    tensor_files.save(draft / MACHINES, {**env.state(), **starts, **memory})
    replay = getattr(model, "replay_buffer", None)
    if isinstance(replay, ReplayBuffer):
        filled = replay.buffer_size if replay.full else replay.pos
        arrays = {name: getattr(replay, name)[:filled] for name in _REPLAY_ARRAYS}
        tensor_files.save(draft / REPLAY, {**arrays, "place": np.array([replay.pos, replay.full])})
    numbers = {name: getattr(model, name) for name in _NUMBERS if hasattr(model, name)}
    action_space = model.action_space.np_random.bit_generator.state
    state = {"numbers": numbers, "optimisers": optimisers, "action_space": action_space}
    (draft / STATE).write_text(json.dumps(state, default=_plain), encoding="utf-8")
    digests = {path.name: tensor_files.digest(path) for path in sorted(draft.iterdir())}
    manifest = {"schema": SCHEMA, "sha256": digests, "seal": own_key.seal(sealed_text(run, draft))}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _lighten(older: Path) -> None:
    """Delete what only the newest checkpoint needs; the manifest says first that it is gone."""
    with suppress(UserError, AttributeError, KeyError, TypeError):  # one that is damaged stays as it is
        manifest = files.read_json(older / MANIFEST)
        if {MACHINES, REPLAY} & manifest["sha256"].keys():
            kept = {name: value for name, value in manifest["sha256"].items() if name not in (MACHINES, REPLAY)}
            files.write_text(older / MANIFEST, json.dumps({"schema": SCHEMA, "sha256": kept}, indent=1))
    for name in (MACHINES, REPLAY):
        (older / name).unlink(missing_ok=True)


def has_episodes(path: Path) -> bool:
    """Whether a checkpoint was the newest one, and so has machines and replay buffer. Raises `UserError`."""
    try:
        return MACHINES in _manifest(path)["sha256"]
    except ValueError as error:
        raise _damaged(path, error) from error


def exists(run: Path) -> bool:
    """Whether a run has a checkpoint."""
    return bool(_complete(run))


def latest(run: Path) -> Path:
    """The newest checkpoint of a run. Raises `UserError` where there is none, or one of an earlier tiergym."""
    found = _complete(run)
    if not found:
        raise UserError(
            f"{run}: no checkpoint in {run / run_dir.CHECKPOINTS}; the training stopped before the first; start it anew"
        )
    if not (found[-1] / MANIFEST).is_file():
        raise UserError(
            f"{found[-1] / _BEFORE}: a checkpoint of an earlier tiergym, an archive that runs code when it is read; "
            "allowed: checkpoints of safetensors; train it anew"
        )
    return found[-1]


def after(run: Path, made: int) -> Path:
    """The checkpoint after that many steps. Raises `UserError` where there is none, naming those that there are."""
    latest(run)
    found = {steps(path): path for path in _complete(run)}
    if made not in found:
        raise UserError(f"{run}: no checkpoint after {made} steps; there are: {', '.join(map(str, found))}")
    return found[made]


def steps(path: Path) -> int:
    """Steps made before a checkpoint."""
    return int(path.name)


def load_weights(path: Path, model: BaseAlgorithm) -> None:
    """All that was learned, of a checkpoint into `model`. Raises `UserError` where it does not fit or is damaged."""
    _load_weights(path, model, _state(path))


def policy_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """A checkpoint's networks alone: arrays by the names of the policy's parameters. Raises `UserError`."""
    try:
        arrays = _read(path, LEARNER)
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return {name.removeprefix(POLICY): array for name, array in arrays.items() if name.startswith(POLICY)}


def restore(path: Path, model: BaseAlgorithm) -> None:
    """All that was learned, counters, random numbers and replay buffer into `model`.

    Raises `UserError` as `load_weights` does.
    """
    state = _state(path)
    _load_weights(path, model, state)
    try:
        if state["numbers"].get("num_timesteps") != steps(path):
            raise ValueError(f"{STATE}: num_timesteps is {shown(state['numbers'].get('num_timesteps'))}")
        for name, value in state["numbers"].items():
            if name in _NUMBERS:
                setattr(model, name, _number(name, value, getattr(model, name)))
        model.action_space.np_random.bit_generator.state = state["action_space"]
        _set_random_state(_read(path, RANDOM))
        replay = getattr(model, "replay_buffer", None)
        if isinstance(replay, ReplayBuffer) and has_episodes(path):
            _fill(replay, _read(path, REPLAY))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise _damaged(path, error) from error


def is_own(path: Path) -> bool:
    """Whether this user wrote a checkpoint's machines and what they are simulated by, and nobody has changed them.

    Raises `UserError` where they are missing or damaged.
    """
    try:
        _verify(path, MACHINES)
        text, manifest = sealed_text(path.parents[1], path), files.read_json(path / MANIFEST)
        return any(own_key.is_sealed(text, manifest.get(key)) for key in _SEALS)
    except (OSError, ValueError) as error:
        raise _damaged(path / MACHINES, error) from error


def seal_also(path: Path, config: run_dir.RunConfig) -> None:
    """Seal an own checkpoint also for the configuration that its user is about to write: a kill may come before it."""
    run, manifest = path.parents[1], files.read_json(path / MANIFEST)
    texts = sealed_text(run, path), sealed_text(run, path, run_dir.config_text(config))
    manifest |= {key: own_key.seal(text) for key, text in zip(_SEALS, texts, strict=True)}
    files.write_text(path / MANIFEST, json.dumps(manifest, indent=1))


def sealed_text(run: Path, path: Path, config: str | None = None) -> str:
    """What a seal is of: the machines in the folder `path`, and the run's configuration and scenarios.

    `config`: a configuration to come, in place of the one that is there.
    """
    scenarios = sorted((run / run_dir.SCENARIOS).glob("*.toml"))
    digests = [(file.name, tensor_files.digest(file)) for file in (path / MACHINES, run / run_dir.CONFIG, *scenarios)]
    if config is not None:
        digests[1] = (run_dir.CONFIG, sha256(config.encode()).hexdigest())
    return "\n".join(f"{name} {digest}" for name, digest in digests)


def restore_episodes(path: Path, model: BaseAlgorithm, env: TrainingVecEnv) -> None:
    """Machines, and what the learner remembers of them, into mid-episode; only where they are the user's own.

    Raises `UserError` as `restore` does.
    """
    try:
        saved = _read(path, MACHINES)
        model._last_obs = env.restore({name: like(name, saved[name], own) for name, own in env.state().items()})
        model._last_episode_starts = like("episode_starts", saved["episode_starts"], np.zeros(env.num_envs, np.bool_))
        for name, memory in _memory(model).items():
            kept = like(name, saved[name], memory.numpy())
            if not np.isfinite(kept).all():
                raise ValueError(f"{name} is not finite")
            memory.copy_(th.from_numpy(kept))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(path / MACHINES, error) from error


def _load_weights(path: Path, model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    try:
        arrays = _read(path, LEARNER)
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    try:
        learner_state.put(model, arrays, state["optimisers"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path / LEARNER}: not a checkpoint of this recipe: {error}") from error


def _state(path: Path) -> dict[str, Any]:
    """What state.json says. Raises `UserError`."""
    try:
        _verify(path, STATE)
        state = files.read_json(path / STATE)
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in ("numbers", "optimisers")):
        raise UserError(f"{path / STATE}: missing or damaged: no numbers, no optimisers")
    return state


def _read(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of one of a checkpoint's files, whose digest is the one that was written."""
    _verify(path, name)
    return tensor_files.load(path / name)


def _verify(path: Path, name: str) -> None:
    """Raise `ValueError` or `OSError` where a file is not the one that was written."""
    if _manifest(path)["sha256"].get(name) != tensor_files.digest(path / name):
        raise ValueError(f"{name}: another digest than {MANIFEST} says")


def _manifest(path: Path) -> dict[str, Any]:
    """What checkpoint.json says. Raises `ValueError` where that is nothing."""
    try:
        manifest = files.read_json(path / MANIFEST)
    except UserError as error:
        raise ValueError(error) from error
    if not isinstance(manifest, dict) or not files.same(manifest.get("schema"), SCHEMA):
        raise ValueError(f"{MANIFEST}: another format; allowed: schema {SCHEMA}")
    if not isinstance(manifest.get("sha256"), dict):
        raise ValueError(f"{MANIFEST}: no digests")
    return manifest


def _damaged(path: Path, error: Exception) -> UserError:
    """The error of a damaged checkpoint, or of a file in it; offers the one before, if there is one."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else error
    folder = path if path.is_dir() else path.parent
    before = [each for each in _complete(folder.parents[1]) if each.name < folder.name]
    offer = f"; without the folder {folder} the run goes on from {before[-1].name} steps" if before else ""
    return UserError(f"{path}: missing or damaged: {told}{offer}")


def _number(name: str, value: Any, own: Any) -> Any:
    """A counter as the type that it has. Raises `ValueError` for what is none."""
    most = 1 if name in _SHARES else _MOST
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{STATE}: {name} is {shown(value)}; allowed: 0 to {most}")
    return type(own)(value)


def _fill(replay: ReplayBuffer, saved: Mapping[str, NDArray[Any]]) -> None:
    """Put what was kept of a replay buffer into one. Raises `ValueError` where it does not fit."""
    place = like("place", saved["place"], np.zeros(2, np.int64))
    position, full = int(place[0]), bool(place[1])
    if not 0 <= position < replay.buffer_size:
        raise ValueError(f"place is {position}; allowed: 0 to {replay.buffer_size - 1}")
    filled = replay.buffer_size if full else position
    for name in _REPLAY_ARRAYS:
        own = getattr(replay, name)[:filled]
        own[...] = _transitions(name, like(name, saved[name], own), replay.action_space)
    replay.pos, replay.full = position, full


def _transitions(name: str, array: NDArray[Any], actions: spaces.Space[Any]) -> NDArray[Any]:
    """Kept transitions, where they can have happened: torch indexes by them. Raises `ValueError`."""
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"{name} has {array[~finite][0]}; allowed: finite numbers")
    low, high = (-_MOST, _MOST) if name == "rewards" else (0, 1)
    if name == "actions":
        low, high = (0, int(actions.n) - 1) if isinstance(actions, spaces.Discrete) else (-1, 1)
    wrong = (array < low) | (array > high)
    if wrong.any():
        raise ValueError(f"{name} has {array[wrong][0]}; allowed: {low} to {high}")
    return array


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
    own = _random_state()
    torch, keys, rest = (like(name, saved[name], own[name]) for name in ("torch", "numpy_keys", "numpy_rest"))
    if not np.isfinite(rest).all():
        raise ValueError("numpy_rest is not finite")
    position, has_gauss, cached = rest.tolist()
    if not 0 <= position <= _MT19937_WORDS:  # NumPy would read beyond the keys
        raise ValueError(f"numpy_rest: position {position}; allowed: 0 to {_MT19937_WORDS}")
    th.set_rng_state(th.from_numpy(torch))
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), float(cached)))  # noqa: NPY002


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which some bit generators keep in their state, for JSON."""
    return value.tolist()


def _complete(run: Path) -> list[Path]:
    """Checkpoints, oldest first, those of earlier versions among them; a draft that a crash left has another name.

    Raises `UserError` where one is a link: files of old ones are deleted.
    """
    found = [
        path
        for path in (run / run_dir.CHECKPOINTS).glob("[0-9]" * 12)
        if any((path / name).is_file() for name in (MANIFEST, _BEFORE))
    ]
    for path in (run / run_dir.CHECKPOINTS, *found):
        if path.is_symlink():
            raise UserError(f"{path}: a link; allowed: a folder of its own")
    return sorted(found)
