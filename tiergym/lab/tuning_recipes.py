"""A learned recipe's hyperparameters, tuned at the budget of simulator steps that a rule gets.

Every trial is a training of its own, of as many decisions as its share of the budget pays for. At each quarter the
deterministic policy is exported and scored on the tuning machines, as a rule is; who is worse than the median of the
others at that point is stopped. What is simulated before learning begins (staggered starts, stock Linux's losses) is
not counted, as it is not for rules.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tiergym import paths, specs
from tiergym.errors import UserError
from tiergym.files import is_file, read_toml
from tiergym.lab.engines import Engine
from tiergym.lab.recipe import Recipe, load_recipe, make_recipe
from tiergym.lab.tuning import Measure, OnTrial, PrunedError, Report, Search, best_of, search
from tiergym.lab.tuning_run import EPISODES, Budget, OnBudget, Tuned, asked_of, working_in, write_tuned
from tiergym.lab.tuning_score import TUNING, Arena, mean_saved, steps_of_one, tuning_arena
from tiergym.lab.tuning_targets import Values
from tiergym.policy.load import load_policy
from tiergym.policy.rule_parameters import Parameter
from tiergym.specs import Scenario, suite_digest

LOOKS = 4
"""Scores of a training: three on the way, and that of its end."""
HIDDEN = "hidden"
WIDTHS = ("32,32", "64,64", "128,128", "256,256", "64,64,64")
SPACE = (
    Parameter("learning_rate", 3e-4, 1e-5, 1e-2, "at the start of its line", log=True),
    Parameter("gamma", 0.99, 0.9, 0.999, "discount of a decision"),
    Parameter("gae_lambda", 0.95, 0.8, 1.0, "of generalised advantages"),
    Parameter("clip_range", 0.2, 0.05, 0.4, "of PPO's ratio"),
    Parameter("ent_coef", 0.01, 1e-5, 0.1, "weight of the entropy", log=True),
    Parameter("n_epochs", 10, 1, 20, "passes over a rollout"),
    Parameter("tau", 0.01, 1e-3, 0.1, "of the target network", log=True),
    Parameter("exploration_fraction", 0.1, 0.05, 0.8, "of the training"),
)
"""What is tuned, as far as an algorithm has it; the ranges are widened to a recipe's own numbers."""


def load_tunable_recipe(spec: str) -> Recipe | None:
    """The recipe of a name or file, None where it names none. Raises `UserError` for one that is not sound."""
    path = Path(spec) if spec.endswith(".toml") else paths.agents_dir() / f"{spec}.toml"
    return load_recipe(spec) if is_file(path) and "algorithm" in read_toml(path) else None


def parameters_of_recipe(recipe: Recipe) -> dict[str, Parameter]:
    """What can be tuned of a recipe; the defaults are its own numbers."""
    signature = inspect.signature(recipe.learner.cls.__init__).parameters
    out = {}
    for known in SPACE:
        if known.name not in signature:
            continue
        value = recipe.hyperparameters.get(known.name, signature[known.name].default)
        value = value["start"] if isinstance(value, dict) else value
        if isinstance(value, bool) or not isinstance(value, int | float) or (known.log and value <= 0):
            continue
        kind = type(known.default)
        out[known.name] = replace(known, default=kind(value), low=min(known.low, value), high=max(known.high, value))
    own = ",".join(map(str, recipe.network.get(HIDDEN, [64, 64])))
    out[HIDDEN] = Parameter(HIDDEN, own, options=tuple(dict.fromkeys((own, *WIDTHS))))
    return out


def with_values(recipe: Recipe, values: Values) -> Recipe:
    """The recipe with tuned numbers; the end of a line moves with its start."""
    document = recipe.document()
    numbers, network = dict(document["hyperparameters"]), dict(document["network"])
    for name, value in values.items():
        old = numbers.get(name)
        if name == HIDDEN:
            network[HIDDEN] = [int(width) for width in value.split(",")]
        elif isinstance(old, dict):
            numbers[name] = {"start": value, "end": old["end"] * value / old["start"]}
        else:
            numbers[name] = value
    return make_recipe(recipe.name, document | {"hyperparameters": numbers, "network": network}, recipe.name)


