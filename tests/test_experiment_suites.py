"""Experiments on suites: trained on one, measured on others as the leaderboard does, resumed, refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.short_runs import write_short_scenario
from tests.tiny_training import small
from tiergym import paths
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import experiment_training, leaderboard, run_dir
from tiergym.lab.engines import PROCESSES, Engine
from tiergym.lab.experiment import list_experiments, load_experiment
from tiergym.lab.experiment_folder import CELLS
from tiergym.lab.experiment_run import resume_experiment, run_experiment
from tiergym.lab.measuring import measure
from tiergym.lab.recipe import load_recipe
from tiergym.lab.train import train
from tiergym.policy.load import list_policies
from tiergym.specs import list_suites, load_suite

QUIET = Console(quiet=True)
POLICIES = ["online", "restrict", "tuned/constant.toml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small recipe, a suite to train on and one to measure on, of two scenarios."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(run_dir.toml_text(small("ppo", steps=32).document()))
    short = write_short_scenario(tmp_path)
    (tmp_path / "longer.toml").write_text(short.read_text().replace("horizon_s = 2", "horizon_s = 3"))
    (tmp_path / "train.toml").write_text('purpose = "train"\nscenarios = ["short.toml"]\n')
    (tmp_path / "both.toml").write_text('scenarios = ["short.toml", "longer.toml"]\n')
    return tmp_path


def write(folder: Path, **changes: Any) -> str:
    """The experiment `mine.toml`; a change of None leaves a field out."""
    fields = {
        "description": "d",
        "train_on": "train.toml",
        "suites": ["train.toml", "both.toml"],
        "agents": ["tiny.toml"],
        "training_seeds": [0, 1],
        "policies": POLICIES,
        "against": "restrict",
        "episodes": 2,
    } | changes
    (folder / "mine.toml").write_text(run_dir.toml_text({k: v for k, v in fields.items() if v is not None}))
    return "mine.toml"


def ran(folder: Path, out: str = "out", engine: Engine | None = None, **changes: Any) -> Path:
    return run_experiment(load_experiment(write(folder, **changes)), folder / out, QUIET, engine=engine)


def without_times(value: Any) -> Any:
    """What depends on neither the machine nor the folder."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in ("decision_us", "spec", "costs")}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def document(out: Path) -> Any:
    return without_times(json.loads((out / "results.json").read_text()))


# What comes of it


def test_agents_are_trained_once_per_seed_on_the_suite_and_are_one_row_on_every_suite(folder: Path) -> None:
    out = ran(folder)
    for seed in (0, 1):
        config = run_dir.read(out / f"tiny-train-{seed}")
        assert (config.seed, config.scenarios) == (seed, ("short",))
    found = json.loads((out / "results.json").read_text())
    assert list(found["rows"]) == ["train", "both"]
    assert [list(rows) for rows in found["rows"].values()] == [["tiny", "online", "restrict", "constant"]] * 2
    assert [len(runs) for runs in found["policies"].values()] == [2, 1, 1, 1]
    tiny = found["rows"]["both"]["tiny"]
    assert tiny["gap"] == pytest.approx(found["rows"]["train"]["tiny"]["saved"]["mean"] - tiny["saved"]["mean"])
    assert found["rows"]["both"]["restrict"]["improves"]["mean"] == 0.5
    assert "| `tiny` |" in (out / "tables.md").read_text()
    assert (out / "profile.png").stat().st_size > 5000


def test_its_rows_are_those_of_the_leaderboard(folder: Path) -> None:
    out = ran(folder)
    constant = str(paths.experiments_dir() / "tuned" / "constant.toml")
    spelled = {"tiny": [str(out / f"tiny-train-{seed}") for seed in (0, 1)], "constant": [constant]}
    spelled = {"tiny": spelled["tiny"], "online": ["online"], "restrict": ["restrict"], "constant": [constant]}
    suites = [load_suite("train.toml"), load_suite("both.toml")]
    board = leaderboard.leaderboard(suites, spelled, folder / "board", 2, 1, "restrict")
    assert without_times(json.loads(json.dumps(board.document()))) == document(out)


