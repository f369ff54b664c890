"""Experiments from their file to the folder of results, with trainings of one rollout."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.short_runs import write_short_scenario
from tiergym import specs
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab.experiment import list_experiments, load_experiment
from tiergym.lab.experiment_run import run_experiment
from tiergym.lab.recipe import load_recipe
from tiergym.policy.load import load_policy

QUIET = Console(quiet=True)

RECIPE = """
algorithm = "ppo"
envs = 8
steps = 64
[hyperparameters]
n_steps = 8
batch_size = 64
n_epochs = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe of one small rollout and a scenario of two seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    write_short_scenario(tmp_path)
    return tmp_path


def write(folder: Path, **changes: str) -> str:
    fields = {
        "description": '"d"',
        "scenarios": '["short.toml"]',
        "agents": '["tiny.toml"]',
        "policies": '["online", "restrict"]',
        "episodes": "3",
    } | changes
    (folder / "mine.toml").write_text("".join(f"{key} = {value}\n" for key, value in fields.items() if value))
    return "mine.toml"


def test_shipped_experiments_name_what_exists():
    assert "main" in list_experiments()
    for name in list_experiments():
        experiment = load_experiment(name)
        for scenario in experiment.scenarios:
            specs.load_scenario(scenario)
        for agent in experiment.agents:
            load_recipe(agent).resized(None, experiment.steps)
        for policy in experiment.policies:
            load_policy(policy)


def test_the_main_job_compares_ppo_on_the_llama_scenario_with_every_baseline():
    main = load_experiment("main")
    assert (main.scenarios, main.agents) == (("llama-1to2",), ("ppo",))
    assert {"online", "online_movable", "restrict", "migrate", "random"} <= set(main.policies)


def test_one_training_is_one_run_directory(folder: Path):
    out = run_experiment(load_experiment(write(folder)), folder / "out", QUIET)
    names = {path.name for path in out.iterdir()}
    assert names >= {"config.toml", "versions.json", "checkpoints", "policy.onnx", "experiment.toml"}
    assert names >= {"results.json", "results.parquet", "comparison.png"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    document = json.loads((out / "results.json").read_text())
    assert list(document["policies"]) == ["tiny", "online", "restrict"]
    kept = read_toml(out / "experiment.toml")
    assert (kept["policies"], kept["episodes"], kept["training_seeds"]) == (["online", "restrict"], 3, [0])


def test_several_trainings_are_evaluated_together(folder: Path):
    scenarios = '["short.toml", "traditional-llama"]'
    experiment = load_experiment(write(folder, training_seeds="[0, 1]", scenarios=scenarios, steps="32"))
    out = run_experiment(experiment, folder / "out", QUIET)
    for scenario in ("short", "traditional-llama"):
        assert all((out / f"tiny-{scenario}-{seed}" / "policy.onnx").is_file() for seed in (0, 1))
        rows = pq.read_table(out / scenario / "results.parquet").to_pylist()
        assert sorted({row["run"] for row in rows if row["policy"] == "tiny"}) == [0, 1]
        assert {row["run"] for row in rows if row["policy"] == "online"} == {0}
    assert list(json.loads((out / "results.json").read_text())["scenarios"]) == ["short", "traditional-llama"]


def test_without_agents_only_policies_are_compared(folder: Path):
    out = run_experiment(load_experiment(write(folder, agents="")), folder / "out", QUIET)
    assert {path.name for path in out.iterdir()} == {
        "experiment.toml",
        "results.json",
        "results.parquet",
        "comparison.png",
    }


def test_every_scenario_runs_in_every_variant(folder: Path):
    text = (
        "[set]\nkernel.swap_mib = 64\n[variants.on]\nkernel.demotion = 'on'\n[variants.off]\nkernel.demotion = 'off'\n"
    )
    (folder / "mine.toml").write_text(Path(write(folder, agents="")).read_text() + text)
    experiment = load_experiment("mine.toml")
    assert [scenario.changes for scenario in experiment.load_scenarios()] == [
        {"kernel.swap_mib": 64, "kernel.demotion": "on"},
        {"kernel.swap_mib": 64, "kernel.demotion": "off"},
    ]
    out = run_experiment(experiment, folder / "out", QUIET)
    scenarios = json.loads((out / "results.json").read_text())["scenarios"]
    assert {name: entry["changes"]["kernel.demotion"] for name, entry in scenarios.items()} == {
        "short@on": "on",
        "short@off": "off",
    }
    means = [entry["policies"]["restrict"]["demoted_pages"]["mean"] for entry in scenarios.values()]
    assert means[0] >= means[1] == 0
    assert read_toml(out / "experiment.toml")["variants"]["off"] == {"kernel.demotion": "off"}


def test_what_varies_cannot_be_set(folder: Path):
    text = Path(write(folder, agents="")).read_text() + "[variants.on]\nkernel.demotion = 'on'\n"
    (folder / "mine.toml").write_text(text + "[set]\nkernel.demotion = 'off'\n")
    with pytest.raises(UserError, match=r"kernel\.demotion = 'off' is set, and its variants differ in it"):
        load_experiment("mine.toml").load_scenarios()


def test_policies_left_out_are_all_baselines(folder: Path):
    assert len(load_experiment(write(folder, policies="")).policies) >= 13


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scenarios", "[]", "scenarios is []; allowed: a list of one or more"),
        ("scenarios", "", "scenarios is missing"),
        ("agents", '["ppo", "ppo"]', "different names"),
        ("training_seeds", "[-1]", "integers from 0"),
        ("training_seeds", "[true]", "integers from 0"),
        ("episodes", "0", "an integer from 1 to"),
        ("steps", "1.5", "an integer from 1"),
        ("episode", "3", "did you mean 'episodes'"),
        ("description", "3", "text"),
        ("set", "3", "a table of a scenario's fields"),
        ("variants", "{ 'a b' = {} }", "whose names are ASCII letters"),
    ],
)
def test_a_bad_file_is_refused_with_field_value_and_what_is_allowed(folder: Path, field: str, value: str, message: str):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_experiment(write(folder, **{field: value}))
    assert "mine.toml" in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("agents", '["nope"]', "unknown agent"),
        ("scenarios", '["short.toml", "nope"]', "unknown scenario"),
        ("policies", '["onlin"]', "did you mean 'online'"),
        ("policies", '["online", "tiny.toml"]', "training recipe"),
    ],
)
def test_nothing_starts_before_every_name_is_known(folder: Path, field: str, value: str, message: str):
    with pytest.raises(UserError, match=message):
        run_experiment(load_experiment(write(folder, **{field: value})), folder / "out", QUIET)
    assert not (folder / "out").exists()
