"""What a policy did: shares of modes, changes of mind, impossible choices; in tables and files."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.command_line import Cli
from tests.short_runs import TICKS, random_masks, random_modes
from tiergym import specs
from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.lab import mode_use, results, tables
from tiergym.lab.compare import Comparison, compare
from tiergym.lab.evaluate import evaluate, evaluation_seeds
from tiergym.lab.mode_use import ModeCounter
from tiergym.policy.base import CheckedPolicy, Policy
from tiergym.policy.load import load_policy
from tiergym.policy.rules import default_actions, set_mode
from tiergym.sim import names as n
from tiergym.terminal import console

EPISODES = 3


def alternating() -> CheckedPolicy:
    """Page tables restricted in every other tick; stacks, which this machine cannot move, migrated in all."""
    ticks = iter(range(10**6))

    def rule(obs: np.ndarray, masks: np.ndarray) -> np.ndarray:
        actions = set_mode(default_actions(len(obs)), "migrate.kstack", "idle")
        return set_mode(actions, "place.pt_leaf", "restrict") if next(ticks) % 2 else actions

    return CheckedPolicy(rule, "alternating")


def heedless() -> CheckedPolicy:
    """Random modes, possible or not."""
    chosen = iter(random_modes(EPISODES, TICKS))
    return CheckedPolicy(lambda obs, masks: next(chosen), "heedless")


@pytest.fixture(scope="module")
def comparison(short: specs.Scenario) -> Comparison:
    runs: dict[str, list[Policy]] = {
        "online": [load_policy("online")],
        "alternating": [alternating()],
        "two": [load_policy("soft")] * 2,
    }
    return compare(runs, short, EPISODES, seed=0)


def test_counting_agrees_with_a_count_in_plain_numpy() -> None:
    ticks, machines = 20, 5
    chosen = random_modes(machines, ticks)
    running = np.random.default_rng(1).random((ticks, machines)).cumsum(axis=0) < 8  # each stops once
    counter = ModeCounter(machines)
    in_force = np.zeros((machines, act.N_MASK))
    changes, overruled = np.zeros((machines, n.N_ACTIONS)), np.zeros((machines, n.N_ACTIONS))
    for tick in range(ticks):
        masks = random_masks(machines, tick)
        counter.add(chosen[tick], masks, running[tick])
        possible = np.take_along_axis(masks, act.OFFSETS + chosen[tick], axis=1)
        for machine in np.flatnonzero(running[tick]):
            modes = np.where(possible[machine], chosen[tick, machine], 0)
            in_force[machine, act.OFFSETS + modes] += 1
            overruled[machine] += ~possible[machine]
            changes[machine] += chosen[tick, machine] != chosen[max(tick - 1, 0), machine]
    made = running.sum(axis=0).astype(float)
    assert made.min() < made.max() < ticks
    use = counter.use(made)
    np.testing.assert_allclose(use.in_force, in_force / made[:, None])
    np.testing.assert_allclose(use.overruled, overruled / made[:, None])
    np.testing.assert_array_equal(use.changes, changes)
    sums = np.add.reduceat(use.in_force, act.OFFSETS, axis=1)
    np.testing.assert_allclose(sums, 1)


def test_the_machine_had_in_force_what_was_counted(short: specs.Scenario) -> None:
    """The engine's own record of the action, tick by tick, against shares that come from the masks."""
    policy = heedless()
    machines = Machines([short], EPISODES, next_step=True)
    machines.reset(evaluation_seeds(4, EPISODES))
    in_force = np.zeros((EPISODES, act.N_MASK))
    for _ in range(TICKS):
        machines.step(policy(machines.obs, machines.masks))
        in_force[np.arange(EPISODES)[:, None], act.OFFSETS + machines.records["action"]] += 1
    counted = evaluate(heedless(), short, EPISODES, 4).modes
    np.testing.assert_allclose(counted.in_force, in_force / TICKS)
    assert counted.overruled[:, n.A_MIGRATE_KSTACK].min() > 0


def test_a_policy_s_deeds_are_in_the_document(comparison: Comparison) -> None:
    document = results.comparison_json(comparison)["modes"]
    assert list(document) == list(comparison.values)
    online, busy = document["online"], document["alternating"]
    assert all(row["changes"] == row["overruled"] == 0 for row in online.values())
    assert all(online[entry.name]["in_force"][entry.modes[0]] == 1 for entry in act.ENTRIES)
    assert busy["place.pt_leaf"]["in_force"] == {"fallback": 0.5, "prefer_fast": 0, "restrict": 0.5, "prefer_slow": 0}
    assert busy["place.pt_leaf"]["changes"] == 7 and busy["place.pt_leaf"]["overruled"] == 0
    assert busy["migrate.kstack"] == {"in_force": {"off": 1, "idle": 0}, "changes": 0, "overruled": 1}
    matrix = results.matrix_json([comparison])["scenarios"]
    assert matrix[comparison.scenario]["modes"] == document


def test_parquet_rows_say_it_per_episode_and_are_read_back(
    tmp_path: Path, comparison: Comparison, short: specs.Scenario
) -> None:
    path = tmp_path / "rows.parquet"
    results.write_parquet(path, [comparison])
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 4 * EPISODES and set(mode_use.COLUMNS) <= set(rows[0])
    busy = [row for row in rows if row["policy"] == "alternating"]
    assert [row["modes/place.pt_leaf=restrict"] for row in busy] == [0.5] * EPISODES
    assert [row["changes/place.pt_leaf"] for row in busy] == [7] * EPISODES
    assert [row["overruled/migrate.kstack"] for row in busy] == [1] * EPISODES
    again = results.read_parquet(path, short, list(comparison.values), EPISODES, 0)
    assert again.modes["two"].in_force.shape == (2, EPISODES, act.N_MASK)
    assert results.comparison_json(again) == results.comparison_json(comparison)


def test_tables_say_it_in_words(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    out = console()
    out.print(tables.modes_table(comparison, "alternating"))
    text = capsys.readouterr().out
    assert "place.pt_leaf         fallback 50 %, restrict 50 %        7          ·" in text
    assert "migrate.kstack        off 100 %                           0      100 %" in text
    out.print(tables.deeds_table(comparison))
    text = capsys.readouterr().out
    assert "fallback 50 %, restrict 50 %: place.pt_leaf" in text and "Linux's defaults" in text
    assert "prefer_fast 100 %: place.pt_leaf, place.pt_upper" in text  # entries with the same modes together


def test_a_share_is_rounded_to_all_or_nothing_only_where_it_is() -> None:
    shares = (0, 0.001, 0.01, 0.5, 0.996, 1)
    assert [mode_use.percent(share) for share in shares] == ["0 %", "<1 %", "1 %", "50 %", ">99 %", "100 %"]


def test_evaluate_prints_modes_and_writes_them(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    done = cli("evaluate", "restrict", "--scenario", short_toml, "--episodes", 2, "--json", "r.json")
    assert done.code == 0 and "modes in force" in done.out and "place.pt_leaf         restrict 100 %" in done.out
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["modes"]["restrict"]["place.kstack"]["in_force"]["restrict"] == 1
