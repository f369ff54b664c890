"""Other people's code over the environments: Gymnasium's wrappers, and, where they are installed, other libraries."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector

import tiergym
from tests.short_runs import TICKS, random_modes
from tiergym.env.observations import N_OBS
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.vector_env import PlacementVectorEnv

Wrap = Callable[[VectorEnv], VectorEnv]
SIGNED = spaces.Box(-1, 1, (N_OBS,), np.float32)

OBSERVATIONS: dict[str, tuple[Wrap, Callable[[Any], Any]]] = {
    "TransformObservation": (
        lambda envs: vector.TransformObservation(envs, lambda obs: 1 - obs),
        lambda obs: 1 - obs,
    ),
    "VectorizeTransformObservation": (
        lambda envs: vector.VectorizeTransformObservation(
            envs, gymnasium.wrappers.TransformObservation, func=lambda obs: 1 - obs, observation_space=None
        ),
        lambda obs: 1 - obs,
    ),
    "RescaleObservation": (lambda envs: vector.RescaleObservation(envs, -1, 1), lambda obs: 2 * obs - 1),
    "DtypeObservation": (lambda envs: vector.DtypeObservation(envs, np.float64), lambda obs: obs.astype(np.float64)),
    "FlattenObservation": (vector.FlattenObservation, lambda obs: obs),
    "ReshapeObservation": (
        lambda envs: vector.ReshapeObservation(envs, (N_OBS, 1)),
        lambda obs: obs[..., None],
    ),
}
"""Wrappers that change one observation at a time, and the same by hand."""


def make(**options: Any) -> VectorEnv:
    """The shipped default, as the README makes it."""
    return gymnasium.make_vec(
        "tiergym:tiergym/Placement-v3", num_envs=2, vectorization_mode="vector_entry_point", **options
    )


@pytest.mark.parametrize("mode", [None, AutoresetMode.DISABLED])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_wrappers_of_observations_work(short, name, mode):
    wrap, by_hand = OBSERVATIONS[name]
    options = {"scenario": short} | ({} if mode is None else {"autoreset_mode": mode})
    plain, wrapped = make(**options), wrap(make(**options))
    seen = [(plain.reset(seed=0)[0], wrapped.reset(seed=0)[0])]
    for chosen in random_modes(2, 2 * TICKS):
        obs, _, _, truncated, _ = plain.step(chosen)
        seen.append((obs, wrapped.step(chosen)[0]))
        if mode is AutoresetMode.DISABLED and truncated.any():
            # A wrapper may take the mask out of the options, so each gets its own.
            seen.append(tuple(envs.reset(options={"reset_mask": truncated.copy()})[0] for envs in (plain, wrapped)))
    for obs, changed in seen:
        assert wrapped.observation_space.contains(changed)
        np.testing.assert_allclose(changed, by_hand(obs), rtol=0, atol=1e-6)
        assert changed.dtype == wrapped.single_observation_space.dtype


def test_observations_are_normalised(short):
    envs = vector.NormalizeObservation(make(scenario=short))
    obs, _ = envs.reset(seed=0)
    seen = [obs]
    seen += [envs.step(chosen)[0] for chosen in random_modes(2, 40 * TICKS)]
    late = np.concatenate(seen[-20 * TICKS :])
    varying = late.std(axis=0) > 0
    assert varying.sum() > N_OBS / 2
    assert np.abs(late.mean(axis=0)[varying]).max() < 0.5
    assert 0.5 < np.median(late.std(axis=0)[varying]) < 1.5


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_wrappers_of_rewards_and_infos_work_in_both_modes(short, mode):
    plain = make(scenario=short, autoreset_mode=mode)
    clipped = vector.ClipReward(make(scenario=short, autoreset_mode=mode), -1e-3, 0)
    normalised = vector.NormalizeReward(make(scenario=short, autoreset_mode=mode))
    listed = vector.DictInfoToList(make(scenario=short, autoreset_mode=mode))
    for envs in (plain, clipped, normalised, listed):
        envs.reset(seed=0)
    for chosen in random_modes(2, 2 * TICKS):
        rewards = plain.step(chosen)[1]
        np.testing.assert_array_equal(clipped.step(chosen)[1], np.clip(rewards, -1e-3, 0))
        assert np.isfinite(normalised.step(chosen)[1]).all()
        each = listed.step(chosen)[4]
        assert len(each) == 2 and all("throughput" in info for info in each)


def test_wrappers_of_observations_refuse_same_step_by_themselves(short):
    """Why it is not the default: if this fails, Gymnasium has changed, and the guide's section should, too."""
    for wrap in (vector.NormalizeObservation, OBSERVATIONS["TransformObservation"][0]):
        with pytest.raises((ValueError, AssertionError)):  # the latter, without words, in Gymnasium 1.2.2
            wrap(make(scenario=short, autoreset_mode=AutoresetMode.SAME_STEP))


@pytest.mark.parametrize(
    "wrap",
    [
        gymnasium.wrappers.NormalizeObservation,
        gymnasium.wrappers.RecordEpisodeStatistics,
        lambda env: gymnasium.wrappers.TimeLimit(env, 3),
        lambda env: gymnasium.wrappers.FrameStackObservation(env, 4),
        lambda env: gymnasium.wrappers.TimeAwareObservation(gymnasium.wrappers.TimeLimit(env, TICKS)),
        gymnasium.wrappers.Autoreset,
    ],
)
def test_wrappers_of_the_single_environment_work(short, wrap):
    env = wrap(gymnasium.make(tiergym.ENV_ID, scenario=short))
    obs, info = env.reset(seed=0)
    for _ in range(2):
        over = False
        while not over:
            assert env.observation_space.contains(obs)
            obs, _, terminated, truncated, after = env.step(env.action_space.sample())
            over = terminated or truncated
            assert info.keys() <= after.keys()
        if not isinstance(env, gymnasium.wrappers.Autoreset):
            obs, info = env.reset()


# Not installed by this project: they are here for those who have them.


def test_torchrl_wraps_both(short):
    envs = pytest.importorskip("torchrl.envs", reason="torchrl is not installed")
    env = envs.GymWrapper(PlacementEnv(short))
    rollout = env.rollout(TICKS + 2, break_when_any_done=False)
    assert rollout["observation"].shape == (TICKS + 2, N_OBS)
    assert rollout["next", "truncated"].sum() == 1
    batch = envs.GymWrapper(PlacementVectorEnv(3, short, autoreset_mode=AutoresetMode.SAME_STEP))
    rollout = batch.rollout(TICKS + 2, break_when_any_done=False)
    assert rollout["observation"].shape == (3, TICKS + 2, N_OBS)
    assert rollout["next", "truncated"].sum() == 3


def test_minari_records_infos(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="minari is not installed")
    pytest.importorskip("jax", reason="minari's collector needs jax (pip install jax: 400 MB)")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    one = gymnasium.make(tiergym.ENV_ID, max_episode_steps=TICKS)
    env = minari.DataCollector(one, record_infos=True, data_format="arrow")
    for seed in range(2):
        env.reset(seed=seed)
        while not env.step(env.action_space.sample())[3]:
            pass
    dataset = env.create_dataset("tiergym/test-v0")
    assert dataset.total_steps == 2 * TICKS
    for episode in dataset.iterate_episodes():
        assert episode.infos["throughput"].shape == (TICKS + 1,)
        assert episode.infos["throughput"][0] == 1
