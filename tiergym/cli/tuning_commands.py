"""The command that makes better numbers: tune."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.terminal import console, say

if TYPE_CHECKING:
    from tiergym.lab.tuning import Trial
    from tiergym.lab.tuning_run import Budget
    from tiergym.specs import Scenario


SIDE_BY_SIDE = 8


class Sampler(Enum):
    """The words of `tiergym.lab.tuning.SAMPLERS`."""

    TPE = "tpe"
    RANDOM = "random"


def tune(
    target: Annotated[
        str,
        typer.Argument(
            metavar="AGENT|RULE",
            help="A rule with parameters (a name, a .py file, a tuned .toml), threshold, constants, a .toml of modes, "
            "or a recipe.",
        ),
    ],
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to tune on: a suite of the purpose train. Default: train.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(metavar="NAME|FILE.toml[,...]", help="In place of --suite.")] = None,
    trials: Annotated[int, typer.Option(min=1, max=1_000_000, help="Sets of values to try.")] = 50,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Simulator steps of all trials together. Default: two episodes a trial and scenario."),
    ] = None,
    sampler: Annotated[
        Sampler | None, typer.Option(help="How values are proposed. Default: random for threshold, else tpe.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the machines and of what is proposed.")] = 0,
    plausibility: Annotated[
        options.Plausible, typer.Option(help="Leave out modes that are less plausible than this.")
    ] = options.Plausible.COUNTERFACTUAL,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Optuna's database, for several commands. Default: DIR/study.db.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Trials that are proposed before the first of them is known, and measured side by side. Default: 1 "
            f"with --engine local, else {SIDE_BY_SIDE}.",
        ),
    ] = None,
    engine: options.EngineOption = options.EngineName.LOCAL,
    workers: options.Workers = None,
    address: options.Address = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Goes on with what is there. Default: runs/tune-NAME.")
    ] = None,
    json: options.JsonFile = None,
) -> None:
    """Tune the parameters of a rule, constants or a recipe, at a budget of simulator steps.

    The best values become a file that is a policy wherever one is named (of a recipe: a recipe to train). They are
    checked on machines that they were not tuned on. An interrupted search goes on where it stopped.

    Example: tiergym tune cost_benefit --suite train --trials 40
    """
    options.check_outputs(json)
    require("optuna")
    from tiergym.lab import results, tuning_report, tuning_run
    from tiergym.lab.engines import LOCAL, Engine
    from tiergym.lab.tuning import Search, TuningInterruptedError
    from tiergym.lab.tuning_recipes import load_tunable_recipe, tune_recipe
    from tiergym.lab.tuning_targets import find_target

    runs_on = Engine(engine.value, workers, address)
    together = batch or (1 if runs_on.name == LOCAL else SIDE_BY_SIDE)
    scenarios, name = _tuned_on(suite, scenario)
    recipe = load_tunable_recipe(target)
    found = None if recipe is not None else find_target(target, plausibility.value)
    called = found.name if found is not None else recipe.name if recipe is not None else target
    folder = out or Path("runs") / f"tune-{called}"
    chosen = sampler.value if sampler is not None else "random" if target == "threshold" else "tpe"
    where = f"--scenario {scenario}" if scenario is not None else f"--suite {name}"
    paid = "" if steps is None else f" --steps {steps}"
    batched = "" if together == 1 else f" --batch {together}"
    command = f"tiergym tune {target} {where} --trials {trials}{paid} --seed {seed}{batched}"
    how = Search(trials, seed, f"{called}-{name}", chosen, storage, command, together)
    err = console(stderr=True)

    def tell_budget(budget: Budget) -> None:
        err.print(f"{called}: {tuning_report.budget_text(budget)}", highlight=False)

    def tell(trial: Trial, count: int) -> None:
        score = "stopped early" if trial.score is None else f"{trial.score:.4f}"
        err.print(f"trial {count} of {trials}: {score}", style="dim", highlight=False)

    try:
        if recipe is not None:
            tuned = tune_recipe(recipe, scenarios, name, how, steps, folder, tell_budget, tell, runs_on)
        elif found is not None:
            tuned = tuning_run.tune_rule(found, scenarios, name, how, steps, folder, tell_budget, tell, runs_on)
    except TuningInterruptedError as interruption:
        print(interruption, file=sys.stderr)
        raise typer.Exit(130) from None
    console().print(tuning_report.table(tuned))
    for line in tuning_report.lines(tuned, found.pair if found is not None else ""):
        say(line)
    if json is not None:
        results.write_json(json, tuned.document())


def _tuned_on(suite: str | None, scenario: str | None) -> tuple[list[Scenario], str]:
    """Scenarios that may be tuned on, and what they are called together."""
    from tiergym import specs
    from tiergym.specs.suites import TRAIN

    if suite is not None and scenario is not None:
        raise UserError("--suite and --scenario were both given; allowed: one of them")
    if scenario is not None:
        loaded = options.load_scenarios(options.names(scenario, "--scenario"), None)
        name = "+".join(each.name for each in loaded)
    else:
        found = specs.load_suite(suite or TRAIN)
        if found.purpose != TRAIN:
            raise UserError(f"suite '{found.name}' is for measuring (purpose test); allowed to tune on: purpose train")
        loaded, name = found.load_all(), found.name
    specs.check_trainable(loaded)
    return loaded, name
