"""Pictures of a machine."""

import numpy as np

from tests.short_runs import TICKS, random_modes
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.vector_env import PlacementVectorEnv


def test_a_picture_is_of_the_state_that_was_reached(short):
    env, unwatched = PlacementEnv(short, render_mode="ansi"), PlacementEnv(short)
    env.reset(seed=0)
    unwatched.reset(seed=0)
    for tick, chosen in enumerate(random_modes(1, TICKS)[:, 0], start=1):
        obs, _, _, _, info = env.step(chosen)
        text = env.render()
        assert f"tick {tick} of {TICKS}" in text and f"throughput {info['throughput']:.3f}" in text
        assert "kernel MiB" in text and "slow" in text and "low" in text
        np.testing.assert_array_equal(obs, unwatched.step(chosen)[0])


def test_pictures_have_the_shape_and_change(short):
    env = PlacementEnv(short, render_mode="rgb_array")
    env.reset(seed=0)
    frames = []
    for _ in range(2):
        env.step(env.action_space.sample())
        frames.append(env.render())
    assert frames[0].dtype == np.uint8 and frames[0].shape == frames[1].shape == (480, 800, 3)
    assert (frames[0] != frames[1]).any() and len(np.unique(frames[0])) > 10
    envs = PlacementVectorEnv(2, short, render_mode="ansi")
    envs.reset(seed=0)
    texts = envs.render()
    assert texts is not None and len(texts) == 2 and all("tick 0" in text for text in texts)
    assert PlacementEnv(short).render() is None and PlacementVectorEnv(2, short).render() is None
