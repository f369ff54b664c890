"""Gymnasium's contract: what `make`, `make_vec` and their users may rely on, over the real engine."""

import copy
import os
import subprocess
import sys
import textwrap
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import tiergym
from tests.places import ROOT
from tests.short_runs import SCENARIO, TICKS, random_modes, rollout
from tiergym.env import actions
from tiergym.env.action_forms import FORMS
from tiergym.env.observations import N_OBS
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.static_actions import shipped
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.errors import UserError
from tiergym.sim import names as n

BEFORE_1_4 = tuple(map(int, gymnasium.__version__.split(".")[:2])) < (1, 4)


@pytest.mark.parametrize("form", FORMS)
def test_gymnasiums_checker_has_nothing_to_say(form):
    env = gymnasium.make(tiergym.ENV_ID, scenario=SCENARIO, action_form=form).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=form != "multidiscrete")


@pytest.mark.skipif(BEFORE_1_4, reason="the checker looks for this from Gymnasium 1.4 on")
def test_the_checker_would_complain_of_a_reused_buffer():
    class Reused(PlacementEnv):
        def step(self, action: Any) -> Any:
            obs, *rest = super().step(action)
            self.kept = getattr(self, "kept", obs)
            self.kept[:] = obs
            return self.kept, *rest

    env = Reused(SCENARIO)
    env.spec = gymnasium.spec(tiergym.ENV_ID)
    with pytest.raises(AssertionError, match="share an object"):
        check_env(env, skip_render_check=True, skip_close_check=True)


