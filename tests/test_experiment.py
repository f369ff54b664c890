"""Experiments from their file to the folder of results, with trainings of one rollout."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.short_runs import write_short_scenario
from tiergym import specs
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import experiment_run, experiment_training, plots
from tiergym.lab.compare import Comparison, compare
from tiergym.lab.experiment import list_experiments, load_experiment
from tiergym.lab.experiment_run import resume_experiment, run_experiment
from tiergym.lab.ladder_run import NOT_A_RULE
from tiergym.lab.recipe import load_recipe
from tiergym.policy.load import list_policies
from tiergym.sim.releases import RELEASES

QUIET = Console(quiet=True)

RECIPE = """
algorithm = "ppo"
envs = 8
steps = 64
[evaluation]
episodes = 1
pictures = false
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
        assert list(experiment.load_policies()) == list(experiment.policies)


def test_ppo_on_the_llama_scenario_is_compared_with_every_baseline():
    llama = load_experiment("llama")
    assert (llama.scenarios, llama.agents) == (("llama-1to2",), ("ppo",))
    assert set(llama.policies) == set(list_policies())


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
        "made_by.json",
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
    assert {name: entry["variant"] for name, entry in scenarios.items()} == {"short@on": "on", "short@off": "off"}
    assert pq.read_table(out / "short@off" / "results.parquet")["variant"].unique().to_pylist() == ["off"]
    assert (out / "variants.png").stat().st_size > 10_000
    assert read_toml(out / "experiment.toml")["variants"]["off"] == {"kernel.demotion": "off"}


def test_more_variants_than_marks_are_rows_of_the_picture(folder: Path):
    many = "".join(f"[variants.v{i}]\nkernel.swap_mib = {64 + i}\n" for i in range(len(plots.VARIANT_STYLES) + 1))
    (folder / "mine.toml").write_text(Path(write(folder, agents="")).read_text() + many)
    out = run_experiment(load_experiment("mine.toml"), folder / "out", QUIET)
    height_px = int.from_bytes((out / "variants.png").read_bytes()[20:24], "big")  # of the PNG's header
    assert height_px >= 150 * 0.36 * (len(plots.VARIANT_STYLES) + 1)


VARIED = "[variants.on]\nkernel.demotion = 'on'\n[variants.off]\nkernel.demotion = 'off'\n"


