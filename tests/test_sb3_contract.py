"""stable-baselines3's contract: the adapter and the single environment under every algorithm that is named."""

import copy
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import tiergym
from tests.short_runs import SCENARIO, TICKS, random_modes
from tiergym.env import actions, frames
from tiergym.env.action_forms import FORMS
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.errors import UserError
from tiergym.sim import names as n

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def small() -> dict[str, Any]:
    """Settings of a tiny learner; a new dict each time, since SB3's algorithms write into `policy_kwargs`."""
    return {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "seed": 0}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_sb3s_checker_has_nothing_to_say(form, render_mode):
    env = gymnasium.make(tiergym.ENV_ID, scenario=SCENARIO, action_form=form, render_mode=render_mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=False)
        check_env(env, skip_render_check=False)


@pytest.mark.parametrize(
    ("algorithm", "policy", "form", "settings"),
    [
        (PPO, "MlpPolicy", "multidiscrete", {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
        (PPO, "MlpPolicy", "box", {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
        (A2C, "MlpPolicy", "multidiscrete", {"n_steps": 8}),
        (MaskablePPO, "MlpPolicy", "multidiscrete", {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
        (MaskablePPO, "MlpPolicy", "baseline", {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
        (RecurrentPPO, "MlpLstmPolicy", "multidiscrete", {"n_steps": 16, "batch_size": 32, "n_epochs": 2}),
        (DQN, "MlpPolicy", "baseline", {"learning_starts": 32, "buffer_size": 1000, "batch_size": 16}),
        (SAC, "MlpPolicy", "box", {"learning_starts": 32, "buffer_size": 1000, "batch_size": 16, "train_freq": 8}),
        (TD3, "MlpPolicy", "box", {"learning_starts": 32, "buffer_size": 1000, "batch_size": 16, "train_freq": 8}),
    ],
)
def test_every_algorithm_learns_on_the_adapter(short, algorithm, policy, form, settings):
    envs = PlacementSB3VecEnv(short, 4, 0, action_form=form)
    model = algorithm(policy, envs, **small(), **settings)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(256)
    assert model.num_timesteps >= 256
    after = list(model.policy.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert {episode["l"] for episode in model.ep_info_buffer} == {TICKS}


@pytest.mark.parametrize(
    ("algorithm", "form"), [(PPO, "multidiscrete"), (DQN, "baseline"), (MaskablePPO, "multidiscrete")]
)
def test_algorithms_take_the_single_environment_from_make(short, algorithm, form):
    env = gymnasium.make(tiergym.ENV_ID, scenario=short, action_form=form)
    settings = {"learning_starts": 16} if algorithm is DQN else {"n_steps": 32, "batch_size": 32}
    model = algorithm("MlpPolicy", env, **small(), **settings)
    model.learn(64)
    assert model.num_timesteps == 64 and {episode["l"] for episode in model.ep_info_buffer} == {TICKS}


def test_training_is_reproducible(short):
    def train() -> list[torch.Tensor]:
        model = PPO("MlpPolicy", PlacementSB3VecEnv(short, 4, 0), n_steps=16, batch_size=32, **small())
        model.learn(128)
        return [parameter.detach() for parameter in model.policy.parameters()]

    for a, b in zip(train(), train(), strict=True):
        assert torch.equal(a, b)


def test_the_adapter_is_the_vector_environment(short):
    adapter, envs = PlacementSB3VecEnv(short, 3, 5), PlacementVectorEnv(3, short, autoreset_mode="SameStep")
    np.testing.assert_array_equal(adapter.reset(), envs.reset(seed=5)[0])
    total = np.zeros(3)
    for step, chosen in enumerate(random_modes(3, 2 * TICKS + 1), start=1):
        obs, rewards, dones, infos = adapter.step(chosen)
        wanted, wanted_rewards, _, truncations, batch = envs.step(chosen)
        total += wanted_rewards
        np.testing.assert_array_equal(obs, wanted)
        np.testing.assert_array_equal(rewards, wanted_rewards.astype(np.float32))
        np.testing.assert_array_equal(dones, truncations)
        for name in ("throughput", "reward_terms", "attribution", "counters"):
            np.testing.assert_array_equal(adapter.last_metrics[name], batch[name])
        assert adapter.last_metrics["kernel_slow"].shape == (3, n.N_CLASSES)
        if step % TICKS:
            assert infos == [{}] * 3
            continue
        for machine, info in enumerate(infos):
            np.testing.assert_array_equal(info["terminal_observation"], batch["final_obs"][machine])
            assert info["TimeLimit.truncated"] is True
            assert info["episode"]["r"] == pytest.approx(total[machine]) and info["episode"]["l"] == TICKS
            assert info["episode"]["t"] >= 0
        total[:] = 0


def test_a_held_choice_earns_the_sum_of_its_ticks(short):
    """An episode that ends under a held choice ends the choice; its machine's next episode starts under the next."""
    held = PlacementSB3VecEnv(short, 6, hold_ticks=5)
    alone = [PlacementSB3VecEnv(short, 1) for _ in range(6)]
    held.seed(1)
    held.reset()
    for i, env in enumerate(alone):
        env.seed(1 + i)
        env.reset()
    cut = 0
    for action in random_modes(6, TICKS):
        obs, rewards, dones, infos = held.step(action)
        metrics = held.last_metrics
        for i, env in enumerate(alone):
            ticks: list[Any] = []
            while len(ticks) < 5 and not (ticks and ticks[-1][2][0]):
                ticks.append((*env.step(action[i : i + 1]), env.last_metrics))
            last = ticks[-1]
            cut += len(ticks) < 5
            assert metrics["ticks"][i] == len(ticks)
            assert np.array_equal(np.asarray(obs)[i], last[0][0]) and dones[i] == last[2][0]
            assert rewards[i] == pytest.approx(sum(tick[1][0] for tick in ticks), rel=1e-6)
            for key in ("terminal_observation", "episode"):
                mine, theirs = infos[i].get(key), last[3][0].get(key)
                assert (mine is None) == (theirs is None)
                if key == "episode" and mine is not None:
                    assert mine["r"] == pytest.approx(theirs["r"]) and mine["l"] == theirs["l"]
                elif mine is not None:
                    assert np.array_equal(mine, theirs)
            for name in ("throughput", "reward_terms", "attribution"):
                assert np.allclose(metrics[name][i], np.mean([tick[4][name][0] for tick in ticks], axis=0))
            assert np.array_equal(metrics["counters"][i], np.sum([tick[4]["counters"][0] for tick in ticks], axis=0))
            assert np.array_equal(metrics["kernel_slow"][i], last[4]["kernel_slow"][0])
    assert cut > 0


def test_a_choice_holds_for_a_tick_at_least(short):
    with pytest.raises(UserError, match="hold_ticks is 0; allowed: a whole number from 1"):
        PlacementSB3VecEnv(short, 1, hold_ticks=0)


def test_running_machines_share_one_info_and_finished_ones_have_their_own(short):
    adapter = PlacementSB3VecEnv(short, 3, 0)
    adapter.reset()
    idle = np.zeros((3, n.N_ACTIONS), dtype=np.int64)
    infos = adapter.step(idle)[3]
    assert infos[0] is infos[1] is infos[2]
    infos[0]["mine"] = 1
    assert adapter.step(idle)[3] == [{}] * 3
    for _ in range(TICKS - 2):
        infos = adapter.step(idle)[3]
    assert len({id(info) for info in infos}) == 3
    assert not np.shares_memory(infos[0]["terminal_observation"], infos[1]["terminal_observation"])


def test_nothing_handed_to_sb3_is_written_to_again(short):
    adapter = PlacementSB3VecEnv(short, 3, 0)
    kept: list[Any] = [adapter.reset(), adapter.action_masks()]
    frozen = copy.deepcopy(kept)
    for chosen in random_modes(3, 2 * TICKS + 1):
        now = [*adapter.step(chosen), adapter.last_metrics, adapter.env_method("action_masks")]
        kept += now
        frozen += copy.deepcopy(now)
    adapter.reset()
    for now, then in zip(kept, frozen, strict=True):
        np.testing.assert_equal(now, then)


def test_the_rollout_buffer_holds_the_observation_that_was_acted_on(short):
    """SB3 keeps an observation by reference over the next step: a reused buffer would shift its data by one."""

    class Seen(BaseCallback):
        def _on_step(self) -> bool:
            seen.append(self.locals["obs_tensor"].numpy().copy())
            return True

    seen: list[np.ndarray] = []
    model = PPO("MlpPolicy", PlacementSB3VecEnv(short, 3, 0), n_steps=12, batch_size=36, n_epochs=1, **small())
    model.learn(36, callback=Seen())
    stored = model.rollout_buffer.observations.reshape(3, 12, -1).swapaxes(0, 1)
    np.testing.assert_array_equal(stored, np.stack(seen))
    assert (np.diff(np.stack(seen), axis=0) != 0).any(axis=(1, 2)).all()


def test_masks_are_where_maskable_ppo_looks(short):
    adapter = PlacementSB3VecEnv(short, 3, 0)
    adapter.reset()
    assert is_masking_supported(adapter)
    masks = get_action_masks(adapter)
    assert masks.shape == (3, actions.N_MASK) and masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, adapter.action_masks())
    assert not masks.all()
    rows = adapter.env_method("action_masks")
    assert rows[0].base is rows[1].base is rows[2].base
    np.testing.assert_array_equal(adapter.env_method("action_masks", indices=[2, 0]), masks[[2, 0]])
    env = PlacementEnv(short)
    env.reset(seed=0)
    assert is_masking_supported(env)
    np.testing.assert_array_equal(get_action_masks(env), masks[0])


def test_maskable_ppo_never_chooses_what_is_impossible(short):
    envs = PlacementSB3VecEnv(short, 3, 0)
    model = MaskablePPO("MlpPolicy", envs, n_steps=16, batch_size=48, n_epochs=1, **small())
    model.learn(96)
    buffer = model.rollout_buffer
    chosen = buffer.actions.reshape(-1, len(actions.NVEC)).astype(np.int64)
    masks = buffer.action_masks.reshape(-1, actions.N_MASK)
    assert not masks.all()
    assert np.take_along_axis(masks, actions.OFFSETS + chosen, axis=1).all()


def test_attributes_behave_as_in_other_vec_envs(short):
    adapter = PlacementSB3VecEnv(short, 3, 0, render_mode="ansi")
    assert adapter.get_attr("render_mode") == ["ansi"] * 3
    assert adapter.get_attr("scenario_names", 1) == [(short.name,) * 3]
    assert adapter.has_attr("action_masks") and not adapter.has_attr("no_such_thing")
    with pytest.raises(AttributeError):
        adapter.get_attr("no_such_thing")
    adapter.set_attr("note", "a")
    adapter.set_attr("note", "b", indices=[0, 2])
    assert adapter.get_attr("note") == ["b", "a", "b"] and adapter.has_attr("note")
    assert adapter.get_attr("note", indices=[1]) == ["a"]
    with pytest.raises(AttributeError, match="there are: action_masks, render"):
        adapter.env_method("fly")
    assert adapter.env_is_wrapped(Monitor) == [True] * 3
    assert adapter.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=[0]) == [False]
    adapter.close()


def test_seeds_hold_for_one_reset_and_episodes_go_on_from_there(short):
    idle = np.zeros((2, n.N_ACTIONS), dtype=np.int64)

    def two_episodes(adapter: PlacementSB3VecEnv) -> list[np.ndarray]:
        out = []
        for _ in range(2):
            adapter.reset()
            out.append(np.asarray(adapter.step(idle)[0]))
        return out

    again = PlacementSB3VecEnv(short, 2)
    assert again.seed(3) == [3, 4]
    first, second = two_episodes(PlacementSB3VecEnv(short, 2, 3))
    assert (first != second).any()
    np.testing.assert_array_equal(two_episodes(again), [first, second])
    differently = [PlacementSB3VecEnv(short, 2) for _ in range(2)]
    stepped = []
    for envs in differently:
        envs.reset()
        stepped.append(np.asarray(envs.step(idle)[0]))
    assert (stepped[0] != stepped[1]).any()


def test_options_choose_the_scenario(short):
    adapter, wanted = PlacementSB3VecEnv(SCENARIO, 2, 1), PlacementSB3VecEnv(short, 2, 1)
    adapter.set_options({"scenario": short})
    np.testing.assert_array_equal(adapter.reset(), wanted.reset())
    idle = np.zeros((2, n.N_ACTIONS), dtype=np.int64)
    assert [adapter.step(idle)[2].all() for _ in range(TICKS)] == [False] * (TICKS - 1) + [True]
    adapter.set_options([{"scenario": SCENARIO}, {}])
    with pytest.raises(UserError, match="for some machines only"):
        adapter.reset()
    adapter.set_options({"scenarios": SCENARIO})
    with pytest.raises(UserError, match="unknown option 'scenarios'"):
        adapter.reset()


def test_an_invalid_action_is_refused_before_the_step(short):
    adapter = PlacementSB3VecEnv(short, 2, 0)
    adapter.reset()
    with pytest.raises(InvalidAction, match=rf"shape \(2, {n.N_ACTIONS}\)"):
        adapter.step_async(np.zeros((3, n.N_ACTIONS), dtype=np.int64))


def test_evaluation_needs_no_monitor_and_wrappers_work(short):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO("MlpPolicy", PlacementSB3VecEnv(short, 2, 0), n_steps=8, batch_size=16, **small())
        returns, lengths = evaluate_policy(
            model, PlacementSB3VecEnv(short, 2, 9), n_eval_episodes=4, return_episode_rewards=True
        )
    assert lengths == [TICKS] * 4 and np.less_equal(returns, 0).all()
    wrapped = VecNormalize(PlacementSB3VecEnv(short, 2, 0))
    PPO("MlpPolicy", wrapped, n_steps=8, batch_size=16, **small()).learn(32)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        VecMonitor(PlacementSB3VecEnv(short, 2, 0))


def test_pictures_are_tiled(short):
    adapter = PlacementSB3VecEnv(short, 2, 0, render_mode="rgb_array")
    adapter.reset()
    picture = adapter.render()
    assert picture is not None and picture.shape == (frames.HEIGHT * 2, frames.WIDTH, 3)
    texts = PlacementSB3VecEnv(short, 2, 0, render_mode="ansi")
    texts.reset()
    assert [text.startswith("tick 0 of 8") for text in texts.env_method("render")] == [True, True]
    assert PlacementSB3VecEnv(short, 2, 0).get_images() == [None, None]
