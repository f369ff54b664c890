"""The machines as training wants them: staggered, with a value after the end, and rewards that it can learn from."""

from typing import Any

import numpy as np
import pytest

from tests.short_runs import random_modes
from tests.tiny_training import HORIZON_TICKS, small, tiny_scenario
from tiergym import specs
from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.lab import learner
from tiergym.lab.recipe import make_recipe
from tiergym.lab.reward_scales import LEAST_LOSS, loss_per_tick, reward_scales
from tiergym.lab.train import train
from tiergym.lab.training_env import STARTS, TrainingVecEnv
from tiergym.sim import names as n


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> specs.Scenario:
    return tiny_scenario(tmp_path_factory.mktemp("scenario"))


def test_machines_start_staggered_and_end_one_by_one(scenario):
    env = TrainingVecEnv([scenario], 6)
    env.seed(1)
    obs = env.reset()
    records = env._episodes.machines.records
    assert list(records["tick"]) == [0, 2, 4, 6, 8, 10] and (records["ticks"] == HORIZON_TICKS).all()
    assert ((obs >= 0) & (obs <= 1)).all() and len(np.unique(records["key"])) == 6
    ends = []
    for _ in range(HORIZON_TICKS):
        _, _, dones, infos = env.step(np.zeros((6, n.N_ACTIONS), dtype=np.int64))
        ends.append(list(np.flatnonzero(dones)))
        assert all(infos[i]["episode"]["l"] == HORIZON_TICKS for i in ends[-1])
    assert ends == [[], [5], [], [4], [], [3], [], [2], [], [1], [], [0]]
    env.seed(1)
    assert (env.reset() == obs).all()

    many = TrainingVecEnv([scenario], 3 * STARTS)
    many.reset()
    _, machines = np.unique(many._episodes.machines.records["tick"], return_counts=True)
    assert machines.sum() == 3 * STARTS and (machines % 3 == 0).all()


def test_the_batched_bootstrap_is_sb3s(scenario, one_torch_thread):
    """Same machines, same network: SB3 asks it once per finished machine, we ask once for all of them."""
    recipe = make_recipe("x", {**small("ppo").document(), "envs": 8}, "x")
    returns = []
    for batched in (True, False):
        env = TrainingVecEnv([scenario], 8)
        model: Any = learner.build(recipe, 0, env)
        env.seed(5)
        if batched:
            env.gamma, env.values = model.gamma, learner.values_of(model)
        model.learn(64)
        returns.append(model.rollout_buffer.returns.copy())
    assert np.allclose(returns[0], returns[1], atol=1e-4)
    assert np.ptp(returns[0]) > 0.1


def test_the_machines_state_restores_their_future(scenario):
    env = TrainingVecEnv([scenario], 4)
    env.seed(2)
    env.reset()
    actions = random_modes(4, 20)
    state = env.state()
    futures = []
    for _ in range(2):
        futures.append([env.step(action)[:3] for action in actions])
        obs = env.restore(state)
        assert (obs == state["obs"]).all()
    for (obs, rewards, dones), (obs2, rewards2, dones2) in zip(*futures, strict=True):
        assert (obs == obs2).all() and (rewards == rewards2).all() and (dones == dones2).all()
    other = TrainingVecEnv([scenario], 5)
    with pytest.raises(UserError, match="machines' state"):
        other.restore(state)


def test_frames_are_the_last_observations_of_the_episode_newest_first(scenario):
    """Of machines that end at different steps; what a value is asked about after the end looks back as well."""
    framed, plain = TrainingVecEnv([scenario], 6, frames=3, hold_ticks=2), TrainingVecEnv([scenario], 6, hold_ticks=2)
    for env in (framed, plain):
        env.seed(1)
    assert framed.observation_space.shape == (3 * N_OBS,)
    seen: Any = [[obs] for obs in plain.reset()]
    shown: Any = framed.reset()
    ends = 0
    for action in [*random_modes(6, 15), None]:
        for machine in range(6):
            frames = [*reversed(seen[machine]), *[np.zeros(N_OBS)] * 3][:3]
            assert (shown[machine] == np.concatenate(frames)).all()
        if action is None:
            break
        obs: Any
        shown, rewards, dones, infos = framed.step(action)
        obs, plain_rewards, plain_dones, plain_infos = plain.step(action)
        assert (rewards == plain_rewards).all() and (dones == plain_dones).all()
        for machine in range(6):
            if dones[machine]:
                last = [plain_infos[machine]["terminal_observation"], *reversed(seen[machine]), *[np.zeros(N_OBS)] * 3]
                assert (infos[machine]["terminal_observation"] == np.concatenate(last[:3])).all()
                seen[machine], ends = [], ends + 1
            seen[machine].append(obs[machine])
    assert ends >= 6


