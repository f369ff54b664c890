"""How far the tick is from what the machine could do: memory traffic against bandwidth, instructions counted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from tiergym.bench import steps
from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.observations import N_OBS
from tiergym.env.step_results import N_COUNTS, N_FLOATS
from tiergym.env.threads import on_threads
from tiergym.sim.layout import tick_bytes
from tiergym.specs import load_scenario

COPY_BYTES = 256 << 20
COUNTED_MACHINES = 512
COUNTED_TICKS = (60, 300)
"""Two runs: their difference leaves the start of Python and of the episode out."""

# The cache is filled natively for a processor that valgrind knows, so that nothing is compiled under it.
_PORTABLE = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
_COUNTED = """
import sys
import numpy as np
from tiergym.bench import steps
steps.engine(getattr(steps, sys.argv[1]), batch={machines}, threads=1, ticks=int(sys.argv[2]))()
"""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Bounds of one machine-tick.

    bytes_per_tick: the part of a record that ticks use, read and written once, the action and the results: what a
    batch that exceeds the caches moves. copy_gbps: reads and writes per second of a large copy on all threads.
    bound_ticks_per_s: their quotient. instructions: per tick, by load, counted by callgrind; empty where valgrind is
    missing.
    """

    bytes_per_tick: int
    copy_gbps: float
    bound_ticks_per_s: float
    instructions: dict[str, float]
    missing: str = ""


def roofline(threads: int, count: bool = True) -> Roofline:
    """Measure the bounds of the benchmark's scenario; counting takes some minutes."""
    reward, action = 1, len(NVEC)
    outputs = 4 * N_OBS + N_MASK + 8 * (reward + N_FLOATS + N_COUNTS + action)
    scenario = load_scenario(steps.SCENARIO)
    moved = 2 * tick_bytes(scenario.regions, scenario.counts[0]) + outputs
    gbps = copy_gbps(threads)
    missing = "" if shutil.which("valgrind") else "valgrind is not installed"
    counted = instructions() if count and not missing else {}
    return Roofline(moved, gbps, gbps * 1e9 / moved, counted, missing)


def copy_gbps(threads: int) -> float:
    """Bytes read and written per second, in GB, by a copy that no cache holds: the best of five."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.empty(COPY_BYTES, np.uint8)

    size = COPY_BYTES // threads
    best = float("inf")
    for _ in range(5):
        left = iter(range(0, COPY_BYTES, size))  # each part goes to one thread: the GIL makes `next` atomic

        def copy(left: Iterator[int] = left) -> None:
            for first in left:
                np.copyto(target[first : first + size], source[first : first + size])

        started = perf_counter()
        on_threads(copy, threads)
        best = min(best, perf_counter() - started)
    return 2e-9 * COPY_BYTES / best


def instructions() -> dict[str, float]:
    """Instructions per machine-tick under stock Linux and under random actions."""
    with TemporaryDirectory(prefix="tiergym-bench-") as folder:
        out = {}
        for load in ("untouched", "at_random"):
            few, many = (_count(load, ticks, Path(folder)) for ticks in COUNTED_TICKS)
            out[load] = (many - few) / (COUNTED_MACHINES * (COUNTED_TICKS[1] - COUNTED_TICKS[0]))
        return out


def _count(load: str, ticks: int, folder: Path) -> int:
    environment = os.environ | _PORTABLE | {"NUMBA_CACHE_DIR": str(folder), "OPENBLAS_NUM_THREADS": "1"}
    program = [sys.executable, "-c", _COUNTED.format(machines=COUNTED_MACHINES), load, str(ticks)]
    subprocess.run(program, env=environment, check=True, capture_output=True)  # fills the cache
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'callgrind'}", *program]
    done = subprocess.run(valgrind, env=environment, check=True, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if collected is None:
        raise RuntimeError(f"callgrind printed no count: {done.stderr[-500:]}")
    return int(collected[1])
