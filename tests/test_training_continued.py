"""Going on: longer runs, other scenarios and algorithms from given weights, archives of stable-baselines3, `--set`."""

import json
import pickle
import re
import shutil
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import ConvertCallback

from tests.refusals import assert_refused
from tests.short_runs import random_masks, random_observations, write_short_scenario
from tests.strangers import pickled
from tests.test_training import interrupted
from tests.tiny_training import SCENARIO, logged_twice, same, small, tiny_scenario, weights
from tiergym import specs
from tiergym.env.observations import N_OBS
from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import checkpoint, evaluations, own_key, run_dir
from tiergym.lab.recipe import Recipe, list_recipes
from tiergym.lab.train import train
from tiergym.policy.load import load_policy


def level(name: str, steps: int = 96) -> Recipe:
    """A small recipe in which nothing depends on how much of the training is over."""
    recipe = small(name, steps)
    numbers: dict[str, Any] = {**recipe.hyperparameters, "learning_rate": 1e-3}
    if recipe.algorithm == "dqn":
        numbers["exploration_fraction"] = 0.0
    if recipe.algorithm == "recurrent_ppo" and isinstance(numbers.get("clip_range"), dict):
        numbers["clip_range"] = 0.2
    return replace(recipe, hyperparameters=numbers)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    return tiny_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def finished(scenario, tmp_path_factory) -> Path:
    return train(level("ppo"), scenario, seed=7, out=tmp_path_factory.mktemp("runs") / "finished", progress=False)


def networks(run: Path) -> dict[str, np.ndarray]:
    return checkpoint.policy_arrays(checkpoint.latest(run))


@pytest.mark.parametrize("name", list_recipes())
def test_an_extended_run_equals_one_of_that_length(scenario, tmp_path, capsys, name):
    run = train(level(name), scenario, seed=7, out=tmp_path / "run", progress=False)
    assert train(resume=run, steps=64, progress=False) == run
    whole = train(level(name, steps=160), scenario, seed=7, out=tmp_path / "whole", progress=False)
    assert same(weights(run), weights(whole))
    assert (run / "policy.onnx").read_bytes() == (whole / "policy.onnx").read_bytes()
    assert run_dir.read(run).recipe.steps == 160
    assert capsys.readouterr().err == ""


def test_an_extended_run_says_what_differs(scenario, tmp_path, capsys):
    numbers = {**small("ppo").hyperparameters, "learning_rate": {"start": 1e-3, "end": 0.0}}
    run = train(replace(small("ppo"), hyperparameters=numbers), scenario, out=tmp_path / "run", progress=False)
    train(resume=run, steps=96, progress=False)
    told = capsys.readouterr().err.strip()
    assert told.endswith("not as a run of 192 steps would be: learning_rate had come to 0 and goes on from 0.0005")
    run = train(small("dqn"), scenario, out=tmp_path / "dqn", progress=False)
    train(resume=run, steps=96, progress=False)
    assert "the exploration rate falls over a share of all steps" in capsys.readouterr().err


def test_an_extension_that_is_interrupted_goes_on(scenario, tmp_path, monkeypatch):
    recipe = level("ppo")
    whole = train(replace(recipe, steps=224), scenario, seed=7, out=tmp_path / "whole", progress=False)
    run = tmp_path / "run"
    interrupted(recipe, scenario, run, monkeypatch, signal.SIGINT, after=60)
    train(resume=run, steps=128, progress=False)
    assert same(weights(run), weights(whole))


def test_an_extended_run_goes_on_evaluating_as_often(scenario, tmp_path):
    recipe = replace(level("ppo"), evaluation={"episodes": 2, "pictures": False, "every_steps": 64})
    run = train(recipe, scenario, seed=7, out=tmp_path / "run", progress=False)
    train(resume=run, steps=96, progress=False)
    whole = train(replace(recipe, steps=192), scenario, seed=7, out=tmp_path / "whole", progress=False)
    steps = [each.steps for each in evaluations.read(run)]
    assert steps == [64, 96, 128, 192]
    assert [each for each in evaluations.read(run) if each.steps != 96] == evaluations.read(whole)
    assert logged_twice(run) == []


@pytest.mark.parametrize("written", [False, True])
def test_an_extension_that_is_killed_before_it_begins_goes_on_to_the_same_end(scenario, tmp_path, monkeypatch, written):
    whole = train(level("ppo", steps=160), scenario, seed=7, out=tmp_path / "whole", progress=False)
    run = train(level("ppo"), scenario, seed=7, out=tmp_path / "run", progress=False)
    write = run_dir.write

    def killed(*arguments: Any) -> None:
        if written:
            write(*arguments)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "write", killed)
        with pytest.raises(InterruptedError):
            train(resume=run, steps=64, progress=False)
    train(resume=run, steps=None if written else 64, progress=False)
    assert same(weights(run), weights(whole))


