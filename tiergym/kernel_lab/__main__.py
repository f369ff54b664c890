"""`python -m tiergym.kernel_lab`: prepare the lab, record runs, validate the model on them (`make kernel-lab`)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tiergym.errors import UserError
from tiergym.kernel_lab import qemu, stream
from tiergym.kernel_lab.runs import DEFAULT_RUNS, choose, lab_folder, load_runs

CANNOT = 3
"""Exit status of setup.sh where this machine cannot have the lab; the reason is on its standard output."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN ...]", help="Runs; a name without _on or _mov is both.")
    ] = None,
    lab: Annotated[Path, typer.Option(help="Where kernels, scratch and recordings lie.")] = Path("build/kernel-lab"),
    every: Annotated[bool, typer.Option("--all", help="All runs of runs.toml.")] = False,
    replicate: Annotated[int, typer.Option(min=1, help="N: record once more, as NAME__rN.")] = 1,
    list_runs: Annotated[bool, typer.Option("--list", help="Print the runs and stop.")] = False,
) -> None:
    """Boot a real kernel with two memory nodes under QEMU, record runs, and judge the model on the recordings.

    Where the lab cannot be had (no apt, not root, no archive), says why and exits with 0.
    """
    runs = load_runs()
    if list_runs:
        print("\n".join(runs))
        return
    chosen = choose(list(runs) if every else names or list(DEFAULT_RUNS), runs)
    if reason := prepare(lab):
        print(f"kernel-lab: skipped: {reason}")
        return
    kernels = {run.kernel: qemu.find_kernel(lab, run.kernel) for run in chosen}
    for run in chosen:
        name = run.name if replicate == 1 else f"{run.name}__r{replicate}"
        folder, kernel, began = lab / "recordings" / name, kernels[run.kernel], time.monotonic()
        if folder.exists():
            print(f"{name}: there already", flush=True)
        elif kernel is None:
            print(f"{name}: skipped: no kernel {run.kernel} in {lab / 'kernel'}", flush=True)
        else:
            samples = stream.save(run, qemu.boot(run, kernel, lab), folder)
            print(f"{name}: {samples} samples, {time.monotonic() - began:.0f} s", flush=True)
    if (lab / "recordings").is_dir():
        command = [sys.executable, "-m", "tiergym", "validate", "recordings", str(lab / "recordings")]
        raise typer.Exit(subprocess.run(command, check=False).returncode)


def prepare(lab: Path) -> str:
    """Run setup.sh; "" when the lab is ready, else the reason why this machine cannot have it."""
    command = ["bash", str(lab_folder() / "setup.sh"), str(lab)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, CANNOT):
        raise UserError(f"{command[1]} failed with status {done.returncode}")
    return done.stdout.strip() if done.returncode else ""


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
