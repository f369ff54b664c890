"""Run folders that no training wrote, sealed and with the right digests: those say who wrote them, not what."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import strangers
from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.short_runs import short_scenario
from tiergym.lab import checkpoint, own_key, tensor_files
from tiergym.lab.recipe import load_recipe, make_recipe
from tiergym.lab.train import train


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strangers.stopped_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "r")
    return tmp_path / "r"


def sealed(run: Path, name: str, data: bytes) -> None:
    """Replace a file of the newest checkpoint, with its digest and the seal that its owner would give it."""
    newest = checkpoint.latest(run)
    strangers.replaced(newest, name, data)
    manifest = newest / checkpoint.MANIFEST
    seal = own_key.seal(checkpoint.sealed_text(run, newest))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seal": seal}))


def with_array(run: Path, file: str, name: str, change: Callable[[np.ndarray], Any]) -> None:
    path = checkpoint.latest(run) / file
    arrays = tensor_files.load(path)
    change(arrays[name])
    tensor_files.save(path, arrays)
    sealed(run, file, path.read_bytes())


MACHINES: dict[str, Any] = {
    "scenario": 1,
    "regions": 17,
    "processes": -1,
    "blocks": 100_000,
    "events": 9,
    "events_done": 256,
    "tick": -1,
    "ticks": 0,
    "kswapd_class": 99,
    "oom_class": -1,
    "action": 77,
    "block_state": 9,
    "disk": 1e9,
    "swap": -1.0,
    "dt_s": np.nan,
    "event_kind": 50,
    "free_pages": -5,
    "owed_s": np.inf,
}
"""By field of a machine's record: a value with which compiled code would read or write elsewhere, or never end."""
IN_REGIONS: dict[str, float] = {"process": 8, "kind": -3, "pages": -1, "heat_from": 40, "misses": np.nan}


@pytest.mark.parametrize("field", [*MACHINES, *(f"region.{name}" for name in IN_REGIONS)])
def test_a_machine_that_cannot_be_is_refused_although_it_is_sealed(field: str, run: Path, cli: Cli) -> None:
    from tiergym.sim.layout import machine_dtype

    def change(array: np.ndarray) -> None:
        records = array.view(machine_dtype(16))[..., 0]
        if field.startswith("region."):
            records["region"][field.removeprefix("region.")][:, 0] = IN_REGIONS[field.removeprefix("region.")]
        else:
            records[field] = MACHINES[field]

    with_array(run, checkpoint.MACHINES, "records", change)
    assert_refused(cli("train", "--resume", run), field)


EPISODES: dict[str, Any] = {
    "obs": np.nan,
    "masks": False,
    "returns": np.inf,
    "lengths": -1,
    "kill_price": np.nan,
}
"""By array of machines' episodes: a value that a learner would take in."""


@pytest.mark.parametrize("name", EPISODES)
def test_episodes_that_cannot_be_are_refused_although_they_are_sealed(name: str, run: Path, cli: Cli) -> None:
    with_array(run, checkpoint.MACHINES, name, lambda array: array.fill(EPISODES[name]))
    assert_refused(cli("train", "--resume", run), name, "of a machine")


