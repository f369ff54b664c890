"""The ladder: rungs in their order, kept where they are done, refused where they are another's."""

import json
from pathlib import Path

import pytest

from tests.command_line import Cli
from tests.short_runs import write_short_scenario
from tiergym.errors import UserError
from tiergym.lab import ladder as climbing
from tiergym.lab.ladder import Rung, ladder
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

RULES = {name: load_policy(name) for name in ("online", "restrict", "adaptive")}


@pytest.fixture
def short(tmp_path: Path):
    return load_scenario(write_short_scenario(tmp_path))


def climb(short, out: Path, **settings):
    return ladder([short], [short], RULES, out, 2, 0, rounds=2, **settings)


def test_rungs_stand_in_their_order_and_are_kept(short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rung,) = climb(short, tmp_path / "out", learned=load_policy("restrict"))
    assert rung.plan >= rung.ci >= rung.rules["restrict"] and rung.ci >= rung.c0 - 1e-9
    assert rung.learned == rung.rules["restrict"]
    monkeypatch.setattr(climbing, "bound", lambda *args, **kept: pytest.fail("searched again"))
    seen: list[tuple[str, bool]] = []
    (again,) = climb(
        short, tmp_path / "out", learned=load_policy("restrict"), on_scenario=lambda *told: seen.append(told)
    )
    assert again == rung and seen == [("short", True)]


def test_results_of_other_settings_are_refused(short, tmp_path: Path) -> None:
    climb(short, tmp_path / "out")
    with pytest.raises(UserError, match=r"c0\.json: seed is .0.; allowed: .7."):
        ladder([short], [short], RULES, tmp_path / "out", 2, 7, rounds=2)
    (tmp_path / "out/short.json").write_text("{}")
    with pytest.raises(UserError, match=r"short\.json: not a result of the ladder"):
        climb(short, tmp_path / "out")


@pytest.mark.parametrize("field", ["sha256", "model"])
def test_another_scenario_of_the_same_name_or_model_is_refused(short, tmp_path: Path, field: str) -> None:
    climb(short, tmp_path / "out")
    document = json.loads((tmp_path / "out/short.json").read_text())
    (tmp_path / "out/short.json").write_text(json.dumps(document | {field: "0" * 16}))
    with pytest.raises(UserError, match=rf"short\.json: {field} is"):
        climb(short, tmp_path / "out")


def test_shares_and_headroom() -> None:
    rung = Rung("s", {"online": -40.0, "restrict": -30.0}, c0=-35.0, ci=-25.0, plan=-20.0, learned=-22.0)
    assert (rung.best_rule, rung.gain, rung.share(rung.ci)) == ("restrict", 20.0, 0.75)
    assert rung.headroom == 0.5 and rung.captured == 0.8
    nothing = Rung("s", {"online": -1.0}, c0=-1.0, ci=-1.0, plan=-1.0, learned=-1.0)
    assert (nothing.headroom, nothing.captured, nothing.share(-1.0)) == (0.0, None, 0.0)


def test_the_command_prints_a_row_per_scenario(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'description = "one"\nscenarios = ["{short_toml.name}"]\n')
    args = ("ladder", "mine.toml", "--tuning", "mine.toml", "--out", "steps", "--episodes", 1, "--rounds", 1)
    done = cli(*args)
    assert done.code == 0, done.err
    assert "headroom" in done.out and "short: done" in done.err
    assert "short: kept from before" in cli(*args).err
    refused = cli("ladder", "mine.toml", "--out", "mine.toml")
    assert refused.code == 2 and "it is a file" in refused.err
