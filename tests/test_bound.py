"""Bounds by search, and the plans that they leave: searched, written, read and replayed to the bit."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import scenario
from tests.command_line import Cli
from tiergym.env import actions as act
from tiergym.errors import UserError
from tiergym.lab.bound import Arena, bound
from tiergym.lab.evaluate import evaluate
from tiergym.policy.load import load_policy
from tiergym.policy.plan import PlanPolicy, load_plan, write_plan
from tiergym.specs import load_scenario

TINY: dict[str, Any] = {"dram_mib": 256, "slow_mib": 512, "horizon_s": 4.0}
"""16 ticks in which data fills DRAM before hot tables are asked for."""
REGIONS = [
    {"kind": "anon", "mib": 300, "grow_s": 1, "access_hz": 0.01},
    {"kind": "anon", "mib": 40, "density": 1 / 16, "start_s": 1, "grow_s": 2, "misses_per_page_s": 20,
     "tlb_misses_per_page_s": 2000, "access_hz": 20},
]  # fmt: skip


def tiny() -> Any:
    return scenario(regions=REGIONS, **TINY)


def test_the_search_finds_the_best_of_all_constants() -> None:
    """Every combination of four entries on a machine of 16 ticks, tried one by one: none is better."""
    arena = Arena(tiny(), 2, 0)
    entries = [act.NAMES.index(name) for name in ("place.pt_leaf", "place.pt_upper", "migrate.pt_leaf", "zone")]
    rows = []
    for modes in itertools.product(*(range(act.NVEC[entry]) for entry in entries)):
        row = np.zeros(len(act.NVEC), np.int64)
        row[entries] = modes
        rows.append(row)
    best = arena.returns(np.stack(rows)[:, None, :]).max()
    found = bound(tiny(), 2, 0, pieces=2, rounds=8)
    assert found.constant_return >= best - 1e-9
    assert found.plan_return >= found.constant_return >= max(found.statics.values())


def test_a_plan_wins_where_one_action_cannot() -> None:
    """Early tables are cold and belong on CXL, later ones are hot: no constant serves both (`sparse-1to2`), though one
    that exchanges cold data for tables comes near."""
    found = bound(load_scenario("sparse-1to2"), 1, 0, pieces=4, rounds=6)
    assert found.plan_return > 0.8 * found.constant_return
    assert found.plan.horizon_ticks == 240 and found.plan.actions.shape == (4, len(act.NVEC))


def test_a_written_plan_replays_to_the_bit(tmp_path: Path) -> None:
    machine = tiny()
    found = bound(machine, 3, 5, pieces=3, rounds=2)
    write_plan(tmp_path / "p.json", found.plan, {"seed": 5})
    policy = load_policy(str(tmp_path / "p.json"))
    assert evaluate(policy, machine, 3, 5).values["return"].mean() == found.plan_return
    again = load_plan(tmp_path / "p.json")
    assert (again.actions == found.plan.actions).all() and (again.ticks == found.plan.ticks).all()


def test_a_search_can_be_repeated() -> None:
    first, second = (bound(tiny(), 2, 1, pieces=2, rounds=2) for _ in range(2))
    assert first.plan_return == second.plan_return and (first.plan.actions == second.plan.actions).all()


def test_a_plan_for_another_horizon_is_refused() -> None:
    plan = PlanPolicy("p", "other", np.array([7]), np.zeros((1, len(act.NVEC)), np.int64))
    with pytest.raises(UserError, match=r"made for 7 ticks \(other\), the scenario has 16"):
        evaluate(plan, tiny(), 1, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 9}, ["schema is 9", "allowed: 1"]),
        ({"pieces": []}, ["pieces", "one or more"]),
        ({"pieces": [{"ticks": 0}], "horizon_ticks": 0}, ["pieces[0].ticks is 0"]),
        ({"pieces": [{"ticks": 4, "modes": {"place.pt_leaf": "nowhere"}}]}, ["pieces[0].modes", "nowhere"]),
        ({"pieces": [{"ticks": 4, "modes": {"place.heap": "restrict"}}]}, ["pieces[0].modes", "place.heap"]),
        ({"horizon_ticks": 5}, ["horizon_ticks is 5", "allowed: 4"]),
        ({"plan": None}, ["no plan"]),
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    document = {"schema": 1, "plan": "x", "horizon_ticks": 4, "pieces": [{"ticks": 4}]} | changes
    path = tmp_path / "p.json"
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    with pytest.raises(UserError) as error:
        load_policy(str(path))
    assert all(word in str(error.value) for word in ["p.json", *words])


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(UserError, match=r"p\.json: not valid JSON"):
        load_policy(str(tmp_path / "p.json"))


def test_bound_prints_what_is_to_be_won_and_writes_the_plan(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    done = cli("bound", "--scenario", short_toml, "--episodes", 2, "--rounds", 1, "--pieces", 2, "--out", "plan.json")
    assert done.code == 0, done.err
    assert "best constant" in done.out and "plan of 2 pieces" in done.out
    replayed = cli("evaluate", "plan.json", "--scenario", short_toml, "--episodes", 2)
    assert replayed.code == 0, replayed.err
    wrong = cli("bound", "--scenario", short_toml, "--out", "plan.txt")
    assert wrong.code == 2 and "ends in .json" in wrong.err
