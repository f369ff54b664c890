"""The exported policy of a run: of its newest checkpoint, the best one that was evaluated, or any that it has kept."""

from pathlib import Path

from tiergym.errors import UserError
from tiergym.lab import checkpoint, evaluations, learner, run_dir
from tiergym.lab.run_dir import RunConfig
from tiergym.policy.export_onnx import export_actor, export_onnx
from tiergym.policy.load import EXPORTED
from tiergym.policy.sb3_archive import load_archive

LAST, BEST = "last", "best"


def export_run(run: Path, out: Path | None = None, which: str = LAST) -> Path:
    """Write the policy of a run as ONNX to `out`, by default the run's own `policy.onnx`; returns the file.

    `which` checkpoint: "last", "best" (`tiergym.lab.evaluations`), or after how many steps. Raises `UserError` where
    `run` is no run, has no such checkpoint, or was trained on another layout.
    """
    config = run_dir.read(run)
    run_dir.check_versions(run)
    path = run / EXPORTED if out is None else out
    export_checkpoint(find(run, config, which), config, path)
    return path


def export_archive(archive: Path, out: Path | None, trust: bool) -> Path:
    """Write the policy in an archive of stable-baselines3 as ONNX, by default beside it; returns the file.

    Raises `UserError` where `tiergym.policy.sb3_archive.load_archive` does.
    """
    path = archive.with_suffix(".onnx") if out is None else out
    export_onnx(load_archive(archive, trust), path)
    return path


def export_checkpoint(at: Path, config: RunConfig, path: Path) -> None:
    """Write the policy of one checkpoint, `at`, as ONNX."""
    model = learner.build(config.recipe, config.seed % (1 << 32))
    checkpoint.load_weights(at, model)
    export_actor(learner.actor_of(model, config.recipe), path)


def find(run: Path, config: RunConfig, which: str) -> Path:
    """The folder of a checkpoint. Raises `UserError` where there is none such, naming those that there are."""
    newest = checkpoint.latest(run)
    if which == LAST:
        return newest
    if which == BEST:
        found = evaluations.read(run)
        if not found:
            raise UserError(
                f"{run}: nothing was evaluated while it trained, so no checkpoint is the best; allowed: {LAST}"
            )
        steps = evaluations.best(found, config.recipe.kills_bound).steps
    elif which.isdecimal() and which.isascii():
        steps = int(which)
    else:
        raise UserError(f"--checkpoint is '{which}'; allowed: {BEST}, {LAST}, or the number of steps before it")
    return checkpoint.after(run, steps)
