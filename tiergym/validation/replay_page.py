"""Scores of recordings for people and programs: tables in the terminal, JSON, and the pages docs/validation*.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from tiergym.lab.markdown import table
from tiergym.lab.results import SCHEMA
from tiergym.terminal import new_table
from tiergym.validation.outcomes import Summary, summarise
from tiergym.validation.replay import CLASSES
from tiergym.validation.score import CELL_LIMIT, CELL_TOLERANCE, CELLS_WITHIN, Row, Score

SHORT = {
    "page_tables": "page tables",
    "kernel_stacks": "stacks",
    "slab_unreclaim": "slab unrecl.",
    "slab_reclaim": "slab recl.",
    "anon": "anon",
    "file": "file",
}
CELL_HEADINGS = ("run", *(f"{SHORT[name]} {node}" for name in CLASSES for node in ("fast", "slow")))
GROUP_HEADINGS = (
    "group",
    "runs",
    "cells within tolerance",
    "share",
    "above the limit",
    "required events met",
    "failed",
)
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


def groups(scores: Sequence[Score]) -> list[tuple[str, Summary]]:
    """Synthetic runs, real programs, and the releases of Linux: those that there are, each with its counts."""
    members = [
        ("synthetic", [score for score in scores if not score.program]),
        ("real programs", [score for score in scores if score.program]),
    ]
    releases = sorted({score.release for score in scores}, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    members += [(f"Linux {name}", [score for score in scores if score.release == name]) for name in releases]
    return [(name, summarise(some)) for name, some in members if some]


def _group_row(name: str, counts: Summary) -> list[str]:
    share = f"{counts.within / counts.cells:.1%}" if counts.cells else ""
    within, met = f"{counts.within} of {counts.cells}", f"{counts.rows - counts.missed} of {counts.rows}"
    return [name, str(counts.runs), within, share, str(counts.above), met, str(counts.failed)]


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
    """Run x class, then every event of every run, what was read otherwise than recorded, and the groups."""
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
        texts = [_cell(score, name, node) for name in CLASSES for node in (0, 1)]
        cells.add_row(escape(score.run), *(f"[{styles[v]}]{t}[/]" if styles[v] else t for t, v in texts))
        for row in score.rows:
            style = {"met": "", "MISSED": "bold red", "shown": "dim"}[verdict(row)]
            events.add_row(escape(score.run), *map(escape, _texts(row)), verdict(row), style=style)
    table_of_groups = new_table("Groups")
    for heading in GROUP_HEADINGS:
        table_of_groups.add_column(heading, justify="left" if heading == "group" else "right")
    for name, counts in groups(scores):
        table_of_groups.add_row(*_group_row(name, counts))
    notes = [f"{escape(score.run)}: {escape(note)}" for score in scores for note in score.notes]
    return Group(cells, events, *notes, table_of_groups, summary(summarise(scores)))


def _cell(score: Score, name: str, node: int) -> tuple[str, str]:
    """A cell, or a dash where the recording has no counter of the class."""
    return cell(score, name, node) if name in score.errors else ("-", "")


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
        "groups": [
            {
                "group": name,
                "runs": group.runs,
                "cells": group.cells,
                "cells_within": group.within,
                "cells_above_limit": group.above,
                "events_required": group.rows,
                "events_missed": group.missed,
                "runs_failed": group.failed,
            }
            for name, group in groups(scores)
        ],
        "runs": [_run(score) for score in scores],
    }


def _run(score: Score) -> dict[str, Any]:
    of = {"run": score.run, "release": score.release, "program": score.program, "notes": list(score.notes)}
    if score.failure:
        return of | {"failure": score.failure}
    return of | {
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """A folder of recordings in `experiments/evidence`, the page in docs/ that scores it, and how that begins."""

    folder: str
    page: str
    title: str
    lead: str


EVIDENCE = (
    Evidence(
        "fitted",
        "validation.md",
        "Recordings that shaped the model",
        "While the model was built, its misses on these runs said which mechanism was missing. So the scores say\n"
        "how much of a real kernel the model accounts for, not how well it foretells runs that nobody looked at:\n"
        "[later](validation-later.md) and [unseen](validation-unseen.md) runs do.",
    ),
    Evidence(
        "later",
        "validation-later.md",
        "Recordings made after the model was built",
        "Other sizes, ratios, CPUs, LRU settings and workloads than those that [shaped the model](validation.md).\n"
        "Its first score on them was 92.8 % of cells; they were looked at while it was corrected since, so these\n"
        "scores are of runs that are known.",
    ),
    Evidence(
        "unseen",
        "validation-unseen.md",
        "Recordings that the model had not seen",
        "Recorded after the last change of the model that recordings led to, and scored once: nothing was changed\n"
        "afterwards, and no run was left out.",
    ),
    Evidence(
        "programs",
        "validation-programs.md",
        "Recordings of real programs",
        "llama.cpp, redis, sqlite, memcached and a thread pool, read by their process trees and the machine's totals,\n"
        "as any program that `tiergym record` watches. What is missed here is what the model does not do yet.",
    ),
    Evidence(
        "releases",
        "validation-releases.md",
        "Recordings of newer releases",
        "The workloads that [shaped the model](validation.md) on Linux 7.2 and 6.18, and some on 6.12 beside them.",
    ),
    Evidence(
        "kinds",
        "validation-kinds.md",
        "Recordings of kinds that the model missed",
        "Kinds of runs on which the model was known to be wrong, in other sizes than those that showed it.",
    ),
)
"""What docs/ shows of recordings; `python -m tiergym.validation docs` writes the pages."""

_HEAD = """\
# {title}

