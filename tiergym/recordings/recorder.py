"""Record a machine while a command runs, or for a time: samples until it ends, then one recording on disk."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tiergym.errors import UserError
from tiergym.recordings.format import Event, write_recording
from tiergym.recordings.kernel_log import memory_lines
from tiergym.recordings.machine_facts import machine_facts
from tiergym.recordings.preflight import check_machine
from tiergym.recordings.process_tree import adopt_orphans
from tiergym.recordings.samples import Samples
from tiergym.recordings.sampling import Machine, Sampler
from tiergym.recordings.tiers import Fold

GRACE_S = 5.0
"""After Ctrl-C the command has this long to end by itself, and as long again after SIGTERM."""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Recorded:
    """What `record` did. `status`: the command's exit status, 128 + N if signal N ended it, 130 after Ctrl-C."""

    samples: int
    duration_s: float
    status: int
    notes: dict[str, str]


def record(
    folder: Path,
    command: Sequence[str] = (),
    seconds: float = math.inf,
    hz: float = 5.0,
    referenced_s: float = 0.0,
    fold: Fold | None = None,
    tell: Callable[[str], None] = lambda warning: None,
    on_begin: Callable[[], None] = lambda: None,
) -> Recorded:
    """Sample this machine into the new recording `folder` until `command` ends; without one, for `seconds`.

    `fold` adds its nodes up to two tiers. `tell` gets what a person should know before the command starts;
    `on_begin` is called once the machine can be recorded.

    The first sample is taken before the command starts, the last after it has ended. Ctrl-C (or SIGTERM) ends
    both early and keeps what was sampled; outside the main thread, where Python delivers no signals, neither does.
    Raises `UserError` if the command cannot start or the machine not be read.
    """
    machine = Machine(fold=fold)
    for warning in check_machine(machine, fold):
        tell(warning)
    on_begin()
    sampler = Sampler(machine, os.getpid() if command else None, referenced_s)
    samples = Samples()
    events: list[Event] = []
    began = time.monotonic()

    def now_s() -> float:
        return time.monotonic() - began

    def sample() -> None:
        time_s = now_s()
        samples.add(time_s, sampler.sample(time_s))

    process: subprocess.Popen[bytes] | None = None
    interrupted = False
    try:
        with _sigterm_interrupts():
            sample()
            facts = machine_facts(machine, machine.values())
            if command:
                adopt_orphans()
                process = _start(command)
                events.append(Event(now_s(), "phase:start", f"cmd={shlex.join(command)} pid={process.pid}"))
            while (process is None or process.poll() is None) and now_s() < seconds:
                _wait(process, min(seconds, (math.floor(now_s() * hz) + 1) / hz) - now_s())
                sample()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if process is not None:
            _end(process)
    if not samples.times:
        raise UserError("interrupted before the first sample")
    if process is not None:
        events.append(_exit_event(now_s(), command[0], process))
    sample()
    events.append(Event(now_s(), "phase:end", "interrupted" if interrupted else ""))
    meta = {
        "run": folder.name,
        **facts,
        "command": list(command),
        "sample_hz": hz,
        "referenced_s": referenced_s,
        "duration_s": round(samples.times[-1], 3),
        "completed": not interrupted,
        "dmesg": _log_since(machine, began),
        "notes": machine.notes,
    }
    write_recording(folder, meta, samples.columns(), events)
    status = INTERRUPTED if interrupted else _status(process)
    return Recorded(len(samples.times), samples.times[-1], status, machine.notes)


def _log_since(machine: Machine, began: float) -> list[str]:
    try:
        return memory_lines(machine.root / "dev/kmsg", began)
    except OSError as error:
        machine.notes["/dev/kmsg"] = f"left out: {error.strerror}"
        return []


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does; only the main thread may say what a signal does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command)
    except OSError as error:
        raise UserError(f"cannot run '{command[0]}': {error.strerror}") from error


def _wait(process: subprocess.Popen[bytes] | None, timeout_s: float) -> None:
    """Until the next sample is due, or the command ends."""
    if process is None:
        time.sleep(max(0.0, timeout_s))
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, timeout_s))


def _end(process: subprocess.Popen[bytes]) -> None:
    """A terminal's Ctrl-C reaches the command too: let it end; then ask; then insist."""
    for ask in (lambda: None, process.terminate):
        ask()
        try:
            process.wait(GRACE_S)
            return
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            break
    process.kill()
    process.wait()


def _status(process: subprocess.Popen[bytes] | None) -> int:
    if process is None:
        return 0
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _exit_event(t_s: float, name: str, process: subprocess.Popen[bytes]) -> Event:
    how = f"status={process.returncode}" if process.returncode >= 0 else f"signal={-process.returncode}"
    return Event(t_s, "child_exit", f"cmd={Path(name).name} pid={process.pid} {how}")
