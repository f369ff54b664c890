"""How far a replay is from its recording: errors per class and node, and events, each with its verdict.

Cell error: mean over samples of |simulated - measured| / max(peak of the class over both nodes, 256 pages). Samples
from 2 s after an OOM kill on are left out, and so are those during a test of offlining.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.lab.recordings.format import Recording
from tiergym.lab.recordings.machine import STRUCT_PAGES_PER_PAGE, ZONE_OF, command_line, kernel_version
from tiergym.lab.recordings.replay import CLASSES, Kill, Replay
from tiergym.sim import names as n

COUNTERS: Mapping[str, tuple[str, float]] = {
    "page_tables": ("nr_page_table_pages", 1.0),
    "kernel_stacks": ("nr_kernel_stack", 0.25),
    "slab_unreclaim": ("nr_slab_unreclaimable", 1.0),
    "slab_reclaim": ("nr_slab_reclaimable", 1.0),
    "anon": ("nr_anon_pages", 1.0),
    "file": ("nr_file_pages", 1.0),
}
"""The node counter of each class, and pages per unit."""
NODES = ("fast", "slow")
LEAST_PEAK_PAGES = 256
AFTER_KILL_S = 2.0

CELL_TOLERANCE = 0.05
CELL_LIMIT = 0.15
CELLS_WITHIN = 0.95
TOUCHED_TOLERANCE = 0.10
DEMOTED_FACTOR = 1.5
BLOCKS_TOLERANCE = 1
FALLBACK_PAGES = 64
"""Pages on node 1 that count as the first fallback: more than a stray page of a kernel thread."""
DEMAND_PAGES = 1000
"""Demotion or swap below this, in both the kernel and the model, is agreement: it is noise of single batches."""


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
    """One run: `cells`, class -> error (fast, slow) as shares, and event rows."""

    run: str
    cells: Mapping[str, tuple[float, float]]
    rows: tuple[Row, ...]


def measured_pages(recording: Recording) -> NDArray[np.float64]:
    """Pages per sample, class and node, float64 (samples, classes, 2)."""
    out = np.zeros((len(recording.t_s), len(CLASSES), 2))
    for c, name in enumerate(CLASSES):
        counter, scale = COUNTERS[name]
        for node in (0, 1):
            out[:, c, node] = np.nan_to_num(recording.column(f"n{node}.{counter}").astype(np.float64)) * scale
    return out


def kills_measured(recording: Recording) -> list[tuple[int, str, str, int]]:
    """(sample, request, constraint, touched) of each OOM kill, from vm.oom_kill and the kernel's log."""
    count = recording.column("vm.oom_kill").astype(np.int64)
    log = [line for line in recording.meta.get("dmesg", [])]
    requests = ["user" if "HIGHUSER" in line else "kernel" for line in log if "invoked oom-killer" in line]
    constraints = [match[1] for line in log if (match := re.search(r"oom-kill:constraint=(\w+)", line))]
    found = []
    for i in range(int(count[-1] - count[0])):
        k = int(np.argmax(count - count[0] > i))
        touched = sum(float(recording.column(f"w.{name}")[k]) for name in TOUCHED)
        request = requests[i] if i < len(requests) else "?"
        constraint = constraints[i] if i < len(constraints) else "?"
        found.append((k, request, constraint, int(touched)))
    return found


TOUCHED = ("anon_touched_pages", "kv_touched_pages", "sparse_leaf_tables", "threads")
"""What the score counts as touched at a kill."""


def scored_samples(recording: Recording) -> NDArray[np.bool_]:
    """Samples that the cells count."""
    t_s = recording.t_s
    keep = np.ones(len(t_s), np.bool_)
    kills = kills_measured(recording)
    if kills:
        keep &= t_s < t_s[kills[0][0]] + AFTER_KILL_S
    begin: dict[str, float] = {}
    for event in recording.events:
        words = dict(word.split("=", 1) for word in event.detail.split() if "=" in word)
        tag = words.get("tag", "")
        if event.event == "offline_block" and tag not in begin:
            begin[tag] = event.t_s - (float(words.get("t1", 0)) - float(words.get("t0", 0)))
        elif event.event == "offline_summary" and tag in begin:
            keep &= (t_s < begin.pop(tag)) | (t_s > event.t_s)
    return keep


def cell_errors(recording: Recording, replay: Replay) -> dict[str, tuple[float, float]]:
    """Error of every class on both nodes."""
    measured, keep = measured_pages(recording), scored_samples(recording)
    out = {}
    for c, name in enumerate(CLASSES):
        peak = max(float(measured[:, c].max()), LEAST_PEAK_PAGES)
        error = np.abs(replay.pages[keep, c] - measured[keep, c]).mean(axis=0) / peak
        out[name] = (float(error[0]), float(error[1]))
    return out
