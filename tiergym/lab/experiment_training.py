"""The trainings of an experiment: one after the other or side by side, each begun, gone on with, or done before."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console

from tiergym.lab import checkpoint
from tiergym.lab.engines import Engine
from tiergym.lab.learner import check_device
from tiergym.lab.recipe import Recipe
from tiergym.lab.train import train
from tiergym.policy.load import EXPORTED
from tiergym.specs import Scenario
from tiergym.terminal import number


@dataclass(frozen=True)
class Training:
    """A recipe on the scenarios `on`, which is the name of one or of a suite, into the folder `run`.

    `own`: the folder is one of the experiment's, which is held, and not the experiment's itself.
    """

    recipe: Recipe
    on: str
    scenarios: Sequence[Scenario]
    seed: int
    run: Path
    own: bool = True


def check_devices(recipes: Sequence[Recipe], engine: Engine) -> None:
    """Raise `UserError` where a recipe wants a device that is not here; machines of a cluster may have others."""
    for recipe in recipes if engine.address is None else ():
        check_device(recipe)


def train_all(trainings: Sequence[Training], engine: Engine, console: Console, trust: bool) -> None:
    """Do all of them, each as far as it is not done, and say what came of it."""
    for index, seconds in engine.run(_train, [(training, trust) for training in trainings]):
        training = trainings[index]
        exported = training.run / EXPORTED
        console.print(
            f"{training.recipe.name} on {training.on}, seed {training.seed}: {number(training.recipe.steps)} steps in "
            f"{seconds:.0f} s, exported to {exported} ({number(exported.stat().st_size)} bytes)",
            soft_wrap=True,
        )


def _train(training: Training, trust: bool) -> float:
    """One training, or the rest of one that was interrupted; returns the seconds that it took."""
    started = perf_counter()
    if not checkpoint.exists(training.run):  # stopped before the first, if it began at all
        if training.own:
            shutil.rmtree(training.run, ignore_errors=True)
        train(training.recipe, training.scenarios, seed=training.seed, out=training.run)
    elif not (training.run / EXPORTED).is_file():
        train(resume=training.run, trust=trust)
    return perf_counter() - started
