"""The command line, run as a person runs it: output, files, exit codes, one line for bad input."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from inspect import Parameter, signature, unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from tests.command_line import Cli, captured
from tests.refusals import assert_refused
from tiergym import __version__, specs
from tiergym.cli import doctor, options
from tiergym.cli.app import app
from tiergym.lab import metrics
from tiergym.sim import names as n

COMMANDS = (
    *("run", "train", "tune", "export", "evaluate", "explain", "compare", "matrix", "bound", "ladder", "leaderboard"),
    *("stability", "verify", "networks", "report", "bench"),
    *("show", "watch"),
    *("advise", "validate", "record", "workload", "scenarios", "agents", "doctor"),
)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_help_lists_every_command_and_each_explains_itself(cli: Cli):
    overview = cli("--help")
    assert overview.code == 0
    for command in COMMANDS:
        assert re.search(rf"(?m)^│ {command} ", overview.out), command
        page = cli(command, "--help")
        assert page.code == 0 and re.search(rf"Usage: .* {command} ", page.out)
        assert max(map(len, page.out.splitlines())) <= 100


def test_version_and_no_arguments(cli: Cli):
    assert cli("--version").out == f"tiergym {__version__}\n"
    assert "Usage: " in cli().out


def test_evaluate_prints_every_metric_and_writes_json(cli: Cli, short_toml: Path, tmp_path: Path):
    done = cli("evaluate", "online", "--scenario", short_toml, "--episodes", 2, "--json", "new/e.json", "--wide")
    assert done.code == 0, done.err
    for name in metrics.NAMES:
        assert re.search(rf"(?m)^ {name} ", done.out), name
    document = read(tmp_path / "new/e.json")
    assert (document["scenario"], document["episodes"], list(document["policies"])) == ("short", 2, ["online"])


def test_compare_is_reproducible_and_shows_policies_side_by_side(cli: Cli, short_toml: Path, tmp_path: Path):
    args = ("compare", "--policies", "online,random", "--scenario", short_toml, "--episodes", 3, "--seed", 5)
    first = cli(*args, "--json", "a.json", "--parquet", "a.parquet", "--png", "a.png")
    assert first.code == 0, first.err
    second = cli(*args, "--json", "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert second.code == 0 and "minus online" in first.out
    assert {file.name for file in tmp_path.iterdir()} >= {"a.json", "a.parquet", "a.png", "b.json"}
    other = cli(*args[:-1], 6, "--json", "c.json")
    assert other.code == 0
    assert read(tmp_path / "c.json")["policies"]["random"] != read(tmp_path / "a.json")["policies"]["random"]


def test_a_policy_can_be_named_in_every_way(cli: Cli, short_toml: Path, tmp_path: Path):
    (tmp_path / "mine.toml").write_text('description = "d"\n[modes]\n"place.pt_leaf" = "restrict"\n')
    (tmp_path / "mine.py").write_text(
        "from tiergym.policy.rules import default_actions\n\nclass Still:\n    def __call__(self, obs, masks):\n"
        "        return default_actions(len(obs))\n"
    )
    policies = "mine.toml,mine.py:Still,mine:Still,online"
    done = cli("compare", "--policies", policies, "--scenario", short_toml, "--episodes", 2, "--json", "r.json")
    assert done.code == 0, done.err
    values = read(tmp_path / "r.json")["policies"]
    assert list(values) == policies.split(",")
    assert values["mine.py:Still"] == values["mine:Still"] == values["online"]


def test_matrix_has_a_row_per_scenario(cli: Cli, short_toml: Path, tmp_path: Path):
    scenarios = f"{short_toml},traditional-llama"
    args = ("--policies", "online,restrict", "--episodes", 2, "--json", "m.json", "--wide")
    done = cli("matrix", "--scenarios", scenarios, *args)
    assert done.code == 0, done.err
    assert "mean throughput" in done.out and "mean return" in done.out and "interquartile" in done.out
    document = read(tmp_path / "m.json")
    assert list(document["scenarios"]) == ["short", "traditional-llama"]
    traditional = document["scenarios"]["traditional-llama"]["policies"]
    assert traditional["online"] == traditional["restrict"]


def test_scenarios_lists_presets_and_show_prints_one_to_start_from(cli: Cli, tmp_path: Path):
    listing = cli("scenarios")
    for name in (*specs.list_machines(), *specs.list_kernels(), *specs.list_workloads(), *specs.list_scenarios()):
        assert re.search(rf"(?m)^ {name} ", listing.out), name
    shown = cli("scenarios", "show", "kvstore-1to2")
    (tmp_path / "mine.toml").write_text(shown.out)
    assert np.array_equal(specs.load_scenario("mine.toml").table, specs.load_scenario("kvstore-1to2").table)


def test_set_changes_what_runs_and_results_say_so(cli: Cli, short_toml: Path, tmp_path: Path):
    latency = "machine.slow_latency_ns={ uniform = [800, 900] }"
    change = ("--set", latency, "--set", "workload.region.weights.mempolicy=bind_slow", "--set", "kernel.demotion=off")
    args = ("--scenario", short_toml, "--episodes", 2)
    plain = cli("evaluate", "online", *args, "--json", "plain.json")
    changed = cli("evaluate", "online", *args, *change, "--json", "changed.json")
    assert (plain.code, changed.code) == (0, 0), changed.err
    assert "short with machine.slow_latency_ns" in changed.out.replace("\n", " ")
    before, after = read(tmp_path / "plain.json"), read(tmp_path / "changed.json")
    assert before["changes"] == {}
    assert after["changes"] == {
        "machine.slow_latency_ns": {"uniform": [800, 900]},
        "workload.region.weights.mempolicy": "bind_slow",
        "kernel.demotion": "off",
    }
    throughputs = [document["policies"]["online"]["throughput"]["mean"] for document in (before, after)]
    assert throughputs[1] < throughputs[0]
    shown = cli("scenarios", "show", short_toml, *change).out
    assert shown.startswith("# short with machine.slow_latency_ns = { uniform = [800, 900] }, workload.region.weights")
    (tmp_path / "mine.toml").write_text(shown)
    assert specs.load_scenario("mine.toml").sections["kernel"]["demotion"] == "off"
    matrix = cli(
        "matrix", "--scenarios", short_toml, "--policies", "online", "--episodes", 2, *change[4:], "--json", "m.json"
    )
    assert matrix.code == 0 and read(tmp_path / "m.json")["scenarios"]["short"]["changes"] == {"kernel.demotion": "off"}


def test_agents_lists_policies_and_recipes(cli: Cli):
    listing = cli("agents").out
    for name in ("online", "restrict", "random", "ppo"):
        assert re.search(rf"(?m)^ {name} ", listing), name


def test_the_policies_listed_are_as_plausible_as_asked_for(cli: Cli):
    every, proposed, available = (cli("agents", "--plausibility", word).out for word in n.PLAUSIBILITIES[::-1])
    for name, words in (("online", "available"), ("restrict", "proposed"), ("exchange_idle", "counterfactual")):
        assert re.search(rf"(?m)^ {name} +{words}: ", every), name
    assert " exchange_idle " not in proposed and " restrict " in proposed
    assert " restrict " not in available and " online_movable " in available
    assert " ppo " in every and " ppo " not in proposed


def test_compare_and_matrix_leave_out_what_is_less_plausible(cli: Cli, short_toml: str, tmp_path: Path):
    options = ("--episodes", 2, "--plausibility", "available", "--json", "out.json")
    done = cli("compare", "--scenario", short_toml, "--policies", "online,restrict,adaptive", *options)
    assert done.code == 0 and "left out: restrict (proposed), adaptive (counterfactual)" in done.err
    assert list(read(tmp_path / "out.json")["policies"]) == ["online"]
    assert cli("matrix", "--scenarios", short_toml, *options).code == 0
    kept = read(tmp_path / "out.json")["scenarios"]["short"]["policies"]
    assert {"online", "online_movable", "auto_movable"} <= set(kept)
    assert not {"restrict", "exchange_idle", "random", "migrate"} & set(kept)
    none = cli("compare", "--scenario", short_toml, "--policies", "restrict", *options)
    assert none.code == 2 and "--plausibility available: no policy is left of restrict (proposed)" in none.err


def test_the_words_of_plausibility_are_those_of_the_action_table():
    assert tuple(word.value for word in options.Plausible) == n.PLAUSIBILITIES


def test_doctor_reports_missing_parts_and_fails_only_for_broken_ones(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    healthy = cli("doctor")
    assert healthy.code == 0 and "equal to the bit" in " ".join(healthy.out.split())

    def without(absent: str) -> Callable[[str], str]:
        def version(name: str) -> str:
            if name == absent:
                raise PackageNotFoundError(name)
            return installed_version(name)

        return version

    monkeypatch.setattr(doctor, "version", without("torch"))
    partial = cli("doctor")
    assert partial.code == 0 and "not installed: torch; pip install" in " ".join(partial.out.split())
    monkeypatch.setattr(doctor, "version", without("numba"))
    assert cli("doctor").code == 1


BAD_INPUT = {
    "evaluate onlin": "did you mean 'online'",
    "evaluate online --scenario graph-1to": "did you mean 'graph-1to2'",
    "evaluate nowhere.onnx": "no such file",
    "evaluate . ": "policy.onnx",
    "evaluate online --json .": "is a folder",
    "evaluate online --json /proc/none/x.json": "cannot write",
    "compare --policies ,": "names separated by commas",
    "matrix --suite a --scenarios b": "one of them",
    "matrix --suite nope": "unknown suite",
    "matrix --scenarios llama-1to2,llama-1to2.toml": "llama-1to2.toml",
    "run nope": "unknown experiment",
    "run --resume .": "no experiment.toml",
    "run main --resume .": "it has its own experiment",
    "train --agent ppo": "--scenario",
    "train --agent nope --scenario llama-1to2": "unknown agent",
    "export .": "config.toml",
    "export . --format torch": "allowed: onnx",
    "scenarios show nope": "unknown scenario, machine, workload or suite 'nope'",
    "evaluate online --set kernel.demotion": "--set kernel.demotion: allowed: section.field=value",
    "evaluate online --set demotion=on": "--set demotion=on: allowed: section.field=value",
    "evaluate online --set kernel.demotion=maybe": "--set: kernel.demotion = 'maybe'; allowed: one of",
    "compare --policies online --set kernel.demotio=on": "did you mean 'demotion'",
    "matrix --set kernel.demotion={": "'{' is no value",
    "scenarios show llama-1to2 --set kernel.demotion=on --set kernel.demotion=off": "each field once",
    "scenarios show llama-1to2 --set workload.base=graph": "stands in its file",
    "scenarios show llama-1to2 --set machine.dram_mib=1": "--set: machine.dram_mib = 1; allowed: a number from 64",
    "train --resume . --set kernel.demotion=on": "has its own scenarios",
    "run llama --set kernel.demotion=2": "set by experiment 'llama' or --set: kernel.demotion = 2",
}


@pytest.mark.parametrize("command", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, command: str):
    done = cli(*command.split())
    assert done.code == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert BAD_INPUT[command] in done.err
    assert done.out == ""


MISUSE = {
    "compare --episodes 65537": "--episodes 65537: not a value of it; allowed: a whole number from 1 to 65536",
    "evaluate online --episodes=0": "--episodes 0: not a value of it; allowed: a whole number from 1 to 65536",
    "evaluate online --episodes x": "--episodes x: ",
    "matrix --seed -1": "--seed -1: not a value of it; allowed: a whole number from 0",
    "record --hz 0 -- true": "--hz 0: not a value of it; allowed: a number from 0.1 to 100.0",
    "run --engine cloud": "--engine cloud: not a value of it; allowed: local, processes, ray",
    "compare --episodes": "--episodes: no value is given; allowed: a whole number from 1 to 65536",
    "compare --suite": "--suite: no value is given; allowed: NAME|FILE.toml",
    "bound --quiet=3": "--quiet: it is given a value; allowed: without one",
    "compare --epsiodes 3": "tiergym compare: unknown option '--epsiodes'; did you mean '--episodes'? (known: ",
    "--nope": "tiergym: unknown option '--nope'",
    "evaluate": "tiergym evaluate: POLICY is missing; allowed: with it; usage: tiergym evaluate ",
    "workload from-recording x": "tiergym workload from-recording: --out is missing; allowed: with it",
    "doctor a b": "tiergym doctor: got unexpected extra argument",
    "nope": "tiergym: unknown command 'nope'; did you mean ",
    "validate mark": "tiergym validate: unknown command 'mark'; did you mean 'marks'? (known: ",
    "workload": "tiergym workload: missing command; allowed: from-recording; usage: ",
}


@pytest.mark.parametrize("command", MISUSE)
def test_misuse_is_one_line_that_says_what_is_allowed(cli: Cli, command: str):
    assert_refused(cli(*command.split()), f"error: {MISUSE[command]}")


def every_command(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from every_command(command, *path, name)


def test_every_number_and_option_of_every_command_is_refused_in_one_line():
    tried = 0
    for path, command in every_command(typer.main.get_command(app)):
        assert_refused(captured(*path, "--nope"), f"{' '.join(path)}: unknown option '--nope'")
        numbers = [each.name for each in signature(unwrap(command.callback)).parameters.values() if of_a_number(each)]
        for parameter in command.params:
            if parameter.name in numbers:
                tried += 1
                option = max(parameter.opts, key=len)
                assert_refused(captured(*path, option, "x"), f"{option} x: not a value of it; allowed: a ")
    assert tried > 40


def of_a_number(parameter: Parameter) -> bool:
    return re.search(r"\b(int|float|Episodes|Seed|Workers)\b", str(parameter.annotation)) is not None


@pytest.mark.parametrize("reads", ["with_json_value", "told_in_a_line"])  # the command's words, those before it
def test_ctrl_c_while_the_words_are_read_is_told_too(cli: Cli, monkeypatch: pytest.MonkeyPatch, reads: str):
    def interrupted(*words: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"tiergym.cli.command.{reads}", interrupted)
    done = cli("compare")
    assert (done.code, done.err) == (130, "interrupted\n")


def test_exit_codes_of_the_process_itself(tmp_path: Path):
    command = [sys.executable, "-m", "tiergym", "evaluate", "onlin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown policy 'onlin'") and "Traceback" not in done.stderr


def test_interruption_is_exit_code_130(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from tiergym.lab import train as training

    def interrupt(*args: object, **kwargs: object) -> None:
        raise training.TrainingInterruptedError(tmp_path / "runs/x", 100, 1000)

    monkeypatch.setattr(training, "train", interrupt)
    done = cli("train", "--agent", "ppo", "--scenario", "llama-1to2")
    assert done.code == 130 and "tiergym train --resume" in done.err

    def press_ctrl_c(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tiergym.lab.compare.compare", press_ctrl_c)
    stopped = cli("evaluate", "online")
    assert stopped.code == 130 and "Traceback" not in stopped.err
