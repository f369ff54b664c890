"""`python -m tiergym.lab.published docs/validation-published.md`: runs all tests and writes the page."""

from pathlib import Path
from typing import Annotated

import typer

from tiergym import files
from tiergym.lab.published.experiment import load_all
from tiergym.lab.published.report import page
from tiergym.lab.published.results import validate


def write(path: Annotated[Path, typer.Argument(help="The page: docs/validation-published.md of a checkout.")]) -> None:
    """Run every published test and write the page of verdicts."""
    files.write_text(path, page(validate(load_all())))


if __name__ == "__main__":
    typer.run(write)
