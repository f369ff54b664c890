"""Commands that make policies: run, train, export."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.files import read_json, write_json
from tiergym.memory import MAX_EPISODES
from tiergym.terminal import console, say

if TYPE_CHECKING:
    from tiergym.lab.recipe import Recipe
    from tiergym.lab.train import TrainingInterruptedError
    from tiergym.specs import Scenario

RecipeChanges = Annotated[
    list[str] | None,
    typer.Option(
        options.SET,
        metavar="SECTION.FIELD=VALUE",
        help="Change a field of the scenario, as kernel.demotion=on, or of the recipe, as "
        "hyperparameters.gamma=0.9; again for another. Values as in its file.",
    ),
]
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
    engine: options.EngineOption = options.EngineName.LOCAL,
    workers: options.Workers = None,
    address: options.Address = None,
    json: options.JsonFile = None,
    trust: options.Trust = False,
) -> None:
    """Run an experiment from training to table; without a name, the main job.

    Trains, exports each policy as ONNX, evaluates the exported file beside others on seeds that no training has
    seen, prints one table per scenario or suite, and keeps everything in a folder under runs/.
    """
    if resume is not None and (experiment, steps, episodes, changes, out) != (None,) * 5:
        raise UserError(f"--resume {resume}: it has its own experiment, numbers, fields and folder; allowed: alone")
    options.check_outputs(json)
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab.engines import Engine
    from tiergym.lab.experiment import load_experiment
    from tiergym.lab.experiment_run import resume_experiment, run_experiment
    from tiergym.lab.train import TrainingInterruptedError
    from tiergym.specs import read_assignments

    runs_on = Engine(engine.value, workers, address)
    try:
        if resume is not None:
            folder = resume_experiment(resume, console(), episode_progress, trust=trust, engine=runs_on)
        else:
            loaded = load_experiment(experiment or "main")
            assigned = loaded.set | read_assignments(changes or [], options.SET)
            loaded = replace(loaded, steps=steps or loaded.steps, episodes=episodes or loaded.episodes, set=assigned)
            folder = run_experiment(loaded, out, console(), episode_progress, trust=trust, engine=runs_on)
    except TrainingInterruptedError as interruption:
        raise _interrupted(interruption) from None
    say(f"everything is in {folder}; curves: tensorboard --logdir {folder}")
    if json is not None:
        from tiergym.lab.experiment_folder import RESULTS

        write_json(json, {"schema": 1, "folder": str(folder), "results": read_json(folder / RESULTS)})


def train(
    agent: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="The recipe to train with; tiergym agents lists the names."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml[,...]", help="What to train on; several are dealt out to the machines."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help="In place of --scenario: all of a suite that may be trained on.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Decisions of all machines together. Default: the recipe's. With --resume: so many more."
        ),
    ] = None,
    changes: RecipeChanges = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of machines, weights and exploration.")] = 0,
    envs: Annotated[int | None, typer.Option(min=1, help="Machines in parallel. Default: the recipe's.")] = None,
    out: OutFolder = None,
    until_converged: Annotated[
        bool,
        typer.Option(
            "--until-converged",
            help="Stop early: once no evaluation of the last five is better than the best before them.",
        ),
    ] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN|FILE.zip", help="Begin with the networks of another run or of an archive of SB3."
        ),
    ] = None,
    imitate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Begin with networks that do as the plans in DIR, of every scenario one, as ladder keeps in "
            "OUT/PLAUSIBILITY/plans.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Continue a run to its own step count; a finished one with --steps MORE."),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            options.TRUST,
            help="With --resume: machines go on from a state that another user wrote. With --from FILE.zip: read it, "
            "which runs the code in it.",
        ),
    ] = False,
    json: options.JsonFile = None,
) -> None:
    """Train an agent; the run's folder gets TensorBoard events, checkpoints and the exported policy.onnx.

    Meanwhile the deterministic policy is evaluated on machines of its own:
    best.onnx is that of the best checkpoint. Ctrl-C saves a checkpoint and says
    how to continue.
    """
    options.check_outputs(json)
    from tiergym.lab import evaluations, run_dir
    from tiergym.lab import train as training
    from tiergym.lab.run_dir import BEST_EXPORTED
    from tiergym.policy.load import EXPORTED

    if scenario is not None and suite is not None:
        raise UserError("--scenario and --suite were both given; allowed: one of them")
    if resume is None and (agent is None or (scenario is None and suite is None)):
        raise UserError("train needs --agent and --scenario or --suite, or --resume DIR")
    if resume is not None and changes:
        raise UserError(
            f"{options.SET} {changes[0]}: the run in '{resume}' has its own scenarios and recipe; allowed: without it"
        )
    scenarios, recipe = None, None
    if resume is None:
        of_recipe, of_scenarios = _apart(changes or [])
        scenarios = _scenarios(scenario, suite, of_scenarios)
        recipe = _recipe(str(agent), of_recipe)
    elif agent is not None or scenario is not None or suite is not None:
        raise UserError(f"--resume {resume}: the run has its own agent and scenarios; allowed: without them")
    try:
        folder = training.train(
            recipe,
            scenarios,
            steps=steps,
            seed=seed,
            envs=envs,
            out=out,
            resume=resume,
            start_from=start_from,
            imitate=imitate,
            until_converged=until_converged,
            trust=trust,
        )
    except training.TrainingInterruptedError as interruption:
        raise _interrupted(interruption) from None
    trained, found, best = run_dir.read(folder).recipe, evaluations.read(folder), None
    if found:
        best = evaluations.best(found, trained.kills_bound)
        say(f"best of {len(found)} evaluations, after {best.steps} steps: {folder / BEST_EXPORTED}")
    name = "NAME" if scenario is None or "," in scenario else scenario
    say(f"trained: {folder}; evaluate it: tiergym evaluate {folder} --scenario {name}")
    if json is not None:
        document: dict[str, object] = {"schema": 1, "run": str(folder), "policy": str(folder / EXPORTED)}
        if best is not None:
            document["best"] = {"policy": str(folder / BEST_EXPORTED), "steps": best.steps}
        write_json(json, document)


def _apart(changes: list[str]) -> tuple[list[str], list[str]]:
    """The changes of `--set` that are of the recipe, and those of the scenarios."""
    from tiergym.lab.recipe import TABLES

    of_recipe = [text for text in changes if text.partition(".")[0].strip() in TABLES]
    return of_recipe, [text for text in changes if text not in of_recipe]


def _recipe(agent: str, changes: list[str]) -> Recipe:
    """What to train with."""
    from tiergym.lab.recipe import load_recipe
    from tiergym.specs import read_assignments

    recipe = load_recipe(agent)
    return recipe.changed(read_assignments(changes, options.SET), options.SET) if changes else recipe


def _scenarios(scenario: str | None, suite: str | None, changes: list[str] | None) -> list[Scenario]:
    """What to train on."""
    if suite is None:
        return options.load_scenarios(options.names(scenario or "", "--scenario"), changes)
    return options.changed(options.load_suite(suite).load_all(), changes)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE.zip|POLICY",
            help="A training run, finished or not; an archive of SB3; but for onnx, any policy.",
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", "--format", metavar="|".join(options.RUNGS), help="What to write.")
    ] = options.RUNGS[0],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="best|last|N",
            help="Which: the best on held-back machines, the newest (default), or that after N steps.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Default: policy.onnx in the run's folder, FILE.onnx beside FILE.zip; else the rung's name.",
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="Where a policy is watched to make a tree of it; one to train on.")
    ] = "train",
    scenario: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml[,...]", help="In place of --suite: scenarios.")
    ] = None,
    leaves: Annotated[int, typer.Option(min=1, max=64, help="Leaves of the tree, at most.")] = 64,
    inputs: Annotated[
        str, typer.Option(metavar="counters|files|all", help="Observations that the tree may compare.")
    ] = "counters",
    measure: Annotated[
        str | None, typer.Option(metavar="SUITE", help="With all: what each rung keeps on a suite, in rungs.json too.")
    ] = None,
    episodes: options.Episodes = 8,
    seed: options.Seed = 0,
    trust: options.TrustArchive = False,
    json: options.JsonFile = None,
) -> None:
    """Export a policy: the network as ONNX, or rules made of it that a kernel developer can read (docs/export.md).

    onnx is the policy of a run's checkpoint, which needs neither torch nor tiergym: normalisation, masks and the
    deterministic choice are inside, and loading it executes no code. tree is a decision tree that decides as the
    policy does: counters are what vmstat, zoneinfo and PSI tell, files whatever /proc and /sys do. policy.h is the
    tree as C in integers, rules the tree in words, all these three in a folder. A tree's file is taken as it is.
    daemon is a C program that says how it would turn knobs of today's kernels, bpf a sketch for a hook of none.

    Example: tiergym export agents/weights/ppo_suite --to all --leaves 16 --out rungs --measure test
    """
    if to not in options.RUNGS:
        raise UserError(f"--to is '{to}'; allowed: {', '.join(options.RUNGS)}")
    if measure is not None and to != "all":
        raise UserError(f"--measure {measure}: with --to {to}; allowed: with --to all")
    options.check_outputs(json)
    if to == "onnx":
        written = {to: _export_onnx(Path(source), checkpoint, out, trust)}
    elif checkpoint is not None:
        raise UserError(f"--checkpoint {checkpoint}: with --to {to}; allowed: with --to onnx")
    else:
        from tiergym.cli import rung_commands
        from tiergym.lab.distil import Size

        measured = None if measure is None else options.load_suite(measure)
        scenarios = _scenarios(scenario, None if scenario else suite, None)
        size = Size(leaves=leaves, inputs=inputs)
        written = rung_commands.export(source, to, out, scenarios, size, measured, episodes, seed)
    if json is not None:
        write_json(json, {"schema": 1, "files": {name: str(path) for name, path in written.items()}})


def _export_onnx(run: Path, checkpoint: str | None, out: Path | None, trust: bool) -> Path:
    options.check_outputs(out)
    from tiergym.lab.export import LAST, export_archive, export_run
    from tiergym.policy.sb3_archive import SUFFIX

    if run.suffix != SUFFIX:
        written = export_run(run, out, checkpoint or LAST)
    elif checkpoint is None:
        written = export_archive(run, out, trust)
    else:
        raise UserError(f"--checkpoint {checkpoint}: '{run}' is an archive of one model; allowed: without it")
    say(str(written))
    return written


def _interrupted(interruption: TrainingInterruptedError) -> typer.Exit:
    print(interruption, file=sys.stderr)
    return typer.Exit(130)
