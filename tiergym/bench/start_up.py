"""Cost of starting: import, and compilation with an empty and a full cache."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

_TIMED_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"

# One machine and a batch large enough for the parallel path, so that everything is compiled.
_FIRST_TICK = """
import numpy as np
from tiergym.env.actions import DEFAULT
from tiergym.env.machines import Machines
from tiergym.specs import load_scenario
for count in (1, 1024):
    machines = Machines([load_scenario("llama-1to2")], count)
    machines.reset(np.arange(count, dtype=np.uint64))
    machines.step(np.tile(DEFAULT, (count, 1)))
"""


def import_tiergym() -> Callable[[], float]:
    """Seconds of `import tiergym` in a fresh interpreter."""
    return lambda: float(_python(_TIMED_IMPORT.format("tiergym")))


def import_numpy() -> Callable[[], float]:
    """Seconds of `import numpy` in a fresh interpreter: a part of the above."""
    return lambda: float(_python(_TIMED_IMPORT.format("numpy")))


def cold_start() -> Callable[[], float]:
    """Seconds of a process that compiles everything and makes one tick."""

    def once() -> float:
        with TemporaryDirectory(prefix="tiergym-bench-") as folder:
            return _first_tick(Path(folder))

    return once


def warm_start() -> Callable[[], float]:
    """Seconds of a process that finds everything compiled and makes one tick."""
    folder = TemporaryDirectory(prefix="tiergym-bench-")  # removed with the closure
    _first_tick(Path(folder.name))
    return lambda: _first_tick(Path(folder.name))


def _first_tick(cache: Path) -> float:
    started = perf_counter()
    _python(_FIRST_TICK, NUMBA_CACHE_DIR=str(cache))
    return perf_counter() - started


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return done.stdout
