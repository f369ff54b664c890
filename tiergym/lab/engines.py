"""Where cells of a large job run: one after the other here, in processes of this machine, or on a Ray cluster.

A cell is a function that any process can import, and its arguments. What it returns depends on these alone, so all
engines give the same, to the bit. The one who asked writes down each result as it comes: a worker that dies takes
nothing with it but the cell that it was at, which another one does again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tiergym.errors import UserError
from tiergym.extras import require

LOCAL, PROCESSES, RAY = "local", "processes", "ray"
ENGINES = (LOCAL, PROCESSES, RAY)

TRIES = 3
"""How often a cell is begun whose worker dies: one that kills each of its workers, for want of memory say, fails."""

PATIENCE_S = 300.0
"""How long a worker whose asker dies has for its checkpoint. What it saved before is whole anyway."""

Function = Callable[..., Any]
Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """One of `ENGINES`. workers: processes on this machine, all of its cores if None. address: of a Ray cluster's
    head, as `ray.init` takes it; None starts Ray on this machine.

    Raises `UserError` where they do not go together.
    """

    name: str = LOCAL
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UserError(f"engine is '{self.name}'; allowed: {', '.join(ENGINES)}")
        if self.address is not None and self.name != RAY:
            raise UserError(f"--address {self.address} with --engine {self.name}; allowed: with --engine {RAY}")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers is {self.workers}; allowed: a whole number from 1")
        if self.workers is not None and (self.name == LOCAL or self.address is not None):
            of = "a cluster, which has its own" if self.address is not None else f"--engine {LOCAL}, which has none"
            raise UserError(f"--workers {self.workers} with {of}; allowed: with --engine {PROCESSES} or {RAY} here")

    def run(self, function: Function, cells: Sequence[Arguments]) -> Iterator[tuple[int, Any]]:
        """The index of each cell and what `function` returns for it, in the order in which they are done.

        What a cell raises is raised here. Raises `UserError` where a cell's workers died `TRIES` times.
        """
        if not cells:
            return iter(())
        if self.name == PROCESSES:
            return _in_processes(function, cells, self.workers or os.cpu_count() or 1)
        if self.name == RAY:
            return _on_ray(function, cells, self)
        return ((index, function(*arguments)) for index, arguments in enumerate(cells))

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Ray is started once for whatever runs within; the other engines need nothing."""
        if self.name != RAY:
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home
        ray = require("ray")
        begun = not ray.is_initialized()
        if begun:
            try:
                ray.init(
                    address=self.address,
                    num_cpus=self.workers if self.address is None else None,
                    include_dashboard=False if self.address is None else None,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise UserError(f"--address {self.address}: {str(error).splitlines()[0]}") from error
        try:
            yield
        finally:
            if begun:
                ray.shutdown()


_at_work, _told = threading.Event(), threading.Event()
"""Whether this worker is at a cell, and whether it is to begin no more."""


def _stop_when_told(asker: Connection, patience_s: float) -> None:
    """In a worker, before its first cell: stop once the other end of `asker` is closed, if only by the asker's death.

    A training saves a checkpoint, as after a SIGTERM; any other cell ends at once, and no other one begins. With the
    asker dead, what has not ended after `patience_s` ends then, whatever it is at.
    """

    def watch() -> None:
        with suppress(EOFError, OSError):
            asker.recv_bytes()
        _told.set()
        if _at_work.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        end_s = monotonic() + patience_s
        while not _is_orphan() or (_at_work.is_set() and monotonic() < end_s):
            sleep(0.1)
        os._exit(1)  # else it would wait for a next cell for ever

    threading.Thread(target=watch, daemon=True).start()


def _is_orphan() -> bool:
    parent = parent_process()
    return parent is not None and not parent.is_alive()


def _in_worker(function: Function, arguments: Arguments, folder: str) -> Any:
    """`_alone`, and the end of the worker with it where nobody is left to take the result."""
    _at_work.set()  # before it looks, as the one that tells it looks after it has told: one of them sees the other
    try:
        if _told.is_set():
            return None  # handed out before the others were cancelled
        return _alone(function, arguments, folder)
    finally:
        _at_work.clear()
        if _is_orphan():
            os._exit(1)


def _alone(function: Function, arguments: Arguments, folder: str) -> Any:
    """The function in a worker, in the working directory of the one who asked, where the worker's machine has it.

    It has one core to itself: threads of its own would fight for the others'.
    """
    import numba

    numba.set_num_threads(1)
    if Path(folder).is_dir():
        os.chdir(folder)
    return function(*arguments)


def _in_processes(function: Function, cells: Sequence[Arguments], workers: int) -> Iterator[tuple[int, Any]]:
    left, tried = set(range(len(cells))), dict.fromkeys(range(len(cells)), 0)
    # Spawned: a forked child would have its parent's locks of numba and torch, held by threads that it has not.
    context, folder = get_context("spawn"), str(Path.cwd())
    while left:
        theirs, ours = context.Pipe(duplex=False)
        with (
            theirs,
            ours,
            ProcessPoolExecutor(min(workers, len(left)), context, _stop_when_told, (theirs, PATIENCE_S)) as pool,
        ):
            running = {pool.submit(_in_worker, function, cells[index], folder): index for index in sorted(left)}
            try:
                while running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        result = future.result()
                        left.discard(index)
                        yield index, result
            except BrokenProcessPool:
                # Whose worker died is not told, so all that could have been at work count.
                for index in sorted(left)[:workers]:
                    tried[index] += 1
                    if tried[index] == TRIES:
                        raise UserError(_died(TRIES)) from None
            except BaseException:
                # Of what is left, nobody will take a result. The pool cancels by itself: it dies of a cell that others
                # have cancelled when it breaks, and then never ends.
                pool.shutdown(wait=False, cancel_futures=True)
                ours.close()
                raise


def _on_ray(function: Function, cells: Sequence[Arguments], engine: Engine) -> Iterator[tuple[int, Any]]:
    ray = require("ray")
    with engine.ready():
        remote = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_alone)
        running = {remote.remote(function, arguments, str(Path.cwd())): index for index, arguments in enumerate(cells)}
        while running:
            for done in ray.wait(list(running))[0]:
                try:
                    result = ray.get(done)
                except ray.exceptions.WorkerCrashedError:
                    raise UserError(_died(TRIES)) from None
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from None
                yield running.pop(done), result


def _died(times: int) -> str:
    return f"a worker died {times} times at one cell (too little memory?); what was done before is kept"
