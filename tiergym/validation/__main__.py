"""`python -m tiergym.validation docs`: writes the pages of all recordings in experiments/evidence, and a plate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiergym import files
from tiergym.paths import experiments_dir
from tiergym.validation import prices_page, read_counts, replay_page, replay_plots
from tiergym.validation.outcomes import Outcome, read_all, validate

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


def write(folder: Annotated[Path, typer.Argument(help="Where to: docs of a checkout.")]) -> None:
    """Simulate every recording and write the pages of their scores and counts."""
    simulated: dict[str, list[Outcome]] = {}
    for evidence in replay_page.EVIDENCE:
        outcomes = validate(read_all(experiments_dir() / "evidence" / evidence.folder))
        simulated[evidence.folder] = outcomes
        scores = [outcome.score for outcome in outcomes]
        files.write_text(folder / evidence.page, replay_page.page(evidence, scores))
        there = {outcome.recording.name for outcome in outcomes if outcome.replay is not None}
        if there.issuperset(name for name, _ in PLATE):
            files.write_bytes((folder / evidence.page).with_suffix(".png"), replay_plots.plate_png(outcomes, PLATE))
    for name in prices_page.FOLDERS:
        if name not in simulated:
            simulated[name] = validate(read_all(experiments_dir() / "evidence" / name))
    readings = [r for name in prices_page.FOLDERS for r in read_counts.readings_of(simulated[name])]
    files.write_text(folder / prices_page.PAGE, prices_page.page(readings))


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(write)