{lead}

**{summary}.**

Made from `experiments/evidence/{folder}` by `python -m tiergym.validation docs`; `tiergym validate recordings FOLDER`
does the same for any recordings. A recording is a run of a stock Debian kernel in an emulated machine: what a workload
asked for, and where every class of page landed. The model gets the machine (sizes, zones, kernel version and settings),
the pages of the first sample, and the requests alone; never the measured placement.

- **Cell**: mean over samples of |simulated - measured|, over the peak of the class on both nodes (at least 256
  pages), in percent. Samples from 2 s after an OOM kill on, and during tests of offlining, are left out. The tolerance
  is 5 %, or the spread of a run's replicates (`__r2`, `__r3`) where that is larger. `*`: out of tolerance; `**`: above
  15 % or that spread.
- **Event**: judged against the tolerance beside it; `shown` where nothing is required. [model.md](model.md),
  section 16, says what is missing where one is missed, and what the model owes to these runs.
"""


def page(evidence: Evidence, scores: Sequence[Score]) -> str:
    """The Markdown page of a folder of recordings."""
    marks = {"": "", "off": " *", "far": " **"}
    cells = []
    for score in scores:
        texts = [_cell(score, name, node) for name in CLASSES for node in (0, 1)]
        if score.errors:
            cells.append([score.run, *(text + marks[verdict] for text, verdict in texts)])
    events = [[score.run, *_texts(row), verdict(row)] for score in scores for row in score.rows]
    events += [[score.run, "simulation", "", score.failure, "", "FAILED"] for score in scores if score.failure]
    head = _HEAD.format(
        title=evidence.title, lead=evidence.lead, folder=evidence.folder, summary=summary(summarise(scores))
    )
    notes = [f"- {score.run}: {note}" for score in scores for note in score.notes]
    parts = [
        head,
        f"## Groups\n\n{table(GROUP_HEADINGS, [_group_row(*group) for group in groups(scores)])}\n",
        f"## Cells\n\n{table(CELL_HEADINGS, cells)}\n",
        f"## Events\n\n{table(EVENT_HEADINGS, events)}\n",
    ]
    return "\n".join([*parts, *([("## Notes\n\n" + "\n".join(notes) + "\n")] if notes else [])])


def _texts(row: Row) -> tuple[str, str, str, str]:
    return row.name, row.measured, row.simulated, row.tolerance