def test_without_agents_policies_are_compared(folder: Path) -> None:
    out = ran(folder, agents=None, train_on=None, training_seeds=None)
    assert list(document(out)["rows"]["both"]) == ["online", "restrict", "constant"]


def test_it_can_be_verified_and_reported(folder: Path, cli: Cli) -> None:
    done = cli("run", write(folder), "--out", "out", "--json", "told.json")
    assert done.code == 0 and "worst tenth" in done.out, done.err
    assert json.loads(Path("told.json").read_text())["results"]["against"] == "restrict"
    assert cli("verify", "out/results.json").out.startswith("tiny: the same to the bit\n")
    assert cli("report", "out", "-o", "report.html").code == 0
    assert "tiergym run out/experiment.toml" in Path("report.html").read_text()


def test_workers_give_the_same(folder: Path) -> None:
    here = document(ran(folder))
    assert document(ran(folder, "there", Engine(PROCESSES, 2))) == here


# Going on


def test_an_interrupted_one_goes_on_and_does_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = document(ran(folder, "whole"))
    measured: list[tuple[str, str]] = []
    trained: list[str] = []

    def noted(spec: str, digest: str, scenario: Any, *rest: Any) -> Any:
        if len(measured) == 5:
            raise KeyboardInterrupt
        measured.append((spec, scenario.name))
        return measure(spec, digest, scenario, *rest)

    def counted(*args: Any, **options: Any) -> Path:
        if len(trained) == 1:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(str(options["out"]))
        return train(*args, **options)

    monkeypatch.setattr(experiment_training, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        ran(folder)
    out = folder / "out"
    monkeypatch.setattr(leaderboard, "measure", noted)
    with pytest.raises(KeyboardInterrupt):
        resume_experiment(out, QUIET)
    assert [Path(path).name for path in trained if path != "stopped"] == ["tiny-train-0", "tiny-train-1"]
    assert len(list((out / "cells").rglob("*.json"))) == 5
    monkeypatch.setattr(experiment_training, "train", None)
    monkeypatch.setattr(leaderboard, "measure", measure)
    resume_experiment(out, QUIET)
    assert document(out) == whole
    monkeypatch.setattr(leaderboard, "measure", None)
    resume_experiment(out, QUIET)
    assert document(out) == whole


def test_it_does_not_go_on_with_another_suite(folder: Path) -> None:
    out = ran(folder, agents=None, train_on=None)
    (folder / "both.toml").write_text('scenarios = ["longer.toml"]\n')
    with pytest.raises(UserError, match="the simulator, a scenario or a suite has changed"):
        resume_experiment(out, QUIET)


# Refusals


HEAD = 'description = "d"\n'
SUITES = HEAD + 'suites = ["test"]\n'
BAD = {
    "both": (SUITES + 'scenarios = ["llama-1to2"]', "scenarios is ['llama-1to2'] with suites; allowed: one of the two"),
    "neither": (HEAD, "scenarios is missing; allowed: a list of one or more different names; or suites"),
    "no list": (HEAD + 'suites = "test"', "suites is 'test'; allowed: a list"),
    "trained on two": (SUITES + 'agents = ["ppo"]\ntrain_on = ["train", "tuning"]', "allowed: a name"),
    "nobody to train": (SUITES + 'train_on = "train"', "train_on is 'train' without agents; allowed: with agents"),
    "nothing to train on": (SUITES + 'agents = ["ppo"]', "agents is ['ppo'] with suites, without train_on; allowed"),
    "trained on a suite, measured on scenarios": (
        HEAD + 'scenarios = ["llama-1to2"]\nagents = ["ppo"]\ntrain_on = "train"',
        "train_on is 'train' with scenarios; allowed: with suites",
    ),
    "a reference of scenarios": (
        HEAD + 'scenarios = ["llama-1to2"]\nagainst = "online"',
        "against is 'online' with scenarios; allowed: with suites",
    ),
    "variants": (SUITES + "[variants.a]\nkernel.swap_mib = 1", "variants is {'a': {'kernel': {'swap_mib': 1}}} with"),
    "axes": (SUITES + "[axes.a]\nb = { kernel.swap_mib = 1 }", "axes is {'a'"),
    "fields": (SUITES + "[set]\nkernel.swap_mib = 1", "set is {'kernel'"),
    "tables": (SUITES + "[tables.a]", "tables is {'a': {}} with suites; allowed: one of the two"),
    "a picture": (SUITES + "[picture]\nkind = 'lines'", "picture is {'kind': 'lines'} with suites"),
    "modes": (SUITES + "[modes.leaf]\nplace.pt_leaf = 'restrict'", "modes is {'leaf'"),
    "without stock Linux": (SUITES + 'policies = ["selector"]', "policies has no online, of whose loss all save"),
    "without the usual reference": (
        SUITES + 'policies = ["online"]',
        "against is 'selector'; allowed: one of those compared: online",
    ),
    "an unknown suite": (HEAD + 'suites = ["tset"]\npolicies = ["online"]\nagainst = "online"', "did you mean 'test'"),
    "a suite twice": (HEAD + 'suites = ["test", "test"]', "different names"),
    "a suite for measuring": (
        SUITES + 'agents = ["ppo"]\ntrain_on = "test"\npolicies = ["online"]\nagainst = "online"',
        "is in the suite 'test', which is for measuring; allowed to train and tune on: suites of the purpose train",
    ),
    "one's own for measuring": (
        SUITES + 'agents = ["ppo"]\ntrain_on = "both.toml"\npolicies = ["online"]\nagainst = "online"',
        "train_on is 'both.toml', a suite of the purpose test; allowed: suites of the purpose train",
    ),
    "a name twice": (
        SUITES + 'policies = ["online", "constant.toml", "tuned/constant.toml"]\nagainst = "online"',
        "two policies are named 'constant'; allowed: once each",
    ),
    "Python code": (SUITES + 'policies = ["online", "rule.py"]\nagainst = "online"', "rule.py"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_refused_before_work(case: str, folder: Path, cli: Cli) -> None:
    text, part = BAD[case]
    (folder / "constant.toml").write_bytes((paths.experiments_dir() / "tuned" / "constant.toml").read_bytes())
    (folder / "rule.py").write_text("raise SystemExit('ran')\n")
    (folder / "bad.toml").write_text(text)
    assert_refused(cli("run", "bad.toml", "--out", "out"), part)
    assert not (folder / "out").exists()


def test_a_frozen_suite_is_changed_in_no_field(folder: Path, cli: Cli) -> None:
    assert_refused(
        cli("run", write(folder), "--set", "kernel.swap_mib=1", "--out", "out"), "with suites, which are frozen"
    )


def test_the_same_suite_is_refused_in_the_same_words_as_by_train(folder: Path, cli: Cli) -> None:
    told = cli("train", "--agent", "tiny.toml", "--suite", "test").err
    assert cli("run", write(folder, train_on="test"), "--out", "out").err == told


# What ships


def test_the_main_job_trains_on_train_and_is_measured_on_test_beside_tuned_rules() -> None:
    main = load_experiment("main")
    assert main.train_on == "train" and "test" in main.suites and main.agents == ("ppo_suite",)
    assert {"online", "selector", "restrict", "adaptive", "exchange_idle"} <= set(main.policies)
    assert {name for name in main.policies if "/" in name} == tuned()
    assert main.steps is not None and main.steps < load_recipe("ppo_suite").steps


def test_the_study_has_every_suite_for_measuring_families_and_every_policy() -> None:
    study = load_experiment("study")
    assert study.train_on == "train" and len(study.training_seeds) == 10
    assert set(study.policies) == set(list_policies()) | tuned()
    families = {name for name in list_suites() if (suite := load_suite(name)).families and suite.purpose == "test"}
    assert set(study.suites) == families | {"train"} and study.suites[0] == "train"


def test_what_is_trained_on_suites_may_be() -> None:
    for name in list_experiments():
        load_experiment(name).load_trained_on()


def tuned() -> set[str]:
    return {f"tuned/{path.name}" for path in (paths.experiments_dir() / "tuned").glob("*.toml")}


def test_the_folder_of_what_is_kept_says_what_was_asked(folder: Path) -> None:
    out = ran(folder, agents=None, train_on=None)
    assert read_toml(out / "experiment.toml")["suites"] == ["train.toml", "both.toml"]
    assert (out / CELLS / "constant" / "longer.json").is_file()
