"""`python -m tiergym.validation.published docs/validation-published.md`: runs all tests and writes the page."""

from pathlib import Path
from typing import Annotated

import typer

from tiergym import files
from tiergym.validation.published.published_page import page
from tiergym.validation.published.published_table import load_all
from tiergym.validation.published.verdicts import validate


def write(path: Annotated[Path, typer.Argument(help="The page: docs/validation-published.md of a checkout.")]) -> None:
    """Run every published test and write the page of verdicts."""
    files.write_text(path, page(validate(load_all())))


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(write)
