"""Commands for a user's own machine: record it, and turn a recording into a workload."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer

from tiergym.cli import options
from tiergym.cli.command import Commands
from tiergym.cli.file_kinds import wanted
from tiergym.errors import UserError
from tiergym.files import is_file
from tiergym.recordings.tiers import Fold, parse_nodes
from tiergym.terminal import console, warn

MAX_HZ = 100.0

workload = Commands(help="Workloads made from recordings: `workload from-recording DIR --out FILE.toml`.")


@workload.callback()
def _workload() -> None:
    pass


@workload.command("from-recording")
def from_recording(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="One recording: meta.json, samples.csv[.gz], workload.csv.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.toml", help="The workload; a scenario names it by this path.")],
    json: options.JsonFile = None,
) -> None:
    """Turn a recording into a workload that any scenario can use: regions, growth, threads, files, heat.

    What the workload asked for is taken over, not where the kernel put it. Heat comes from accessed bits or counted
    accesses where the recording has them; the file says where its numbers come from, and what was not recorded.

    Example: tiergym workload from-recording recordings/sort --out sort.toml
    """
    options.check_outputs(json, out)
    if out.suffix != ".toml":
        raise UserError(f"cannot write '{out}': a workload's file ends in .toml")
    from tiergym.files import write_json, write_text
    from tiergym.recordings.format import read_recording
    from tiergym.recordings.workload import workload_toml

    with wanted(str(folder), "recording", "from-recording"):
        text = workload_toml(read_recording(folder))
    write_text(out, text)
    regions = text.count("[[regions]]")
    line = f'{out}: {regions} regions; name it in a scenario: workload = "{out}"'
    console().print(line, highlight=False, markup=False, soft_wrap=True)
    if json is not None:
        write_json(json, {"schema": 1, "workload": str(out), "regions": regions})


def fold_of(fast: str | None, slow: str | None) -> Fold | None:
    """Tiers of the machine's nodes, where the command names them."""
    if fast is None and slow is None:
        return None
    if fast is None:
        raise UserError("--slow without --fast; allowed: both, or --fast alone where no node is slow")
    return Fold(parse_nodes(fast, "--fast"), parse_nodes(slow, "--slow") if slow is not None else ())


def record(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this, behind --, and record until it ends.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The new recording's folder; default recordings/NAME-TIME.")
    ] = None,
    hz: Annotated[float, typer.Option(min=0.1, max=MAX_HZ, help="Samples per second.")] = 5.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, max=86400.0, help="Record all processes for this long, instead of a command."),
    ] = None,
    referenced: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=3600.0,
            metavar="S",
            help="Look at the processes' accessed bits after S, 2 S and 4 S seconds, then clear them: how hot is their "
            "memory? Costs walks of their page tables, and reclaim takes the pages for idle. 0: leave them alone.",
        ),
    ] = 0.0,
    fast: Annotated[
        str | None, typer.Option(metavar="NODES", help="Memory nodes that are DRAM, as 0,1 (sockets); with --slow.")
    ] = None,
    slow: Annotated[
        str | None,
        typer.Option(metavar="NODES", help="Memory nodes that are CXL, as 2,3: all are added up to two tiers."),
    ] = None,
) -> None:
    """Record this machine's memory while a command runs, in the format of `tiergym validate recordings`.

    Samples /proc and /sys: node counters, zones and watermarks, vmstat, pressure, and what the command's processes
    have touched. No root is needed; what only root may read (slabinfo) is left out with a note in meta.json. With
    --seconds all processes are the workload. A simulated machine has two tiers, node 0 and node 1; --fast and --slow
    fold more nodes into them. Ctrl-C keeps what was sampled. The exit status is the command's.

    Example: tiergym record --out recordings/sort -- sort -o sorted.txt big.txt
    """
    if bool(command) == (seconds is not None):
        raise UserError("what to record: give either --seconds N or -- COMMAND ...")
    name = Path(command[0]).name if command else "machine"
    folder = out or Path("recordings") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    from tiergym.lab.locking import LOCK, locked
    from tiergym.recordings.recorder import record as record_machine

    if folder.exists() and not is_file(folder / LOCK):  # which says who records into it, or was killed there
        raise UserError(f"cannot record into '{folder}': it exists; name a new folder")
    err = console(stderr=True)
    length_s = math.inf if seconds is None else seconds
    fold = fold_of(fast, slow)

    def begin() -> None:
        if seconds is not None:
            err.print(f"recording into {folder} for {seconds:g} s; Ctrl-C keeps what was sampled", style="dim")

    with locked(folder, new=True, goes_on=False):
        done = record_machine(folder, command or [], length_s, hz, referenced, fold, warn, begin)
    if done.notes:
        err.print(f"notes in meta.json about {', '.join(done.notes)}", style="dim", highlight=False)
    err.print(f"{folder}: {done.samples} samples in {done.duration_s:.1f} s", highlight=False)
    if done.status:
        err.print(f"exit status {done.status}", highlight=False)
        raise typer.Exit(done.status)
