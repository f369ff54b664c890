"""Devices: what torch does not have is refused before any work, by every command that trains."""

from pathlib import Path

import pytest
import torch as th

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.tiny_training import no_machines, small, tiny_scenario
from tiergym import specs
from tiergym.errors import UserError
from tiergym.lab import learner, run_dir
from tiergym.lab.recipe import load_recipe
from tiergym.lab.train import train


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    return tiny_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_before_any_work(device, scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    monkeypatch.setattr(learner, "build", no_machines)
    recipe = small("ppo").changed({"hyperparameters.device": device}, "--set")
    with pytest.raises(UserError, match=f"device is '{device}', which torch does not have here; allowed: cpu, auto$"):
        train(recipe, scenario, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_command_that_trains_refuses_a_device_that_is_not_here(cli: Cli, scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    monkeypatch.setattr(learner, "build", no_machines)
    recipe = load_recipe("ppo").document() | {"hyperparameters": {"device": "cuda"}}
    Path("gpu.toml").write_text(run_dir.toml_text(recipe))
    Path("tiny.toml").write_text(specs.scenario_toml(scenario))
    Path("suite.toml").write_text('purpose = "train"\nscenarios = ["tiny.toml"]\n')
    for name, more in (
        ("e", 'scenarios = ["tiny.toml"]'),
        ("s", 'suites = ["suite.toml"]\ntrain_on = "suite.toml"\nagainst = "online"'),
    ):
        Path(f"{name}.toml").write_text(f'description = "x"\nagents = ["gpu.toml"]\npolicies = ["online"]\n{more}\n')
    before = sorted(Path().iterdir())
    for command in (
        "train --agent gpu.toml --scenario tiny.toml --out out",
        "train --agent ppo --set hyperparameters.device=cuda --scenario tiny.toml --out out",
        "run e.toml --out out",
        "run s.toml --out out",
        "tune gpu.toml --scenario tiny.toml --trials 1 --steps 1000000 --out out",
    ):
        assert_refused(cli(*command.split()), "device is 'cuda', which torch does not have here; allowed: cpu, auto")
    assert sorted(Path().iterdir()) == before


def test_a_device_that_is_here_may_be_trained_on(monkeypatch):
    monkeypatch.setattr(th.cuda, "is_available", lambda: True)
    monkeypatch.setattr(th.cuda, "device_count", lambda: 2)
    for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:1"):
        learner.check_device(small("ppo").changed({"hyperparameters.device": device}, "--set"))
    with pytest.raises(UserError, match=r"allowed: cpu, auto, cuda, cuda:0, cuda:1$"):
        learner.check_device(small("ppo").changed({"hyperparameters.device": "cuda:2"}, "--set"))
