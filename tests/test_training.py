"""Training: recipes, run directories, seeds, interruption and resumption, the numbers that are logged."""

import csv
import json
import os
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.envs import IdentityEnvMultiDiscrete
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tests.short_runs import random_modes, random_observations
from tiergym import specs
from tiergym.bench import time_to_score
from tiergym.env import actions as act
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import callbacks, checkpoint, learner, run_dir
from tiergym.lab.algorithms import ALGORITHMS
from tiergym.lab.export import export_run
from tiergym.lab.recipe import Recipe, list_recipes, load_recipe, make_recipe
from tiergym.lab.train import TrainingInterruptedError, train
from tiergym.lab.training_env import STARTS, TrainingVecEnv
from tiergym.policy.load import load_policy
from tiergym.policy.sb3_policy import FusedActorCriticPolicy
from tiergym.sim import names as n

HORIZON_TICKS = 12
SCENARIO = """
description = "Twice the size of DRAM is touched in two seconds."
[machine]
dram_mib = 4096
slow_mib = 8192
block_mib = 128
cpus = 4
[episode]
horizon_s = 3
[[workload.regions]]
name = "heap"
mib = { uniform = [6000, 7000] }
grow_s = 2
misses_per_page_s = 200
tlb_misses_per_page_s = 20
[workload.pools.threads]
count = 2000
"""
SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 2}
OFF: dict[str, Any] = {"learning_starts": 16, "buffer_size": 64, "batch_size": 16, "train_freq": 2, "gradient_steps": 1}
NUMBERS = {
    "ppo": SMALL,
    "maskable_ppo": SMALL,
    "recurrent_ppo": SMALL,
    "a2c": {"n_steps": 8},
    "dqn": {**OFF, "target_update_interval": 8},
    "sac": OFF,
    "td3": OFF,
}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    path = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    path.write_text(SCENARIO)
    return specs.load_scenario(path)


def small(name: str, steps: int = 96) -> Recipe:
    """A shipped recipe with four machines, small networks and rollouts of 32 steps."""
    document = load_recipe(name).document()
    document |= {"envs": 4, "steps": steps, "checkpoint_steps": 64}
    document["hyperparameters"] |= NUMBERS[name]
    document["network"] |= {"hidden": [8]}
    return make_recipe(name, document, name)


def weights(run: Path) -> dict[str, th.Tensor]:
    _, params, _ = load_from_zip_file(checkpoint.latest(run) / "model.zip", load_data=False)
    policy: Any = params["policy"]
    return dict(policy)


