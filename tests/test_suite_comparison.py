"""Comparisons on suites: the leaderboard's rows beside the scenarios', files that replay, refusals."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tiergym.lab.leaderboard import leaderboard
from tiergym.lab.suite_comparison import SuiteComparison, compare_suites, load_members
from tiergym.policy.load import load_policy
from tiergym.specs import Suite, load_suite

FROZEN = """
purpose = "test"
[draw]
seed = 1
count = 1
{axes}
[families]
"{family}" = "{digest}"
"""


@pytest.fixture
def suite(short_toml: Path, tmp_path: Path) -> Path:
    """A suite of a user's file, beside it, and of a shipped scenario."""
    path = tmp_path / "mine.toml"
    path.write_text(f'scenarios = ["{short_toml.name}", "sparse-1to2"]\n')
    return path


def compared(suites: list[Suite], *names: str, evaluated: list[str] | None = None) -> SuiteComparison:
    """Three episodes each; the names of the scenarios are added to `evaluated`."""

    def progress(scenario: str) -> AbstractContextManager[None]:
        if evaluated is not None:
            evaluated.append(scenario)
        return nullcontext()

    policies = {name: [load_policy(name)] for name in names}
    return compare_suites(suites, load_members(suites, {}, ""), policies, {}, 3, 0, progress)


def test_rows_are_those_of_the_leaderboard(suite: Path, tmp_path: Path) -> None:
    names = ("online", "restrict", "soft")
    found = compared([load_suite(suite)], *names).document()
    board = leaderboard([load_suite(suite)], {name: [name] for name in names}, tmp_path / "out", 3, 0, "online")
    expected = board.document()
    for name, row in found["suites"]["mine"]["rows"].items():
        assert row | {"decision_us": 0} == expected["rows"]["mine"][name] | {"decision_us": 0}
    assert found["suites"]["mine"]["digest"] == expected["suites"]["mine"]["digest"]
    assert found["suites"]["mine"]["profile"] == expected["profile"]["mine"]
    assert found["above"] == expected["above"]


def test_a_scenario_of_two_suites_is_evaluated_once(suite: Path) -> None:
    other = suite.with_name("other.toml")
    other.write_text('scenarios = ["sparse-1to2"]\n')
    evaluated: list[str] = []
    found = compared([load_suite(suite), load_suite(other)], "online", "soft", evaluated=evaluated)
    assert evaluated == ["short", "sparse-1to2"]
    assert [each.scenario for each in found.of("other")] == ["sparse-1to2"]
    assert found.saved("other")["sparse-1to2"] == found.saved("mine")["sparse-1to2"]


def test_two_scenarios_of_one_name_are_refused(suite: Path, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "short.toml").write_text((tmp_path / "short.toml").read_text().replace("horizon_s = 2", "horizon_s = 1"))
    (folder / "theirs.toml").write_text('scenarios = ["short.toml"]\n')
    done = cli("compare", "--suite", "mine.toml", "--suite", "elsewhere/theirs.toml", "--policies", "soft")
    assert_refused(done, "two of the scenarios have one name: short")
    assert_refused(cli("compare", "--suite", "mine.toml", "--suite", "mine.toml", "--policies", "soft"), "'mine'")


def test_a_comparison_on_a_suite_replays_and_a_changed_one_does_not(suite: Path, cli: Cli) -> None:
    outputs = ("--json", "s.json", "--parquet", "s.parquet", "--png", "s.png")
    done = cli("compare", "--suite", "mine.toml", "--policies", "soft", "--episodes", 2, *outputs)
    assert done.code == 0, done.err
    assert "mine: mean saved" in done.out.replace("\n", " ") and "short" in done.out and "online" in done.out
    assert pq.read_table("s.parquet").num_rows == 2 * 2 * 2 and Path("s.png").stat().st_size > 5000
    done = cli("verify", "s.json")
    assert (done.code, done.out) == (0, "soft: the same to the bit\nonline: the same to the bit\n")
    document = json.loads(Path("s.json").read_text())
    document["suites"]["mine"]["rows"]["soft"]["saved"]["mean"] += 1e-9
    document["scenarios"]["short"]["policies"]["soft"]["return"]["mean"] += 1e-9
    Path("s.json").write_text(json.dumps(document))
    done = cli("verify", "s.json", "--policy", "soft")
    assert (done.code, done.out) == (1, "soft: differs on short, mine\n")


def test_changes_are_kept_and_replayed(suite: Path, cli: Cli) -> None:
    change = ("--set", "kernel.demotion=off")
    done = cli("matrix", "--suite", "mine.toml", "--policies", "soft", "--episodes", 1, *change, "--json", "s.json")
    assert done.code == 0, done.err
    assert "throughput over 2 scenarios" in done.out
    document = json.loads(Path("s.json").read_text())
    assert document["changes"] == {"kernel.demotion": "off"} == document["scenarios"]["short"]["changes"]
    assert cli("verify", "s.json").code == 0


def test_one_policy_is_evaluated_on_a_suite_against_stock_linux(suite: Path, cli: Cli) -> None:
    done = cli("evaluate", "soft", "--suite", "mine.toml", "--episodes", 1)
    assert done.code == 0 and "improves" in done.out and "online" in done.out, done.err


def test_a_suite_that_is_no_longer_what_was_measured_is_refused(suite: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("compare", "--suite", "mine.toml", "--policies", "soft", "--episodes", 1, "--json", "s.json").code == 0
    text = (tmp_path / "short.toml").read_text()
    (tmp_path / "short.toml").write_text(text.replace("horizon_s = 2", "horizon_s = 1"))
    assert_refused(cli("verify", "s.json"), "s.json: suites.mine.digest is ", "which is here now")


def test_a_family_that_is_not_what_was_frozen_is_refused(cli: Cli, tmp_path: Path) -> None:
    test = load_suite("test")
    family = min(test.families)
    assert test.draw is not None
    axes = "\n".join(f'{axis} = ["{level}"]' for axis, level in zip(test.draw.axes, family.split("+"), strict=True))
    path = tmp_path / "theirs.toml"
    path.write_text(FROZEN.format(axes=axes, family=family, digest="0" * 16))
    done = cli("compare", "--suite", "theirs.toml", "--policies", "soft")
    assert_refused(done, "suite 'theirs'", f"{family} has the digest {test.families[family]}", "0" * 16)


@pytest.mark.parametrize("command", [("compare", "--policies", "soft"), ("evaluate", "soft")])
def test_a_suite_and_a_scenario_are_one_too_many(suite: Path, cli: Cli, command: tuple[str, ...]) -> None:
    done = cli(*command, "--suite", "mine.toml", "--scenario", "llama-1to2")
    assert_refused(done, "--suite and --scenario were both given")
    assert_refused(cli(*command, "--suite", "tset"), "tset")
