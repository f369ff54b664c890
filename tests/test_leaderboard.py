"""The leaderboard: statistics checked by hand, cells kept, rows replayed to the bit, refused where they are not."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import Cli, Done
from tests.places import ROOT
from tests.refusals import assert_refused
from tests.tiny_training import small, tiny_scenario
from tiergym import paths
from tiergym.errors import UserError
from tiergym.lab import leaderboard as board_module
from tiergym.lab.leaderboard import leaderboard
from tiergym.lab.leaderboard_page import page_tables
from tiergym.lab.policy_costs import PolicyCost, policy_cost
from tiergym.lab.statistics import mean_improved, performance_profile, pooled_iqm, stratified, worst_tenth
from tiergym.lab.train import train
from tiergym.specs import load_suite

NAMES = ("online", "restrict", "soft")


@pytest.fixture
def suite(short_toml: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(f'purpose = "train"\nscenarios = ["{short_toml.name}"]\n')
    return path


def spelled(*names: str) -> dict[str, list[str]]:
    return {name: [name] for name in names}


# Statistics


def test_improvement_is_the_share_of_episodes_won_with_ties_counting_half() -> None:
    strata = [np.array([[1.0, -1.0, 0.0, 2.0]]), np.array([[0.0, 0.0]])]
    assert mean_improved(strata) == (2.5 / 4 + 0.5) / 2


def test_the_worst_tenth_is_the_mean_of_the_lowest_values() -> None:
    assert worst_tenth([np.arange(20.0), np.arange(20.0, 30.0)]) == 1.0
    assert worst_tenth([np.array([5.0, 1.0, 3.0])]) == 1.0


def test_a_profile_falls_from_one_to_nothing() -> None:
    profile = performance_profile([np.array([0.0, 0.5]), np.array([[0.5, 1.0]])], np.array([-1.0, 0.0, 0.5, 1.0]))
    assert profile.tolist() == [1.0, 0.75, 0.25, 0.0]


@given(st.lists(st.lists(st.floats(-5, 1), min_size=2, max_size=6), min_size=1, max_size=4))
def test_an_interval_holds_its_statistic(values: list[list[float]]) -> None:
    strata = [np.array([each]) for each in values]
    for statistic in (pooled_iqm, worst_tenth, mean_improved):
        found = stratified(statistic, strata, resamples=50)
        assert found.low <= found.mean <= found.high
        assert found.mean == pytest.approx(statistic(strata))


def test_strata_are_resampled_each_by_itself() -> None:
    """Two scenarios without variation: whatever is drawn, both are there, so nothing varies."""
    found = stratified(pooled_iqm, [np.zeros((1, 8)), np.ones((1, 8))], resamples=100)
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


# Rows


def test_stock_linux_saves_nothing_and_cells_are_kept(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = leaderboard([load_suite(suite)], spelled(*NAMES), tmp_path / "out", 4, 0, "soft")
    rows = first.rows["mine"]
    assert (rows["online"].saved.mean, rows["online"].saved.high) == (0.0, 0.0)
    assert rows["soft"].improves.mean == 0.5
    monkeypatch.setattr(board_module, "measure", lambda *args: pytest.fail("evaluated again"))
    again = leaderboard([load_suite(suite)], spelled(*NAMES), tmp_path / "out", 4, 0, "soft")
    assert again.document() == first.document()


def test_runs_of_one_policy_are_one_row(suite: Path, tmp_path: Path) -> None:
    both = {"online": ["online"], "twice": ["restrict", "restrict"], "restrict": ["restrict"]}
    rows = leaderboard([load_suite(suite)], both, tmp_path / "out", 4, 0, "restrict").rows["mine"]
    assert rows["twice"].saved.mean == pytest.approx(rows["restrict"].saved.mean)
    assert rows["twice"].improves.mean == 0.5


def test_a_board_without_its_references_is_refused(suite: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no policy 'online' among soft"):
        leaderboard([load_suite(suite)], spelled("soft"), tmp_path / "out", 4, 0, "soft")
    with pytest.raises(UserError, match="no policy 'selector' among online"):
        leaderboard([load_suite(suite)], spelled("online"), tmp_path / "out", 4, 0, "selector")


def test_a_cell_of_another_model_is_never_counted(suite: Path, tmp_path: Path) -> None:
    leaderboard([load_suite(suite)], spelled("online"), tmp_path / "out", 4, 0, "online")
    path = tmp_path / "out/online/short.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "0" * 16}))
    with pytest.raises(UserError, match=r"short\.json: model is .0000"):
        leaderboard([load_suite(suite)], spelled("online"), tmp_path / "out", 4, 0, "online")


@pytest.mark.parametrize("value", [-1e308, 1e16, float("inf"), True, None])
def test_a_cell_has_numbers_that_a_result_can_have(value: object, suite: Path, tmp_path: Path) -> None:
    """-1e308 over what stock Linux loses is no number any more; so nothing is made of it."""
    leaderboard([load_suite(suite)], spelled("online"), tmp_path / "out", 1, 0, "online")
    path = tmp_path / "out/online/short.json"
    cell = json.loads(path.read_text())
    cell["result"]["return"] = [value]
    path.write_text(json.dumps(cell))
    with pytest.raises(UserError, match="allowed: what was written here"):
        leaderboard([load_suite(suite)], spelled("online"), tmp_path / "out", 1, 0, "online")


# Commands


def board(cli: Cli, *more: object) -> None:
    done = cli("leaderboard", "mine.toml", "--policies", "online,restrict", "--against", "restrict", "--out", "out",
               "--episodes", 3, "--json", "board.json", *more)  # fmt: skip
    assert done.code == 0, done.err
    assert "worst tenth" in done.out.replace("\n", " ") or "worst" in done.out


def test_a_row_replays_to_the_bit_and_a_changed_one_does_not(suite: Path, cli: Cli) -> None:
    board(cli, "--png", "profile.png")
    assert Path("profile.png").stat().st_size > 5000
    done = cli("verify", "board.json")
    assert (done.code, done.out) == (0, "online: the same to the bit\nrestrict: the same to the bit\n")
    document = json.loads(Path("board.json").read_text())
    document["rows"]["mine"]["restrict"]["saved"]["mean"] += 1e-9
    Path("board.json").write_text(json.dumps(document))
    done = cli("verify", "board.json")
    assert (done.code, done.out) == (1, "online: the same to the bit\nrestrict: differs on mine\n")
    assert cli("verify", "board.json", "--policy", "online").code == 0


def test_a_comparison_and_a_matrix_replay_too(short_toml: Path, cli: Cli) -> None:
    on = ("--scenario", "sparse-1to2", "--set", "kernel.demotion=off", "--episodes", 2)
    assert cli("compare", "--policies", "online,soft", *on, "--json", "c.json").code == 0
    done = cli("verify", "c.json")
    assert (done.code, done.out) == (0, "online: the same to the bit\nsoft: the same to the bit\n")
    scenarios = "sparse-1to2,traditional-kvstore"
    assert cli("matrix", "--scenarios", scenarios, "--policies", "soft", "--episodes", 1, "--json", "m.json").code == 0
    assert cli("verify", "m.json").code == 0
    document = json.loads(Path("m.json").read_text())
    document["scenarios"]["sparse-1to2"]["policies"]["soft"]["return"]["mean"] *= 1.0000001
    Path("m.json").write_text(json.dumps(document))
    assert (cli("verify", "m.json").code, cli("verify", "m.json").out) == (1, "soft: differs on sparse-1to2\n")
    document["scenarios"]["sparse-1to2"]["digest"] = "0"
    Path("m.json").write_text(json.dumps(document))
    assert "sparse-1to2.digest is '0'; allowed" in cli("verify", "m.json").err


def test_a_comparison_on_a_scenario_of_one_s_own_replays_with_its_file(short_toml: Path, cli: Cli) -> None:
    on = ("--scenario", short_toml, "--episodes", 1)
    assert cli("compare", "--policies", "online", *on, "--json", "c.json").code == 0
    assert cli("verify", "c.json").code == 0
    text = short_toml.read_text()
    short_toml.write_text(text.replace("horizon_s = 2", "horizon_s = 1"))
    assert_refused(cli("verify", "c.json"), "c.json: short.digest is ", "which is here now")
    short_toml.unlink()
    assert_refused(cli("verify", "c.json"), "c.json: scenario 'short' is not shipped", "short.toml")


@pytest.mark.parametrize(
    "changes", [{"episodes": -3}, {"episodes": 0}, {"seed": "x"}, {"seed": -1}, {"episodes": True}]
)
def test_a_result_of_no_number_of_episodes_is_refused(changes: dict[str, Any], short_toml: Path, cli: Cli) -> None:
    assert (
        cli("compare", "--policies", "online", "--scenario", short_toml, "--episodes", 1, "--json", "c.json").code == 0
    )
    document = json.loads(Path("c.json").read_text())
    Path("c.json").write_text(json.dumps(document | changes))
    assert_refused(cli("verify", "c.json"), f"c.json: {next(iter(changes))} is ", "whole number")


def test_what_would_not_be_replayed_is_not_the_same_to_the_bit(suite: Path, cli: Cli) -> None:
    """A table that nobody looks at, of a policy or a suite that the file does not say what it is, or of no number."""
    board(cli)
    whole = json.loads(Path("board.json").read_text())

    def verified(change: Callable[[Any], object]) -> Done:
        document = copy.deepcopy(whole)
        change(document)
        Path("board.json").write_text(json.dumps(document))
        return cli("verify", "board.json")

    best = whole["rows"]["mine"]["restrict"]
    assert_refused(verified(lambda d: d["rows"]["mine"].update(best=best)), "results of 'best'")
    assert_refused(verified(lambda d: d["rows"].update(test=d["rows"]["mine"])), "rows are ['mine', 'test']")
    assert_refused(verified(lambda d: d["policies"].update(restrict=d["policies"]["restrict"] * 3)), "is of 3 runs")
    done = verified(lambda d: d["profile"]["mine"]["restrict"].__setitem__(0, 0.5))
    assert (done.code, done.out) == (1, "online: the same to the bit\nrestrict: differs on mine\n")
    assert_refused(verified(lambda d: d["above"].__setitem__(0, 0.5)), "above is [0.5, ")
    assert_refused(verified(lambda d: d["costs"].pop("restrict")), "costs are ['online']; allowed: online, restrict")
    done = verified(lambda d: d["costs"]["restrict"][0].update(bytes=1))
    assert (done.code, done.out) == (1, "online: the same to the bit\nrestrict: differs on costs\n")
    assert verified(lambda d: d["costs"]["restrict"][0].update(seconds=3.5)).code == 0
    done = verified(lambda d: d["rows"]["mine"]["restrict"]["kills_per_hour"].update(mean=False))
    assert (done.code, done.out) == (1, "online: the same to the bit\nrestrict: differs on mine\n")


def test_what_a_policy_of_a_comparison_did_is_replayed_too(short_toml: Path, cli: Cli) -> None:
    on = ("--scenario", short_toml, "--episodes", 1)
    assert cli("compare", "--policies", "online", *on, "--json", "c.json").code == 0
    whole = json.loads(Path("c.json").read_text())
    for changes, message in (
        ({"policies": whole["policies"] | {"best": whole["policies"]["online"]}}, "results of 'best'"),
        ({"agents": {}, "policies": {}}, "has no policies"),
        ({"variant": [1]}, "variant is [1]; allowed: a text"),
    ):
        Path("c.json").write_text(json.dumps(whole | changes))
        assert_refused(cli("verify", "c.json"), "c.json: ", message)
    next(iter(whole["modes"]["online"].values()))["changes"] = 3.0
    Path("c.json").write_text(json.dumps(whole))
    done = cli("verify", "c.json")
    assert (done.code, done.out) == (1, "online: differs on short\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "0" * 16}, "model is '0000000000000000'; allowed: "),
        ({"suites": {"mine": {"spec": "mine.toml", "digest": "0"}}}, "suites.mine.digest is '0'; allowed: "),
        ({"policies": {"online": [{"spec": "online", "digest": "0"}]}}, "policies.online[0].digest is '0'; allowed: "),
        ({"policies": ["online"]}, "not a file of results"),
        ({"schema": 99}, "schema is 99; allowed: 1"),
        ({"schema": True}, "schema is True; allowed: 1"),
        ({"policies": {}}, "has no policies"),
        ({"suites": {}}, "rows are ['mine']; allowed: at least one"),
        ({"suites": {}, "rows": {}}, "rows are []; allowed: at least one"),
        ({"episodes": 10**9}, "episodes is 1000000000; allowed: a whole number from 1 to 65536"),
    ],
)
def test_what_is_another_s_is_not_replayed(suite: Path, cli: Cli, change: dict, message: str) -> None:
    board(cli)
    document = json.loads(Path("board.json").read_text())
    Path("board.json").write_text(json.dumps(document | change))
    done = cli("verify", "board.json")
    assert done.code == 2 and message in done.err, done.err


def test_the_tables_go_between_the_marks_of_a_page(suite: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("before\n<!-- leaderboard -->\n<!-- /leaderboard -->\nafter\n")
    board(cli, "--page", "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "| `restrict` |" in text
    (tmp_path / "bare.md").write_text("nothing\n")
    done = cli(
        "leaderboard", "mine.toml", "--policies", "online", "--against", "online", "--out", "o", "--page", "bare.md"
    )
    assert done.code == 2 and "0 parts between" in done.err
    assert cli("leaderboard", "mine.toml", "--out", "o", "--page", "no.md").code == 2
    assert cli("leaderboard", "mine.toml", "--out", "o", "--learned", "ppo").code == 2


# What policies cost


def test_a_rule_costs_its_file(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[modes]\n"reserve.pt" = "small"\n')
    assert policy_cost(str(own)) == PolicyCost(own.stat().st_size)
    shipped = paths.agents_dir()
    assert policy_cost("adaptive") == PolicyCost((shipped / "adaptive.py").stat().st_size)
    numbers = ROOT / "experiments" / "tuned" / "adaptive_tuned.toml"
    both = policy_cost(f"adaptive@{numbers}").bytes
    assert both == numbers.stat().st_size + (shipped / "adaptive.py").stat().st_size
    assert policy_cost("some.module:Rule") == PolicyCost(None)


def test_a_trained_policy_costs_its_training(tmp_path: Path, suite: Path) -> None:
    """Decisions of its recipe, seconds of its log; the page says it of the mean of several runs."""
    runs = [train(small("ppo"), tiny_scenario(tmp_path), seed=seed, out=tmp_path / f"run-{seed}") for seed in (0, 1)]
    costs = [policy_cost(str(run)) for run in runs]
    assert [cost.decisions for cost in costs] == [96, 96]
    assert all(cost.bytes == (run / "policy.onnx").stat().st_size for cost, run in zip(costs, runs, strict=True))
    assert all(0 < cost.seconds < 60 for cost in costs if cost.seconds is not None)
    spelling = spelled("online") | {"two": [str(run) for run in runs]}
    board = leaderboard([load_suite(suite)], spelling, tmp_path / "out", 2, 0, "online")
    assert board.document()["costs"]["two"] == [cost.document() for cost in costs]
    assert "| `two` | " in page_tables(board) and "| 96 | 0 min |" in page_tables(board)
