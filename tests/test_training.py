"""Training: recipes, run directories, seeds, interruption and resumption, the numbers that are logged."""

import csv
import io
import json
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import IdentityEnvMultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tests.short_runs import random_observations
from tests.tiny_training import SCENARIO, no_machines, same, small, tiny_scenario, weights
from tiergym import specs
from tiergym.bench import time_to_score
from tiergym.env import actions as act
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import callbacks, checkpoint, evaluations, learner, learner_state, run_dir
from tiergym.lab.algorithms import ALGORITHMS
from tiergym.lab.export import export_run
from tiergym.lab.recipe import Recipe, list_recipes, load_recipe, make_recipe
from tiergym.lab.tensorboard_log import DETERMINISTIC, EXPLORING, THROUGHPUT
from tiergym.lab.train import TrainingInterruptedError, train
from tiergym.policy.load import load_policy
from tiergym.policy.sb3_policy import FusedActorCriticPolicy
from tiergym.sim import names as n


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    return tiny_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def finished(scenario, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    return train(small("ppo"), scenario, seed=7, out=out, progress=False)


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
    assert [path.name for path in sorted((finished / "checkpoints").iterdir())][-2:] == ["000000000064", "000000000096"]
    assert (finished / "policy.onnx").is_file() and (finished / "best.onnx").is_file()
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
    assert {"rollout/throughput", "Return/exploring", "time/steps_per_second", "train/loss"} <= set(scalars)
    assert {f"reward_terms/{name}" for name in n.TERMS} <= set(scalars)
    assert {"vmstat/oom_kill", "vmstat/kswapd_wakeups_fast", "vmstat/pgmigrate_pt"} <= set(scalars)
    assert {f"kernel_pages_on_slow/{name}" for name in n.CLASSES[n.FIRST_KERNEL_CLASS :]} <= set(scalars)
    steps = [event.step for event in events.Scalars("rollout/throughput")]
    assert steps == [32, 64, 96]
    for i, throughput in enumerate(events.Scalars("rollout/throughput")):
        lost = sum(events.Scalars(f"lost/{name}")[i].value for name in n.CAUSES)
        assert lost == pytest.approx(1 - throughput.value, abs=1e-4)
        for group in ("modes", "modes_in_effect"):
            for offset, width in zip(act.OFFSETS, act.NVEC, strict=True):
                names = act.MASK_NAMES[offset : offset + width]
                assert sum(events.Scalars(f"{group}/{name}")[i].value for name in names) == pytest.approx(1)
    texts = events.Tags()["tensors"]
    assert {"config/text_summary", "versions/text_summary"} <= set(texts)
    rows = list(csv.DictReader((finished / "progress.csv").open()))
    assert [row["rollout/throughput"] != "" for row in rows].count(True) == 3
    assert "config" not in rows[0]


def test_what_the_learner_records_waits_for_a_record(scenario, tmp_path, monkeypatch):
    """DQN records its exploration in every step; here it has 40 rollouts of 8 steps, and 10 records."""
    monkeypatch.setattr(callbacks, "LOGS", 10)
    recipe = replace(small("dqn", steps=320), evaluation={"every_steps": 0})
    run = train(recipe, scenario, out=tmp_path / "run", progress=False)
    rows = [row for row in csv.DictReader((run / "progress.csv").open()) if any(row.values())]
    assert len(rows) == 10
    assert all(row["rollout/throughput"] and row["rollout/exploration_rate"] for row in rows)


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
    ("name", "sig"), list(zip(list_recipes(), cycle([signal.SIGINT, signal.SIGTERM]), strict=False))
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
    assert evaluations.read(parts) == evaluations.read(whole) != []


def test_a_thread_trains_the_same_weights(scenario, tmp_path, finished):
    """Python hands signals to the main thread alone, and a notebook or a server trains in another."""
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train, small("ppo"), scenario, seed=7, out=tmp_path / "run", progress=False).result()
    assert same(weights(run), weights(finished))


class Stop(BaseCallback):
    """Ends training `after` some steps, by False or by an error; counts what it sees."""

    def __init__(self, after: int, error: Exception | None = None) -> None:
        super().__init__()
        self.after, self.error = after, error

    def _on_step(self) -> bool:
        if self.num_timesteps < self.after:
            return True
        if self.error is not None:
            raise self.error
        return False


def test_a_callback_ends_training_early_and_the_run_is_exported(scenario, tmp_path):
    stop = Stop(after=80)
    run = train(small("ppo"), scenario, seed=7, out=tmp_path / "run", progress=False, callbacks=[stop])
    assert stop.num_timesteps == 80
    assert load_policy(run).name == "run"
    assert checkpoint.steps(checkpoint.latest(run)) == 64
    assert train(resume=run, progress=False) == run
    assert checkpoint.steps(checkpoint.latest(run)) == 96


