"""Cost of starting: import, help, and compilation with an empty and a full cache."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
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


# The words of every command and every group of them, a line each; the first line, of none, is `tiergym` itself.
_COMMANDS = """
import typer
from tiergym.cli.app import app
def tell(command, *words):
    print(*words)
    for name, below in getattr(command, "commands", {}).items():
        tell(below, *words, name)
tell(typer.main.get_command(app))
"""


class SlowestHelp:
    """Seconds of `--help`, of the command that takes longest, each in a process of its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {words: [] for words in _python(_COMMANDS).splitlines()}

    def __call__(self) -> float:
        """Ask every command once."""
        for words, seconds in self.seconds.items():
            seconds.append(_seconds("-m", "tiergym", *words.split(), "--help"))
        return max(seconds[-1] for seconds in self.seconds.values())

    def slowest(self) -> str:
        """The command with the largest median so far."""
        return max(self.seconds, key=lambda words: median(self.seconds[words]))


def import_typer() -> Callable[[], float]:
    """Seconds of a process that imports typer, which makes the help, and does nothing with it."""
    return lambda: _seconds("-c", "import typer")


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


def _seconds(*arguments: str) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return perf_counter() - started


def _first_tick(cache: Path) -> float:
    started = perf_counter()
    _python(_FIRST_TICK, NUMBA_CACHE_DIR=str(cache))
    return perf_counter() - started


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return done.stdout
