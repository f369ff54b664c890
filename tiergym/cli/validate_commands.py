"""`tiergym validate`: the model against measurements of real machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiergym.cli import options
from tiergym.cli.command import Commands
from tiergym.cli.file_kinds import wanted
from tiergym.extras import require
from tiergym.terminal import console

validate = Commands(
    help="Hold the model against measurements: published tables, and recordings of a real kernel.",
    no_args_is_help=True,
)


@validate.callback()
def _group() -> None:
    pass


@validate.command(simulates=True)
def published(
    json: options.JsonFile = None,
) -> None:
    """Simulate the published tables and judge every number. Exits with 1 if one is out of tolerance.

    The page docs/validation-published.md shows the same lines.
    """
    options.check_outputs(json)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import results
    from tiergym.validation.published import published_page
    from tiergym.validation.published.published_table import load_all
    from tiergym.validation.published.verdicts import MISSED, validate

    tests = load_all()
    with steps("simulating", len(tests)) as step:
        verdicts = validate(tests, step)
    console().print(published_page.report(verdicts))
    if json is not None:
        results.write_json(json, published_page.document(verdicts))
    if published_page.count(verdicts, MISSED):
        raise typer.Exit(1)


@validate.command(simulates=True)
def recordings(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of recordings, as `tiergym record` writes them, or one.")
    ],
    json: options.JsonFile = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Also draw measured and simulated, one PNG per run.")
    ] = None,
) -> None:
    """Replay recordings of real kernels on the model and judge every class and event. Exits with 1 if one is off.

    The model gets the machine, the first sample and the workload's requests, never the measured placement.

    The page docs/validation.md explains the tables.
    """
    options.check_outputs(json)
    if plot is not None:
        require("matplotlib")
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import results
    from tiergym.validation import replay_page, replay_plots
    from tiergym.validation.outcomes import read_all, summarise, validate

    with wanted(str(folder), "recording", "validate recordings"):
        runs = list(read_all(folder))
    with steps("simulating", len(runs)) as step:
        outcomes = validate(runs, step)
    scores = [outcome.score for outcome in outcomes]
    console().print(replay_page.report(scores))
    if json is not None:
        results.write_json(json, replay_page.document(scores))
    if plot is not None:
        console(stderr=True).print(f"{replay_plots.write_plots(plot, outcomes)} plots in {plot}")
    if not summarise(scores).ok:
        raise typer.Exit(1)


@validate.command()
def marks(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="A copy of /proc/zoneinfo, or a kernel log with an OOM report.")
    ] = Path("/proc/zoneinfo"),
    scale: Annotated[
        float, typer.Option(min=1, max=1000, help="vm.watermark_scale_factor of that machine, where it is not 10.")
    ] = 10.0,
    json: options.JsonFile = None,
) -> None:
    """Say whether a machine's watermarks are the kernel's formula: boosted, or min_free_kbytes set by hand to what?

    Without FILE this machine's. Exits with 1 if the formula does not give them.

    Example: ssh server cat /proc/zoneinfo > server.txt; tiergym validate marks server.txt
    """
    options.check_outputs(json)
    from tiergym.lab import results
    from tiergym.recordings.zone_reports import read_report
    from tiergym.terminal import new_table
    from tiergym.validation import marks_report

    zones = read_report(file)
    verdict = marks_report.judge(zones, scale)
    table = new_table("Watermarks, pages")
    for heading in marks_report.HEADINGS:
        table.add_column(heading, justify="left" if heading == "zone" else "right")
    for row in marks_report.zone_rows(zones, verdict):
        table.add_row(*row)
    console().print(table)
    for sentence in marks_report.sentences(zones, verdict):
        console().print(sentence, highlight=False)
    if json is not None:
        results.write_json(json, marks_report.document(zones, verdict))
    if not verdict.equal:
        raise typer.Exit(1)
