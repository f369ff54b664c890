"""The command that makes a page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.files import write_json
from tiergym.terminal import say


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|RESULTS|SUITE...",
            help="Folders of train and run, JSON files of compare, matrix, leaderboard, ladder and networks, suites.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.html", help="The page.")],
    policies: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="What a training run and a suite are measured with. Default: online, restrict, adaptive, selector.",
            show_default=False,
        ),
    ] = "online,restrict,adaptive,selector",
    episodes: options.Episodes = 8,
    seed: options.Seed = 0,
    replay: Annotated[
        bool, typer.Option(help="Run an episode of the run's policy, or the best, and of stock Linux again.")
    ] = True,
    trust: options.Trust = False,
    json: options.JsonFile = None,
) -> None:
    """Make one HTML file of results that needs no network: tables, pictures, what policies did and when, provenance.

    Files and the folders of `tiergym run` are read; of training runs and suites policies are measured. Results of
    another model are shown, and the page says so on top.

    Example: tiergym report test.json rungs.json -o report.html
    """
    options.check_outputs(out, json)
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"cannot write '{out}': a report's file ends in .html")
    require("jinja2")
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab.report.page import write_report
    from tiergym.lab.report.sources import Asked, read_source

    asked = Asked(options.names(policies, "--policies"), episodes, seed, trust, episode_progress)
    write_report(out, [read_source(source, asked) for source in sources], replay)
    say(f"{out}: open it in a browser")
    if json is not None:
        write_json(json, {"schema": 1, "page": str(out)})