@pytest.fixture
def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an experiment of two variants that ended after the first."""
    (folder / "mine.toml").write_text(Path(write(folder, agents="")).read_text() + VARIED)

    def until_off(policies: Any, scenario: specs.Scenario, *rest: Any) -> Comparison:
        if scenario.variant == "off":
            raise KeyboardInterrupt
        return compare(policies, scenario, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(experiment_run, "compare", until_off)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(load_experiment("mine.toml"), folder / "out", QUIET)
    assert not (folder / "out" / "results.json").exists()
    return folder / "out"


def test_an_interrupted_experiment_goes_on_and_counts_nothing_twice(
    folder: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
):
    compared = []

    def noted(policies: Any, scenario: specs.Scenario, *rest: Any) -> Comparison:
        compared.append(scenario.name)
        return compare(policies, scenario, *rest)

    monkeypatch.setattr(experiment_run, "compare", noted)
    resume_experiment(interrupted, QUIET)
    assert compared == ["short@off"]
    whole = run_experiment(load_experiment("mine.toml"), folder / "whole", QUIET)
    assert (interrupted / "results.json").read_text() == (whole / "results.json").read_text()
    compared.clear()
    resume_experiment(interrupted, QUIET)
    assert compared == []


@pytest.mark.parametrize(
    ("column", "spoilt", "told"),
    [
        ("scenario", pa.array([b"\xc9"]).cast(pa.string(), safe=False), "no text or JSON in it: 'utf-8' codec"),
        ("policy", pa.array([1]), "column 'policy' has no texts"),
        ("scenario", pa.array([["a"]]), "column 'scenario' has no texts"),
        ("throughput", pa.array(["x"]), "column 'throughput' has no numbers"),
        ("machine_seed", pa.array([None]), "column 'machine_seed' has no numbers"),
    ],
)
def test_results_that_hold_no_texts_or_numbers_are_refused(
    folder: Path, column: str, spoilt: pa.Array, told: str
) -> None:
    out = run_experiment(load_experiment(write(folder)), folder / "out", QUIET)
    (out / "results.json").unlink()
    table = pq.read_table(out / "results.parquet")
    index = table.column_names.index(column)
    column_of_it = pa.chunked_array([pa.concat_arrays([spoilt] * table.num_rows)])
    pq.write_table(table.set_column(index, column, column_of_it), out / "results.parquet")
    with pytest.raises(UserError, match=told):
        resume_experiment(out, QUIET)


@pytest.mark.parametrize(
    "metadata", [b"{", b"\xff", b"[" * 100_000, b"[1]"], ids=["half", "no text", "nested", "a list"]
)
def test_results_with_damaged_digests_of_agents_are_refused(folder: Path, metadata: bytes) -> None:
    out = run_experiment(load_experiment(write(folder)), folder / "out", QUIET)
    (out / "results.json").unlink()
    table = pq.read_table(out / "results.parquet")
    pq.write_table(table.replace_schema_metadata({"tiergym.agents": metadata}), out / "results.parquet")
    with pytest.raises(UserError, match="no text or JSON in it"):
        resume_experiment(out, QUIET)


def test_trainings_that_are_done_are_not_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    experiment = load_experiment(write(folder, training_seeds="[0, 1]", steps="32"))
    out = run_experiment(experiment, folder / "out", QUIET)
    before = (out / "results.json").read_text()
    (out / "results.parquet").unlink()
    monkeypatch.setattr(experiment_training, "train", None)
    resume_experiment(out, QUIET)
    assert (out / "results.json").read_text() == before


def test_an_experiment_does_not_go_on_with_another_simulator_or_scenario(folder: Path, interrupted: Path):
    made_by = interrupted / "made_by.json"
    here = made_by.read_text()
    made_by.write_text(here.replace(json.loads(here)["simulator"], "0" * 16))
    with pytest.raises(UserError, match="the simulator, a scenario or a suite has changed"):
        resume_experiment(interrupted, QUIET)
    made_by.write_text(here)
    (folder / "short.toml").write_text((folder / "short.toml").read_text().replace("horizon_s = 2", "horizon_s = 3"))
    with pytest.raises(UserError, match="the simulator, a scenario or a suite has changed"):
        resume_experiment(interrupted, QUIET)


def test_a_folder_with_something_in_it_is_refused(folder: Path, interrupted: Path):
    with pytest.raises(UserError, match="not an empty folder; name another one, or continue it with --resume"):
        run_experiment(load_experiment("mine.toml"), interrupted, QUIET)
    with pytest.raises(UserError, match=r"no experiment\.toml"):
        resume_experiment(folder, QUIET)


def test_a_bad_field_of_a_variant_is_refused_before_anything_runs(folder: Path):
    text = Path(write(folder, agents="")).read_text()
    for field, message in (
        (
            "kernel.release = '6.11'",
            "variant 'new' of experiment 'mine': kernel.release = '6.11'; allowed: one of",
        ),
        ("kernel.releas = '7.2'", "did you mean 'release'"),
    ):
        (folder / "mine.toml").write_text(f"{text}[variants.new]\n{field}\n")
        with pytest.raises(UserError, match=re.escape(message)):
            run_experiment(load_experiment("mine.toml"), folder / "out", QUIET)
        assert not (folder / "out").exists()


def test_the_experiment_of_releases_has_every_rule_on_every_release():
    kernels = load_experiment("kernels")
    assert tuple(kernels.variants) == RELEASES
    assert [changes["kernel.release"] for changes in kernels.variants.values()] == list(RELEASES)
    assert set(kernels.policies) == set(list_policies()) - set(NOT_A_RULE)


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