@pytest.mark.parametrize("name", ["ppo", "chooser", "dqn", "sac", "recurrent_gru"])
def test_learning_that_diverges_is_said_and_not_saved(scenario, tmp_path, name):
    run = tmp_path / "run"

    def spoil(learning: dict[str, Any], _: Any) -> bool:
        with th.no_grad():
            next(learning["self"].policy.parameters()).fill_(np.nan)
        return True

    with pytest.raises(UserError, match=r"run: learning has diverged after \d+ steps: .* is not finite"):
        train(small(name), scenario, out=run, progress=False, callbacks=[ConvertCallback(spoil)])
    assert not checkpoint.exists(run) and not (run / "policy.onnx").exists()


@pytest.mark.parametrize(("steps", "message"), [(0, "steps is 0; allowed"), (-1, "steps is -1"), (10**12, "from 1 to")])
def test_an_extension_out_of_range_is_refused(finished, steps, message):
    with pytest.raises(UserError, match=message):
        train(resume=finished, steps=steps, progress=False)
    assert run_dir.read(finished).recipe.steps == 96


@pytest.mark.parametrize("name", ["ppo", "a2c", "maskable_ppo"])
def test_another_algorithm_of_the_same_network_starts_from_a_run(scenario, tmp_path, finished, name):
    """With a rate of 0 the weights stay those that it started from."""
    recipe = small(name, steps=32)
    recipe = replace(recipe, hyperparameters={**recipe.hyperparameters, "learning_rate": 0.0})
    other = replace(scenario, name="other")
    run = train(recipe, other, seed=1, start_from=finished, out=tmp_path / "run", progress=False)
    assert same(networks(run), networks(finished))
    assert re.fullmatch(rf"{finished}, sha256 [0-9a-f]{{64}}", read_toml(run / "config.toml")["started_from"])
    train(resume=run, steps=32, progress=False)
    assert run_dir.read(run).started_from.startswith(str(finished))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            replace(small("ppo"), network={"hidden": [9]}),
            rf"mlp_extractor.policy_net.0.weight is float32 .8, {N_OBS}.",
        ),
        (replace(small("ppo"), network={"hidden": [8, 8]}), "no mlp_extractor.policy_net.2.weight"),
        (replace(small("ppo"), network={"hidden": [8], "activation": "relu"}), "activation Tanh, not ReLU"),
        (small("sac"), "its action_form is multidiscrete, that of recipe 'sac' box"),
        (replace(small("ppo"), action_form="baseline"), "its action_form is multidiscrete"),
        (small("recurrent_ppo"), r"not the network of recipe 'recurrent_ppo' .recurrent_ppo., whose layers"),
    ],
)
def test_weights_of_another_network_are_refused(scenario, tmp_path, finished, recipe, message):
    with pytest.raises(UserError, match=message):
        train(recipe, scenario, start_from=finished, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


ARCHIVED: dict[str, Any] = {
    "ppo": (PPO, "MlpPolicy", "multidiscrete"),
    "a2c": (A2C, "MlpPolicy", "multidiscrete"),
    "maskable_ppo": (MaskablePPO, "MlpPolicy", "multidiscrete"),
    "recurrent_ppo": (RecurrentPPO, "MlpLstmPolicy", "box"),
    "sac": (SAC, "MlpPolicy", "box"),
    "td3": (TD3, "MlpPolicy", "box"),
}


def archive(folder: Path, name: str) -> tuple[Any, Path]:
    """An untrained model of stable-baselines3, and the file it was saved to."""
    cls, policy, form = ARCHIVED[name]
    env = PlacementSB3VecEnv("llama-1to2", num_envs=2, seed=0, action_form=form)
    model = cls(policy, env, seed=3, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.save(folder / f"{name}.zip")
    return model, folder / f"{name}.zip"


@pytest.mark.parametrize("name", ARCHIVED)
def test_an_archive_decides_as_its_model_and_as_its_export(cli, tmp_path, name):
    model, path = archive(tmp_path, name)
    assert cli("export", path, "--trust").out.strip() == str(path.with_suffix(".onnx"))
    obs, masks = random_observations(64), np.ones_like(random_masks(64))
    policies = [load_policy(path, trust=True), load_policy(path.with_suffix(".onnx"))]
    for policy in policies:
        policy.reset(64, 0)
    decided = [policy(obs, masks) for policy in policies]
    assert (decided[0] == decided[1]).all()
    assert [policy.name for policy in policies] == [name, name]
    chosen = model.predict(obs, deterministic=True)[0]
    assert (decided[0] == model.env.form.to_modes(chosen, 64)).all()


def test_an_archive_is_evaluated_where_it_is_trusted_alone(cli, tmp_path):
    _, path = archive(tmp_path, "ppo")
    short = write_short_scenario(tmp_path)
    arguments = ("--scenario", short, "--episodes", 1)
    told = ("reading a pickle runs the code in it", "export and train --from read the archive with --trust")
    assert_refused(cli("evaluate", path, *arguments), *told)
    assert_refused(cli("compare", "--policies", f"online,{path}", *arguments), *told[:1])
    assert_refused(cli("export", path), *told)
    assert_refused(cli("train", "--agent", "ppo", "--scenario", short, "--from", path, "--out", tmp_path / "r"), *told)
    done = cli("evaluate", path, *arguments, "--trust")
    assert done.code == 0 and "throughput" in done.out
    assert not (tmp_path / "r").exists()


def test_no_byte_of_an_archive_runs_without_trust(cli, tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", pickled(mark))
    path.with_suffix(".toml").write_text("")
    for command in (("evaluate", path), ("export", path)):
        assert cli(*command).code == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"PK"), "not a readable archive of stable-baselines3"),
        (lambda path: path.write_bytes(pickle.dumps({})), "not a readable archive of stable-baselines3"),
        (lambda path: path.unlink(), "no such file"),
        (
            lambda path: rewritten(path, policy_class={":type:": "x"}),
            "its policy is of no algorithm that is known here",
        ),
    ],
)
def test_what_is_no_archive_is_refused(cli, tmp_path, damage, message):
    _, path = archive(tmp_path, "ppo")
    damage(path)
    assert_refused(cli("evaluate", path, "--trust"), message)


