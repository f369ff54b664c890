"""Scores of recordings for people and programs: tables in the terminal, JSON, and the page docs/validation.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from tiergym.lab.markdown import table
from tiergym.lab.recordings.replay import CLASSES
from tiergym.lab.recordings.score import CELL_LIMIT, CELL_TOLERANCE, CELLS_WITHIN, Row, Score
from tiergym.lab.recordings.validate import Summary, summarise
from tiergym.lab.results import SCHEMA
from tiergym.lab.terminal import new_table

SHORT = {
    "page_tables": "page tables",
    "kernel_stacks": "stacks",
    "slab_unreclaim": "slab unrecl.",
    "slab_reclaim": "slab recl.",
    "anon": "anon",
    "file": "file",
}
CELL_HEADINGS = ("run", *(f"{SHORT[name]} {node}" for name in CLASSES for node in ("fast", "slow")))
EVENT_HEADINGS = ("run", "event", "measured", "simulated", "tolerance", "verdict")


def summary(counts: Summary) -> str:
    """What was required and what was reached, in one line."""
    share = counts.within / counts.cells if counts.cells else 0.0
    failed = f"; {counts.failed} runs could not be simulated" if counts.failed else ""
    return (
        f"{counts.within} of {counts.cells} cells ({share:.1%}) within {CELL_TOLERANCE:.0%} or the spread of "
        f"replicates (required {CELLS_WITHIN:.0%}), {counts.above} above {CELL_LIMIT:.0%}; "
        f"{counts.rows - counts.missed} of {counts.rows} required events met{failed}"
    )


def cell(score: Score, name: str, node: int) -> tuple[str, str]:
    """(text, verdict) of one cell: error in percent; verdict "", "off" or "far"."""
    error = score.errors[name][node]
    verdict = "" if error <= score.tolerance(name, node) else "off" if error <= score.limit(name, node) else "far"
    return f"{error * 100:.1f}", verdict


def verdict(row: Row) -> str:
    """`met`, `MISSED`, or `shown` for rows that nothing is required of."""
    if not row.required:
        return "shown"
    return "met" if row.ok else "MISSED"


def report(scores: Sequence[Score]) -> RenderableType:
    """Run x class, then every event of every run."""
    cells = new_table("Error of each class and node, % of its peak", "bold: out of tolerance; red: above the limit")
    for heading in CELL_HEADINGS:
        cells.add_column(heading, justify="left" if heading == "run" else "right", no_wrap=heading == "run")
    styles = {"": "", "off": "bold", "far": "bold red"}
    events = new_table("Events")
    for heading in EVENT_HEADINGS:
        events.add_column(heading, justify="right" if heading in ("measured", "simulated") else "left")
    for score in scores:
        if score.failure:
            events.add_row(escape(score.run), "simulation", "", escape(score.failure), "", "FAILED", style="bold red")
            continue
        texts = [cell(score, name, node) for name in CLASSES for node in (0, 1)]
        cells.add_row(escape(score.run), *(f"[{styles[v]}]{t}[/]" if styles[v] else t for t, v in texts))
        for row in score.rows:
            style = {"met": "", "MISSED": "bold red", "shown": "dim"}[verdict(row)]
            events.add_row(escape(score.run), *map(escape, _texts(row)), verdict(row), style=style)
    return Group(cells, events, summary(summarise(scores)))


def document(scores: Sequence[Score]) -> dict[str, Any]:
    """Schema 1: every run with its cells and events."""
    counts = summarise(scores)
    return {
        "schema": SCHEMA,
        "ok": counts.ok,
        "cells": counts.cells,
        "cells_within": counts.within,
        "cells_above_limit": counts.above,
        "events_required": counts.rows,
        "events_missed": counts.missed,
        "runs_failed": counts.failed,
        "runs": [_run(score) for score in scores],
    }


def _run(score: Score) -> dict[str, Any]:
    if score.failure:
        return {"run": score.run, "failure": score.failure}
    return {
        "run": score.run,
        "cells": [
            {
                "class": name,
                "node": node,
                "error": score.errors[name][node],
                "tolerance": score.tolerance(name, node),
                "limit": score.limit(name, node),
            }
            for name in score.errors
            for node in (0, 1)
        ],
        "events": [
            {
                "event": row.name,
                "measured": row.measured,
                "simulated": row.simulated,
                "tolerance": row.tolerance,
                "ok": row.ok,
                "required": row.required,
            }
            for row in score.rows
        ],
    }


_HEAD = """\
# The model against recordings of a real kernel

Made by `tiergym validate recordings` and `python -m tiergym.lab.recordings tests/data/recordings docs/validation.md`.

**{summary}.**

A recording is a run of a stock Debian kernel in an emulated machine: what a workload asked for, and where every class
of page landed. The model gets the machine (sizes, zones, kernel version and settings), the pages of the first sample,
and the requests alone; never the measured placement.

- **Cell**: mean over samples of |simulated - measured|, over the peak of the class on both nodes (at least 256
  pages), in percent. Samples from 2 s after an OOM kill on, and during tests of offlining, are left out. The tolerance
  is 5 %, or the spread of a run's replicates (`__r2`, `__r3`) where that is larger. `*`: out of tolerance; `**`: above
  15 % or that spread.
- **Event**: judged against the tolerance beside it; `shown` where nothing is required. [model.md](model.md) says
  what is missing in the model where one is missed.

All these runs were at hand while the model was made: none is held out. What was chosen with their help are the sizes in
`tiergym/lab/recordings/requests.py` and the pace of the emulator in `machine.py`, one value for all runs.
"""


def page(scores: Sequence[Score]) -> str:
    """The Markdown page."""
    marks = {"": "", "off": " *", "far": " **"}
    cells = []
    for score in scores:
        texts = [cell(score, name, node) for name in score.errors for node in (0, 1)]
        if texts:
            cells.append([score.run, *(text + marks[verdict] for text, verdict in texts)])
    events = [[score.run, *_texts(row), verdict(row)] for score in scores for row in score.rows]
    events += [[score.run, "simulation", "", score.failure, "", "FAILED"] for score in scores if score.failure]
    head = _HEAD.format(summary=summary(summarise(scores)))
    return f"{head}\n## Cells\n\n{table(CELL_HEADINGS, cells)}\n\n## Events\n\n{table(EVENT_HEADINGS, events)}\n"


def _texts(row: Row) -> tuple[str, str, str, str]:
    return row.name, row.measured, row.simulated, row.tolerance
