"""Seeds, scenarios and the options of `reset`: which episode every machine runs."""

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest

import tiergym
from tests.short_runs import SCENARIO, TICKS, random_modes, rollout
from tiergym import specs
from tiergym.env import actions
from tiergym.env.machines import Machines
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.errors import UserError
from tiergym.sim import names as n


def test_a_machine_does_not_depend_on_its_place_in_the_batch(short):
    few, many = PlacementVectorEnv(2, short), PlacementVectorEnv(300, short)
    few.reset(seed=[7, 299])
    many.reset(seed=list(range(299, -1, -1)))
    for chosen in random_modes(300, TICKS + 2):
        a = few.step(chosen[[292, 0]])
        b = many.step(chosen)
        for small, large in zip(a[:4], b[:4], strict=True):
            np.testing.assert_array_equal(small, large[[292, 0]])
        np.testing.assert_array_equal(a[4]["counters"], b[4]["counters"][[292, 0]])


def test_machines_of_a_batch_differ_and_a_list_of_seeds_is_taken_as_it_is():
    envs = PlacementVectorEnv(3, SCENARIO)
    counted, _ = envs.reset(seed=10)
    listed, _ = envs.reset(seed=[12, 11, 10])
    np.testing.assert_array_equal(listed, counted[::-1])
    stepped = envs.step(np.zeros((3, n.N_ACTIONS), dtype=np.int64))[0]
    assert len(np.unique(stepped, axis=0)) == 3


@pytest.mark.parametrize("make", [lambda: PlacementVectorEnv(2, SCENARIO), lambda: PlacementEnv(SCENARIO)])
def test_resets_without_a_seed_follow_from_the_seed_before(make):
    a, b = make(), make()
    first = [a.reset(seed=5)[0], a.reset()[0], a.reset()[0]]
    again = [b.reset(seed=5)[0], b.reset()[0], b.reset()[0]]
    np.testing.assert_array_equal(first, again)
    idle = np.zeros(a.action_space.shape, dtype=np.int64)
    ticks = []
    for _ in range(3):
        ticks.append(a.step(idle)[0])
        a.reset()
    assert len(np.unique(np.reshape(ticks, (3, -1)), axis=0)) == 3


@pytest.mark.parametrize("make", [lambda: PlacementVectorEnv(2, SCENARIO), lambda: PlacementEnv(SCENARIO)])
def test_without_any_seed_every_environment_is_new(make):
    a, b = make(), make()
    a.reset()
    b.reset()
    idle = np.zeros(a.action_space.shape, dtype=np.int64)
    assert (a.step(idle)[0] != b.step(idle)[0]).any()


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, gymnasium.error.Error), (1 << 64, UserError), ([1, 2], UserError), ([1, 2, -3], UserError)]
)
def test_seeds_that_are_none_are_refused(seed, error):
    with pytest.raises(error, match=r"(?i)^seed (is|must be)"):
        PlacementVectorEnv(3, SCENARIO).reset(seed=seed)


def test_a_reset_of_some_machines_leaves_the_others(short):
    whole, part = PlacementVectorEnv(3, short), PlacementVectorEnv(3, short)
    whole.reset(seed=3)
    part.reset(seed=3)
    chosen = random_modes(3, 4)
    rollout(whole, chosen[:2])
    rollout(part, chosen[:2])
    part.reset(seed=[9, 8, 9], options={"reset_mask": np.array([True, False, True])})
    fresh = PlacementVectorEnv(1, short)
    fresh.reset(seed=9)
    for action in chosen[2:]:
        a, b = whole.step(action)[0], part.step(action)[0]
        np.testing.assert_array_equal(a[1], b[1])
        np.testing.assert_array_equal(fresh.step(action[:1])[0][0], b[0])


def test_each_machine_may_run_another_scenario(short, other):
    envs = PlacementVectorEnv(3, [SCENARIO, other])
    assert envs.scenario_names == (SCENARIO, other, SCENARIO)
    envs.reset(seed=0)
    alone = PlacementVectorEnv(3, other)
    alone.reset(seed=0)
    for chosen in random_modes(3, 3):
        a, b = envs.step(chosen)[0], alone.step(chosen)[0]
        np.testing.assert_array_equal(a[1], b[1])
        assert (a[0] != b[0]).any()


