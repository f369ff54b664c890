"""What `tiergym export` does below ONNX: distil, generate, measure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tiergym.cli import options
from tiergym.cli.progress_bars import count_progress
from tiergym.terminal import console, say

if TYPE_CHECKING:
    from tiergym.lab.distil import Size
    from tiergym.specs import Scenario, Suite

REPORT = "rungs.json"
CELLS = "cells"
"""Folder of the evaluations that a report is made of."""


def export(
    source: str,
    to: str,
    out: Path | None,
    scenarios: Sequence[Scenario],
    size: Size,
    measured: Suite | None,
    episodes: int,
    seed: int,
) -> dict[str, Path]:
    """Write the rung `to`, or all, and evaluate them on the suite `measured`; the files by name. Raises `UserError`."""
    from tiergym.lab.distil import ROUNDS
    from tiergym.lab.export_rungs import as_tree, places_of, tree_of, write_rungs
    from tiergym.lab.locking import locked
    from tiergym.policy.header_policy import find_compiler
    from tiergym.policy.load import load_policy

    places = places_of(to, out)
    options.check_outputs(*places.values())
    if measured is not None:
        find_compiler()
    several = len(places) > 1  # of one policy, not some of another that is exported at the same time
    with locked(next(iter(places.values())).parent) if several else nullcontext():
        with count_progress("distilling", ROUNDS, "rounds") as on_round:
            tree = tree_of(source, scenarios, size, seed, on_round)
        write_rungs(tree, places)
        for path in places.values():
            say(str(path))
        if measured is not None and out is not None:
            rungs = {rung: str(path) for rung, path in places.items() if rung != "rules"}
            if as_tree(load_policy(source)) is None:
                rungs = {"onnx" if source.endswith(".onnx") or Path(source).is_dir() else "policy": source} | rungs
            places = {**places, "measured": _measure(rungs, out, measured, episodes, seed)}
    return places


def _measure(rungs: dict[str, str], out: Path, suite: Suite, episodes: int, seed: int) -> Path:
    from tiergym.lab import results, rung_scores

    cells = count(1)
    with count_progress("evaluating", (len(rungs) + 1) * len(suite.load()), "cells") as on_cell:
        scores = rung_scores.measure(
            rungs, suite, out / CELLS / suite.name, episodes, seed, lambda policy, scenario: on_cell(next(cells))
        )
    console().print(rung_scores.table(scores, suite, episodes))
    results.write_json(out / REPORT, rung_scores.document(scores, suite, episodes, seed))
    say(str(out / REPORT))
    return out / REPORT
