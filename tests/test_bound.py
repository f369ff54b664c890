"""Bounds by search, and the plans that they leave: searched, written, read and replayed to the bit."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.builders import random_scenario, scenario
from tests.command_line import Cli
from tests.exact_plans import FORGOTTEN, solve
from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.lab.bound import Arena, bound, varying
from tiergym.lab.evaluate import evaluate, evaluation_seeds
from tiergym.policy.load import load_policy
from tiergym.policy.plan import PlanPolicy, load_plan, write_plan
from tiergym.sim import names as n
from tiergym.specs import Scenario, load_scenario
from tiergym.specs.table import build_table

TINY: dict[str, Any] = {"dram_mib": 256, "slow_mib": 512, "horizon_s": 4.0}
"""16 ticks in which data fills DRAM before hot tables are asked for."""
REGIONS = [
    {"kind": "anon", "mib": 300, "grow_s": 1, "access_hz": 0.01},
    {"kind": "anon", "mib": 40, "density": 1 / 16, "start_s": 1, "grow_s": 2, "misses_per_page_s": 20,
     "tlb_misses_per_page_s": 2000, "access_hz": 20},
]  # fmt: skip


def tiny() -> Scenario:
    return scenario(regions=REGIONS, **TINY)


def passing(**changes: Any) -> Scenario:
    """What fills DRAM leaves after half of the episode: tables born before it lie on CXL, and room comes for them."""
    regions = [REGIONS[0] | {"hold_s": 1, "shrink_s": 0.25}, REGIONS[1]]
    return scenario(regions=regions, **(TINY | changes))


def early() -> Scenario:
    """Early tables are cold, later ones hot, and data fills DRAM in between: no constant serves both."""
    regions = [
        {"kind": "anon", "mib": 120, "density": 1 / 4, "grow_s": 1.5, "tlb_misses_per_page_s": 0.1, "access_hz": 0.01},
        {"kind": "anon", "mib": 200, "grow_s": 1.5, "access_hz": 0.01},
        REGIONS[1] | {"start_s": 2, "grow_s": 1.5, "tlb_misses_per_page_s": 5000},
    ]
    return scenario(regions=regions, **TINY)


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


def combinations(allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """All actions of these modes, int64 (actions, N_ACTIONS)."""
    modes = [np.flatnonzero(entry) for entry in np.split(allowed, act.OFFSETS[1:])]
    return np.array(list(itertools.product(*modes)), np.int64)


FOUR = {"place.pt_leaf": (), "place.pt_upper": ("restrict",), "migrate.pt_leaf": ("idle",), "zone": ("movable",)}
"""Four entries with 32 actions."""


TWO = {"place.pt_leaf": ("restrict",), "zone": ("movable",)}


@pytest.mark.parametrize(
    ("machine", "pieces", "entries"),
    [
        (tiny(), 8, FOUR),
        (tiny(), 16, TWO | {"place.pt_leaf": ("restrict", "prefer_slow"), "migrate.pt_leaf": ("idle",)}),
        (early(), 4, FOUR),
        (early(), 16, TWO),
        (passing(), 4, FOUR),
        (passing(), 16, TWO),
        (passing(), 8, {"place.pt_leaf": ("prefer_slow",), "migrate.pt_leaf": (), "migrate.budget": ("high",)}),
        (passing(), 8, {"limit.kernel": (), "reclaim.pt_empty": ("scan",), "place.pt_leaf": ("restrict",)}),
        (passing(demotion="on"), 4, {"reserve.pt": (), "headroom": ("large",), "migrate.room": ("exchange",)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_finds_the_optimum_of_tiny_instances(
    machine: Scenario, pieces: int, entries: dict[str, tuple[str, ...]], seed: int
) -> None:
    """Of up to 12 to the power of 16 plans, but for rounding what the dynamic program says."""
    allowed = varying(entries)
    exact = solve(machine, seed, Arena(machine, 1, seed).edges(pieces), combinations(allowed))
    found = bound(machine, 1, seed, pieces, rounds=12, allowed=allowed)
    assert found.plan_return == pytest.approx(exact.best, abs=1e-12)
    assert exact.best <= found.relaxed_return <= 0
    assert allowed[act.OFFSETS + found.plan.actions].all()


@pytest.mark.parametrize("machine", [tiny(), early(), passing()])
@pytest.mark.parametrize("pieces", [4, 5])
def test_the_dynamic_program_gives_the_best_of_the_plans_spelled_out(machine: Scenario, pieces: int) -> None:
    """And a plan that has it: the states that it lets go of are those that cannot do better."""
    actions, arena = combinations(varying(TWO)), Arena(machine, 1, 0)
    returns = arena.returns(np.array(list(itertools.product(actions, repeat=pieces))), by_tick=True)
    exact = solve(machine, 0, arena.edges(pieces), actions)
    assert exact.best == pytest.approx(returns.max(), abs=1e-12)
    assert arena.returns(exact.plan[None], by_tick=True)[0] == pytest.approx(exact.best, abs=1e-12)
    assert exact.states[-1] < len(actions) ** (pieces - 1), "states have met"


def test_instances_need_a_plan() -> None:
    """More than any constant gets."""
    actions, arena = combinations(varying(TWO)), Arena(early(), 1, 0)
    best = solve(early(), 0, arena.edges(16), actions).best
    assert best > arena.returns(actions[:, None], by_tick=True).max() + 0.1


def test_what_the_dynamic_program_forgets_has_no_future() -> None:
    """Machines that differ in nothing else go on alike, to the bit."""
    machines = Machines([passing(demotion="on")], 2)
    machines.reset(np.repeat(evaluation_seeds(0, 1), 2))
    rng = np.random.default_rng(0)
    for _ in range(15):
        machines.step(np.repeat(rng.integers(0, act.NVEC)[None], 2, axis=0))
        assert machines.reward[0] == machines.reward[1]
        for name in FORGOTTEN:
            there = machines.records[name][1:]
            there[...] = rng.integers(0, 2, there.shape)
    kept = [name for name in machines.records.dtype.names or () if name not in FORGOTTEN]
    machines.step(np.tile(act.DEFAULT, (2, 1)))
    assert machines.reward[0] == machines.reward[1]
    assert all((machines.records[name][0] == machines.records[name][1]).all() for name in kept)


def test_modes_may_be_chosen_that_vary_and_the_defaults() -> None:
    allowed = varying({"place.pt_leaf": ("restrict",), "zone": ()})
    named = [act.MASK_NAMES[i] for i in np.flatnonzero(allowed) if i not in act.OFFSETS]
    assert named == ["place.pt_leaf=restrict", "zone=movable", "zone=auto_movable"]
    assert allowed[act.OFFSETS].all()
    with pytest.raises(UserError, match=r"place\.heap"):
        varying({"place.heap": ()})
    with pytest.raises(UserError, match="nowhere"):
        varying({"zone": ("nowhere",)})
    with pytest.raises(ValueError, match="default of every entry"):
        bound(tiny(), 1, 0, allowed=np.zeros(act.N_MASK, np.bool_))


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    plausibility=st.sampled_from(n.PLAUSIBILITIES),
    pieces=st.integers(1, 3),
    entries=st.sets(st.sampled_from(act.NAMES), min_size=1),
)
def test_a_plan_is_never_below_the_best_constant_nor_that_below_the_rules(
    seed: int, plausibility: str, pieces: int, entries: set[str]
) -> None:
    """On random machines: what was known before takes part in the search."""
    machine = random_scenario(128, 256.0, [1, 2], 0.25)
    machine.sections["episode"]["horizon_s"] = 2.0
    machine = replace(machine, table=build_table(machine.sections, machine.regions))
    allowed = varying(dict.fromkeys(entries, ()))
    found = bound(machine, 4, seed, pieces, rounds=2, plausibility=plausibility, allowed=allowed)
    assert found.plan_return >= found.constant_return - 1e-12
    assert found.constant_return >= max(found.statics.values()) - 1e-12
    possible = allowed & act.at_least(plausibility)
    assert possible[act.OFFSETS + found.plan.actions].all() and possible[act.OFFSETS + found.constant].all()


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
        ({"schema": True}, ["schema is True", "allowed: 1"]),
        ({"horizon_ticks": 4.0}, ["horizon_ticks is 4.0", "allowed: 4, the sum"]),
        ({"pieces": []}, ["pieces", "one or more"]),
        ({"pieces": [{"ticks": 0}], "horizon_ticks": 0}, ["pieces[0].ticks is 0"]),
        ({"pieces": [{"ticks": 2**63}], "horizon_ticks": 2**63}, ["pieces[0].ticks is 9223372036854775808", "1000000"]),
        (
            {"pieces": [{"ticks": 2**63 - 1}, {"ticks": 2**63 - 1}, {"ticks": 6}]},
            ["pieces[0].ticks is 9223372036854775"],
        ),
        ({"pieces": [{"ticks": 1}] * 10001, "horizon_ticks": 10001}, ["pieces are 10001; allowed: 1 to 10000"]),
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
    assert "best constant" in done.out and "plan of 2 pieces" in done.out and "relaxed" in done.out
    replayed = cli("evaluate", "plan.json", "--scenario", short_toml, "--episodes", 2)
    assert replayed.code == 0, replayed.err
    few = cli("bound", "--scenario", short_toml, "--episodes", 2, "--rounds", 1, "--plausibility", "available",
              "--vary", "zone", "--vary", "headroom=large", "--out", "few.json")  # fmt: skip
    assert few.code == 0, few.err
    named = {f"{name}={mode}" for piece in json.loads((tmp_path / "few.json").read_text())["pieces"]
             for name, mode in piece["modes"].items()}  # fmt: skip
    assert named <= {"zone=movable", "zone=auto_movable", "headroom=large"} and "restrict" not in few.out
    unknown = cli("bound", "--scenario", short_toml, "--vary", "zone=elsewhere")
    assert unknown.code == 2 and "--vary" in unknown.err and "elsewhere" in unknown.err
    wrong = cli("bound", "--scenario", short_toml, "--out", "plan.txt")
    assert wrong.code == 2 and "ends in .json" in wrong.err


def test_bounds_of_a_suite_are_a_row_and_a_plan_each(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    (tmp_path / "longer.toml").write_text(short_toml.read_text().replace("horizon_s = 2", "horizon_s = 3"))
    (tmp_path / "mine.toml").write_text(f'scenarios = ["{short_toml.name}", "longer.toml"]\n')
    few = ("--suite", "mine.toml", "--episodes", 2, "--rounds", 1, "--pieces", 2)
    done = cli("bound", *few, "--out", "plans", "--json", "bounds.json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "bounds.json").read_text())
    assert list(found["scenarios"]) == ["short", "longer"] and all(name in done.out for name in found["scenarios"])
    for name in found["scenarios"]:
        replayed = cli("evaluate", f"plans/{name}.json", "--scenario", f"{name}.toml", "--episodes", 2)
        assert replayed.code == 0, replayed.err
    for words, says in (
        ((*few, "--scenario", "short.toml"), "--suite and --scenario were both given"),
        ((*few, "--out", "plans.json"), "name a folder"),
        (("--suite", "nope"), "unknown suite"),
    ):
        refused = cli("bound", *words)
        assert refused.code == 2 and says in refused.err, refused.err
