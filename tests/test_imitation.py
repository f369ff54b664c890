"""Imitating plans: before it learns by itself, a network chooses as the plan of whichever machine it is on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny_training import HORIZON_TICKS, same, small, tiny_scenario, weights
from tiergym import specs
from tiergym.env.actions import ENTRIES, N_MASK
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab import checkpoint, evaluations, imitation
from tiergym.lab.evaluation_callback import EvaluationCallback
from tiergym.lab.imitation import discounted, read_plans, visit
from tiergym.lab.train import TrainingInterruptedError, train
from tiergym.policy.load import load_policy
from tiergym.policy.plan import PlanPolicy, load_plan


def write_plan(folder, name, *modes, ticks=HORIZON_TICKS):
    pieces = [{"ticks": ticks // len(modes), "modes": each} for each in modes]
    document = {"schema": 1, "plan": name, "horizon_ticks": ticks, "pieces": pieces}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document))


def kernel_to_slow(recipe_steps=32):
    recipe = small("ppo", steps=recipe_steps)
    return replace(recipe, hold_ticks=1, hyperparameters={**recipe.hyperparameters, "learning_rate": 0.0})


@pytest.fixture
def quickly(monkeypatch):
    """Few updates, where it does not matter how well a network imitates."""
    monkeypatch.setattr(imitation, "UPDATES", 10)


@pytest.fixture
def scenario(tmp_path):
    return tiny_scenario(tmp_path)


@pytest.fixture
def two(tmp_path, scenario):
    """Two scenarios that the observation tells apart, and plans that want different things on them."""
    with_demotion = specs.override(scenario, {"kernel.demotion": "on"}, "other")
    other = replace(with_demotion, name="other")
    write_plan(tmp_path / "plans", "tiny", {"zone": "movable"})
    write_plan(
        tmp_path / "plans", "other", {"headroom": "large"}, {"headroom": "large", "place.slab_reclaim": "prefer_fast"}
    )
    return [scenario, other]


def test_the_network_does_what_each_scenario_s_plan_does(tmp_path, two, capsys, monkeypatch):
    """What it learned is in the export: on machines that it never saw it chooses as the plan of their scenario."""
    monkeypatch.setattr(imitation, "UPDATES", 1000)
    run = train(kernel_to_slow(), two, imitate=tmp_path / "plans", out=tmp_path / "run", progress=False)
    assert "imitated 2 plans" in capsys.readouterr().err
    policy = load_policy(run)
    for scenario in two:
        plan = load_plan(tmp_path / "plans" / f"{scenario.name}.json")
        states = visit([plan], [scenario], np.ones(1), 1, 0.9, np.arange(90, 98, dtype=np.uint64))
        policy.reset(len(states.obs), 0)
        chosen = policy(states.obs, np.ones((len(states.obs), N_MASK), np.bool_))
        assert (chosen == states.wanted).mean() > 0.97, scenario.name
    assert read_toml(run / "config.toml")["started_from"].startswith(f"plans of {tmp_path / 'plans'}, sha256 ")


def test_it_is_a_checkpoint_of_its_own_and_the_first_evaluation(tmp_path, two, quickly):
    run = train(small("ppo"), two, imitate=tmp_path / "plans", out=tmp_path / "run", progress=False)
    assert checkpoint.steps(checkpoint.after(run, 0)) == 0
    assert evaluations.read(run)[0].steps == 0


@pytest.mark.parametrize("name", ["ppo", "a2c", "maskable_ppo"])
def test_the_same_seed_gives_the_same_weights_and_an_interruption_changes_nothing(tmp_path, two, name, quickly):
    def run(out, **options):
        return train(small(name), two, imitate=tmp_path / "plans", out=tmp_path / out, progress=False, **options)

    from stable_baselines3.common.callbacks import BaseCallback

    class Interrupt(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            raise KeyboardInterrupt

    whole = run("whole")
    assert same(weights(whole), weights(run("again")))
    with pytest.raises((KeyboardInterrupt, TrainingInterruptedError)):
        run("cut", callbacks=[Interrupt()])
    assert checkpoint.steps(checkpoint.latest(tmp_path / "cut")) == 0
    resumed = train(resume=tmp_path / "cut", progress=False)
    assert same(weights(whole), weights(resumed))


def test_a_kill_before_the_first_evaluation_does_not_leave_it_out(tmp_path, two, monkeypatch, quickly):
    whole = train(small("ppo"), two, imitate=tmp_path / "plans", out=tmp_path / "whole", progress=False)

    def killed(self):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(EvaluationCallback, "_evaluate", killed)
        with pytest.raises(InterruptedError):
            train(small("ppo"), two, imitate=tmp_path / "plans", out=tmp_path / "cut", progress=False)
    resumed = train(resume=tmp_path / "cut", progress=False)
    assert evaluations.read(resumed) == evaluations.read(whole)


def test_discounted_sums_go_on_after_the_end_as_they_were():
    rewards, alive = np.full((8, 2), -1.0), np.ones((8, 2), np.bool_)
    alive[5:, 1] = False
    rewards[5:, 1] = 99.0  # of the episode after it
    assert discounted(rewards, alive, 0.5)[alive] == pytest.approx(-2.0)
    assert discounted(rewards, alive, 1.0)[0].tolist() == [-8.0, -5.0]


def test_a_plan_drives_the_machine_that_it_is_of(two):
    """Dealt out in turn, piece by piece, and each state is labelled with what its plan wants then."""
    first = PlanPolicy("a", "tiny", np.array([HORIZON_TICKS]), np.zeros((1, len(ENTRIES)), np.int64))
    halves = PlanPolicy("b", "other", np.array([6, 6]), np.eye(2, len(ENTRIES), dtype=np.int64))
    states = visit([first, halves], two, np.ones(2), 3, 0.9, np.arange(2, dtype=np.uint64))
    assert states.wanted.tolist() == [
        row for tick in range(0, HORIZON_TICKS, 3) for row in (first.at(tick).tolist(), halves.at(tick).tolist())
    ]
    assert states.obs.shape[0] == 8 and (states.values < 0).all()


def test_frames_of_a_visited_state_are_those_of_the_decisions_before_it(two):
    plan = PlanPolicy("a", "tiny", np.array([HORIZON_TICKS]), np.zeros((1, len(ENTRIES)), np.int64))
    seeds = np.arange(2, dtype=np.uint64)
    one, three = (visit([plan, plan], two, np.ones(2), 3, 0.9, seeds, frames=frames) for frames in (1, 3))
    assert three.obs.shape == (8, 3 * N_OBS)
    for decision, (now, seen) in enumerate(zip(one.obs, three.obs, strict=True)):  # of two machines in turn
        before = [one.obs[at] if at >= 0 else np.zeros(N_OBS) for at in (decision - 2, decision - 4)]
        assert (seen == np.concatenate([now, *before])).all()


def test_a_network_with_frames_imitates(tmp_path, two, quickly):
    recipe = replace(small("ppo"), frames=3)
    runs = [
        train(recipe, two, imitate=tmp_path / "plans", out=tmp_path / name, progress=False) for name in ("run", "again")
    ]
    assert same(*map(weights, runs))
    assert evaluations.read(runs[0])[0].steps == 0


@pytest.mark.parametrize("name", ["sac", "dqn", "recurrent_ppo"])
def test_learners_that_choose_no_modes_or_remember_are_refused(tmp_path, two, name):
    with pytest.raises(UserError, match="allowed: ppo, a2c and maskable_ppo on multidiscrete"):
        read_plans(tmp_path / "plans", two, small(name))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "other.json").unlink(), "no other.json; allowed: a folder with a plan for each"),
        (lambda folder: write_plan(folder, "other", {}, ticks=13), "made for 13 ticks"),
        (lambda folder: write_plan(folder, "other", {"zone": "x"}), r"other.json: pieces.0..modes"),
        (lambda folder: (folder / "other.json").write_text("[" * 100_000), "other.json"),
    ],
)
def test_plans_that_are_none_are_refused_before_there_is_a_run(tmp_path, two, spoil, message):
    spoil(tmp_path / "plans")
    with pytest.raises(UserError, match=message):
        train(small("ppo"), two, imitate=tmp_path / "plans", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_one_beginning_is_enough(tmp_path, two):
    with pytest.raises(UserError, match="--from and --imitate were both given"):
        train(small("ppo"), two, imitate=tmp_path / "plans", start_from=tmp_path / "x", out=tmp_path / "run")
    with pytest.raises(UserError, match="the run has its own agent"):
        train(resume=tmp_path / "x", imitate=tmp_path / "plans")