def test_an_error_of_a_callback_passes_through(scenario, tmp_path):
    stop = Stop(after=40, error=LookupError("pruned"))
    with pytest.raises(LookupError, match="pruned"):
        train(small("ppo"), scenario, out=tmp_path / "run", progress=False, callbacks=[stop])
    assert not (tmp_path / "run" / "policy.onnx").exists()


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
        (_cut("learner.safetensors"), "learner.safetensors: another digest"),
        (_cut("state.json"), "missing or damaged"),
        (_cut("random_state.safetensors"), "missing or damaged"),
        (_cut("machines.safetensors"), "missing or damaged"),
    ],
)
def test_a_run_that_cannot_go_on_is_refused(finished, tmp_path, damage, message):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    damage(run)
    with pytest.raises(UserError, match=message):
        train(resume=run, progress=False)


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(finished, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    newest = checkpoint.latest(run)
    for path in newest.iterdir():
        path.unlink()
    (newest / "model.zip").write_bytes(b"PK")
    (newest / "state.json").write_text("{}")
    for work in (lambda: train(resume=run, progress=False), lambda: export_run(run)):
        with pytest.raises(UserError, match=r"model.zip: a checkpoint of an earlier tiergym.*train it anew") as caught:
            work()
        assert "\n" not in str(caught.value)


def test_all_that_is_learned_is_in_a_checkpoint(scenario, tmp_path):
    """SAC's temperature lies in no module."""
    run = train(small("sac"), scenario, out=tmp_path / "run", progress=False)
    kept = weights(run)
    assert {name for name in kept if "/" not in name} == {"log_ent_coef"}
    assert kept["log_ent_coef"] != 0 and kept["ent_coef_optimizer/0/step"] > 0
    kinds = {name.split("/")[0] for name in kept}
    assert kinds == {"policy", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer", "log_ent_coef"}


def test_a_learner_s_state_fits_one_recipe_alone(scenario):
    def built(**changes: Any) -> Any:
        document = small("sac").document()
        document["hyperparameters"] |= changes
        return learner.build(make_recipe("sac", document, "sac"), 0)

    arrays, numbers = learner_state.take(built())
    learner_state.put(built(), arrays, numbers)
    name = next(name for name in arrays if name.startswith("policy/"))
    for wrong, message in (
        ({**arrays, name: arrays[name][..., :1]}, "allowed: float32"),
        ({**arrays, name: arrays[name].astype(np.float64)}, "is float64"),
        ({**arrays, "policy/more": np.zeros(1)}, "unknown tensor policy/more"),
        ({**arrays, "actor.optimizer/0/hooks": np.zeros(1)}, "unknown tensor actor.optimizer/0/hooks"),
        ({**arrays, "actor.optimizer/0/step": np.zeros((), np.float32)}, "allowed: exp_avg, exp_avg_sq, step"),
        ({key: array for key, array in arrays.items() if key != "log_ent_coef"}, "no tensor log_ent_coef"),
    ):
        with pytest.raises(ValueError, match=message):
            learner_state.put(built(), wrong, numbers)
    with pytest.raises(ValueError, match="no tensor ent_coef_tensor"):
        learner_state.put(built(ent_coef=0.1), arrays, numbers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs an agent and a scenario"),
        ({"recipe": "ppo"}, "needs an agent and a scenario"),
        ({"recipe": "ppo", "resume": "x"}, "the run has its own agent"),
        ({"start_from": "y", "resume": "x"}, "the run has its own agent"),
        ({"until_converged": True, "resume": "x"}, "allowed: --until-converged with --steps"),
        ({"recipe": "ppo", "scenario": "llama-1to2", "start_from": "no/such/run"}, "no config.toml"),
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
        ({"frames": 0}, "frames is 0; allowed: a whole number from 1 to 64"),
        ({"frames": 65}, "frames is 65; allowed: a whole number from 1 to 64"),
        ({"frames": 5, "hold_ticks": 1000}, "a look back of at most 1024 ticks"),
        ({"algorithm": "recurrent_ppo", "hold_ticks": 1, "frames": 4}, "RecurrentPPO allows: 1, since it has its own"),
        ({"threads": True}, "threads is True; allowed: a whole number"),
        ({"evaluation": {"every": 10}}, "did you mean 'every_steps'"),
        ({"evaluation": {"every_steps": -1}}, "every_steps is -1; allowed: a whole number from 0"),
        ({"evaluation": {"episodes": 0}}, "episodes is 0; allowed: a whole number from 1 to 1000"),
        ({"evaluation": {"episodes": True}}, "episodes is True; allowed: a whole number"),
        ({"evaluation": {"until_converged": 1}}, "until_converged is 1; allowed: true or false"),
        ({"evaluation": {"every_steps": 0, "until_converged": True}}, "nothing is evaluated"),
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
        ({"hyperparameters": {"device": "abacus"}}, "device is 'abacus'; allowed: cpu, auto, cuda"),
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


def test_progress_is_told_where_there_is_no_terminal(scenario, tmp_path, capsys):
    train(small("ppo"), scenario, out=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("ppo on tiny: 96 of 96 steps") and "throughput" in lines[-1]


@pytest.mark.parametrize(
    "what", ["maskable_ppo on llama-1to2", "recurrent_ppo on kvstore-1to2, llama-1to2, sparse-1to2"]
)
def test_a_bar_fits_into_80_columns(monkeypatch, what):
    out = io.StringIO()
    terminal = Console(width=80, force_terminal=True, file=out, color_system=None)
    monkeypatch.setattr(callbacks, "console", lambda stderr: terminal)
    metrics = callbacks.MetricsCallback(10**6)
    metrics.latest = {THROUGHPUT: 0.9, EXPLORING: -130.5, DETERMINISTIC: -117.25, "time/steps_per_second": 12345.0}
    bar = callbacks.ProgressCallback(what, 10**6, metrics)
    bar.num_timesteps = 10**5
    bar._on_training_start()
    bar._on_rollout_end()
    bar.stop()
    line = next(line for line in re.split(r"[\r\n]", out.getvalue()) if "return" in line)
    assert "10% 12.3k/s, return -117.25" in line and "…" not in line


def test_only_the_newest_checkpoint_keeps_what_is_large(scenario, tmp_path):
    run = train(small("dqn", steps=200), scenario, out=tmp_path / "run", progress=False)
    found = sorted((run / "checkpoints").iterdir())
    assert len(found) > 2
    large = [(path / checkpoint.REPLAY).exists() and (path / checkpoint.MACHINES).exists() for path in found]
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