def test_make_works_from_a_folder_with_its_own_envs_and_agents(tmp_path):
    for folder in ("envs", "envs/scenarios", "agents"):
        (tmp_path / folder).mkdir()
    (tmp_path / "envs" / "scenarios" / f"{SCENARIO}.toml").write_text("not toml [")
    (tmp_path / "agents" / "online.toml").write_text("not toml [")
    code = f"""
        import gymnasium
        env = gymnasium.make("tiergym:tiergym/Placement-v3", scenario="{SCENARIO}", action_form="baseline")
        obs, info = env.reset(seed=1)
        assert env.observation_space.contains(env.step(0)[0])
        envs = gymnasium.make_vec("tiergym:tiergym/Placement-v3", num_envs=3, vectorization_mode="vector_entry_point")
        assert envs.reset(seed=1)[0].shape == (3, {N_OBS})
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-W", "error:::tiergym", "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=environment,
        check=True,
    )


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("form", FORMS)
def test_make_vec_declares_spaces_and_autoreset(form, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs: Any = gymnasium.make_vec(
            tiergym.ENV_ID,
            num_envs=3,
            vectorization_mode="vector_entry_point",
            scenario=SCENARIO,
            action_form=form,
            autoreset_mode=mode,
        )
    assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is mode
    assert envs.single_observation_space == gymnasium.spaces.Box(0, 1, (N_OBS,), np.float32)
    assert envs.single_action_space == gymnasium.make(tiergym.ENV_ID, action_form=form).action_space
    obs, infos = envs.reset(seed=0)
    assert envs.observation_space.contains(obs)
    for _ in range(3):
        chosen = envs.action_space.sample()
        assert envs.action_space.contains(chosen)
        obs, rewards, terminations, truncations, infos = envs.step(chosen)
        assert envs.observation_space.contains(obs) and obs.dtype == np.float32
        assert rewards.shape == terminations.shape == truncations.shape == (3,)
        assert rewards.dtype == np.float64 and terminations.dtype == truncations.dtype == np.bool_
        for name, values in infos.items():
            assert len(values) == 3
            assert name.startswith("_") or infos[f"_{name}"].all()


def test_the_default_is_gymnasiums_next_step():
    assert PlacementVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert PlacementVectorEnv(1, SCENARIO).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    vector = gymnasium.make_vec("CartPole-v1", num_envs=1, vectorization_mode="sync")
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_mode_is_its_name_or_its_value_too(mode):
    for spelled in (mode, mode.name, mode.value):
        assert PlacementVectorEnv(1, SCENARIO, autoreset_mode=spelled).autoreset_mode is mode


def row(infos: dict[str, Any], machine: int) -> dict[str, Any]:
    """What the infos of a batch say of one machine."""
    return {key: values[machine] for key, values in infos.items() if not key.startswith(("_", "final_"))}


@pytest.mark.parametrize("machine", [0, 2])
def test_a_single_environment_is_a_machine_of_a_batch(short, machine):
    envs, env = PlacementVectorEnv(3, short, autoreset_mode=AutoresetMode.SAME_STEP), PlacementEnv(short)
    batch_obs, infos = envs.reset(seed=40)
    obs, info = env.reset(seed=40 + machine)
    np.testing.assert_array_equal(obs, batch_obs[machine])
    np.testing.assert_equal(info, row(infos, machine))
    for step, chosen in enumerate(random_modes(3, 3 * TICKS), start=1):
        np.testing.assert_array_equal(env.action_masks(), envs.action_masks()[machine])
        batch_obs, rewards, _, truncations, infos = envs.step(chosen)
        obs, reward, terminated, truncated, info = env.step(chosen[machine])
        last = infos["final_obs"] if truncations[machine] else batch_obs
        np.testing.assert_array_equal(obs, last[machine])
        assert (reward, terminated, truncated) == (rewards[machine], False, truncations[machine])
        assert truncated == (step % TICKS == 0)
        if not truncated:
            np.testing.assert_equal(info, row(infos, machine))
        tick = env.tick()
        assert tick["reward_terms"] == dict(zip(n.TERMS, infos["reward_terms"][machine], strict=True))
        assert tick["attribution"] == dict(zip(n.CAUSES, infos["attribution"][machine], strict=True))
        assert tick["counters"] == dict(zip(n.COUNTERS, infos["counters"][machine], strict=True))
        if truncated:
            obs, _ = env.reset()
            np.testing.assert_array_equal(obs, batch_obs[machine])


def test_nothing_returned_is_written_to_again(short):
    envs = PlacementVectorEnv(3, short)
    kept: list[Any] = [envs.reset(seed=0)]
    frozen = [copy.deepcopy(kept[0])]
    for chosen in random_modes(3, 2 * TICKS + 1):
        kept.append(envs.step(chosen))
        frozen.append(copy.deepcopy(kept[-1]))
    kept.append(envs.reset())
    for now, then in zip(kept, frozen, strict=False):
        np.testing.assert_equal(now, then)
    arrays = [entry[0] for entry in kept]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_a_single_environment_returns_fresh_arrays_too(short):
    env = PlacementEnv(short)
    kept: list[Any] = [env.reset(seed=0)[0], env.action_masks()]
    frozen = copy.deepcopy(kept)
    for chosen in random_modes(1, TICKS):
        obs, _, _, _, info = env.step(chosen[0])
        kept += [obs, info, env.action_masks()]
        frozen += copy.deepcopy([obs, info, env.action_masks()])
    env.reset()
    for now, then in zip(kept, frozen, strict=True):
        np.testing.assert_equal(now, then)


def test_same_step_returns_the_last_observation_beside_the_first(short):
    same = PlacementVectorEnv(2, short, autoreset_mode=AutoresetMode.SAME_STEP)
    following = PlacementVectorEnv(2, short)
    np.testing.assert_array_equal(same.reset(seed=1)[0], following.reset(seed=1)[0])
    for step, chosen in enumerate(random_modes(2, 2 * TICKS + 1), start=1):
        obs, rewards, terminations, truncations, infos = same.step(chosen)
        next_obs, next_rewards, _, next_truncations, next_infos = following.step(chosen)
        assert not terminations.any()
        np.testing.assert_array_equal(truncations, [step % TICKS == 0] * 2)
        np.testing.assert_array_equal(truncations, next_truncations)
        np.testing.assert_array_equal(rewards, next_rewards)
        np.testing.assert_array_equal(infos["counters"], next_infos["counters"])
        assert "final_obs" not in next_infos
        assert ("final_obs" in infos) == ("final_info" in infos) == truncations.any()
        if truncations.any():
            assert infos["final_obs"].dtype == np.float32 and infos["_final_obs"].all() and infos["_final_info"].all()
            np.testing.assert_array_equal(infos["final_obs"], next_obs)
            for name in ("throughput", "reward_terms", "attribution", "counters"):
                np.testing.assert_array_equal(infos["final_info"][name], infos[name])
                assert infos["final_info"][f"_{name}"].all()
            # The reset of NEXT_STEP is a call of its own, in which the action means nothing.
            next_obs, next_rewards, _, next_truncations, _ = following.step(chosen)
            assert not next_truncations.any() and not next_rewards.any()
        np.testing.assert_array_equal(obs, next_obs)


def test_machines_that_run_on_have_no_final_observation(short):
    envs = PlacementVectorEnv(3, short, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=2)
    assert rollout(envs, random_modes(3, TICKS + 3))[TICKS - 1][4]["final_obs"][1].any()
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    infos = rollout(envs, random_modes(3, TICKS - 3))[-1][4]
    np.testing.assert_array_equal(infos["_final_obs"], [True, False, True])
    np.testing.assert_array_equal(infos["_final_info"], [True, False, True])
    np.testing.assert_array_equal(infos["final_info"]["_throughput"], [True, False, True])
    assert not infos["final_obs"][1].any() and infos["final_obs"][0].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"action_form": "boxed"}, "did you mean 'box'"),
        ({"autoreset_mode": "Never"}, "is 'Never'; allowed: NEXT_STEP .'NextStep'., SAME_STEP"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0; allowed: 1 to"),
        ({"render_mode": "rgb"}, "known: ansi, rgb_array"),
        ({"render_mode": "human"}, "gymnasium.make"),
        ({"num_envs": 0}, "num_envs is 0; allowed: 1 or more"),
        ({"scenario": "llma-1to2"}, "did you mean 'llama-1to2'"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        PlacementVectorEnv(**{"num_envs": 2} | arguments)


def test_the_order_of_calls_is_enforced(short):
    with pytest.raises(ResetNeeded):
        PlacementVectorEnv(2, short).step(np.zeros((2, n.N_ACTIONS), dtype=np.int64))
    with pytest.raises(UserError, match="first reset must start every machine"):
        PlacementVectorEnv(2, short).reset(options={"reset_mask": np.array([True, False])})
    env = PlacementEnv(short)
    idle = np.zeros(n.N_ACTIONS, dtype=np.int64)
    with pytest.raises(ResetNeeded):
        env.step(idle)
    env.reset(seed=0)
    for _ in range(TICKS):
        env.step(idle)
    with pytest.raises(ResetNeeded):
        env.step(idle)


def test_an_invalid_action_moves_no_machine():
    envs, undisturbed = PlacementVectorEnv(2, SCENARIO), PlacementVectorEnv(2, SCENARIO)
    envs.reset(seed=0)
    undisturbed.reset(seed=0)
    wrong = np.zeros((2, n.N_ACTIONS), dtype=np.int64)
    wrong[1, n.A_ZONE] = 3
    with pytest.raises(InvalidAction, match="machine 1: zone is 3"):
        envs.step(wrong)
    idle = np.zeros((2, n.N_ACTIONS), dtype=np.int64)
    np.testing.assert_array_equal(envs.step(idle)[0], undisturbed.step(idle)[0])


def test_an_impossible_mode_counts_as_the_default(other):
    envs, masked = PlacementVectorEnv(4, [SCENARIO, other]), PlacementVectorEnv(4, [SCENARIO, other])
    envs.reset(seed=0)
    masked.reset(seed=0)
    replaced = 0
    for chosen in random_modes(4, 30):
        masks = envs.action_masks()
        possible = np.take_along_axis(masks, actions.OFFSETS + chosen, axis=1)
        replaced += int((~possible).sum())
        a, b = envs.step(chosen), masked.step(np.where(possible, chosen, actions.DEFAULT))
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    assert replaced > 0


@pytest.mark.parametrize("form", FORMS)
def test_masks_fit_the_form_and_never_forbid_the_default(form):
    envs = PlacementVectorEnv(2, SCENARIO, action_form=form)
    _, infos = envs.reset(seed=0)
    width = len(shipped()) if form == "baseline" else actions.N_MASK
    assert infos["action_masks"].shape == (2, width) and infos["action_masks"].dtype == np.bool_
    np.testing.assert_array_equal(infos["action_masks"], envs.action_masks())
    if form != "baseline":
        assert infos["action_masks"][:, actions.OFFSETS + actions.DEFAULT].all()


def test_forms_are_the_same_decision():
    chosen = random_modes(1, 5)[:, 0]
    trajectories = []
    for form in ("multidiscrete", "box"):
        env = PlacementEnv(SCENARIO, action_form=form)
        env.reset(seed=4)
        middles = (2 * chosen + 1) / actions.NVEC - 1
        trajectories.append(
            [env.step(a)[0] for a in (chosen if form == "multidiscrete" else middles.astype(np.float32))]
        )
    np.testing.assert_array_equal(trajectories[0], trajectories[1])


def test_noise_is_only_in_the_observation():
    noisy, noiseless = PlacementVectorEnv(2, SCENARIO), PlacementVectorEnv(2, SCENARIO, noiseless=True)
    noisy.reset(seed=0)
    noiseless.reset(seed=0)
    differ = False
    for chosen in random_modes(2, 12):
        a, b = noisy.step(chosen), noiseless.step(chosen)
        np.testing.assert_array_equal(a[1], b[1])
        differ |= bool((a[0] != b[0]).any())
    assert differ


def test_without_autoreset_only_reset_starts_the_next_episodes(short):
    envs = PlacementVectorEnv(3, short, autoreset_mode=AutoresetMode.DISABLED)
    following = PlacementVectorEnv(3, short)
    envs.reset(seed=0)
    following.reset(seed=0)
    first = np.array([True, False, False])
    chosen = random_modes(3, TICKS + 3)
    rollout(envs, chosen[:3])
    envs.reset(seed=[5, 0, 0], options={"reset_mask": first})
    rollout(following, chosen[:3])
    for action in chosen[3:TICKS]:
        a, b = envs.step(action), following.step(action)
    np.testing.assert_array_equal(a[3], ~first)
    assert "final_obs" not in a[4]
    np.testing.assert_array_equal(a[0][1:], b[0][1:])
    for _ in range(2):
        with pytest.raises(ResetNeeded, match="over on machines 1, 2: reset"):
            envs.step(chosen[0])
    obs, infos = envs.reset(options={"reset_mask": ~first})
    np.testing.assert_array_equal(obs[0], a[0][0])
    started, _, _, _, restarted = following.step(chosen[0])
    np.testing.assert_array_equal(obs[1:], started[1:])
    np.testing.assert_array_equal(infos["counters"][1:], restarted["counters"][1:])
    assert not envs.step(chosen[0])[3].any()


def test_infos_of_a_reset_are_those_of_a_step_of_which_nothing_is_known_yet(short):
    for env in (PlacementEnv(short), PlacementVectorEnv(2, short)):
        _, fresh = env.reset(seed=0)
        stepped = env.step(env.action_space.sample())[4]
        _, again = env.reset()
        assert fresh.keys() == stepped.keys() == again.keys()
        for info in (fresh, again):
            assert np.all(info["throughput"] == 1)
            for name in ("reward_terms", "attribution", "counters"):
                assert not np.any(info[name]), name
        for name, value in fresh.items():
            assert np.shape(value) == np.shape(stepped[name]) and type(value) is type(stepped[name]), name


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_own_vectorisation_of_the_single_environment_says_the_same(short, mode):
    native = PlacementVectorEnv(2, short, autoreset_mode=mode)
    wrapped = SyncVectorEnv([lambda: PlacementEnv(short)] * 2, autoreset_mode=mode)
    np.testing.assert_equal(native.reset(seed=3), wrapped.reset(seed=3))
    for chosen in random_modes(2, 2 * TICKS):
        a, b = native.step(chosen), wrapped.step(chosen)
        np.testing.assert_equal(a[:4], b[:4])
        assert a[4].keys() == b[4].keys()
        if "final_obs" in a[4]:
            # Ours speak of the tick just made, Gymnasium's of the reset; final_info is the former in both.
            np.testing.assert_array_equal(a[4]["final_obs"], np.stack(b[4]["final_obs"]))
            for name, values in a[4]["final_info"].items():
                np.testing.assert_array_equal(values, b[4]["final_info"][name], name)
        else:
            np.testing.assert_equal(a[4], b[4])


@pytest.mark.parametrize("steps", [3, TICKS, TICKS + 1])
def test_max_episode_steps_truncates(short, steps):
    envs = gymnasium.make_vec(tiergym.ENV_ID, num_envs=2, scenario=short, max_episode_steps=steps)
    env = gymnasium.make(tiergym.ENV_ID, scenario=short, max_episode_steps=steps)
    envs.reset(seed=1)
    env.reset(seed=1)
    length = min(steps, TICKS)
    for step, chosen in enumerate(random_modes(2, 2 * length + 1), start=1):
        _, _, terminated, truncated, _ = envs.step(chosen)
        assert not terminated.any()
        np.testing.assert_array_equal(truncated, step in (length, 2 * length + 1))
        if step <= length:
            assert env.step(chosen[0])[3] == truncated[0]


def test_a_limit_changes_nothing_else(short):
    limited, unlimited = PlacementVectorEnv(2, SCENARIO, max_episode_steps=9), PlacementVectorEnv(2, SCENARIO)
    np.testing.assert_equal(limited.reset(seed=0), unlimited.reset(seed=0))
    for step, chosen in enumerate(random_modes(2, 9), start=1):
        a, b = limited.step(chosen), unlimited.step(chosen)
        np.testing.assert_array_equal(a[0], b[0])
        assert a[3].all() == (step == 9) and not b[3].any()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_has_machines_of_its_own(short, copied):
    for original, chosen in (
        (PlacementEnv(short), random_modes(1, TICKS)[:, 0]),
        (PlacementVectorEnv(2, short), random_modes(2, TICKS)),
    ):
        original.reset(seed=0)
        for action in chosen[:3]:
            original.step(action)
        twin, third = copied(original), copied(original)
        assert type(twin) is type(original)
        ahead = [original.step(action) for action in chosen[3:]]
        np.testing.assert_equal([twin.step(action) for action in chosen[3:]], ahead)
        np.testing.assert_equal(original.reset(), twin.reset())
        # Stepping one moved neither of the others, and the generators are apart, too.
        np.testing.assert_equal([third.step(action) for action in chosen[3:]], ahead)
        assert twin.np_random is not original.np_random


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_episode_statistics_agree(short, mode):
    if BEFORE_1_4 and mode is AutoresetMode.SAME_STEP:
        pytest.skip("before Gymnasium 1.4 the wrapper leaves out a step there")
    envs = RecordEpisodeStatistics(PlacementVectorEnv(2, short, autoreset_mode=mode))
    envs.reset(seed=0)
    for _ in range(2):
        total, truncated = np.zeros(2), np.zeros(2, np.bool_)
        while not truncated.all():
            _, rewards, _, truncated, infos = envs.step(envs.action_space.sample())
            total += rewards
        np.testing.assert_array_equal(infos["episode"]["l"], TICKS)
        np.testing.assert_allclose(infos["episode"]["r"], total)
