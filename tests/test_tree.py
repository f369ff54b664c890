"""A tree's file: what it decides, and that nothing else passes; and how a tree is distilled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.refusals import assert_refused
from tests.short_runs import random_masks, random_observations, write_short_scenario
from tiergym import specs
from tiergym.env import actions as act
from tiergym.env.observations import ENTRIES, LAYOUT_VERSION, N_OBS, NAMES
from tiergym.errors import UserError
from tiergym.lab.distil import Size, distil, in_force
from tiergym.lab.rung_scores import agree
from tiergym.policy.fixed_point import INPUTS, ONE, to_fixed
from tiergym.policy.load import load_policy
from tiergym.policy.rules import default_actions, obs_index, set_mode
from tiergym.policy.tree import MAX_DEPTH, load_tree, make_tree, tree_json

RESTRICT, SOFT = (act.from_modes({"place.kstack": mode}) for mode in ("restrict", "prefer_fast"))
ROOMY = (NAMES.index("free.normal"), ONE // 2, 1, 2)


def document(**changes: Any) -> dict[str, Any]:
    return json.loads(tree_json(make_tree("mine", [ROOMY, RESTRICT, SOFT]))) | changes


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "tree.json"
    path.write_text(json.dumps(content))
    return path


def test_a_tree_s_file_decides_as_it_says(tmp_path):
    policy = load_policy(written(tmp_path, document()))
    obs = np.zeros((4, N_OBS), np.float32)
    obs[:, obs_index("free.normal")] = [0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1.0]
    # Half exactly is at most half, and what is less than 1/65536 above it, too.
    assert (policy(obs, random_masks(4)) == [RESTRICT, RESTRICT, RESTRICT, SOFT]).all()
    assert policy.name == "tree" and policy.plausibility == "counterfactual"


def test_a_tree_s_file_is_read_as_it_was_written(tmp_path):
    tree = make_tree("mine", [(3, 7, 1, 4), (5, 0, 2, 3), RESTRICT, SOFT, act.DEFAULT], {"seed": 1})
    path = tmp_path / "t.json"
    path.write_text(tree_json(tree))
    again = load_tree(path)
    assert (again.name, again.about, again.leaves, again.depth) == ("mine", {"seed": 1}, 3, 2)
    for name in ("column", "at_most", "yes", "no", "actions", "is_leaf"):
        assert (getattr(again, name) == getattr(tree, name)).all()
    assert again.inputs == (NAMES[3], NAMES[5])


def chain(splits: int) -> list[dict[str, Any]]:
    """A tree that is one long way."""
    nodes: list[dict[str, Any]] = []
    for index in range(splits):
        nodes += [{"input": "calm", "at_most": 0, "yes": 2 * index + 1, "no": 2 * index + 2}, {"modes": {}}]
    return [*nodes, {"modes": {}}]


SPLIT = {"input": "calm", "at_most": 1, "yes": 1, "no": 2}
LEAF: dict[str, Any] = {"modes": {}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another schema": ({"schema": 2}, "schema is 2; allowed: 1"),
    "no schema": ({"schema": True}, "schema is True; allowed: 1"),
    "another layout": ({"layout_version": 2}, f"layout_version is 2; allowed: {LAYOUT_VERSION}"),
    "a name that is a comment": ({"tree": "x */ int y;"}, "tree is 'x */ int y;'; allowed: a name"),
    "a name that is none": ({"tree": 1}, "tree is 1; allowed: a name"),
    "no nodes": ({"nodes": []}, "nodes is a list of 0; allowed: a list of 1 to 127 (64 leaves)"),
    "nodes that are no list": ({"nodes": "x"}, "nodes is 'x'"),
    "too many nodes": ({"nodes": [LEAF] * 129}, "nodes is a list of 129"),
    "a node that is none": ({"nodes": [7]}, "nodes[0] is 7; allowed: an object with input, at_most, yes, no, or"),
    "half a node": ({"nodes": [{"input": "calm"}]}, "nodes[0] is {'input': 'calm'}"),
    "an unknown input": ({"nodes": [SPLIT | {"input": "clam"}, LEAF, LEAF]}, "nodes[0].input: unknown observation"),
    "an input that is a list": ({"nodes": [SPLIT | {"input": []}, LEAF, LEAF]}, "nodes[0].input: unknown"),
    "a threshold beyond 1": ({"nodes": [SPLIT | {"at_most": ONE + 1}, LEAF, LEAF]}, "at_most is 65537; allowed: 0 to"),
    "a threshold that is no integer": ({"nodes": [SPLIT | {"at_most": 0.5}, LEAF, LEAF]}, "at_most is 0.5"),
    "a loop": ({"nodes": [SPLIT | {"yes": 0}, LEAF, LEAF]}, "nodes[0].yes is 0; allowed: 1 to 2, a later node"),
    "a way out": ({"nodes": [SPLIT | {"no": 3}, LEAF, LEAF]}, "nodes[0].no is 3"),
    "two ways to one node": ({"nodes": [SPLIT | {"no": 1}, LEAF, LEAF]}, "nodes[1]: 2 ways lead to it; allowed: one"),
    "a long way": ({"nodes": chain(MAX_DEPTH + 1)}, "17 comparisons on the longest way; allowed: at most 16"),
    "an unknown mode": ({"nodes": [{"modes": {"zone": "slow"}}]}, "nodes[0].modes: unknown mode of zone"),
    "modes that are a list": ({"nodes": [{"modes": []}]}, "nodes[0].modes is []"),
    "an entry that is a number": ({"nodes": [{"modes": {"zone": 1}}]}, "nodes[0].modes: unknown mode of zone"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_tree_is_refused_in_one_line(cli, tmp_path, change, message):
    path = written(tmp_path, document(**change))
    assert_refused(cli("evaluate", path), str(path), message)


def test_the_longest_way_that_is_allowed_is_walked(tmp_path):
    policy = load_policy(written(tmp_path, document(nodes=chain(MAX_DEPTH))))
    assert (policy(np.ones((1, N_OBS), np.float32), random_masks(1)) == act.DEFAULT).all()


def test_whole_numbers_keep_the_order_of_observations():
    numbers = np.sort(random_observations(50).ravel())
    fixed = to_fixed(numbers)
    assert (np.diff(fixed) >= 0).all() and (fixed == np.floor(numbers.astype(np.longdouble) * ONE)).all()
    assert to_fixed(np.array([0, 1], np.float32)).tolist() == [0, ONE]


def test_sets_of_inputs_are_what_their_sources_say():
    sources = {entry.name: entry.source for entry in ENTRIES}
    assert set(INPUTS["counters"]) < set(INPUTS["files"]) < set(INPUTS["all"]) == set(NAMES)
    assert not [name for name in INPUTS["files"] if name.startswith(("pmu.", "last.", "config.latency"))]
    assert {"config.demotion", "threads", "swap_free"} <= set(INPUTS["files"]) - set(INPUTS["counters"])
    for name in INPUTS["counters"]:
        assert any(word in sources[name] for word in ("vmstat", "zoneinfo", "pressure")), name


class Spare:
    """Stacks in DRAM where it is roomy, softly where it is not; what cannot be is asked for as well."""

    name = "spare"

    def __call__(self, obs: np.ndarray, masks: np.ndarray) -> np.ndarray:
        actions = default_actions(len(obs))
        roomy = obs[:, obs_index("above_low.fast")] > 0.25
        set_mode(actions, "place.kstack", "prefer_fast")
        set_mode(actions, "place.kstack", "restrict", where=roomy)
        set_mode(actions, "migrate.kstack", "idle")
        return in_force(actions, masks)


@pytest.fixture
def scenarios(tmp_path):
    return [specs.load_scenario(write_short_scenario(tmp_path))]


def test_a_rule_that_is_a_tree_is_found():
    llama = specs.load_scenario("llama-1to2")
    rule = load_policy(Spare())
    tree = load_policy(distil(lambda: rule, [llama], Size(leaves=2), 0))
    entries, actions = agree(rule, tree, [llama], 2, 0)
    assert actions > 0.98 and entries == pytest.approx(1 - (1 - actions) / len(act.ENTRIES))
    # While a constant, whichever, differs from it for a tenth of the time and more.
    for mode in ("restrict", "prefer_fast"):
        fixed = load_policy(make_tree("fixed", [act.from_modes({"place.kstack": mode, "migrate.kstack": "idle"})]))
        assert agree(rule, fixed, [llama], 2, 0)[1] < 0.9


def test_what_is_wanted_in_vain_is_learned_as_wanted(scenarios):
    """Moving stacks is impossible on this machine: the tree asks for it all the same, as the rule does."""
    tree = distil(lambda: load_policy(Spare()), scenarios, Size(leaves=2), 0)
    moved = tree.actions[tree.is_leaf][:, act.NAMES.index("migrate.kstack")]
    assert (moved == 1).all()


def test_a_constant_is_one_leaf(scenarios):
    tree = distil(lambda: load_policy("restrict"), scenarios, Size(), 0)
    assert (tree.leaves, tree.depth, tree.inputs) == (1, 0, ())
    obs, masks = random_observations(5), np.ones((5, act.N_MASK), np.bool_)
    assert (tree(obs, masks) == load_policy("restrict")(obs, masks)).all()


def test_one_leaf_has_what_is_wanted_most(scenarios):
    tree = distil(lambda: load_policy(Spare()), scenarios, Size(leaves=1), 0)
    assert tree.leaves == 1 and act.to_modes(tree.actions[0])["migrate.kstack"] == "idle"


def test_the_same_seed_makes_the_same_tree_within_its_bounds(scenarios):
    first, second = (distil(lambda: load_policy("adaptive"), scenarios, Size(5, 3), 1) for _ in range(2))
    assert tree_json(first) == tree_json(second)
    assert first.leaves <= 5 and first.depth <= 3 and set(first.inputs) <= set(INPUTS["counters"])


def test_what_is_for_measuring_is_not_distilled_on():
    with pytest.raises(UserError, match="which is for measuring"):
        distil(lambda: load_policy("restrict"), specs.load_suite("test").load(), Size(), 0)
