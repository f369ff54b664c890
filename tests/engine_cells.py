"""Cells for engines: importable by any worker."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiergym.errors import UserError
from tiergym.lab.tuning import PrunedError


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    raise UserError(f"number is {number}; allowed: none")


def refuse_some(number: int, large: bytes) -> int:
    """Refuses one in the middle of many; what it is given fills the pipe to the workers."""
    time.sleep(0.02)
    if number == 20:
        raise UserError(f"number is {number}; allowed: others")
    return len(large)


def die_once(number: int, marker: Path) -> int:
    """Kills the worker that has the cell first, as the OOM killer does."""
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_always(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def hill(folder: Path, deadly: bool, values: Mapping[str, Any], number: int, report: Callable[[float], bool]) -> Any:
    """A trial of a tuning that is known without a simulator, and leaves a file for each time that it is measured; the
    worker that has the third first is killed where it is `deadly`."""
    times = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{times}").touch()
    if deadly and number == 2 and times == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    score = -((values["x"] - 0.2) ** 2) - (values["n"] - 5) ** 2 / 100
    if report(score / 2) and number > 0:
        raise PrunedError(3)
    return score, 7


def stay(number: int, folder: str) -> None:
    """Say that it has begun, and never end, whoever asks for it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (Path(folder) / f"at-work-{number}").touch()
    while True:
        time.sleep(1)