@pytest.mark.parametrize("form", ["name", "names", "file", "loaded"])
def test_reset_chooses_the_scenario_from_then_on(short, other, form, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(specs.scenario_toml(short))
    scenario: Any = {
        "name": other,
        "names": [SCENARIO, other],
        "file": str(file),
        "loaded": specs.load_scenario(other),
    }
    envs, wanted = PlacementVectorEnv(2, SCENARIO), PlacementVectorEnv(2, scenario[form])
    envs.reset(seed=0)
    envs.reset(options={"scenario": scenario[form]}, seed=6)
    wanted.reset(seed=6)
    assert envs.scenario_names == wanted.scenario_names
    for _ in range(2):
        for chosen in random_modes(2, 3):
            np.testing.assert_array_equal(envs.step(chosen)[0], wanted.step(chosen)[0])
        np.testing.assert_array_equal(envs.reset(seed=7)[0], wanted.reset(seed=7)[0])


def test_reset_of_some_machines_chooses_among_the_scenarios_held(other):
    envs = PlacementVectorEnv(3, [SCENARIO, other])
    envs.reset(seed=0)
    first = np.array([True, False, False])
    envs.reset(options={"scenario": other, "reset_mask": first})
    assert envs.scenario_names == (other, other, SCENARIO)
    another = next(name for name in specs.list_scenarios() if name not in (SCENARIO, other))
    with pytest.raises(UserError, match=f"already holds .*{other}"):
        envs.reset(options={"scenario": another, "reset_mask": first})
    assert envs.scenario_names == (other, other, SCENARIO)


def test_the_single_environment_takes_another_scenario_too(short, other):
    env, wanted = PlacementEnv(SCENARIO), PlacementEnv(other)
    env.reset(seed=0)
    env.reset(seed=1, options={"scenario": other})
    wanted.reset(seed=1)
    assert env.scenario_name == other
    idle = np.zeros(n.N_ACTIONS, dtype=np.int64)
    np.testing.assert_array_equal(env.step(idle)[0], wanted.step(idle)[0])
    env.reset(options={"scenario": short})
    assert [env.step(idle)[3] for _ in range(TICKS)] == [False] * (TICKS - 1) + [True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scenarios": SCENARIO}, "did you mean 'scenario'"),
        ({"scenario": "llama-1to22"}, "did you mean 'llama-1to2'"),
        ({"scenario": [SCENARIO] * 4}, "list of 4; allowed: 1 to 3"),
        ({"scenario": []}, "list of 0; allowed: 1 to 3"),
        ({"reset_mask": [True, False]}, r"booleans of shape \(3,\)"),
        ({"reset_mask": [1, 0, 1]}, r"booleans of shape \(3,\)"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_happens(options, words):
    envs, undisturbed = PlacementVectorEnv(3, SCENARIO), PlacementVectorEnv(3, SCENARIO)
    envs.reset(seed=0)
    undisturbed.reset(seed=0)
    with pytest.raises(UserError, match=words):
        envs.reset(options=options)
    for chosen in random_modes(3, 2):
        np.testing.assert_array_equal(envs.step(chosen)[0], undisturbed.step(chosen)[0])


@pytest.fixture
def suite(tmp_path):
    """A suite of three short scenarios, with horizons of 4, 6 and 8 ticks."""
    for ticks in (4, 6, 8):
        text = specs.scenario_toml(specs.override(specs.load_scenario(SCENARIO), {"episode.horizon_s": ticks * 0.25}))
        (tmp_path / f"ticks{ticks}.toml").write_text(text)
    path = tmp_path / "mine.toml"
    path.write_text('description = "d"\nscenarios = ["ticks4.toml", "ticks6.toml", "ticks8.toml"]\n')
    return path


def test_the_seed_of_every_episode_draws_a_scenario_of_the_suite(suite):
    env, envs = PlacementEnv(suite=suite), PlacementVectorEnv(4, suite=suite)
    envs.reset(seed=2)
    assert envs.scenario_names == ("ticks8", "ticks4", "ticks6", "ticks8")
    idle = np.zeros((4, n.N_ACTIONS), dtype=np.int64)
    for seed in range(2, 6):
        obs, _ = env.reset(seed=seed)
        assert env.scenario_name == f"ticks{(4, 6, 8)[seed % 3]}"
        alone = PlacementEnv(f"{suite.parent / env.scenario_name}.toml")
        alone.reset(seed=seed)
        over = 0
        for _ in range(int(env.scenario_name[-1])):
            assert not over
            obs, _, _, over, _ = env.step(idle[0])
            np.testing.assert_array_equal(alone.step(idle[0])[0], obs)
        assert over


def test_the_next_episode_of_a_machine_draws_anew_and_reset_goes_on_as_autoreset_does(suite):
    envs, single = PlacementVectorEnv(2, suite=suite), PlacementEnv(suite=suite)
    obs, _ = envs.reset(seed=0)
    first, _ = single.reset(seed=0)
    idle, names = np.zeros((2, n.N_ACTIONS), dtype=np.int64), []
    for _ in range(12):
        over = False
        while not over:
            np.testing.assert_array_equal(obs[0], first)
            first, _, _, over, _ = single.step(idle[0])
            obs, _, _, truncated, _ = envs.step(idle)
            assert truncated[0] == over
        first, _ = single.reset()
        obs, _, _, _, _ = envs.step(idle)
        names.append(single.scenario_name)
        assert envs.scenario_names[0] == single.scenario_name
    assert set(names) == {"ticks4", "ticks6", "ticks8"}


def test_what_a_suite_excludes_is_refused(suite):
    for make in (PlacementEnv, lambda *args, **kwargs: PlacementVectorEnv(2, *args, **kwargs)):
        with pytest.raises(UserError, match=r"scenario is 'sparse-1to2' and suite is '.*'; allowed: one of them"):
            make("sparse-1to2", suite=suite)
        with pytest.raises(UserError, match="did you mean 'train'"):
            make(suite="trian")
    envs = PlacementVectorEnv(2, suite=suite)
    envs.reset(seed=0)
    with pytest.raises(UserError, match="are drawn; allowed: with a reset of every machine"):
        envs.reset(options={"scenario": SCENARIO, "reset_mask": np.array([True, False])})
    envs.reset(options={"scenario": SCENARIO})
    assert envs.scenario_names == (SCENARIO, SCENARIO)


def test_suites_are_registered_on_request():
    ids = tiergym.register_envs()
    assert ids == (tiergym.ENV_ID, *(f"tiergym/Placement-{suite}-v3" for suite in specs.list_suites()))
    assert tiergym.register_envs() == ids
    env: Any = gymnasium.make("tiergym/Placement-tuning-v3")
    names = specs.load_suite("tuning").scenarios
    for seed, name in enumerate(names):
        env.reset(seed=seed)
        assert env.unwrapped.scenario_name == name
    envs: Any = gymnasium.make_vec("tiergym/Placement-tuning-v3", num_envs=3)
    envs.reset(seed=0)
    assert envs.scenario_names == tuple(names[i % len(names)] for i in range(3))
    with pytest.raises(UserError, match="allowed: one of them"):
        gymnasium.make("tiergym/Placement-tuning-v3", scenario="sparse-1to2")


def test_a_copied_machine_goes_on_like_the_original():
    """deepcopy and pickle: the copy's results are its own, and the same."""
    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        machines = Machines([specs.load_scenario(SCENARIO)], 2)
        machines.reset(np.arange(2, dtype=np.uint64))
        action = np.tile(actions.DEFAULT, (2, 1))
        for _ in range(30):
            machines.step(action)
        twin = copied(machines)
        for _ in range(30):
            machines.step(action)
        assert (twin.records["tick"] == 30).all()
        for _ in range(30):
            twin.step(action)
        assert (twin.throughput == machines.throughput).all()
        assert (twin.counters == machines.counters).all()
        assert (twin.obs == machines.obs).all()
