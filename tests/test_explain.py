"""Explanations: what matters is found where it is known, words say what the policy does, files and refusals."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.short_runs import random_observations
from tests.tiny_training import tiny_scenario
from tiergym.env import actions as act
from tiergym.lab import explain, explain_report, explain_tree
from tiergym.lab.explain import EVERYTHING, Explained
from tiergym.lab.explain_tree import Fork, Leaf, Tree
from tiergym.lab.tuning_score import Arena
from tiergym.policy.base import CheckedPolicy, Policy
from tiergym.policy.load import load_policy
from tiergym.policy.rules import default_actions, obs_index, set_mode
from tiergym.specs import load_scenario, override

THREADS = 0.2
"""Of the observation: 1250 threads."""


def restrict_where_threads(obs, masks):
    """A rule of one observation."""
    return set_mode(
        default_actions(len(obs)), "place.pt_leaf", "restrict", where=obs[:, obs_index("threads")] > THREADS
    )


@dataclass
class Flips:
    """Another mode in every tick, whatever it sees."""

    tick: int = 0

    def reset(self, num_envs: int, seed: int) -> None:
        self.tick = 0

    def __call__(self, obs, masks):
        self.tick += 1
        return set_mode(default_actions(len(obs)), "headroom", ("off", "small")[self.tick % 2])


@pytest.fixture
def machines(tmp_path: Path) -> Arena:
    tiny = tiny_scenario(tmp_path)
    longer = override(load_scenario(tmp_path / "tiny.toml"), {"episode.horizon_s": 5})
    return explain.machines_of([tiny, longer], 4, 0)


def explained(policy: Policy, machines: Arena) -> tuple[Explained, Tree]:
    seen = explain.record(policy, machines)
    found = explain.explain("it", policy, machines, seen, 12)
    return found, explain_tree.distil(seen, machines, found.importances)


def policy(rule: Callable) -> CheckedPolicy:
    return CheckedPolicy(rule, "rule")


def test_the_one_observation_that_a_rule_looks_at_is_the_one_that_matters(machines: Arena) -> None:
    found, tree = explained(policy(restrict_where_threads), machines)
    assert [each.observation for each in found.importances] == [EVERYTHING, "threads"]
    assert found.importances[0].changed == found.importances[1].changed > 0.1
    assert isinstance(tree.root, Fork) and tree.root.observation == "threads"
    assert isinstance(tree.root.above, Leaf) and isinstance(tree.root.below, Leaf)
    assert tree.agreement > 0.99 and tree.score == pytest.approx(found.score, abs=0.05)
    assert set(found.changes) == set(act.NAMES) and found.changes["place.pt_leaf"] > 0


def test_a_run_of_different_lengths_counts_only_what_ran(machines: Arena) -> None:
    seen = explain.record(load_policy("restrict"), machines)
    assert seen.obs.shape[:2] == seen.running.shape == (20, 8)
    assert seen.running.sum(axis=0).tolist() == [12, 20] * 4
    assert sum(each.share for each in explain.regimes(seen)) == pytest.approx(1.0)
    for regime in explain.regimes(seen):
        assert regime.modes.sum() == pytest.approx(len(act.ENTRIES))
        assert regime.modes[act.MASK_NAMES.index("place.pt_leaf=restrict")] == pytest.approx(1.0)


def test_a_constant_looks_at_nothing_and_is_a_leaf(machines: Arena) -> None:
    found, tree = explained(load_policy("restrict"), machines)
    assert found.importances == [] and isinstance(tree.root, Leaf) and sum(found.changes.values()) == 0
    assert tree.agreement == 1.0 and tree.score == pytest.approx(found.score, abs=1e-12)
    assert "looks at: nothing" in explain_report.text(found, tree)


def test_changes_of_mind_are_counted_per_hundred_ticks(machines: Arena) -> None:
    found, tree = explained(policy(Flips()), machines)
    assert found.changes == {name: 100.0 if name == "headroom" else 0.0 for name in act.NAMES}
    assert found.importances == [] and isinstance(tree.root, Leaf)


def test_an_impossible_choice_is_the_default_in_force() -> None:
    actions = np.tile(act.DEFAULT, (1, 1))
    actions[0, act.NAMES.index("zone")] = 1
    masks = np.ones((1, act.N_MASK), np.bool_)
    assert (explain.in_force(actions, masks) == actions).all()
    masks[0, act.MASK_NAMES.index("zone=movable")] = False
    assert (explain.in_force(actions, masks) == act.DEFAULT).all()


def test_a_tree_in_words_says_what_the_tree_does() -> None:
    restrict, stock = act.from_modes({"place.pt_leaf": "restrict"}), act.DEFAULT
    tree = Fork("rate.pgalloc_fast", 0.5, Leaf(stock, 0.75), Leaf(restrict, 0.25))
    assert explain_tree.sentences(tree) == [
        (0, "if rate.pgalloc_fast > 50k a second:"),
        (1, "restrict place.pt_leaf (25 %)"),
        (0, "else:"),
        (1, "Linux's defaults (75 %)"),
    ]
    obs = random_observations(50)
    above = obs[:, obs_index("rate.pgalloc_fast")] > 0.5
    assert (explain_tree.act_by(tree, obs) == np.where(above[:, None], restrict, stock)).all()


@pytest.mark.parametrize(
    ("observation", "shown", "words"),
    [
        ("free.normal", 0.25, "0.2500"),
        ("threads", 0.5, "5000"),
        ("calm", 0.5, "4 s"),
        ("pmu.misses.slow", 0.5, "100M a second"),
    ],
)
def test_thresholds_are_told_in_their_units(observation: str, shown: float, words: str) -> None:
    assert explain_tree.in_units(observation, shown) == words


def test_explain_prints_80_columns_and_writes_json_and_a_picture(cli: Cli, tmp_path: Path) -> None:
    tiny_scenario(tmp_path)
    args = ("explain", "adaptive", "--scenario", "tiny.toml", "--observations", 1)
    done = cli(*args, "--json", "e.json", "--png", "e.png")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    document = json.loads((tmp_path / "e.json").read_text())
    first, *rest = document["observations"].items()
    assert first[0] == EVERYTHING and first[1]["lost"] is not None
    assert [each["lost"] is None for _, each in rest] == [False] + [True] * (len(rest) - 1)
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    again = cli(*args, "--json", "f.json")
    assert again.code == 0 and (tmp_path / "e.json").read_bytes() == (tmp_path / "f.json").read_bytes()


def test_what_cannot_be_explained_is_refused(cli: Cli, tmp_path: Path) -> None:
    tiny_scenario(tmp_path)
    assert_refused(cli("explain", "nothing", "--scenario", "tiny.toml"), "unknown policy 'nothing'")
    assert_refused(cli("explain", "online", "--scenario", "tiny.toml", "--suite", "train"), "both given")
    assert_refused(cli("explain", "online", "--scenario", "tiny.toml", "--png", tmp_path), "it is a folder")
