"""Evaluation while training: it touches nothing, is of machines that training never sees, and says when to stop."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.refusals import assert_refused
from tests.tiny_training import SCENARIO, same, small, tiny_scenario, weights
from tiergym import specs
from tiergym.errors import UserError
from tiergym.lab import checkpoint, evaluations, run_dir
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.evaluations import Evaluated
from tiergym.lab.export import export_run
from tiergym.lab.held_back import HeldBack, held_back_seeds
from tiergym.lab.recipe import Recipe, list_recipes
from tiergym.lab.train import train
from tiergym.policy.load import load_policy

FOREVER = math.inf


def evaluating(recipe: Recipe, **fields: Any) -> Recipe:
    return replace(recipe, evaluation={**recipe.evaluation, **fields})


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    return tiny_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def evaluated(scenario, tmp_path_factory) -> Path:
    """Evaluated after each of its rollouts of 32, with pictures."""
    recipe = evaluating(small("ppo", steps=128), every_steps=1, pictures=True)
    return train(recipe, scenario, seed=7, out=tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.mark.parametrize("name", list_recipes())
def test_evaluation_does_not_touch_what_is_learned(scenario, tmp_path, name):
    runs = [
        train(evaluating(small(name), every_steps=every), scenario, seed=7, out=tmp_path / str(every), progress=False)
        for every in (1, 0)
    ]
    assert same(*map(weights, runs))
    assert len(evaluations.read(runs[0])) > 2 and evaluations.read(runs[1]) == []
    assert (runs[0] / "policy.onnx").read_bytes() == (runs[1] / "policy.onnx").read_bytes()


def test_a_policy_is_evaluated_after_rollouts_and_at_the_end(evaluated):
    found = evaluations.read(evaluated)
    assert [each.steps for each in found] == [32, 64, 96, 128]
    assert {len(each.returns) for each in found} == {2}
    pictures = sorted((evaluated / "timelines").iterdir())
    assert [int(path.stem) for path in pictures] == [32, 64, 96, 128]


def test_what_is_evaluated_while_training_is_what_the_export_does(evaluated, scenario):
    held_back = HeldBack([scenario], 2, 7, np.ones(1))
    kept = {checkpoint.steps(path) for path in (evaluated / "checkpoints").iterdir()}
    found = [each for each in evaluations.read(evaluated) if each.steps in kept]
    assert len(found) >= 2
    for each in found:
        exported = load_policy(export_run(evaluated, evaluated.parent / "one.onnx", str(each.steps)))
        assert held_back.evaluate(exported, each.steps)[0] == each


def test_held_back_machines_are_neither_trained_nor_reported_on():
    held_back, reported = held_back_seeds(7, 500), evaluation_seeds(7, 500)
    assert (held_back >> np.uint64(63) == 1).all()
    assert not set(held_back.tolist()) & set(reported.tolist())
    assert set(held_back.tolist()) != set(held_back_seeds(8, 500).tolist())


def test_what_is_for_measuring_alone_is_refused_before(cli, tmp_path):
    assert_refused(cli("train", "--agent", "ppo", "--suite", "test", "--out", tmp_path / "run"), "test")
    assert not (tmp_path / "run").exists()


def test_the_best_checkpoint_is_kept_and_exported(evaluated, tmp_path):
    best = evaluations.best(evaluations.read(evaluated), FOREVER)
    assert best.score == max(each.score for each in evaluations.read(evaluated))
    path = export_run(evaluated, tmp_path / "best.onnx", "best")
    assert path.read_bytes() == export_run(evaluated, tmp_path / "n.onnx", str(best.steps)).read_bytes()
    assert path.read_bytes() == (evaluated / "best.onnx").read_bytes()
    last = export_run(evaluated, tmp_path / "last.onnx", "last").read_bytes()
    assert last == (evaluated / "policy.onnx").read_bytes()


def test_the_command_says_which_was_the_best_and_when_it_converged(cli, tmp_path):
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    document = small("ppo", steps=288).document()
    document["evaluation"] |= {"every_steps": 1, "patience": 2}
    document["hyperparameters"] |= {"learning_rate": 0.0}
    (tmp_path / "still.toml").write_text(run_dir.toml_text(document))
    run = tmp_path / "run"
    command = ("train", "--agent", tmp_path / "still.toml", "--scenario", tmp_path / "tiny.toml", "--out", run)
    done = cli(*command, "--until-converged")
    assert done.code == 0 and "converged at 96 of 288 steps: none of the last 2 evaluations" in done.err
    assert done.out.startswith(f"best of 3 evaluations, after 32 steps: {run / 'best.onnx'}\ntrained: {run};")
    assert "deterministic -" in done.err


def test_a_suite_is_evaluated_scenario_by_scenario_in_its_own_unit(scenario, tmp_path):
    scenarios = [scenario, replace(scenario, name="again")]
    recipe = replace(evaluating(small("ppo"), episodes=3), reward="saved")
    run = train(recipe, scenarios, out=tmp_path / "run", progress=False)
    rows = (run / "progress.csv").read_text().splitlines()
    header, last = rows[0].split(","), rows[-1].split(",")
    values = dict(zip(header, last, strict=True))
    each = [float(values[f"eval_return/{name}"]) for name in ("tiny", "again")]
    assert float(values["Return/deterministic"]) == pytest.approx(np.mean(each)) and each[0] != each[1]
    found = evaluations.read(run)[-1]
    assert len(found.returns) == 6 and found.score == pytest.approx(float(values["eval/score"]))
    assert found.score != pytest.approx(np.mean(each))


def after(steps: int, returns: list[float], kills: float = 0.0) -> Evaluated:
    return Evaluated(steps, tuple(returns), kills)


def test_converged_is_no_progress_beyond_the_error_of_the_difference():
    start = after(1, [-10.0, -20.0, -30.0])
    better = after(2, [-9.0, -19.5, -28.0])
    noise = [after(3, [-9.5, -18.0, -29.0]), after(4, [-9.0, -20.5, -27.0])]
    assert not evaluations.converged([start], FOREVER, 1)
    assert not evaluations.converged([start, better], FOREVER, 1)
    assert evaluations.converged([start, better, *noise], FOREVER, 2)
    assert not evaluations.converged([start, better, *noise], FOREVER, 3)  # the better one is among the last three
    surely = after(5, [-8.9, -19.4, -27.9])  # by little, but on every machine
    assert not evaluations.converged([start, better, *noise, surely], FOREVER, 3)


def test_under_a_constraint_the_best_breaks_it_least():
    deadly, allowed, poor = after(1, [-1.0], 9.0), after(2, [-3.0], 0.4), after(3, [-5.0], 0.0)
    assert evaluations.best([deadly, allowed, poor], 0.5) is allowed
    assert evaluations.best([deadly, allowed, poor], 0.0) is poor
    assert evaluations.best([deadly, allowed, poor], FOREVER) is deadly
    assert not evaluations.converged([deadly, allowed], 0.5, 1)


def test_training_stops_early_and_says_so(scenario, tmp_path, capsys):
    """Without a rate of learning nothing changes, so that nothing gets better."""
    numbers = {**small("ppo").hyperparameters, "learning_rate": 0.0}
    recipe = replace(evaluating(small("ppo", steps=960), every_steps=32, patience=3), hyperparameters=numbers)
    run = train(recipe, scenario, out=tmp_path / "run", progress=False, until_converged=True)
    assert "converged at 128 of 960 steps: none of the last 3 evaluations" in capsys.readouterr().err
    assert checkpoint.steps(checkpoint.latest(run)) == 128 and load_policy(run) and load_policy(run / "best.onnx")
    assert train(resume=run, progress=False) == run
    assert checkpoint.steps(checkpoint.latest(run)) == 128
    train(resume=run, steps=64, progress=False)
    assert checkpoint.steps(checkpoint.latest(run)) == 192 and run_dir.read(run).recipe.steps == 192


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("bset", "--checkpoint is 'bset'; allowed: best, last, or the number of steps"),
        ("33", "no checkpoint after 33 steps; there are: 32, "),
        ("\u0663", "allowed: best, last"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused(evaluated, which, message):
    with pytest.raises(UserError, match=message):
        export_run(evaluated, which=which)


def test_without_evaluations_there_is_no_best(scenario, tmp_path):
    run = train(evaluating(small("a2c"), every_steps=0), scenario, out=tmp_path / "run", progress=False)
    assert not (run / "best.onnx").exists()
    with pytest.raises(UserError, match="nothing was evaluated while it trained"):
        export_run(run, which="best")


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.update(schema=2),
        lambda document: document["evaluations"].append(document["evaluations"][0]),
        lambda document: document["evaluations"][0].update(returns=[1.0]),
        lambda document: document["evaluations"][0].update(returns=["x", "y"]),
        lambda document: document["evaluations"][0].update(kills_per_hour=float("nan")),
        lambda document: document["evaluations"][0].pop("steps"),
        lambda document: document.update(evaluations=[3]),
    ],
)
def test_a_damaged_file_of_evaluations_is_refused(evaluated, tmp_path, damage):
    document = json.loads((evaluated / evaluations.FILE).read_text())
    damage(document)
    (tmp_path / evaluations.FILE).write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"evaluations\.json"):
        evaluations.read(tmp_path)
