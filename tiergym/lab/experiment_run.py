"""Run an experiment: train, export, evaluate from the exported files, one table per scenario, files to keep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from time import perf_counter

from rich.console import Console

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab import plots, results, run_dir, tables
from tiergym.lab.compare import Comparison, OnEpisodes, compare
from tiergym.lab.experiment import Experiment
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.lab.train import train
from tiergym.policy.base import Policy
from tiergym.policy.load import EXPORTED, load_policy
from tiergym.specs import Scenario
from tiergym.terminal import number

EXPERIMENT, RESULTS, EPISODES, PICTURE = "experiment.toml", "results.json", "results.parquet", "comparison.png"


def run_experiment(
    experiment: Experiment,
    out: Path | None,
    console: Console,
    progress: Callable[[], AbstractContextManager[OnEpisodes | None]] = nullcontext,
) -> Path:
    """Do all of it; returns the folder. Everything that the experiment names is checked before training starts.

    Args:
        experiment: from `tiergym.lab.experiment.load_experiment`.
        out: the folder; default `runs/<experiment>-<time>` in the working directory.
        console: where tables go; training shows its progress on stderr.
        progress: makes what shows the progress of an evaluation, such as `tiergym.cli.progress_bars.episode_progress`.
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

    comparisons = []
    for scenario in scenarios:
        trained = {recipe.name: _train_all(experiment, recipe, scenario, folder, console) for recipe in recipes}
        with progress() as on_episodes:
            comparison = compare(trained | baselines, scenario, experiment.episodes, experiment.seed, on_episodes)
        comparisons.append(comparison)
        _write(out if len(scenarios) == 1 else out / scenario.name, comparison, list(trained))
        console.print(tables.summary_table(comparison))
    document = {key: value for key, value in asdict(experiment).items() if value not in (None, {})}
    files.write_text(out / EXPERIMENT, run_dir.toml_text(document))
    if len(comparisons) > 1:
        console.print(tables.matrix_table(comparisons, "return"))
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
        started = perf_counter()
        run = train(recipe, scenario, seed=seed, out=folder(recipe, scenario, seed))
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
    results.write_parquet(folder / EPISODES, [comparison])
    plots.write_comparison_png(folder / PICTURE, comparison, highlight=trained)
