"""The ladder: rungs in their order, kept where they are done, refused where they are another's, and the split."""

import json
import shutil
from pathlib import Path

import pytest

from tests.builders import scenario as build
from tests.command_line import Cli
from tests.short_runs import write_short_scenario
from tiergym import paths, specs
from tiergym.errors import UserError
from tiergym.lab import ladder as climbing
from tiergym.lab.ladder import Search, ladder
from tiergym.lab.null_hypothesis import Tried, best, select
from tiergym.lab.rungs import Rung
from tiergym.lab.splitting import split
from tiergym.policy.load import load_policy

RULES = {name: name for name in ("online", "restrict", "adaptive")}
SEARCH = Search(episodes=2, seed=0, rounds=2)


@pytest.fixture
def short(tmp_path: Path):
    return specs.load_scenario(write_short_scenario(tmp_path))


def climb(short, out: Path, **settings):
    return ladder([short], [short], RULES, out, SEARCH, **settings)


def mean(returns) -> float:
    return sum(returns) / len(returns)


def rung(online: float, plan: float, simple: float, ticks: int = 100, noise: float = 0.01) -> Rung:
    """One whose policies differ by the same in every episode but for the plan, with noise."""
    rules = {"online": [online] * 4, "restrict": [simple] * 4}
    searched = [plan - noise, plan + noise, plan - noise, plan + noise]
    return Rung("s", ticks, rules, "restrict", "online", one=[online] * 4, constant=[simple] * 4, plan=searched)