def test_the_state_keeps_what_was_seen(scenario):
    env = TrainingVecEnv([scenario], 4, frames=3)
    env.seed(2)
    env.reset()
    actions = random_modes(4, 20)
    for action in actions[:3]:
        env.step(action)
    state = env.state()
    futures = []
    for _ in range(2):
        futures.append([env.step(action)[0] for action in actions])
        assert (env.restore(state) == state["seen"]).all()
    assert all((first == second).all() for first, second in zip(*futures, strict=True))
    with pytest.raises(UserError, match=r"seen of a machine is -.*; allowed: 0 to 1"):
        env.restore({**state, "seen": state["seen"] - np.float32(1)})


# What is learned from


def test_a_scale_is_one_over_what_stock_linux_loses(scenario):
    loss = loss_per_tick(scenario)
    assert loss > LEAST_LOSS
    assert reward_scales([scenario], "saved").tolist() == [1 / loss]
    assert reward_scales([scenario], "return").tolist() == [1.0]
    idle = specs.override(scenario, {"workload.region.heap.mib": 100, "workload.pools.threads.count": 0})
    assert reward_scales([idle], "saved").tolist() == [1 / LEAST_LOSS]
    least = max(loss_per_tick(idle), 1e-4)
    assert least < LEAST_LOSS and reward_scales([idle], "saved", 1e-4).tolist() == [1 / least]


def test_scaled_rewards_are_learned_from_and_returns_stay_those_of_the_environment(scenario):
    plain, scaled = TrainingVecEnv([scenario], 4), TrainingVecEnv([scenario], 4)
    scaled.scales = np.array([3.0])
    for env in (plain, scaled):
        env.seed(0)
        env.reset()
    returns = []
    for action in random_modes(4, 15):
        (_, a, _, infos), (_, b, _, others) = plain.step(action), scaled.step(action)
        np.testing.assert_allclose(b, 3 * a, rtol=1e-6)
        returns += [
            (x["episode"]["r"], y["episode"]["r"]) for x, y in zip(infos, others, strict=True) if "episode" in x
        ]
    assert returns and all(a == b for a, b in returns)


KILLER = {
    "workload.region.heap.mlocked": "on",
    "workload.region.heap.grow_s": 1,
    "workload.pools.threads.count": 100000,
    "workload.pools.threads.start_s": 1.5,
}
"""DRAM is full of what cannot be reclaimed: whoever restricts stacks to it kills while CXL is free."""


def test_a_price_is_paid_for_every_premature_kill_and_is_part_of_the_state(scenario):
    killing = specs.override(scenario, KILLER)
    env = TrainingVecEnv([killing], 4)
    env.seed(0)
    env.reset()
    restrict = np.tile(act.from_modes({"place.kstack": "restrict", "zone": "movable"}), (4, 1))
    kills = 0
    for _ in range(12):
        state = env.state()
        _, free, _, _ = env.step(restrict)
        env.restore(state)
        env.kill_price = 7.0
        _, priced, _, _ = env.step(restrict)
        happened = env._episodes.machines.counters[:, n.C_OOM_KILL_PREMATURE]
        np.testing.assert_allclose(free - priced, 7.0 * happened, rtol=1e-5, atol=1e-5)
        kills += int(happened.sum())
        env.kill_price = 0.0
    assert kills > 0
    env.kill_price = 2.5
    other = TrainingVecEnv([killing], 4)
    other.restore(env.state())
    assert other.kill_price == 2.5


def test_a_constraint_raises_the_price_while_it_is_exceeded(scenario, tmp_path):
    document = small("ppo", steps=256).document() | {"constraint": {"oom_per_hour": 0.0}, "reward": "saved"}
    recipe = make_recipe("bounded", document, "x")
    run = train(recipe, specs.override(scenario, KILLER), out=tmp_path / "r", progress=False)
    text = (run / "progress.csv").read_text().splitlines()
    column = text[0].split(",").index("constraint/kill_price")
    prices = [float(cell) for line in text[1:] if (cell := line.split(",")[column])]
    assert prices[-1] > prices[0] >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": "more"}, "reward is 'more'; allowed: one of return, saved"),
        ({"constraint": {"oom": 1}}, "unknown constraint 'oom'; did you mean 'oom_per_hour'"),
        ({"constraint": {"oom_per_hour": -1}}, "oom_per_hour is -1; allowed: a number from 0"),
        ({"constraint": {"oom_per_hour": True}}, "oom_per_hour is True; allowed: a number from 0"),
    ],
)
def test_a_reward_or_constraint_that_means_nothing_is_refused(change, message):
    with pytest.raises(UserError) as error:
        make_recipe("x", small("ppo").document() | change, "x.toml")
    assert message in str(error.value)
