"""Ctrl-C wherever it falls. A destructor or a callback from C cannot raise: Python reports the exception and goes on.

So a `KeyboardInterrupt` that falls there, as into LLVM's while the simulator is compiled, is sent again, and what
objects that it left half made complain of at their end is not said.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

AGAIN_S = 0.05
"""Time to leave the destructor."""

_interrupted, _over = threading.Event(), threading.Event()


def heed() -> None:
    """Have Ctrl-C end this process, unless it is ignored (`nohup`), somebody else's already, or another thread's."""
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _over.clear()
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable


def unheed() -> None:
    """As before `heed`; after a Ctrl-C the complaints stay unsaid, as most come at the end of the process."""
    _over.set()
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not _interrupted.is_set():
            sys.unraisablehook = sys.__unraisablehook__
    # Where Ctrl-C fell into a text that was executed, as dataclasses and Numba do, `python -m` would end itself by the
    # signal, whatever the exit code; it forgets that with the next such text (`run_eval_code_obj` of CPython).
    exec("")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _unraisable(unraisable: Any) -> None:
    if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(AGAIN_S, _interrupt_again)
        again.daemon = True
        again.start()
    elif not _interrupted.is_set():
        sys.__unraisablehook__(unraisable)


def _interrupt_again() -> None:
    main = threading.main_thread().ident
    if main is not None and not _over.is_set():
        signal.pthread_kill(main, signal.SIGINT)  # a real one: it ends a wait
