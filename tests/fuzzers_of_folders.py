"""Fuzzers of what commands wrote and read again: results, folders of runs and experiments (see `tests/fuzzers.py`)."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests import strangers
from tests.command_line import captured
from tests.fuzzers import EXPERIMENT, OF_FILES, SMALL_MACHINE_BYTES, SPECS, Fuzzer, is_refused, known
from tests.mutations import as_json, damaged, donors, maybe_damaged, mutated, toml
from tiergym import memory
from tiergym.files import read_toml
from tiergym.lab import own_key


def _results(folder: Path) -> dict[str, Any]:
    """What leaderboard, compare and matrix write, once per folder."""
    suite = folder / "suite.toml"
    if not suite.exists():
        suite.write_text('scenarios = ["short.toml"]\n')
        made = ("--episodes", 1, "--policies", "online,restrict")
        short = folder / "short.toml"
        for command in (
            ("leaderboard", suite, *made, "--against", "online", "--out", folder / "kept", "--json"),
            ("compare", "--scenario", short, *made, "--json"),
            ("matrix", "--scenarios", short, *made, "--json"),
        ):
            assert captured(*command, folder / f"{command[0]}.json").code == 0
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("leaderboard", "compare", "matrix")}


def results(draw: DrawFn, folder: Path) -> bool:
    made = _results(folder)
    document = draw(mutated(made[draw(st.sampled_from(sorted(made)))], donors(list(made.values()))))
    if document.get("episodes") in range(5, 1 << 16):  # is allowed, and takes long
        document["episodes"] = 2
    path = folder / "result.json"
    path.write_bytes(draw(maybe_damaged(as_json(document))))
    return not is_refused("verify", path)


def kept_results(draw: DrawFn, folder: Path) -> bool:
    _results(folder)
    out = folder / "spoilt"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "kept", out)
    found = sorted(path for path in out.rglob("*.json"))
    path = found[draw(st.integers(0, len(found) - 1))]
    document = json.loads(path.read_text())
    path.write_bytes(draw(maybe_damaged(as_json(draw(mutated(document, donors([document])))))))
    command = ("leaderboard", folder / "suite.toml", "--policies", "online,restrict", "--against", "online")
    return not is_refused(*command, "--episodes", 1, "--out", out, begun=True)


def _trained(folder: Path) -> Path:
    """A run of this user's that stopped before its end; once per folder."""
    run = folder / "trained" / "r"
    return run if run.exists() else strangers.stopped_run(folder / "trained")


def run_folders(draw: DrawFn, folder: Path) -> bool:
    from tiergym.lab import checkpoint

    run = folder / "spoilt_run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(_trained(folder), run)
    newest = checkpoint.latest(run)
    name = draw(st.sampled_from(("config.toml", "versions.json", "state", "manifest", "machines", "scenario")))
    if name == "config.toml":
        document = read_toml(run / name)
        (run / name).write_bytes(draw(maybe_damaged(toml(draw(mutated(document, donors([document])))))))
    elif name == "scenario":
        (path,) = (run / "scenarios").glob("*.toml")
        document = read_toml(path)
        path.write_bytes(toml(draw(mutated(document, known(*SPECS)))))
    elif name == "machines":
        _change_arrays(draw, newest)
    else:
        path = {"versions.json": run / name, "state": newest / "state.json", "manifest": newest / "checkpoint.json"}[
            name
        ]
        document = json.loads(path.read_text())
        path.write_bytes(draw(maybe_damaged(as_json(draw(mutated(document, donors([document])))))))
        if name == "state":
            strangers.replaced(newest, "state.json", path.read_bytes())
    _seal(run, newest)
    with mock.patch.object(memory, "physical_bytes", return_value=SMALL_MACHINE_BYTES):
        if draw(st.booleans()):
            is_refused("export", run)
        return not is_refused("train", "--resume", run)


def _seal(run: Path, newest: Path) -> None:
    """Seal a spoilt checkpoint as its owner would: a seal says who wrote it, not that it is sound."""
    from tiergym.lab import checkpoint

    manifest = newest / checkpoint.MANIFEST
    try:
        document = json.loads(manifest.read_text())
        document["seal"] = own_key.seal(checkpoint.sealed_text(run, newest))
        manifest.write_text(json.dumps(document))
    except (ValueError, TypeError):  # damaged so that there is nothing to seal
        return


def _change_arrays(draw: DrawFn, newest: Path) -> None:
    """Put numbers into a checkpoint's arrays that no training has."""
    from tiergym.lab import tensor_files

    name = draw(st.sampled_from(("machines", "learner", "random_state", "replay_buffer"))) + ".safetensors"
    arrays = tensor_files.load(newest / name)
    key = draw(st.sampled_from(sorted(arrays)))
    flat = arrays[key].reshape(-1).view(np.uint8)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(flat) // 8 - 1)) * 8 if len(flat) >= 8 else 0
        word = draw(st.sampled_from((b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f", np.float64(np.nan).tobytes())))
        flat[at : at + 8] = np.frombuffer(word, np.uint8)[: len(flat) - at]
    tensor_files.save(newest / name, arrays)
    manifest = newest / "checkpoint.json"
    document = json.loads(manifest.read_text())
    document["sha256"][name] = sha256((newest / name).read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))


def _ran(folder: Path) -> Path:
    """An experiment's folder with two cells; once per folder."""
    out = folder / "ran"
    if not out.exists():
        (folder / "e.toml").write_bytes(toml(EXPERIMENT))
        done = captured("run", folder / "e.toml", "--out", out)
        assert done.code == 0, done.err
    return out


def experiment_folders(draw: DrawFn, folder: Path) -> bool:
    out = folder / "spoilt_experiment"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(_ran(folder), out)
    found = sorted(path for path in out.rglob("*") if path.suffix in (".toml", ".json", ".parquet"))
    path = found[draw(st.integers(0, len(found) - 1))]
    if path.suffix == ".parquet":
        path.write_bytes(draw(damaged(path.read_bytes())))
    elif path.suffix == ".json":
        document = json.loads(path.read_text())
        path.write_bytes(draw(maybe_damaged(as_json(draw(mutated(document, donors([document])))))))
    else:
        path.write_bytes(draw(maybe_damaged(toml(draw(mutated(read_toml(path), donors([EXPERIMENT])))))))
    return not is_refused("run", "--resume", out)


FUZZERS: dict[str, Fuzzer] = OF_FILES | {
    fuzzer.__name__: fuzzer for fuzzer in (results, kept_results, run_folders, experiment_folders)
}
"""By what is read."""
