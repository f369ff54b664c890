"""Where a rule's Python code runs: whatever it raises, and what it does to this process's output, is one line."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TextIO

from tiergym.errors import UserError

_LONGEST_TOLD = 2000
"""Characters of what a rule raises."""
_STREAMS = {1: "stdout", 2: "stderr"}
_kept: dict[int, tuple[int, tuple[int, int]]] = {}
"""By descriptor, another one of the same file, and which file that is: made once, not in every tick."""


class guarded:  # noqa: N801 - a context manager, as those of `contextlib`; a class, since it is entered in every tick
    """Code of a rule runs; `what` failed, in words, where it raises, exits, or leaves no stdout and stderr.

    Raises `UserError` in place of whatever it raises but for its `UserError` and a person's Ctrl-C. stdout and stderr
    are as before, so that there is something to say it on. again: what they were before is known from the last code
    that was guarded, which saves a tick two system calls.
    """

    __slots__ = ("_again", "_streams", "_what")

    def __init__(self, what: str, again: bool = False) -> None:
        self._what, self._again = what, again

    def __enter__(self) -> None:
        self._streams = (sys.stdout, sys.stderr)
        if not self._again:
            _keep()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        harmed = _restore(self._streams)
        if isinstance(error, UserError) or (isinstance(error, KeyboardInterrupt) and _is_of_a_person(error)):
            return
        if error is not None:
            raise UserError(f"{self._what}: {told(error)}") from error
        if harmed:
            raise UserError(
                f"{self._what}: it closed or replaced {' and '.join(harmed)}; allowed: to leave them as they are"
            )


def told(error: BaseException) -> str:
    """What a stranger's code raised, for a message.

    >>> told(ValueError("x"))
    'ValueError: x'
    """
    try:
        text = str.__str__(str(error))  # `str` may give an heir of it, which answers as it likes
    except BaseException:  # code of the stranger's, too
        text = "(what it says cannot be shown)"
    return f"{type(error).__name__}: {text if len(text) <= _LONGEST_TOLD else text[:_LONGEST_TOLD] + '...'}"


def _is_of_a_person(error: BaseException) -> bool:
    """Whether Ctrl-C was pressed: the signal's handler raised it, then; Python's own leaves no trace of itself."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        return True
    code, seen = getattr(handler, "__code__", None), set[int]()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:  # it may have been caught, and another one raised
        seen.add(id(each))
        trace = each.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code is code:
                return True
            trace = trace.tb_next
        each = each.__context__
    return False


def _keep() -> None:
    """Have other descriptors of stdout and stderr, as far as there are those."""
    for number in _STREAMS:
        file, (other, of) = _file(number), _kept.get(number, (-1, None))
        if file == of:
            continue
        if _kept.pop(number, None):
            os.close(other)
        if file is not None:
            with suppress(OSError):  # no descriptor is left
                _kept[number] = (os.dup(number), file)


def _restore(streams: tuple[TextIO | None, TextIO | None]) -> list[str]:
    """Put back what is not as it was; its names."""
    harmed = []
    for (number, name), stream in zip(_STREAMS.items(), streams, strict=True):
        same = True
        if number in _kept and _file(number) != _kept[number][1]:
            same = False
            with suppress(OSError):  # it closed that, too
                os.dup2(_kept[number][0], number, inheritable=True)
        if getattr(sys, name) is not stream:
            same = False
            setattr(sys, name, stream)
        if stream is not None and stream.closed:
            same = False
            setattr(sys, name, open(number, "w", encoding=stream.encoding, errors="replace", closefd=False))  # noqa: SIM115
        if not same:
            harmed.append(name)
    return harmed


def _file(number: int) -> tuple[int, int] | None:
    """Which file a descriptor is of; None of none."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