def tune_recipe(
    recipe: Recipe,
    scenarios: Sequence[Scenario],
    suite: str,
    how: Search,
    steps: int | None,
    out: Path,
    on_budget: OnBudget = lambda budget: None,
    on_trial: OnTrial = lambda trial, count: None,
    engine: Engine | None = None,
) -> Tuned:
    """Search the recipe's numbers, and write the recipe with the best of them into `out`.

    Raises `UserError` without a budget or with one that pays for no rollout, and as `tiergym.lab.tuning_run.tune_rule`
    does.
    """
    from tiergym.lab.experiment_training import check_devices

    specs.check_trainable(scenarios)
    check_devices([recipe], engine or Engine())
    looks = LOOKS * EPISODES * steps_of_one(scenarios)
    rollout = recipe.hyperparameters.get("n_steps", 1) * recipe.envs if recipe.learner.on_policy else recipe.envs
    least = how.trials * (looks + LOOKS * rollout * recipe.hold_ticks)
    if steps is None or steps < least:
        raise UserError(
            f"--steps is {steps if steps is not None else 'missing'}; a recipe allows: at least {least}, {LOOKS} "
            f"rollouts and as many scores for each of {how.trials} trials"
        )
    decisions = (steps // how.trials - looks) // recipe.hold_ticks // rollout * rollout
    per_trial = looks + decisions * recipe.hold_ticks
    budget = Budget(how.trials, EPISODES, len(scenarios), how.trials * per_trial)
    parameters = parameters_of_recipe(recipe)

    def prepare() -> Measure:
        machines = tuning_arena(scenarios, EPISODES, how.seed, TUNING)
        return partial(_train, recipe, decisions, scenarios, machines, how.seed, out)

    asked = {"target": recipe.document(), "decisions": decisions, **asked_of(scenarios, budget, how)}
    start = {name: parameter.default for name, parameter in parameters.items()}
    with working_in(out):
        on_budget(budget)
        trials = search(parameters, [start], prepare, asked, how, out, on_trial, engine)
        best = best_of(trials)
        tuned = Tuned(
            recipe.name,
            suite,
            suite_digest(scenarios),
            how,
            parameters,
            trials,
            trials[0],
            best,
            None,
            None,
            budget,
            out / f"{recipe.name.removesuffix('_tuned')}_tuned.toml",
        )
        write_tuned(tuned, with_values(recipe, best.values).document())
    return tuned


def _train(
    recipe: Recipe,
    decisions: int,
    scenarios: Sequence[Scenario],
    machines: Arena,
    seed: int,
    out: Path,
    values: Values,
    trial: int,
    report: Report,
) -> tuple[float, int]:
    """Train in a folder of the trial's own; its last score and the simulator steps spent. Raises `PrunedError`."""
    from tiergym.lab.train import train

    run = out / "trials" / f"{trial:04d}"
    shutil.rmtree(run, ignore_errors=True)  # of a worker that died, or of a search that was interrupted
    with_them = with_values(recipe, values)
    sized = make_recipe(recipe.name, with_them.document() | {"checkpoint_steps": decisions}, recipe.name)
    look = _looking(run, decisions, machines, report)
    train(sized, list(scenarios), steps=decisions, seed=seed, out=run, progress=False, callbacks=[look])
    looks, done = len(look.scores), look.num_timesteps
    if look.stopped:
        raise PrunedError(done * recipe.hold_ticks + looks * machines.steps)
    score = mean_saved(list(machines.saved(load_policy(run))))
    return score, done * recipe.hold_ticks + (looks + 1) * machines.steps


def _looking(run: Path, decisions: int, machines: Arena, report: Report) -> Any:
    """The callback that scores the policy at each quarter and stops a training that others are better than."""
    from stable_baselines3.common.callbacks import BaseCallback

    from tiergym.lab import learner, run_dir
    from tiergym.policy.export_onnx import export_actor

    class Looking(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.scores: list[float] = []
            self.stopped = False

        def _on_rollout_start(self) -> None:
            if self.num_timesteps * LOOKS < decisions * (len(self.scores) + 1) or self.num_timesteps >= decisions:
                return
            path = run / "look.onnx"
            export_actor(learner.actor_of(self.model, run_dir.read(run).recipe), path)
            self.scores.append(mean_saved(list(machines.saved(load_policy(path)))))
            self.stopped = report(self.scores[-1])

        def _on_step(self) -> bool:
            return not self.stopped

    return Looking()
