"""The page docs/validation-prices.md: counts of reading that prices of reclaim are made of."""

from __future__ import annotations

from collections.abc import Sequence

from tiergym.lab.citations import linked
from tiergym.lab.markdown import table
from tiergym.validation.read_counts import FEW_PAGES, Reading, back_row, file_row, swap_row
from tiergym.validation.replay_page import EVIDENCE, verdict
from tiergym.validation.score import Row

FOLDERS = (*(evidence.folder for evidence in EVIDENCE), "programs-new")
"""Of experiments/evidence: all recordings."""
PAGE = "validation-prices.md"

_HEAD = """\
# Prices of reclaim, checked by counts

What a page costs that is read back is latency, shared by the pages that one read brings, and paid as often as pages
come back ([model.md](model.md), section 12). Recordings of an emulated machine cannot say what a read takes. They
count the rest: pages of a read, waits, and pages that came back.

**{summary}.** What is missed, and why, is in [model.md](model.md), section 16.

Made from all folders of `experiments/evidence` by `python -m tiergym.validation docs`.
"""

_SWAP = """\
## Pages that a read from swap brings

Measured: `pswpin / (pswpin - swap_ra)`. The model: 2^`page_cluster` pages where memory is swept, as by a workload
that goes over it again and again, else one. Tolerance 10 %; `shown` where fewer than {few} pages came back, those of
programs that slept.
"""

_FILES = """\
## Pages for which a mapped file's reader waits once

Measured: pages read, over major faults (`pgmajfault`; what read(2) reads is among the pages, and its waits are none).
The model shares a read's wait among a window, readahead's. It holds if no reader waits more often, by more than a
factor of 1.5. Readers of a stream wait far less often than the window says,
since the next one is on its way before they come to it (`storage:hidden_us`); programs' text and tables, which no
stream reads, are read around what is missed [K-read-around].
"""

_BACK = """\
## Pages that came back

Measured, in programs: pages read from the disk (`pgpgin`) less those read for the first time. In the lab's scripts,
whose file has holes that no disk is asked for: growth of the page cache, plus what reclaim dropped, less what was
read for the first time. "Counted" is `workingset_refault_file`: the multi-generational LRU counts a page only if it
comes back on the node that it left [K-refaults]; `m_lruold_*` runs the classic LRU, and there the two agree.
Tolerance: a factor of 1.5, or 1,000 pages. "Dropped" says whether a miss is one of what comes back, or one of
reclaim, which the other pages judge.
"""


def rows(readings: Sequence[Reading]) -> list[Row]:
    """Every judged line of the page."""
    found = [make(reading) for make in (swap_row, file_row, back_row) for reading in readings]
    return [row for row in found if row is not None]


def summary(readings: Sequence[Reading]) -> str:
    """How many lines are met."""
    required = [row for row in rows(readings) if row.required]
    return f"{sum(row.ok for row in required)} of {len(required)} counts met"


def page(readings: Sequence[Reading]) -> str:
    """The Markdown page."""
    swap, files, back = [], [], []
    for reading in readings:
        of = [reading.run, reading.release]
        measured, replayed = reading.measured, reading.replayed
        if (row := swap_row(reading)) is not None:
            pages = [str(measured.swapped_in), str(measured.swap_ahead), row.measured, row.simulated]
            swap.append([*of, row.name, *pages, verdict(row)])
        if (row := file_row(reading)) is not None:
            pages = [str(measured.read), str(measured.major_faults), row.measured, row.simulated]
            files.append([*of, str(reading.readahead_kib), *pages, verdict(row)])
        if (row := back_row(reading)) is not None:
            dropped = [str(measured.dropped), str(replayed.dropped)] if row.name == "files" else ["", ""]
            counted = str(measured.refaults) if row.name == "files" else ""
            back.append([*of, row.name, row.measured, row.simulated, verdict(row), counted, *dropped])
    common = ("run", "release")
    parts = [
        _HEAD.format(summary=summary(readings)),
        _SWAP.format(few=FEW_PAGES),
        table((*common, "memory", "swapped in", "read ahead", "pages a read", "model", "verdict"), swap) + "\n",
        _FILES,
        table((*common, "readahead KiB", "pages read", "major faults", "pages a wait", "model", "verdict"), files)
        + "\n",
        _BACK,
        table((*common, "of", "measured", "replayed", "verdict", "counted", "dropped, measured", "replayed"), back)
        + "\n",
    ]
    return linked("\n".join(parts), "sources.md")
