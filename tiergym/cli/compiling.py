"""A line before the simulator is compiled, so that nobody waits for a silent program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core import event

from tiergym.terminal import console

IDLE_S = 12
"""Seconds that a compilation of everything takes on two idle cores."""


class _Announcer(event.Listener):
    """Hears of the first function that is really compiled: code from the cache is no event."""

    def __init__(self) -> None:
        self._told = False

    def on_start(self, event: object) -> None:
        """Say it once."""
        if not self._told:
            self._told = True
            err = console(stderr=True)
            if err.is_terminal and not err.quiet:
                # By way of sys.stderr, which a bar that is shown puts above itself.
                print(
                    f"compiling the simulator, once for machines of this size: about {expected_s()} s", file=sys.stderr
                )

    def on_end(self, event: object) -> None:
        """Say nothing: another function may follow."""


def expected_s() -> int:
    """Seconds that a compilation will take, longer where others use the cores."""
    return round(IDLE_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


@contextmanager
def announced() -> Iterator[None]:
    """While this lasts, a compilation is announced on stderr where that is a terminal."""
    with event.install_listener("numba:compile", _Announcer()):
        yield
