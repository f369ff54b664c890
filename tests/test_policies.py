"""Policies: every spelling that finds one, the checks before use, static modes, rules, and the fused distribution."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableMultiCategoricalDistribution
from stable_baselines3.common.distributions import MultiCategoricalDistribution

from tests.short_runs import random_masks, random_observations
from tiergym import paths
from tiergym.env import actions as act
from tiergym.env.observations import N_OBS, NAMES
from tiergym.errors import UserError
from tiergym.lab.recipe import list_recipes
from tiergym.policy.base import CheckedPolicy, Policy, check_actions
from tiergym.policy.load import list_policies, load_policy
from tiergym.policy.multi_categorical import FusedMultiCategorical
from tiergym.policy.rules import default_actions, obs_index, set_mode
from tiergym.policy.sb3_policy import FusedActorCriticPolicy
from tiergym.sim import names as n

FIRST_MASKS = f"class R:\n    def __call__(self, o, m): return m[:, :{n.N_ACTIONS}] * {{}}"
RULE = '''
"""A rule for tests."""
import numpy as np
from tiergym.policy.rules import default_actions, set_mode

class Rule:
    def __call__(self, obs, masks):
        return set_mode(default_actions(len(obs)), "headroom", "large", where=obs[:, 0] > 0.5)
'''


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rule.py"
    path.write_text(RULE)
    return path


@pytest.mark.parametrize("name", list_policies())
def test_every_shipped_policy_decides_for_any_batch(name):
    policy = load_policy(name)
    assert policy.name == name and isinstance(policy, Policy)
    for num_envs in (1, 7):
        policy.reset(num_envs, seed=3)
        actions = policy(random_observations(num_envs), random_masks(num_envs))
        assert actions.shape == (num_envs, n.N_ACTIONS) and actions.dtype == np.int64
        assert ((actions >= 0) & (actions < act.NVEC)).all()


def test_the_named_baselines_are_shipped_and_described():
    named = "online online_movable auto_movable restrict restrict_pt soft bind_upper radiant migrate migrate_headroom"
    assert {*named.split(), "metadata_slow", "adaptive", "random"} <= set(list_policies())
    assert all(description for description in (list_policies() | list_recipes()).values())


def test_a_static_policy_is_its_toml_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('description = "x"\n[modes]\n"place.pt_leaf" = "restrict"\nzone = "movable"\n')
    actions = load_policy(path)(random_observations(3), random_masks(3))
    assert (actions == act.from_modes({"place.pt_leaf": "restrict", "zone": "movable"})).all()


def test_random_is_seeded_allowed_and_even():
    policy = load_policy("random")
    allowed = np.tile(random_masks(1, seed=1), (4000, 1))
    policy.reset(4000, seed=5)
    first, second = policy(random_observations(4000), allowed), policy(random_observations(4000), allowed)
    policy.reset(4000, seed=5)
    assert (policy(random_observations(4000), allowed) == first).all() and (first != second).any()
    counts = np.bincount((first + act.OFFSETS).ravel(), minlength=act.N_MASK)
    assert (counts[~allowed[0]] == 0).all()
    for offset, width in zip(act.OFFSETS, act.NVEC, strict=True):
        shares = counts[offset : offset + width][allowed[0, offset : offset + width]] / 4000
        assert np.allclose(shares, 1 / len(shares), atol=0.05)


@pytest.mark.parametrize("spelling", ["{path}", "{path}:Rule"])
def test_a_rule_in_a_file(rule_file, spelling):
    policy = load_policy(spelling.format(path=rule_file))
    obs = random_observations(50)
    headroom = policy(obs, random_masks(50))[:, act.NAMES.index("headroom")]
    assert (headroom == np.where(obs[:, 0] > 0.5, 3, 0)).all()


def test_a_rule_in_a_module_of_the_working_directory(rule_file, monkeypatch):
    monkeypatch.chdir(rule_file.parent)
    policy = load_policy("my_rule:Rule")
    assert policy.name == "Rule" and policy(random_observations(2), random_masks(2)).shape == (2, n.N_ACTIONS)


def test_a_name_means_the_baseline_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "restrict.toml").write_text("not even TOML")
    (tmp_path / "restrict").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_policy("restrict")(random_observations(1), random_masks(1))[0, 0] == 2


def test_a_callable_is_a_policy():
    def mine(obs, masks):
        return default_actions(len(obs))

    assert load_policy(mine).name == "mine"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("restrct", "did you mean 'restrict'"),
        ("ppo", "is a training recipe"),
        ("no/such/file.toml", "no such file"),
        ("no/such/run", "no such file or run directory"),
        ("missing.onnx", "no such file"),
        ("tiergym.policy.rules:Nothing", "unknown class or function 'Nothing'"),
        ("tiergym.policy.rules:obs_indx", "did you mean 'obs_index'"),
        ("tiergym.policy.rules:act", "not callable"),
        ("no_such_module:Rule", "cannot import no_such_module"),
        ("tiergym.policy.rules:obs_index", "failed on a blank observation"),
    ],
)
def test_what_is_no_policy_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        load_policy(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "need one class"),
        (RULE + RULE.replace("Rule:", "Other:"), "found: Rule, Other"),
        ("raise ValueError('broken')", "cannot be imported: ValueError: broken"),
        (RULE.replace("headroom", "headrom"), "did you mean 'headroom'"),
        ("class R:\n    def __init__(self, x): pass\n    def __call__(self, o, m): pass", r"R\(\) failed"),
        ("class R:\n    def __call__(self, o, m): return o", "actions have shape"),
        (FIRST_MASKS.format("1.0"), "are float64; allowed: integers"),
        (FIRST_MASKS.format("9"), "place.pt_leaf is 9 on machine 0; allowed: 0"),
    ],
)
def test_a_file_without_a_sound_rule_is_refused(tmp_path, text, message):
    path = tmp_path / "rule.py"
    path.write_text(textwrap.dedent(text))
    with pytest.raises(UserError, match=message):
        load_policy(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modes = 3", r"\[modes\] is missing"),
        ('[modes]\n"place.pt_lef" = "restrict"', "did you mean 'place.pt_leaf'"),
        ('[modes]\n"place.pt_leaf" = "restrct"', "did you mean 'restrict'"),
        ('descripton = "x"\n[modes]', "did you mean 'description'"),
        ("[modes", "not valid TOML"),
    ],
)
def test_a_toml_file_without_sound_modes_is_refused(tmp_path, text, message):
    path = tmp_path / "static.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)


def test_actions_are_checked_in_every_call_not_only_the_first():
    wrong = CheckedPolicy(lambda obs, masks: default_actions(len(obs)) - (obs[:, :1] > 0.5), "late")
    wrong.probe()
    with pytest.raises(UserError, match=r"'late': place\.pt_leaf is -1 on machine 1"):
        wrong(np.array([[0.0], [1.0]], dtype=np.float32), random_masks(2))
    assert check_actions([[0] * n.N_ACTIONS], 1, "list").dtype == np.int64


def test_rules_name_their_entries():
    assert obs_index(NAMES[5]) == 5
    with pytest.raises(UserError, match="unknown observation"):
        obs_index("no_such_entry")
    with pytest.raises(UserError, match="did you mean 'restrict'"):
        set_mode(default_actions(1), "place.kstack", "restrct")


def test_listing_policies_executes_none(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text('"""Bad."""\nraise SystemExit')
    monkeypatch.setattr(paths, "agents_dir", lambda: tmp_path)
    assert list_policies() == {"bad": "Bad."}


DIMS = [int(width) for width in act.NVEC]


@pytest.mark.parametrize("count", [1, 33])
def test_the_fused_distribution_is_sb3s(count):
    th.manual_seed(1)
    logits = th.randn(count, sum(DIMS)) * 3
    ours = FusedMultiCategorical(DIMS).proba_distribution(logits)
    theirs = MultiCategoricalDistribution(DIMS).proba_distribution(logits)
    actions = theirs.sample()
    assert th.allclose(ours.log_prob(actions), theirs.log_prob(actions), atol=1e-5)
    assert th.allclose(ours.log_prob(actions.float()), theirs.log_prob(actions), atol=1e-5)
    assert th.allclose(ours.entropy(), theirs.entropy(), atol=1e-5)
    assert (ours.mode() == theirs.mode()).all()
    assert ours.sample().shape == actions.shape


def test_the_fused_gradients_are_sb3s():
    th.manual_seed(2)
    start = th.randn(64, sum(DIMS))
    actions = MultiCategoricalDistribution(DIMS).proba_distribution(start).sample()
    gradients: list[Any] = []
    for kind in (FusedMultiCategorical, MultiCategoricalDistribution):
        logits = start.clone().requires_grad_()
        distribution = kind(DIMS).proba_distribution(logits)
        (distribution.log_prob(actions).exp() + distribution.entropy()).sum().backward()
        gradients.append(logits.grad)
    assert th.allclose(gradients[0], gradients[1], atol=1e-5)


def test_the_fused_distribution_masks_as_sb3_contribs():
    th.manual_seed(3)
    logits, allowed = th.randn(500, sum(DIMS)), random_masks(500)
    ours = FusedMultiCategorical(DIMS).proba_distribution(logits)
    theirs = MaskableMultiCategoricalDistribution(DIMS).proba_distribution(logits)
    for distribution in (ours, theirs):
        distribution.apply_masking(allowed)
    actions = theirs.sample()
    assert th.allclose(ours.log_prob(actions), theirs.log_prob(actions), atol=1e-5)
    assert th.allclose(ours.entropy(), theirs.entropy(), atol=1e-5)
    assert (ours.mode() == theirs.mode()).all()
    for drawn in (ours.sample(), ours.mode()):
        assert np.take_along_axis(allowed, drawn.numpy() + act.OFFSETS, axis=1).all()


def test_fused_samples_have_the_distribution_of_their_logits():
    th.manual_seed(4)
    logits = th.randn(1, 6).repeat(40000, 1)
    distribution = FusedMultiCategorical([4, 2]).proba_distribution(logits)
    drawn = distribution.sample()
    for entry, part in enumerate(th.split(logits[0], [4, 2])):
        shares = th.bincount(drawn[:, entry], minlength=len(part)) / len(drawn)
        assert th.allclose(shares, part.softmax(0), atol=0.02)


def test_no_uniform_number_can_draw_padding(monkeypatch):
    logits = th.tensor([[0.0, -200.0, 0.0, 0.0, -200.0]])
    distribution = FusedMultiCategorical([2, 3]).proba_distribution(logits)
    for extreme in (0.0, 1.0 - 2.0**-24):
        monkeypatch.setattr(th, "rand", lambda *size, value=extreme, **_: th.full(size, value))
        assert distribution.sample().tolist() == [[0, 0 if extreme == 0 else 1]]


def test_the_fused_policy_has_the_stock_policys_weights():
    from stable_baselines3.common.policies import ActorCriticPolicy

    observation_space, action_space = spaces.Box(0, 1, (N_OBS,), np.float32), spaces.MultiDiscrete(act.NVEC)
    policies = []
    for kind in (ActorCriticPolicy, FusedActorCriticPolicy):
        th.manual_seed(0)
        policies.append(kind(observation_space, action_space, lambda _: 1e-3))
    stock, fused = policies
    assert isinstance(fused.action_dist, FusedMultiCategorical)
    assert not isinstance(stock.action_dist, FusedMultiCategorical)
    fused.load_state_dict(stock.state_dict())
    obs = th.tensor(random_observations(20))
    actions = th.tensor(default_actions(20))
    ours: Any = fused.evaluate_actions(obs, actions)
    theirs: Any = stock.evaluate_actions(obs, actions)
    assert all(th.allclose(mine, other, atol=1e-5) for mine, other in zip(ours, theirs, strict=True))