def same(a: dict[str, th.Tensor], b: dict[str, th.Tensor]) -> bool:
    return a.keys() == b.keys() and all(th.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def finished(scenario, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    return train(small("ppo"), scenario, seed=7, out=out, progress=False)


def no_machines(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("machines were built before the input was checked")


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_and_its_export_decides(scenario, tmp_path, name):
    run = train(small(name), scenario, out=tmp_path / name, progress=False)
    policy = load_policy(run)
    policy.reset(3, 0)
    assert policy(random_observations(3), np.ones((3, act.N_MASK), np.bool_)).shape == (3, n.N_ACTIONS)
    assert policy.name == name


def test_the_recipes_are_those_of_the_seven_algorithms():
    assert {load_recipe(name).algorithm for name in list_recipes()} == set(ALGORITHMS)


def test_the_fused_policy_learns(one_torch_thread):
    env = DummyVecEnv([lambda: IdentityEnvMultiDiscrete(dim=3, ep_length=50)] * 8)
    for seed, machine in enumerate(env.envs):
        machine.action_space.seed(seed)  # the environment draws its states from it
    model = PPO(FusedActorCriticPolicy, env, n_steps=32, batch_size=128, gamma=0.0, learning_rate=3e-3, seed=0)
    model.learn(10000)
    obs = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2)
    assert (model.predict(obs, deterministic=True)[0] == obs).all()


def test_a_run_directory_says_what_was_done(finished):
    config = read_toml(finished / "config.toml")
    assert config["seed"] == 7 and config["scenarios"] == ["tiny"] and config["recipe"]["algorithm"] == "ppo"
    versions = json.loads((finished / "versions.json").read_text())
    assert versions["packages"]["torch"] and len(versions["simulator"]) == 16
    assert versions["layout"]["actions"][0]["name"] == "place.pt_leaf"
    assert run_dir.read(finished).recipe == small("ppo")
    assert (specs.load_scenario(finished / "scenarios" / "tiny.toml").table == tiny_table(finished)).all()
    assert [path.name for path in sorted((finished / "checkpoints").iterdir())] == ["000000000064", "000000000096"]
    assert (finished / "policy.onnx").is_file()
    assert not list(finished.rglob(".*"))


def tiny_table(run: Path) -> np.ndarray:
    original = run.parent / "again.toml"
    original.write_text(SCENARIO)
    return specs.load_scenario(original).table


def test_the_run_of_a_name_lies_in_runs(scenario, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(small("a2c", steps=32), scenario, seed=3, progress=False)
    assert run.parent == Path("runs") and run.name.startswith("a2c-tiny-3-")


def test_tensorboard_and_csv_get_every_rollout(finished):
    events = EventAccumulator(str(finished)).Reload()
    scalars = events.Tags()["scalars"]
    assert {"rollout/throughput", "rollout/return", "time/steps_per_second", "train/loss"} <= set(scalars)
    assert {f"reward_terms/{name}" for name in n.TERMS} <= set(scalars)
    assert {"vmstat/oom_kill", "vmstat/kswapd_wakeups_fast", "vmstat/pgmigrate_pt"} <= set(scalars)
    assert {f"kernel_pages_on_slow/{name}" for name in n.CLASSES[n.FIRST_KERNEL_CLASS :]} <= set(scalars)
    steps = [event.step for event in events.Scalars("rollout/throughput")]
    assert steps == [32, 64, 96]
    for i, throughput in enumerate(events.Scalars("rollout/throughput")):
        lost = sum(events.Scalars(f"lost/{name}")[i].value for name in n.CAUSES)
        assert lost == pytest.approx(1 - throughput.value, abs=1e-4)
        for offset, width in zip(act.OFFSETS, act.NVEC, strict=True):
            names = act.MASK_NAMES[offset : offset + width]
            assert sum(events.Scalars(f"modes/{name}")[i].value for name in names) == pytest.approx(1)
    texts = events.Tags()["tensors"]
    assert {"config/text_summary", "versions/text_summary"} <= set(texts)
    rows = list(csv.DictReader((finished / "progress.csv").open()))
    assert [row["rollout/throughput"] != "" for row in rows].count(True) == 3
    assert "config" not in rows[0]


def test_the_same_seed_gives_the_same_weights(scenario, tmp_path, finished):
    again = train(small("ppo"), scenario, seed=7, out=tmp_path / "again", progress=False)
    other = train(small("ppo"), scenario, seed=8, out=tmp_path / "other", progress=False)
    assert same(weights(again), weights(finished))
    assert not same(weights(other), weights(finished))


def interrupted(recipe: Recipe, scenario: specs.Scenario, out: Path, monkeypatch: Any, sig: int, after: int) -> None:
    """Train until the signal arrives, `after` steps into the training."""
    original = callbacks.MetricsCallback._on_step

    def _on_step(self: callbacks.MetricsCallback) -> bool:
        if self.num_timesteps == after:
            os.kill(os.getpid(), sig)
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.MetricsCallback, "_on_step", _on_step)
        with pytest.raises(TrainingInterruptedError, match=f"tiergym train --resume {out}"):
            train(recipe, scenario, seed=7, out=out, progress=False)


@pytest.mark.parametrize(
    ("name", "sig"), [("ppo", signal.SIGINT), ("recurrent_ppo", signal.SIGTERM), ("dqn", signal.SIGTERM)]
)
def test_an_interrupted_run_resumes_as_if_it_had_never_stopped(scenario, tmp_path, monkeypatch, name, sig):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    recipe = small(name, steps=160)
    whole = train(recipe, scenario, seed=7, out=tmp_path / "whole", progress=False)
    interrupted(recipe, scenario, tmp_path / "parts", monkeypatch, sig, after=60)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    parts = tmp_path / "parts"
    assert checkpoint.steps(checkpoint.latest(parts)) == 64
    assert export_run(parts).is_file()
    th.rand(3)
    np.random.rand(3)  # noqa: NPY002
    assert train(resume=parts, progress=False) == parts
    assert checkpoint.latest(parts).name == checkpoint.latest(whole).name == "000000000160"
    assert same(weights(parts), weights(whole))
    assert (parts / "policy.onnx").read_bytes() == (whole / "policy.onnx").read_bytes()
    assert len(list(parts.glob("progress*.csv"))) == 2


def test_a_run_on_a_changed_simulator_resumes_with_new_episodes(scenario, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    interrupted(small("ppo"), scenario, run, monkeypatch, signal.SIGINT, after=32)
    versions = json.loads((run / "versions.json").read_text())
    (run / "versions.json").write_text(json.dumps({**versions, "simulator": "another"}))
    train(resume=run, progress=False)
    assert checkpoint.latest(run).name == "000000000096"
    assert "simulator has changed" in capsys.readouterr().err


def test_resuming_a_finished_run_only_exports_it_again(finished):
    before = weights(finished)
    (finished / "policy.onnx").unlink()
    train(resume=finished, progress=False)
    assert same(weights(finished), before) and load_policy(finished)


def _forget(run: Path, name: str) -> None:
    (run / name).unlink()


def _edit(name: str, old: str, new: str) -> Any:
    def edit(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return edit


def _cut(name: str) -> Any:
    def cut(run: Path) -> None:
        path = checkpoint.latest(run) / name
        path.write_bytes(path.read_bytes()[:100])

    return cut


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: _forget(run, "config.toml"), "no config.toml; allowed: the folder of a training run"),
        (lambda run: _forget(run, "versions.json"), "versions.json: missing or damaged"),
        (lambda run: _forget(run, "scenarios/tiny.toml"), "tiny.toml"),
        (_edit("config.toml", "schema = 1", "schema = 2"), "schema 1"),
        (_edit("config.toml", "seed = 7", ""), "seed and scenarios are missing"),
        (_edit("config.toml", 'policy = "fused"', 'policy = "fusd"'), "did you mean 'fused'"),
        (_edit("config.toml", "hidden = [8]", "hidden = [9]"), "not a checkpoint of this recipe"),
        (_edit("versions.json", '"free.dma"', '"free.other"'), "observations or actions are not those"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint"),
        (_cut("model.zip"), "not a checkpoint of this recipe"),
        (_cut("state.json"), "missing or damaged"),
        (_cut("random_state.npz"), "missing or damaged"),
        (_cut("machines.npz"), "missing or damaged"),
    ],
)
def test_a_run_that_cannot_go_on_is_refused(finished, tmp_path, damage, message):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    damage(run)
    with pytest.raises(UserError, match=message):
        train(resume=run, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs an agent and a scenario"),
        ({"recipe": "ppo"}, "needs an agent and a scenario"),
        ({"recipe": "ppo", "resume": "x"}, "the run has its own agent"),
        ({"resume": "no/such/run"}, "no config.toml"),
        ({"recipe": "pppo", "scenario": "llama-1to2"}, "did you mean 'ppo'"),
        ({"recipe": "restrict", "scenario": "llama-1to2"}, "is a fixed policy, there is nothing to train"),
        ({"recipe": "ppo", "scenario": "llma-1to2"}, "did you mean 'llama-1to2'"),
        ({"recipe": "ppo", "scenario": ["llama-1to2"] * 2}, "of different names"),
        ({"recipe": "ppo", "scenario": "llama-1to2", "seed": -1}, "seed is -1"),
        ({"recipe": "ppo", "scenario": "llama-1to2", "envs": 3}, "a divisor of the rollout's 8192 steps"),
        ({"recipe": "ppo", "scenario": "llama-1to2", "envs": 0}, "envs is 0"),
        ({"recipe": "ppo", "scenario": "llama-1to2", "steps": 0}, "steps is 0"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tiergym.lab.train.TrainingVecEnv", no_machines)
    with pytest.raises(UserError, match=message):
        train(**arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_not_overwritten(scenario, finished):
    with pytest.raises(UserError, match=f"continue it with --resume {finished}"):
        train(small("ppo"), scenario, out=finished, progress=False)


def test_other_machines_keep_the_rollout():
    recipe = load_recipe("ppo")
    rollout = recipe.envs * recipe.hyperparameters["n_steps"]
    resized = recipe.resized(envs=8, steps=None)
    assert resized.envs == 8 and resized.hyperparameters["n_steps"] * 8 == rollout and resized.steps == recipe.steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "pop"}, "did you mean 'ppo'"),
        ({"algoritm": "ppo"}, "did you mean 'algorithm'"),
        ({"policy": "CnnPolicy"}, "unknown policy of PPO 'CnnPolicy'"),
        ({"action_form": "boxes"}, "did you mean 'box'"),
        ({"algorithm": "dqn", "policy": "MlpPolicy"}, "action_form is 'multidiscrete'; dqn allows: baseline"),
        ({"action_form": "baseline", "baselines": ["onlin"]}, "did you mean 'online'"),
        ({"envs": 0}, "envs is 0; allowed: a whole number from 1"),
        ({"steps": 1.5}, "steps is 1.5; allowed: a whole number"),
        ({"hold_ticks": 0}, "hold_ticks is 0; allowed: a whole number from 1"),
        ({"algorithm": "recurrent_ppo", "hold_ticks": 8}, "recurrent_ppo allows: 1"),
        ({"threads": True}, "threads is True; allowed: a whole number"),
        ({"hyperparameters": {"gama": 0.9}}, "did you mean 'gamma'"),
        ({"hyperparameters": {"gamma": 1.5}}, "gamma is 1.5; allowed: 0 to 1"),
        ({"hyperparameters": {"gamma": "high"}}, "gamma is 'high'; allowed: a number"),
        ({"hyperparameters": {"gamma": float("nan")}}, "gamma is nan; allowed: 0 to 1"),
        ({"hyperparameters": {"n_steps": 32.0}}, "n_steps is 32.0; allowed: a whole number"),
        ({"hyperparameters": {"learning_rate": {"start": 1}}}, "allowed: a number or { start, end }"),
        ({"hyperparameters": {"learning_rate": {"start": 1, "end": -1}}}, "learning_rate is -1"),
        ({"hyperparameters": {"batch_size": 5000}}, "batch_size is 5000; allowed: a divisor of the rollout's"),
        ({"hyperparameters": {"normalize_advantage": 1}}, "allowed: true or false"),
        ({"hyperparameters": {"tensorboard_log": "x"}}, "unknown argument of PPO 'tensorboard_log'"),
        ({"hyperparameters": {"device": "abacus"}}, "PPO refuses it"),
        ({"network": {"hiden": [3]}}, "did you mean 'hidden'"),
        ({"network": {"hidden": [0]}}, "hidden is"),
        ({"network": {"activation": "tan"}}, "did you mean 'tanh'"),
        ({"network": {"optimizer_class": "x"}}, "unknown argument"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(change, message):
    document = load_recipe("ppo").document()
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    with pytest.raises(UserError, match=message) as caught:
        learner.build(make_recipe("ppo", document, "mine.toml"), seed=0)
    assert "mine.toml" in str(caught.value) or "recipe 'ppo'" in str(caught.value)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_survives_being_written_and_read(name, tmp_path):
    recipe = load_recipe(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(run_dir.toml_text(recipe.document()))
    assert load_recipe(path) == recipe


def test_toml_text_keeps_awkward_texts(tmp_path):
    document = {"text": 'a "b" \\ \n ü', "none": [], "a b": {"c.d": {"e": [1.5e-9, True, "x"]}}}
    (tmp_path / "x.toml").write_text(run_dir.toml_text(document), encoding="utf-8")
    assert read_toml(tmp_path / "x.toml") == document


def test_machines_start_staggered_and_end_one_by_one(scenario):
    env = TrainingVecEnv([scenario], 6)
    env.seed(1)
    obs = env.reset()
    records = env._episodes.machines.records
    assert list(records["tick"]) == [0, 2, 4, 6, 8, 10] and (records["ticks"] == HORIZON_TICKS).all()
    assert ((obs >= 0) & (obs <= 1)).all() and len(np.unique(records["key"])) == 6
    ends = []
    for _ in range(HORIZON_TICKS):
        _, _, dones, infos = env.step(np.zeros((6, n.N_ACTIONS), dtype=np.int64))
        ends.append(list(np.flatnonzero(dones)))
        assert all(infos[i]["episode"]["l"] == HORIZON_TICKS for i in ends[-1])
    assert ends == [[], [5], [], [4], [], [3], [], [2], [], [1], [], [0]]
    env.seed(1)
    assert (env.reset() == obs).all()

    many = TrainingVecEnv([scenario], 3 * STARTS)
    many.reset()
    _, machines = np.unique(many._episodes.machines.records["tick"], return_counts=True)
    assert machines.sum() == 3 * STARTS and (machines % 3 == 0).all()


def test_the_batched_bootstrap_is_sb3s(scenario, one_torch_thread):
    """Same machines, same network: SB3 asks it once per finished machine, we ask once for all of them."""
    recipe = make_recipe("x", {**small("ppo").document(), "envs": 8}, "x")
    returns = []
    for batched in (True, False):
        env = TrainingVecEnv([scenario], 8)
        model: Any = learner.build(recipe, 0, env)
        env.seed(5)
        if batched:
            env.gamma, env.values = model.gamma, learner.values_of(model)
        model.learn(64)
        returns.append(model.rollout_buffer.returns.copy())
    assert np.allclose(returns[0], returns[1], atol=1e-4)
    assert np.ptp(returns[0]) > 0.1


def test_the_machines_state_restores_their_future(scenario):
    env = TrainingVecEnv([scenario], 4)
    env.seed(2)
    env.reset()
    actions = random_modes(4, 20)
    state = env.state()
    futures = []
    for _ in range(2):
        futures.append([env.step(action)[:3] for action in actions])
        obs = env.restore(state)
        assert (obs == state["obs"]).all()
    for (obs, rewards, dones), (obs2, rewards2, dones2) in zip(*futures, strict=True):
        assert (obs == obs2).all() and (rewards == rewards2).all() and (dones == dones2).all()
    other = TrainingVecEnv([scenario], 5)
    with pytest.raises(UserError, match="machines' state"):
        other.restore(state)


def test_progress_is_told_where_there_is_no_terminal(scenario, tmp_path, capsys):
    train(small("ppo"), scenario, out=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("ppo on tiny: 96 of 96 steps") and "throughput" in lines[-1]


def test_only_the_newest_checkpoint_keeps_what_is_large(scenario, tmp_path):
    run = train(small("dqn", steps=200), scenario, out=tmp_path / "run", progress=False)
    found = sorted((run / "checkpoints").iterdir())
    assert len(found) > 2
    large = [(path / "replay_buffer.npz").exists() and (path / "machines.npz").exists() for path in found]
    assert large == [False] * (len(found) - 1) + [True]
    assert all(earlier.name < later.name for earlier, later in pairwise(found))


def test_time_to_score_knows_who_was_reached(one_torch_thread, monkeypatch):
    monkeypatch.setattr(time_to_score, "EPISODES", 2)
    recipe = make_recipe("x", {**small("ppo").document(), "envs": 8, "steps": 256}, "x")
    times = time_to_score.measure(recipe, ["traditional-kvstore"], 2, 60.0)
    assert set(times.returns) >= {"online", "adaptive"} and len(times.final_return) == 2
    # One tier: every policy is stock Linux, so nothing beats it and every other rule is reached untrained.
    assert times.reached_s["online"] == [None, None]
    assert all(s is not None and s < 5 for s in times.reached_s["adaptive"])
