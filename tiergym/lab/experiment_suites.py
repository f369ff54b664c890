"""Run an experiment on suites: train on one, export, and measure the exported files on others as the leaderboard does.

Its folder holds one of each training, the results of every policy on every scenario (`cells/`), results.json, which is
that of `tiergym leaderboard` and can be verified, tables.md and profile.png.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from tiergym import files
from tiergym.errors import UserError, shown
from tiergym.lab import leaderboard_page, results
from tiergym.lab.compare import OnEpisodes
from tiergym.lab.engines import Engine
from tiergym.lab.experiment import AGAINST, Experiment, name_of, path_of
from tiergym.lab.experiment_folder import CELLS, PROFILE, RESULTS, TABLES, describe
from tiergym.lab.experiment_training import Training, check_devices, train_all
from tiergym.lab.leaderboard import OnCell, count_cells, leaderboard
from tiergym.lab.locking import locked
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.specs import Scenario, load_suite


def run_on_suites(
    experiment: Experiment,
    out: Path,
    console: Console,
    progress: Callable[[], AbstractContextManager[OnEpisodes | None]],
    resume: bool,
    trust: bool,
    engine: Engine,
) -> Path:
    """What `tiergym.lab.experiment_run.run_experiment` does with suites; arguments as there, `out` returned."""
    if experiment.set:
        raise UserError(
            f"experiment '{experiment.name}': set or --set is {shown(experiment.set)} with suites, which are frozen; "
            "allowed: with scenarios"
        )
    recipes = [load_recipe(name).resized(None, experiment.steps) for name in experiment.agents]
    check_devices(recipes, engine)
    suites, trained_on = experiment.load_suites(), experiment.load_trained_on()
    experiment.load_policies(trust)
    experiment.check_names(policies=experiment.compared)
    trainings = _trainings(experiment, recipes, trained_on, out)
    spelled = {recipe.name: [str(each.run) for each in trainings if each.recipe is recipe] for recipe in recipes}
    spelled |= {name_of(policy): [path_of(policy)] for policy in experiment.policies}
    with locked(out, new=not resume):
        if not resume:
            describe(out, experiment, experiment.load_scenarios())
        train_all(trainings, engine, console, trust)
        with progress() as on_episodes:
            board = leaderboard(
                suites,
                spelled,
                out / CELLS,
                experiment.episodes,
                experiment.seed,
                experiment.against or AGAINST,
                _counting(on_episodes, count_cells(suites, spelled)),
                engine,
            )
        for suite in board.rows:
            console.print(leaderboard_page.terminal_table(board, suite))
        leaderboard_page.write_profile_png(out / PROFILE, board)
        files.write_text(out / TABLES, leaderboard_page.page_tables(board) + "\n")
        results.write_json(out / RESULTS, board.document())
    return out


def _trainings(
    experiment: Experiment, recipes: Sequence[Recipe], trained_on: Sequence[Scenario], out: Path
) -> list[Training]:
    if experiment.train_on is None:
        return []
    suite = load_suite(experiment.train_on).name
    return [
        Training(recipe, suite, trained_on, seed, out / f"{recipe.name}-{suite}-{seed}")
        for recipe in recipes
        for seed in experiment.training_seeds
    ]


def _counting(on_episodes: OnEpisodes | None, cells: int) -> OnCell:
    """Tells of each cell that is done how many of all are."""
    done = 0

    def on_cell(policy: str, scenario: str) -> None:
        nonlocal done
        done += 1
        if on_episodes is not None:
            on_episodes(f"{policy} on {scenario}", done, cells)

    return on_cell
