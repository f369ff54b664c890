"""Run an experiment: train, export, evaluate from the exported files, one table per scenario, files to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from tiergym import files
from tiergym.extras import require
from tiergym.lab import plots, results, tables, view_pictures
from tiergym.lab.compare import Comparison, OnEpisodes, compare
from tiergym.lab.engines import LOCAL, Engine
from tiergym.lab.experiment import Experiment
from tiergym.lab.experiment_folder import (
    EPISODES,
    PICTURE,
    RESULTS,
    TABLES,
    VARIANTS_PICTURE,
    VIEW_PICTURE,
    describe,
    finished,
    reopen,
)
from tiergym.lab.experiment_suites import run_on_suites
from tiergym.lab.experiment_training import Training, check_devices, train_all
from tiergym.lab.locking import locked
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.lab.view_tables import Cell, make_table
from tiergym.lab.views import SCENARIO
from tiergym.policy.load import load_policy
from tiergym.specs import Scenario

Progress = Callable[[], AbstractContextManager[OnEpisodes | None]]


def resume_experiment(
    folder: Path,
    console: Console,
    progress: Progress = nullcontext,
    *,
    trust: bool = False,
    engine: Engine | None = None,
) -> Path:
    """Go on with an experiment that was interrupted; arguments and result as for `run_experiment`."""
    return run_experiment(reopen(folder), folder, console, progress, resume=True, trust=trust, engine=engine)


def run_experiment(
    experiment: Experiment,
    out: Path | None,
    console: Console,
    progress: Progress = nullcontext,
    *,
    resume: bool = False,
    trust: bool = False,
    engine: Engine | None = None,
) -> Path:
    """Do all of it; returns the folder. Everything that the experiment names is checked before training starts.

    Args:
        experiment: from `tiergym.lab.experiment.load_experiment`.
        out: the folder; default `runs/<experiment>-<time>` in the working directory.
        console: where tables go; training shows its progress on stderr.
        progress: makes what shows the progress of an evaluation, such as `tiergym.cli.progress_bars.episode_progress`.
        resume: `out` has the experiment already; its finished scenarios and trainings are not run again.
        trust: whether Python code may run that the experiment names and that is not shipped; and as for `train`.
        engine: trains side by side, then evaluates side by side, where it has workers; they need the same folder. Here,
            one scenario is trained on and evaluated after the other; of suites everything is evaluated at the end.
    """
    engine = engine or Engine()
    for package in ("matplotlib", "pyarrow", *(("onnx", "onnxruntime") if experiment.agents else ())):
        require(package)
    if out is None:
        out = Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if experiment.suites:
        return run_on_suites(experiment, out, console, progress, resume, trust, engine)
    scenarios = experiment.load_scenarios()
    recipes = [load_recipe(name).resized(None, experiment.steps) for name in experiment.agents]
    check_devices(recipes, engine)
    labels = [*(recipe.name for recipe in recipes), *experiment.load_policies(trust)]
    experiment.check_names(policies=labels, scenarios=[scenario.name for scenario in scenarios])
    single = len(scenarios) * len(recipes) * len(experiment.training_seeds) == 1

    def folder(recipe: Recipe, scenario: Scenario, seed: int) -> Path:
        return out if single else out / f"{recipe.name}-{scenario.name}-{seed}"

    if single:
        engine = Engine()  # there is nothing to spread, and the training's folder is this one, which is held here
    with locked(out, new=not resume):
        if not single and not resume:  # a single training describes the folder itself
            describe(out, experiment, scenarios)
        shown = bool(experiment.tables or experiment.picture)  # it says itself what is shown
        cells = {scenario.name: out if len(scenarios) == 1 else out / scenario.name for scenario in scenarios}
        compared: dict[str, Comparison] = {}
        for scenario in scenarios if resume else ():
            kept = finished(cells[scenario.name], experiment, scenario, labels)
            if kept is not None:
                console.print(f"{scenario.name}: finished before, read from {cells[scenario.name]}", soft_wrap=True)
                compared[scenario.name] = kept
        left = [scenario for scenario in scenarios if scenario.name not in compared]
        for batch in [[scenario] for scenario in left] if engine.name == LOCAL else [left]:
            runs = {
                scenario.name: {
                    recipe.name: [folder(recipe, scenario, seed) for seed in experiment.training_seeds]
                    for recipe in recipes
                }
                for scenario in batch
            }
            trainings = [
                Training(recipe, scenario.name, [scenario], seed, run, own=not single)
                for scenario in batch
                for recipe in recipes
                for seed, run in zip(experiment.training_seeds, runs[scenario.name][recipe.name], strict=True)
            ]
            train_all(trainings, engine, console, trust)
            asked = [(experiment, scenario, runs[scenario.name], trust) for scenario in batch]
            with progress() if engine.name == LOCAL else nullcontext() as on_episodes:
                compare_one = partial(_compare, on_episodes=on_episodes) if engine.name == LOCAL else _compare
                for index, comparison in engine.run(compare_one, asked):
                    scenario = batch[index]
                    compared[scenario.name] = comparison
                    _write(
                        cells[scenario.name], comparison, [recipe.name for recipe in recipes], with_picture=not shown
                    )
                    if not shown:
                        console.print(tables.summary_table(comparison))
        comparisons = [compared[scenario.name] for scenario in scenarios]
        if single:
            describe(out, experiment, scenarios)
        if shown:
            _show(experiment, comparisons, out, console)
        elif experiment.all_variants():
            console.print(tables.variants_table(comparisons, "throughput"))
            plots.write_variants_png(out / VARIANTS_PICTURE, comparisons)
        elif len(comparisons) > 1:
            console.print(tables.matrix_table(comparisons, "return"))
        if len(comparisons) > 1:
            results.write_json(out / RESULTS, results.matrix_json(comparisons))
        return out


def _compare(
    experiment: Experiment,
    scenario: Scenario,
    runs: Mapping[str, Sequence[Path]],
    trust: bool,
    on_episodes: OnEpisodes | None = None,
) -> Comparison:
    """What was trained, from the exported files, beside the experiment's policies."""
    trained = {name: [load_policy(run) for run in mine] for name, mine in runs.items()}
    baselines = {name: [policy] for name, policy in experiment.load_policies(trust).items()}
    return compare(trained | baselines, scenario, experiment.episodes, experiment.seed, on_episodes)


def _write(folder: Path, comparison: Comparison, trained: list[str], *, with_picture: bool) -> None:
    results.write_json(folder / RESULTS, results.comparison_json(comparison))
    if with_picture:
        plots.write_comparison_png(folder / PICTURE, comparison, highlight=trained)
    results.write_parquet(folder / EPISODES, [comparison])  # the last one: `finished` looks for it


def _show(experiment: Experiment, comparisons: list[Comparison], out: Path, console: Console) -> None:
    """The tables and the picture that the experiment asks for."""
    variants = experiment.all_variants()
    at = {variant: where for variant, (where, _) in variants.items()}
    cells = [Cell({SCENARIO: each.base} | at.get(each.variant, {}), each) for each in comparisons]
    views, picture = experiment.views()
    made = [make_table(view, cells, experiment.along()) for view in views]
    for table in made:
        console.print(table.rich())
    if made:
        files.write_text(out / TABLES, "\n".join(table.markdown() for table in made))
    if picture is not None:
        view_pictures.write_png(out / VIEW_PICTURE, picture, cells, experiment.along())