def numbers(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = checkpoint.latest(run) / checkpoint.STATE
        state = json.loads(path.read_text())
        state["numbers"] |= changes
        sealed(run, checkpoint.STATE, json.dumps(state).encode())

    return change


def rate(value: object) -> Callable[[Path], None]:
    """A learning rate of the newest checkpoint's optimiser."""

    def change(run: Path) -> None:
        path = checkpoint.latest(run) / checkpoint.STATE
        state = json.loads(path.read_text())
        assert "policy.optimizer/lr" in state["optimisers"]
        state["optimisers"]["policy.optimizer/lr"] = [value]
        sealed(run, checkpoint.STATE, json.dumps(state).encode())

    return change


def config(old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / "config.toml").read_text()
        assert old in text
        (run / "config.toml").write_text(text.replace(old, new, 1))

    return change


def folder(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return change


def put(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda run: sealed(run, name, data)


def one_tensor(dtype: str, shape: list[int], size: int) -> bytes:
    """A file of one tensor of zeros."""
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a seed below 0": (config("seed = 0", "seed = -1"), "seed is -1; allowed: 0 to 9223372036854775807"),
    "a true seed": (config("seed = 0", "seed = true"), "seed"),
    "steps below 0": (config("steps = 96", "steps = -96"), "steps is -96; allowed"),
    "steps of another moment": (numbers(num_timesteps=32), "num_timesteps is 32"),
    "steps without end": (numbers(num_timesteps=1e300), "num_timesteps is 1e+300"),
    "updates below 0": (numbers(_n_updates=-1), "_n_updates is -1; allowed: 0 to"),
    "updates without end": (numbers(_n_updates=1e300), "_n_updates is 1e+300; allowed: 0 to"),
    "updates that are none": (numbers(_n_updates="x"), "_n_updates is 'x'"),
    "more exploration than there is": (numbers(exploration_rate=5), "exploration_rate is 5; allowed: 0 to 1"),
    "more left than there was": (
        numbers(_current_progress_remaining=7.5),
        "_current_progress_remaining is 7.5; allowed: 0 to 1",
    ),
    "a state that is nested": (put("state.json", b"[" * 100_000), "nested too deeply"),
    "a state that is binary": (put("state.json", b"\x80\x04\x95"), "not valid JSON"),
    "a state that is a list": (put("state.json", b"[]"), "no numbers, no optimisers"),
    "a position out of the buffer": (
        lambda run: with_array(run, checkpoint.REPLAY, "place", lambda place: place.fill(1 << 40)),
        "place is 1099511627776; allowed: 0 to",
    ),
    "choices that there are not": (
        lambda run: with_array(run, checkpoint.REPLAY, "actions", lambda actions: actions.fill(-1)),
        "actions has -1; allowed: 0 to",
    ),
    "rewards that are no numbers": (
        lambda run: with_array(run, checkpoint.REPLAY, "rewards", lambda rewards: rewards.fill(np.nan)),
        "rewards has nan; allowed: finite numbers",
    ),
    "ends that are none": (
        lambda run: with_array(run, checkpoint.REPLAY, "dones", lambda dones: dones.fill(-1e30)),
        "dones has -1.0000000150474662e+30; allowed: 0 to 1",
    ),
    "weights that are no numbers": (
        lambda run: with_array(run, checkpoint.LEARNER, "policy/q_net.q_net.0.bias", lambda bias: bias.fill(np.nan)),
        "policy/q_net.q_net.0.bias is not finite",
    ),
    "a learning rate that is none": (rate(float("nan")), "policy.optimizer/lr has nan; allowed: numbers from 0"),
    "a learning rate below 0": (rate(-5.0), "policy.optimizer/lr has -5.0; allowed: numbers from 0"),
    "a learning rate of many digits": (rate(10**400), "policy.optimizer/lr has a number of 1329 bits; allowed: "),
    "weights that are too large": (
        lambda run: with_array(run, checkpoint.LEARNER, "policy/q_net.q_net.0.bias", lambda bias: bias.fill(3e38)),
        "policy/q_net.q_net.0.bias has 3e+38; allowed: -9.0072e+15 to 9.0072e+15",
    ),
    "updates of an optimiser below 0": (
        lambda run: with_array(run, checkpoint.LEARNER, "policy.optimizer/0/step", lambda step: step.fill(-1.0)),
        "policy.optimizer/0/step has -1; allowed: 0 to",
    ),
    "a mean of squares below 0": (
        lambda run: with_array(run, checkpoint.LEARNER, "policy.optimizer/0/exp_avg_sq", lambda mean: mean.fill(-1.0)),
        "policy.optimizer/0/exp_avg_sq has -1; allowed: 0 to",
    ),
    "a normal number that is none": (
        lambda run: with_array(run, checkpoint.RANDOM, "numpy_rest", lambda rest: rest.put([1, 2], [1, np.nan])),
        "numpy_rest is not finite",
    ),
    "numbers that NumPy has not": (
        put("learner.safetensors", one_tensor("F8_E4M3", [4], 4)),
        "learner.safetensors: not a file of tensors",
    ),
    "a position of random numbers": (
        lambda run: with_array(run, checkpoint.RANDOM, "numpy_rest", lambda rest: rest.fill(10_000)),
        "position 10000",
    ),
    "a policy that is a folder": (folder("policy.onnx"), "policy.onnx: a folder; allowed: a file, or nothing"),
    "a configuration that is a folder": (folder("config.toml"), "no config.toml"),
    "versions that are a folder": (folder("versions.json"), "versions.json: missing or damaged"),
    "versions that are nested": (
        lambda run: (run / "versions.json").write_bytes(b"[" * 100_000),
        "versions.json: missing or damaged",
    ),
    "versions that are binary": (
        lambda run: (run / "versions.json").write_bytes(b"\x80\x04\x95"),
        "versions.json: missing or damaged",
    ),
    "a manifest that is nested": (
        lambda run: (checkpoint.latest(run) / checkpoint.MANIFEST).write_bytes(b"[" * 100_000),
        "nested too deeply; without the folder",
    ),
    "a long scenario's name": (
        config('scenarios = ["', f'scenarios = ["{"x" * 300}'),
        "File name too long",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_run_that_no_training_wrote_is_refused(case: str, run: Path, cli: Cli) -> None:
    spoil, part = BAD[case]
    spoil(run)
    assert_refused(cli("train", "--resume", run), part)
    assert not list(run.glob(".lock"))


def test_a_memory_that_is_not_finite_is_refused(cli: Cli, tmp_path: Path) -> None:
    """It would spoil the weights, and with them the checkpoints that follow."""
    document = load_recipe("recurrent_gru").document()
    document |= {"envs": 4, "steps": 64, "checkpoint_steps": 32}
    document["hyperparameters"] |= {"n_steps": 8, "batch_size": 16}
    document["network"] |= {"hidden": [8], "lstm_hidden_size": 8}
    recipe = make_recipe("recurrent_gru", document, "recurrent_gru")
    run = train(recipe, short_scenario(), out=tmp_path / "r", progress=False)
    config("steps = 64", "steps = 96")(run)
    with_array(run, checkpoint.MACHINES, "actor_hidden", lambda hidden: hidden.fill(np.nan))
    assert_refused(cli("train", "--resume", run), "machines.safetensors", "actor_hidden is not finite")


@pytest.mark.parametrize("name", ["x", "12", "-00000000064", "0" * 13, "٠" * 12, "9" * 200, "00000000006x"])
def test_what_is_no_number_of_steps_is_no_checkpoint(name: str, run: Path, cli: Cli) -> None:
    newest = checkpoint.latest(run)
    shutil.copytree(newest, newest.with_name(name))
    assert checkpoint.latest(run) == newest
    for older in {*newest.parent.iterdir()} - {newest, newest.with_name(name)}:
        shutil.rmtree(older)
    newest.rename(newest.with_name(name + "y"))
    assert_refused(cli("export", run), "no checkpoint")


@pytest.mark.parametrize("left", [[], [checkpoint.LEARNER]])
def test_what_is_left_of_a_checkpoint_gives_way_to_a_whole_one(left: list[str], run: Path, cli: Cli) -> None:
    """A run that comes to the same step again has its checkpoint there."""
    newest = checkpoint.latest(run)
    for path in newest.iterdir():
        if path.name not in left:
            path.unlink()
    config("steps = 96", "steps = 64")(run)
    assert cli("train", "--resume", run).code == 0
    assert checkpoint.latest(run) == newest
    assert cli("train", "--resume", run, "--steps", 32).code == 0


def test_a_run_without_its_newest_checkpoint_is_made_longer(run: Path, cli: Cli) -> None:
    shutil.rmtree(checkpoint.latest(run))
    done = cli("train", "--resume", run, "--steps", 32)
    assert done.code == 0 and "its machines start new episodes" in done.err
    assert checkpoint.latest(run).name == "000000000128"


def test_without_the_newest_checkpoint_a_run_goes_on_from_the_one_before(run: Path, cli: Cli) -> None:
    newest = checkpoint.latest(run)
    (newest / checkpoint.LEARNER).write_bytes(b"x")
    line = f"without the folder {newest} the run goes on from 000000000032 steps"
    assert_refused(cli("train", "--resume", run), "learner.safetensors", line)
    shutil.rmtree(newest)
    done = cli("train", "--resume", run)
    assert done.code == 0 and "000000000032 is an older checkpoint; its machines start new episodes" in done.err
    assert checkpoint.latest(run).name == "000000000096"