def rewritten(path: Path, **data: Any) -> None:
    with zipfile.ZipFile(path) as file:
        kept = {name: file.read(name) for name in file.namelist()}
    kept["data"] = json.dumps({**json.loads(kept["data"]), **data}).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in kept.items():
            file.writestr(name, content)


def test_an_archive_of_choices_among_baselines_does_not_say_which(cli, tmp_path):
    env = PlacementSB3VecEnv("llama-1to2", num_envs=2, seed=0, action_form="baseline")
    DQN("MlpPolicy", env, buffer_size=10, device="cpu").save(tmp_path / "dqn.zip")
    assert_refused(cli("evaluate", tmp_path / "dqn.zip", "--trust"), "the archive does not say which")


def test_an_archive_of_another_environment_is_refused(cli, tmp_path):
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(tmp_path / "pole.zip")
    assert_refused(
        cli("evaluate", tmp_path / "pole.zip", "--trust"), f"its observations have shape (4,); allowed: ({N_OBS},)"
    )


def test_a_training_starts_from_an_archive(cli, tmp_path, scenario):
    model, path = archive(tmp_path, "ppo")
    recipe = small("ppo", steps=32)
    recipe = replace(recipe, hyperparameters={**recipe.hyperparameters, "learning_rate": 0.0})
    run = train(recipe, scenario, start_from=path, trust=True, out=tmp_path / "run", progress=False)
    own = {name: tensor.numpy() for name, tensor in model.policy.state_dict().items()}
    assert same(networks(run), own)


def test_set_changes_fields_of_the_recipe_and_of_the_scenario(cli, tmp_path):
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    changes = ["hyperparameters.learning_rate={ start = 1e-2, end = 1e-3 }", "hyperparameters.n_steps=8"]
    changes += ["network.hidden=[8]", "evaluation.every_steps=0", "episode.horizon_s=2"]
    flags = [word for change in changes for word in ("--set", change)]
    run = tmp_path / "run"
    command = ("train", "--agent", "a2c", "--scenario", tmp_path / "tiny.toml", "--steps", 512, "--out", run)
    done = cli(*command, *flags)
    assert done.code == 0, done.err
    recipe = run_dir.read(run).recipe
    assert recipe.hyperparameters["learning_rate"] == {"start": 1e-2, "end": 1e-3}
    assert recipe.network["hidden"] == [8] and recipe.evaluating.every_steps == 0
    assert specs.load_scenario(run / "scenarios" / "tiny.toml").sections["episode"]["horizon_s"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hyperparameters.learning_rat=1", "did you mean 'learning_rate'"),
        ("hyperparameters.gamma=2", "gamma is 2; allowed: 0 to 1"),
        ("hyperparameters.gamma.x=2", "unknown argument of PPO 'gamma.x'"),
        ("evaluation.every_steps=often", "every_steps is 'often'; allowed: a whole number"),
        ("hyperparameter.gamma=0.9", "hyperparameter"),
    ],
)
def test_a_wrong_field_is_refused_before_any_work(cli, tmp_path, change, message):
    run = tmp_path / "run"
    assert_refused(cli("train", "--agent", "ppo", "--scenario", "llama-1to2", "--out", run, "--set", change), message)
    assert not run.exists()


def test_a_resumed_run_takes_no_fields_and_no_agent(cli, finished):
    assert_refused(
        cli("train", "--resume", finished, "--set", "hyperparameters.gamma=0.9"), "its own scenarios and recipe"
    )
    assert_refused(cli("train", "--resume", finished, "--agent", "ppo"), "the run has its own agent")
    assert_refused(cli("train", "--resume", finished, "--from", finished), "the run has its own agent")


def test_a_copied_run_is_extended_with_new_episodes_and_says_so(scenario, tmp_path, finished, capsys, monkeypatch):
    """Its machines' state is another user's as far as this one can tell."""
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    monkeypatch.setattr(own_key, "is_sealed", lambda text, seal: False)
    train(resume=run, steps=32, progress=False)
    assert "its machines start new episodes" in capsys.readouterr().err
    assert checkpoint.steps(checkpoint.latest(run)) == 128
