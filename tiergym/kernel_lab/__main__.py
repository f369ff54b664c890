"""`python -m tiergym.kernel_lab`: prepare the lab, record runs, validate the model on them (`make kernel-lab`)."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tiergym.errors import UserError
from tiergym.files import write_text
from tiergym.kernel_lab import kernels, qemu, saving
from tiergym.kernel_lab.kernels import SUITES, UnavailableError
from tiergym.kernel_lab.runs import DEFAULT_RUNS, Run, choose, lab_folder, load_runs

CANNOT = 3
"""Exit status of setup.sh and root.sh where this machine cannot have the lab; the reason is on standard output."""
BOOTS = 4
"""A kernel is booted so often at most until it sends a sample: 7.2 now and then ends before init, only in emulation."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN ...]", help="Runs; a name without _on or _mov is both.")
    ] = None,
    lab: Annotated[Path, typer.Option(help="Where kernels, scratch and recordings lie.")] = Path("build/kernel-lab"),
    every: Annotated[bool, typer.Option("--all", help="All runs of runs.toml and programs.toml.")] = False,
    release: Annotated[str, typer.Option(help=f"Boot this kernel: {', '.join(SUITES)}; else each run's own.")] = "",
    replicate: Annotated[int, typer.Option(min=1, help="N: record once more, as NAME__rN.")] = 1,
    list_runs: Annotated[bool, typer.Option("--list", help="Print the runs and stop.")] = False,
) -> None:
    """Boot a real kernel with two memory nodes under QEMU, record runs, and judge the model on the recordings.

    Where the lab cannot be had (no apt, not root, no archive), says why: an error if runs or a release were named.
    """
    runs = load_runs()
    if list_runs:
        print("\n".join(runs))
        return
    chosen = choose(list(runs) if every else names or list(DEFAULT_RUNS), runs)
    if release:
        kernels.check_release(release)
        chosen = [replace(run, name=f"k{release.replace('.', '')}_{run.name}", kernel=release) for run in chosen]
    try:
        prepare(lab, programs=any(run.programs for run in chosen))
    except UnavailableError as error:
        if names or every or release:
            raise UserError(f"the kernel lab needs Debian's packages: {error}") from error
        print(f"kernel-lab: skipped: {error}")
        return
    for run in chosen:
        folder = lab / "recordings" / (run.name if replicate == 1 else f"{run.name}__r{replicate}")
        if folder.exists():
            print(f"{folder.name}: there already", flush=True)
        else:
            print(f"{folder.name}: {record(run, lab, folder)}", flush=True)
    if (lab / "recordings").is_dir():
        command = [sys.executable, "-m", "tiergym", "validate", "recordings", str(lab / "recordings")]
        raise typer.Exit(subprocess.run(command, check=False).returncode)


def record(run: Run, lab: Path, folder: Path) -> str:
    """Boot the run and write its recording; says what came of it. A guest without a single sample is booted again."""
    try:
        kernel = kernels.fetch(lab, run.kernel)
    except UnavailableError as error:
        return f"skipped: {error}"
    began = time.monotonic()
    for boot in range(1, BOOTS + 1):
        booted = qemu.boot(run, kernel, lab)
        saved = saving.save(run, booted, folder, boot)
        if saved.samples:
            how = f"not completed: {saved.incomplete}; " if saved.incomplete else ""
            again = f"boot {boot}, " if boot > 1 else ""
            return f"{how}{saved.samples} samples, {again}{time.monotonic() - began:.0f} s"
        console = lab / "failed" / f"{folder.name}.{boot}.log"
        write_text(console, booted.console)
        print(f"{folder.name}: boot {boot} of {BOOTS} left no sample: {saved.incomplete} ({console})", flush=True)
    return f"skipped: no sample in {BOOTS} boots"


def prepare(lab: Path, programs: bool) -> None:
    """Run setup.sh and, for real programs, root.sh. Raises `UnavailableError` where the lab cannot be had."""
    _script("setup.sh", str(lab))
    if programs and not (lab / qemu.ROOT).exists():
        print("kernel-lab: making a Debian root with real programs, which takes minutes", flush=True)
        _script("root.sh", str(lab), kernels.archive(), sys.executable)


def _script(name: str, *arguments: str) -> None:
    command = ["bash", str(lab_folder() / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == CANNOT:
        raise UnavailableError(done.stdout.strip())
    if done.returncode:
        raise UserError(f"{command[1]} failed with status {done.returncode}")


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
