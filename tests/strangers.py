"""Files and folders as a stranger may send them: each would leave a mark if anything in it were executed. And a run of
one's own, and what is asked of a command that refuses.
"""

import base64
import io
import json
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tests.command_line import Cli
from tests.short_runs import short_scenario
from tiergym.lab import checkpoint, own_key
from tiergym.lab.recipe import load_recipe, make_recipe
from tiergym.lab.train import train


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def python(mark: Path) -> str:
    """A module that leaves the mark when it is imported; it has a policy."""
    return f"""
from pathlib import Path
import numpy as np
from tiergym.sim.names import N_ACTIONS
Path({str(mark)!r}).touch()

class Rule:
    def reset(self, num_envs, seed):
        pass

    def __call__(self, obs, masks):
        return np.zeros((len(obs), N_ACTIONS), np.int64)
"""


def pickled(mark: Path) -> bytes:
    """A pickle that leaves the mark."""
    return pickle.dumps(Touch(mark))


def torch_archive(mark: Path) -> bytes:
    """A pickle in the zip archive that `torch.save` writes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(mark))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def sb3_archive(mark: Path) -> bytes:
    """An archive of stable-baselines3, with pickles in its JSON and in its weights."""
    out = io.BytesIO()
    data = {"policy_class": {":type:": "x", ":serialized:": base64.b64encode(pickled(mark)).decode()}}
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", torch_archive(mark))
        archive.writestr("pytorch_variables.pth", torch_archive(mark))
        archive.writestr("_stable_baselines3_version", "2.9.2")
    return out.getvalue()


def object_array(mark: Path) -> bytes:
    """A .npz file with an array of objects, which NumPy pickles."""
    out = io.BytesIO()
    array = np.empty(1, object)
    array[0] = Touch(mark)
    np.savez(out, weights=array)
    return out.getvalue()


def replaced(checkpoint: Path, name: str, data: bytes) -> None:
    """Put other bytes in a checkpoint's file, with the digest that they have."""
    (checkpoint / name).write_bytes(data)
    path = checkpoint / "checkpoint.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"][name] = sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))


def stopped_run(folder: Path) -> Path:
    """A run of this user's, in a new folder, that stopped before its end. Pictures take most of its time."""
    document = load_recipe("dqn").document()
    numbers = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "train_freq": 2}
    document |= {"envs": 4, "steps": 64, "checkpoint_steps": 32, "network": {"hidden": [8]}}
    document["evaluation"] = {"episodes": 2, "pictures": False}
    document["hyperparameters"] |= numbers
    run = train(make_recipe("dqn", document, "dqn"), short_scenario(), out=folder / "r", progress=False)
    edited = (run / "config.toml").read_text().replace("steps = 64", "steps = 96", 1)
    assert "steps = 96" in edited
    (run / "config.toml").write_text(edited)
    manifest = checkpoint.latest(run) / checkpoint.MANIFEST
    seal = own_key.seal(checkpoint.sealed_text(run, manifest.parent))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seal": seal}))
    return run


def write(path: Path, content: str | bytes) -> str:
    """A file with its folders; returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path.name


def experiment(fields: str) -> str:
    """An experiment on `short.toml`."""
    return f'description = "x"\nscenarios = ["short.toml"]\nepisodes = 1\n{fields}\n'


def tree(folder: Path) -> dict[str, bytes | str]:
    """What lies in a folder."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def refused(cli: Cli, *args: object) -> str:
    """The one line by which a command refuses."""
    done = cli(*args)
    assert done.code == 2, (done.out, done.err)
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.err
    return lines[0]
