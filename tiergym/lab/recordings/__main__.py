"""`python -m tiergym.lab.recordings tests/data/recordings docs/validation.md`: writes the page and its plate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiergym import files
from tiergym.lab.recordings import plots, report
from tiergym.lab.recordings.validate import read_all, validate

PLATE = (
    ("a_llama_anon_on", "anon"),
    ("a_llama_anon_on", "page_tables"),
    ("b_sparse_write_dem_mov", "anon"),
    ("c_threads_on", "kernel_stacks"),
    ("d_slab_on", "slab_unreclaim"),
    ("e_phases_on", "page_tables"),
    ("f_pressure_anon_dem_mov", "anon"),
    ("a_llama_file_mov", "file"),
    ("a_llama_anon_tier_on", "page_tables"),
)
"""What docs/validation.png shows: one panel per mechanism, not the best ones."""


def write(
    folder: Annotated[Path, typer.Argument(help="The recordings: tests/data/recordings of a checkout.")],
    path: Annotated[Path, typer.Argument(help="The page: docs/validation.md of a checkout.")],
) -> None:
    """Write the page and, beside it, the plate of plots."""
    outcomes = validate(read_all(folder))
    scores = [outcome.score for outcome in outcomes]
    files.write_text(path, report.page(scores))
    files.write_bytes(path.with_suffix(".png"), plots.plate_png(outcomes, PLATE))


if __name__ == "__main__":
    typer.run(write)
