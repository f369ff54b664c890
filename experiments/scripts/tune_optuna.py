"""Hyperparameters by Optuna, bad trials ended early: `python tune_optuna.py [STEPS] [TRIALS]`

Needs `pip install optuna`. `tiergym.lab.train.train` takes callbacks. `Pruning` reports the mean return of the episodes
that ended in each rollout, and raises `TrialPruned` where Optuna sees no hope, which leaves training at once. Tune on
scenarios of the suite `tuning`.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import optuna
from stable_baselines3.common.callbacks import BaseCallback

from tiergym.lab.compare import compare
from tiergym.lab.recipe import load_recipe, make_recipe
from tiergym.lab.train import train
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
SCENARIO = "llama-1to2"


class Pruning(BaseCallback):
    """Reports to a trial after every rollout in which episodes ended, and ends it where it is hopeless."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self.trial, self.returns = trial, []

    def _on_step(self) -> bool:
        self.returns += [self.locals["infos"][i]["episode"]["r"] for i in np.flatnonzero(self.locals["dones"])]
        return True

    def _on_rollout_end(self) -> None:
        if self.returns:
            self.trial.report(float(np.mean(self.returns)), self.num_timesteps)
            self.returns = []
            if self.trial.should_prune():
                raise optuna.TrialPruned


def objective(trial: optuna.Trial) -> float:
    """Mean return of the trained and exported policy on machines of its own."""
    document = load_recipe("ppo").document()
    document["hyperparameters"] |= {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 1e-2, log=True),
        "gamma": trial.suggest_categorical("gamma", [0.98, 0.99, 0.995]),
    }
    document["hold_ticks"] = trial.suggest_categorical("hold_ticks", [4, 8])
    document["evaluation"] = {"every_steps": 0}  # the trial is judged by what it exports
    recipe = make_recipe("tuned", document, "tuned").resized(64, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, SCENARIO, out=Path(folder) / "run", progress=False, callbacks=[Pruning(trial)])
        policy = load_policy(run)
    comparison = compare({"tuned": [policy]}, load_scenario(SCENARIO), episodes=4, seed=1)
    return float(comparison.values["tuned"]["return"].mean())


study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=4))
study.optimize(objective, n_trials=TRIALS)
pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
print(f"{len(study.trials)} trials, {pruned} ended early; the best: {study.best_value:.2f} with {study.best_params}")
