"""Commands that make policies: run, train, export."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.lab.experiment import MAX_EPISODES
from tiergym.terminal import console

if TYPE_CHECKING:
    from tiergym.lab.train import TrainingInterruptedError

OutFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the results, new or empty. Default: runs/NAME-TIME.")
]


def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT|FILE.toml", help="What to run; files like those in experiments/. Default: main."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps per run, in place of the experiment's.")
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_EPISODES, help="Episodes of evaluation, in place of the experiment's."),
    ] = None,
    changes: options.Changes = None,
    out: OutFolder = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted experiment, in its own folder.")
    ] = None,
) -> None:
    """Run an experiment from training to table; without a name, the main job.

    Trains, exports each policy as ONNX, evaluates the exported file beside the baselines on seeds that no training
    has seen, prints one table per scenario, and keeps everything in a folder under runs/.
    """
    if resume is not None and (experiment, steps, episodes, changes, out) != (None,) * 5:
        raise UserError(f"--resume {resume}: it has its own experiment, numbers, fields and folder; allowed: alone")
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab.experiment import load_experiment
    from tiergym.lab.experiment_run import resume_experiment, run_experiment
    from tiergym.lab.train import TrainingInterruptedError
    from tiergym.specs import read_assignments

    try:
        if resume is not None:
            folder = resume_experiment(resume, console(), episode_progress)
        else:
            loaded = load_experiment(experiment or "main")
            assigned = loaded.set | read_assignments(changes or [], options.SET)
            loaded = replace(loaded, steps=steps or loaded.steps, episodes=episodes or loaded.episodes, set=assigned)
            folder = run_experiment(loaded, out, console(), episode_progress)
    except TrainingInterruptedError as interruption:
        raise _interrupted(interruption) from None
    print(f"everything is in {folder}; curves: tensorboard --logdir {folder}")


def train(
    agent: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="The recipe to train with; tiergym agents lists the names."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml[,...]", help="What to train on; several are dealt out to the machines."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Decisions of all machines together. Default: the recipe's.")
    ] = None,
    changes: options.Changes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of machines, weights and exploration.")] = 0,
    envs: Annotated[int | None, typer.Option(min=1, help="Machines in parallel. Default: the recipe's.")] = None,
    out: OutFolder = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue an interrupted run to its own step count.")
    ] = None,
) -> None:
    """Train an agent; the run's folder gets TensorBoard events, checkpoints and the exported policy.onnx.

    Ctrl-C saves a checkpoint and says how to continue.
    """
    from tiergym.lab import train as training

    if resume is None and (agent is None or scenario is None):
        raise UserError("train needs --agent and --scenario, or --resume DIR")
    if resume is not None and changes:
        raise UserError(f"{options.SET} {changes[0]}: the run in '{resume}' has its own scenarios; allowed: without it")
    scenarios = None if scenario is None else options.load_scenarios(options.names(scenario, "--scenario"), changes)
    try:
        folder = training.train(agent, scenarios, steps=steps, seed=seed, envs=envs, out=out, resume=resume)
    except training.TrainingInterruptedError as interruption:
        raise _interrupted(interruption) from None
    print(f"trained: {folder}; evaluate it: tiergym evaluate {folder} --scenario {scenario or 'NAME'}")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run, finished or not.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar="onnx", help="The file format; onnx is the one there is.")
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: policy.onnx in the run's folder.")] = None,
) -> None:
    """Export the policy of a run's newest checkpoint as a file that needs neither torch nor tiergym.

    Normalisation, masks and the deterministic choice are inside; loading it executes no code.
    """
    if file_format != "onnx":
        raise UserError(f"--format is '{file_format}'; allowed: onnx")
    options.check_outputs(out)
    from tiergym.lab.export import export_run

    print(export_run(run, out))


def _interrupted(interruption: TrainingInterruptedError) -> typer.Exit:
    print(interruption, file=sys.stderr)
    return typer.Exit(130)
