"""Whether the order of policies survives other prices and releases: what is drawn, ranked, kept and refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.tiny_training import tiny_scenario
from tiergym import specs
from tiergym.lab import leaderboard, rank_stability
from tiergym.lab.rank_stability import AS_IT_IS, RELEASES, UNCERTAIN, Stability, factors, priced, scaled, stability
from tiergym.specs import load_suite

NAMES = ("online", "restrict", "soft", "reserve")
SPELLED = {name: [name] for name in NAMES}


@pytest.fixture
def suite(tmp_path: Path) -> specs.Suite:
    tiny_scenario(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text('purpose = "train"\nscenarios = ["tiny.toml"]\n')
    return load_suite(path)


@given(seed=st.integers(0, 1000), draw=st.integers(0, 1000))
def test_a_draw_stays_within_what_is_uncertain(seed: int, draw: int) -> None:
    drawn = factors(seed, draw)
    assert drawn.keys() == UNCERTAIN.keys() and drawn == factors(seed, draw)
    assert all(1 / most <= drawn[field] <= most for field, most in UNCERTAIN.items())


def test_draws_differ_and_are_as_often_above_as_below() -> None:
    drawn = np.array([list(factors(0, draw).values()) for draw in range(400)])
    assert len(np.unique(drawn)) == drawn.size
    assert np.allclose((drawn > 1).mean(axis=0), 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("value", "there"),
    [
        (10, 20),
        ({"uniform": [1, 3]}, {"uniform": [2, 6]}),
        ({"normal": [5, 1], "low": 3, "high": 8}, {"normal": [10, 2], "low": 6, "high": 16}),
    ],
)
def test_a_distribution_is_scaled_as_a_whole(value: object, there: object) -> None:
    assert scaled(value, 2) == there
    assert scaled(value, 100, most=7) != scaled(value, 100)


def test_prices_change_and_nothing_else() -> None:
    scenario = specs.load_scenario("llama-1to2")
    other = priced(scenario, factors(0, 0))
    changed = {
        f"{section}.{field}"
        for section in ("machine", "kernel", "storage", "costs", "episode", "weights")
        for field, value in scenario.sections[section].items()
        if other.sections[section][field] != value
    }
    assert changed == set(UNCERTAIN)
    assert other.sections["regions"] == scenario.sections["regions"]


def test_every_scenario_stands_the_widest_draws() -> None:
    """What is allowed of a field holds at both ends of what is uncertain."""
    for suite in ("test", "tuning"):
        for scenario in load_suite(suite).load():
            for end in (1, -1):
                priced(scenario, {field: most**end for field, most in UNCERTAIN.items()})


@pytest.mark.parametrize("draw", range(20))
def test_slow_memory_stays_slower_than_dram(draw: int) -> None:
    """Of machines whose latencies are drawn from ranges that come near each other, too."""
    other = priced(specs.load_scenario("randomised-mix"), factors(0, draw)).sections["machine"]
    assert min(other["slow_latency_ns"]["log_uniform"]) >= max(other["dram_latency_ns"]["uniform"]) * (1 - 1e-12)


def test_shares_are_of_variants_with_the_same_order() -> None:
    orders = {AS_IT_IS: "abcd", "draw 0": "abcd", "draw 1": "acbd", "draw 2": "abdc", "draw 3": "bacd"}
    found = Stability("mine", "", {v: {p: -float(i) for i, p in enumerate(order)} for v, order in orders.items()})
    assert found.kept(found.draws()) == {"best": 0.75, "best three": 0.75, "their order": 0.25}
    assert found.places("b", found.draws()) == [2, 3, 2, 1]


def test_variants_are_ranked_as_the_leaderboard_ranks_and_kept(
    suite: specs.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stability(suite, SPELLED, tmp_path / "out", 2, 2, 0)
    board = leaderboard.leaderboard([suite], SPELLED, tmp_path / "board", 2, 0, "soft")
    assert found.saved[AS_IT_IS] == {name: row.saved.mean for name, row in board.rows["mine"].items()}
    assert list(found.saved) == [AS_IT_IS, "draw 0", "draw 1", *(f"release {release}" for release in RELEASES)]
    assert found.saved["draw 0"] != found.saved["draw 1"] != found.saved[AS_IT_IS]
    assert all(saved["online"] == 0 for saved in found.saved.values())
    monkeypatch.setattr(leaderboard, "measure", lambda *args: pytest.fail("evaluated again"))
    assert stability(suite, SPELLED, tmp_path / "out", 2, 2, 0).document() == found.document()


def test_too_few_policies_are_refused(cli: Cli, suite: specs.Suite) -> None:
    refused = cli("stability", suite.spec, "--policies", "online,soft", "--out", "out")
    assert_refused(refused, "policies are online, soft; allowed: online and at least 3 others")
    assert rank_stability.TOP == 3
