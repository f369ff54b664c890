"""How far a replay is from its recording, per class and node.

Cell error: mean over samples of |simulated - measured| / max(peak of the class over both nodes, 256 pages). Samples
from 2 s after an OOM kill on are left out (what restarts then is the script's choice), and so are those during a test
of offlining.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings.format import Recording
from tiergym.validation.recorded_machine import COUNTERS
from tiergym.validation.replay import CLASSES, Replay
from tiergym.validation.tasks import kill_samples, offline_tests

NODES = ("fast", "slow")
LEAST_PEAK_PAGES = 256
AFTER_KILL_S = 2.0

CELL_TOLERANCE = 0.05
CELL_LIMIT = 0.15
CELLS_WITHIN = 0.95
"""Of all cells, this share is to be within its tolerance, and none above the limit."""

Cells = Mapping[str, tuple[float, float]]
"""Class -> (fast, slow), shares of the peak."""


@dataclass(frozen=True, slots=True)
class Row:
    """One event: what was measured, what was simulated, within what; `required` rows decide the exit code."""

    name: str
    measured: str
    simulated: str
    tolerance: str
    ok: bool
    required: bool = True


@dataclass(frozen=True, slots=True)
class Score:
    """One run of Linux `release` (as "6.12"), of a real `program` or of the lab's commands.

    `spread` is what replicates of it differ by; `failure` says why it could not be simulated, `notes` what was read
    otherwise than recorded.
    """

    run: str
    errors: Cells
    spread: Cells
    rows: Sequence[Row]
    release: str
    program: bool
    failure: str = ""
    notes: Sequence[str] = ()

    def tolerance(self, name: str, node: int) -> float:
        """What a cell may be off: 5 %, or as much as replicates of the run."""
        return max(CELL_TOLERANCE, self.spread[name][node])

    def limit(self, name: str, node: int) -> float:
        """What no cell may exceed: 15 %, or as much as replicates of the run."""
        return max(CELL_LIMIT, self.spread[name][node])


def measured_pages(recording: Recording) -> NDArray[np.float64]:
    """Pages per sample, class and node, float64 (samples, classes, 2)."""
    out = np.zeros((len(recording.t_s), len(CLASSES), 2))
    for c, name in enumerate(CLASSES):
        counter, scale = COUNTERS[name]
        for node in (0, 1):
            out[:, c, node] = np.nan_to_num(recording.column(f"n{node}.{counter}").astype(np.float64)) * scale
    return out


def scored_samples(recording: Recording) -> NDArray[np.bool_]:
    """Samples that the cells count, bool (samples,)."""
    t_s = recording.t_s
    keep = np.ones(len(t_s), np.bool_)
    kills = kill_samples(recording)
    if kills:
        keep &= t_s < t_s[kills[0]] + AFTER_KILL_S
    for _, begin, end in offline_tests(recording):
        keep &= (t_s < begin) | (t_s > end)
    return keep


def class_peaks(recording: Recording) -> NDArray[np.float64]:
    """What errors are measured against: the peak of each class over both nodes, at least 256 pages, (classes,)."""
    return np.maximum(measured_pages(recording).max(axis=(0, 2)), LEAST_PEAK_PAGES)


def judged_classes(recording: Recording) -> list[str]:
    """The classes that the recording has counters of."""
    absent = {name.partition(".")[2] for name in recording.absent}
    return [name for name in CLASSES if COUNTERS[name][0] not in absent]


def cell_errors(recording: Recording, replay: Replay) -> Cells:
    """Error of every class on both nodes."""
    keep, peaks = scored_samples(recording), class_peaks(recording)
    off = np.abs(replay.pages[keep] - measured_pages(recording)[keep]).mean(axis=0) / peaks[:, None]
    judged = judged_classes(recording)
    return {name: (float(off[c, 0]), float(off[c, 1])) for c, name in enumerate(CLASSES) if name in judged}


def base_name(run: str) -> str:
    """The run that `run` replicates: names end in __r2, __r3, ..."""
    return re.sub(r"__r\d+$", "", run)


def replicate_spread(recordings: Sequence[Recording]) -> Cells:
    """How far replicates of one run lie apart: the range of their peaks or of their means, whichever is larger, by the
    same measure as the error. One recording alone has no spread."""
    if len(recordings) < 2:
        return dict.fromkeys(CLASSES, (0.0, 0.0))
    peaks = np.max([class_peaks(recording) for recording in recordings], axis=0)
    kept = [measured_pages(recording)[scored_samples(recording)] for recording in recordings]
    ranges = [np.ptp([level(pages, axis=0) for pages in kept], axis=0) for level in (np.max, np.mean)]
    spread = np.max(ranges, axis=0) / peaks[:, None]
    return {name: (float(spread[c, 0]), float(spread[c, 1])) for c, name in enumerate(CLASSES)}