def test_rungs_stand_in_their_order_and_are_kept(short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = climb(short, tmp_path / "out", learned="restrict")
    assert mean(first.plan) >= mean(first.constant) >= mean(first.rules["restrict"])
    assert mean(first.constant) >= mean(first.one) - 1e-9
    assert first.learned == first.rules["restrict"]
    monkeypatch.setattr(climbing, "bound", lambda *args, **kept: pytest.fail("searched again"))
    monkeypatch.setattr(climbing, "measure", lambda *args: pytest.fail("evaluated again"))
    seen: list[tuple[str, bool]] = []
    (again,) = climb(short, tmp_path / "out", learned="restrict", on_scenario=lambda *told: seen.append(told))
    assert again == first and seen == [("short", True)]


def test_another_learned_policy_does_not_search_again(short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = climb(short, tmp_path / "out")
    monkeypatch.setattr(climbing, "bound", lambda *args, **kept: pytest.fail("searched again"))
    (second,) = climb(short, tmp_path / "out", learned="adaptive")
    assert second.learned == second.rules["adaptive"] and second.plan == first.plan


def test_the_plan_that_was_found_replays_to_the_bit(short, tmp_path: Path, cli: Cli) -> None:
    from tiergym.lab.evaluate import evaluate

    (first,) = climb(short, tmp_path / "out")
    plan = load_policy(tmp_path / "out/plans/short.json")
    assert evaluate(plan, short, 2, 0).values["return"].tolist() == first.plan


def test_modes_that_are_less_plausible_take_no_part(short, tmp_path: Path) -> None:
    (first,) = climb(short, tmp_path / "out", plausibility="available")
    document = json.loads((tmp_path / "out/plans/short.json").read_text())
    chosen = {entry for piece in document["pieces"] for entry in piece["modes"]}
    assert chosen <= {"headroom", "zone", "memmap"}
    assert mean(first.plan) >= mean(first.rules["online"])


def test_results_of_other_settings_are_refused(short, tmp_path: Path) -> None:
    climb(short, tmp_path / "out")
    with pytest.raises(UserError, match=r"one\.json: seed is .0.; allowed: .7."):
        ladder([short], [short], RULES, tmp_path / "out", Search(2, 7, 2))
    with pytest.raises(UserError, match=r"rules/short\.json: rules is"):
        ladder([short], [short], {"online": RULES["online"]}, tmp_path / "out", SEARCH)
    (tmp_path / "out/short.json").write_text("{}")
    with pytest.raises(UserError, match=r"short\.json: not a result that was kept here"):
        climb(short, tmp_path / "out")


@pytest.mark.parametrize("field", ["digest", "model"])
def test_another_scenario_of_the_same_name_or_model_is_refused(short, tmp_path: Path, field: str) -> None:
    climb(short, tmp_path / "out")
    document = json.loads((tmp_path / "out/short.json").read_text())
    (tmp_path / "out/short.json").write_text(json.dumps(document | {field: "0" * 16}))
    with pytest.raises(UserError, match=rf"short\.json: {field} is"):
        climb(short, tmp_path / "out")


def test_shares_and_headroom() -> None:
    rules = {"online": [-40.0], "restrict": [-30.0], "adaptive": [-28.0]}
    one = Rung("s", 100, rules, "restrict", "online", one=[-35.0], constant=[-25.0], plan=[-20.0], learned=[-22.0])
    assert (one.best_rule, one.gain, one.share(one.constant)) == ("adaptive", 20.0, 0.75)
    assert one.headroom == 0.5 and one.captured == 0.8
    assert one.configuration_value == 0.5 and one.adaptivity_value == 0.25
    nothing = Rung("s", 100, {"online": [-1.0]}, "online", "online", one=[-1.0], constant=[-1.0], plan=[-1.0])
    assert (nothing.headroom, nothing.captured, nothing.share([-1.0]), nothing.decides) == (0.0, None, 0.0, False)


def test_a_scenario_decides_where_there_is_a_gain_and_room_beyond_noise() -> None:
    assert rung(-40, -20, -30).decides
    assert not rung(-40, -20, -20.5).decides  # 2.5 % of the gain are left
    assert not rung(-40, -20, -30, noise=25).decides  # lost in noise
    assert not rung(-0.5, -0.1, -0.4).decides  # 0.4 % of 100 ticks


def test_the_null_hypothesis_takes_the_rule_of_the_nearest_scenarios_but_never_of_its_own() -> None:
    regions = [{"kind": "anon", "mib": 64, "name": "a"}]
    other = [{"kind": "anon", "mib": 64, "name": "b"}]
    mine = build(regions=regions, dram_mib=256, slow_mib=512)
    sibling = build(regions=regions, dram_mib=512, slow_mib=512)
    stranger = build(regions=other, dram_mib=512, slow_mib=512)
    good_here = {"online": [-10.0], "restrict": [-5.0], "soft": [-9.0]}
    good_there = {"online": [-10.0], "restrict": [-400.0], "soft": [-1.0]}
    own = Tried(mine, {"online": [-10.0], "restrict": [-9.0], "soft": [0.0]})
    assert select(mine, [own, Tried(sibling, good_here), Tried(stranger, good_there)]) == "restrict"
    assert select(mine, [own, Tried(stranger, good_there)]) == "soft"
    assert select(mine, [own]) == "online"
    assert best([Tried(sibling, good_here), Tried(stranger, good_there)]) == "soft"


def test_families_that_decide_nothing_leave_their_suite_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    shutil.copytree(paths.envs_dir() / "suites", folder)
    path = folder / "ood-kernel.toml"
    names = sorted(specs.load_suite(path).drawn)
    split([specs.load_suite(path)], {name: rung(-40, -20, -30 if i else -20) for i, name in enumerate(names)}, folder)
    after = specs.load_suite(path)
    assert (after.scenarios, tuple(after.undecided)) == (tuple(names[1:]), (names[0],))
    assert [each.name for each in after.load_all()] == names
    split([after], {name: rung(-40, -20, -30) for name in names}, folder)
    assert specs.load_suite(path).scenarios == tuple(names) and not specs.load_suite(path).undecided


def test_a_suite_without_a_draw_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"suite 'heldout' is not drawn; allowed: suites with a \[draw\]"):
        split([specs.load_suite("heldout")], {}, tmp_path)


def test_the_command_prints_a_row_per_scenario(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'purpose = "train"\nscenarios = ["{short_toml.name}"]\n')
    args = ("ladder", "mine.toml", "--tuning", "mine.toml", "--out", "steps", "--episodes", 1, "--rounds", 1)
    done = cli(*args, "--json", "rungs.json")
    assert done.code == 0, done.err
    assert "headroom" in done.out and "short: done" in done.err
    assert [rung["scenario"] for rung in json.loads(Path("rungs.json").read_text())["suites"]["mine"]] == ["short"]
    assert "short: kept from before" in cli(*args).err
    refused = cli("ladder", "mine.toml", "--out", "mine.toml")
    assert refused.code == 2 and "it is a file" in refused.err
    held_out = cli("ladder", "mine.toml", "--tuning", "test", "--out", "steps")
    assert held_out.code == 2 and "suite 'test' is for measuring" in held_out.err
