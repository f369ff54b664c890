"""`tiergym validate`: the model against measurements of real machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiergym.lab import cli_options as options
from tiergym.lab.terminal import console

validate = typer.Typer(
    help="Hold the model against measurements: published tables.",
    no_args_is_help=True,
)


@validate.callback()
def _group() -> None:
    pass


@validate.command()
def published(
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write every line as JSON (schema 1).")
    ] = None,
) -> None:
    """Simulate the published tables of envs/published and judge every number. Exits with 1 if one is out of tolerance.

    The page docs/validation-published.md shows the same lines.
    """
    options.check_outputs(json)
    from tiergym.lab import results
    from tiergym.lab.published import report
    from tiergym.lab.published.experiment import load_all
    from tiergym.lab.published.results import MISSED, validate

    err = console(stderr=True)
    verdicts = validate(load_all(), lambda name: err.print(f"simulating {name}", style="dim"))
    console().print(report.report(verdicts))
    if json is not None:
        results.write_json(json, report.document(verdicts))
    if report.count(verdicts, MISSED):
        raise typer.Exit(1)
