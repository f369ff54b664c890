"""Run an experiment: train, export, evaluate from the exported files, one table per scenario, files to keep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from time import perf_counter

from rich.console import Console

from tiergym.errors import UserError
from tiergym.lab import plots, results, run_dir, tables
from tiergym.lab.compare import Comparison, OnEpisodes, compare
from tiergym.lab.experiment import Experiment
from tiergym.lab.experiment_folder import (
    EPISODES,
    PICTURE,
    RESULTS,
    VARIANTS_PICTURE,
    begin,
    describe,
    finished,
    reopen,
)
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.lab.train import train
from tiergym.policy.base import Policy
from tiergym.policy.load import EXPORTED, load_policy
from tiergym.specs import Scenario
from tiergym.terminal import number

Progress = Callable[[], AbstractContextManager[OnEpisodes | None]]


def resume_experiment(folder: Path, console: Console, progress: Progress = nullcontext) -> Path:
    """Go on with an experiment that was interrupted; arguments and result as for `run_experiment`."""
    return run_experiment(reopen(folder), folder, console, progress, resume=True)


def run_experiment(
    experiment: Experiment,
    out: Path | None,
    console: Console,
    progress: Progress = nullcontext,
    *,
    resume: bool = False,
) -> Path:
    """Do all of it; returns the folder. Everything that the experiment names is checked before training starts.

    Args:
        experiment: from `tiergym.lab.experiment.load_experiment`.
        out: the folder; default `runs/<experiment>-<time>` in the working directory.
        console: where tables go; training shows its progress on stderr.
        progress: makes what shows the progress of an evaluation, such as `tiergym.cli.progress_bars.episode_progress`.
        resume: `out` has the experiment already; its finished scenarios and trainings are not run again.
    """
    scenarios = experiment.load_scenarios()
    recipes = [load_recipe(name).resized(None, experiment.steps) for name in experiment.agents]
    baselines = {name: [load_policy(name)] for name in experiment.policies}
    labels = [*(recipe.name for recipe in recipes), *baselines]
    for what, found in (("policies", labels), ("scenarios", [scenario.name for scenario in scenarios])):
        twice = {name for name in found if found.count(name) > 1}
        if twice:
            raise UserError(f"experiment '{experiment.name}': two {what} are named '{min(twice)}'; allowed: once each")
    if out is None:
        out = Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"
    single = len(scenarios) * len(recipes) * len(experiment.training_seeds) == 1

    def folder(recipe: Recipe, scenario: Scenario, seed: int) -> Path:
        return out if single else out / f"{recipe.name}-{scenario.name}-{seed}"

    if not single and not resume:  # a single training makes and describes the folder itself
        begin(out, experiment, scenarios)
    comparisons = []
    for scenario in scenarios:
        cell = out if len(scenarios) == 1 else out / scenario.name
        kept = finished(cell, experiment, scenario, labels) if resume else None
        if kept is not None:
            console.print(f"{kept.scenario}: finished before, read from {cell}", soft_wrap=True)
            comparisons.append(kept)
            continue
        trained = {recipe.name: _train_all(experiment, recipe, scenario, folder, console) for recipe in recipes}
        with progress() as on_episodes:
            comparison = compare(trained | baselines, scenario, experiment.episodes, experiment.seed, on_episodes)
        comparisons.append(comparison)
        _write(cell, comparison, list(trained))
        console.print(tables.summary_table(comparison))
    if single:
        describe(out, experiment, scenarios)
    if experiment.variants:
        console.print(tables.variants_table(comparisons, "throughput"))
        plots.write_variants_png(out / VARIANTS_PICTURE, comparisons)
    elif len(comparisons) > 1:
        console.print(tables.matrix_table(comparisons, "return"))
    if len(comparisons) > 1:
        results.write_json(out / RESULTS, results.matrix_json(comparisons))
    return out


def _train_all(
    experiment: Experiment,
    recipe: Recipe,
    scenario: Scenario,
    folder: Callable[[Recipe, Scenario, int], Path],
    console: Console,
) -> list[Policy]:
    """Train once per training seed; the policies come from the exported files."""
    policies = []
    for seed in experiment.training_seeds:
        run, started = folder(recipe, scenario, seed), perf_counter()
        if (run / run_dir.CONFIG).is_file():
            if not (run / EXPORTED).is_file():
                train(resume=run)
        else:
            train(recipe, scenario, seed=seed, out=run)
        seconds, size = perf_counter() - started, (run / EXPORTED).stat().st_size
        console.print(
            f"{recipe.name} on {scenario.name}, seed {seed}: {number(recipe.steps)} steps in {seconds:.0f} s, "
            f"exported to {run / EXPORTED} ({number(size)} bytes)",
            soft_wrap=True,
        )
        policies.append(load_policy(run))
    return policies


def _write(folder: Path, comparison: Comparison, trained: list[str]) -> None:
    results.write_json(folder / RESULTS, results.comparison_json(comparison))
    plots.write_comparison_png(folder / PICTURE, comparison, highlight=trained)
    results.write_parquet(folder / EPISODES, [comparison])  # the last one: `finished` looks for it
