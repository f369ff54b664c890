"""One process at a time works in a folder: a lock that names its holder, and that a killed process gives up.

The file `.lock` in the folder is locked by the kernel (flock) and says who holds it; what it says has no meaning once
the lock is free. It is deleted at the end; a killed process leaves it, and nothing minds.
"""

import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tiergym import files
from tiergym.errors import UserError, shown

LOCK = ".lock"


@contextmanager
def locked(folder: Path, *, new: bool = False, goes_on: bool = True) -> Iterator[None]:
    """Hold the folder, which is made where there is none; a process may hold it several times over.

    Raises `UserError` where another process holds it, with that process's number, command and machine, where it
    cannot be written to, where its lock is no file, and where something is in it that is to be `new`. `goes_on`: what
    is there could be continued.
    """
    path, made = folder / LOCK, list[Path]()
    if new:
        check_new(folder, goes_on)
    try:
        made = files.make_folder(folder)
        _check_lock(path)
        lock = FileLock(path, timeout=0, is_singleton=True, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder}: {_holder(path)} works in it; allowed: one at a time") from error
    except OSError as error:
        files.remove_empty(made)
        raise UserError(f"{folder}: cannot be written to: {error.strerror or error}") from error
    try:
        if new:
            check_new(folder, goes_on)  # again: another process may have been faster
        if lock.lock_counter == 1:
            with suppress(OSError):  # a full disk: it is held all the same
                path.write_text(json.dumps(_ourselves()), encoding="utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # the folder may have vanished
                path.unlink(missing_ok=True)
                files.remove_empty(made)  # where nothing came of it
        lock.release()


def check_new(folder: Path, goes_on: bool = True) -> None:
    """Raise `UserError` where there is something in a folder, besides a lock's file, or no folder can be made there."""
    try:
        if "\0" in str(folder):  # of which pathlib says that there is none
            raise ValueError("embedded null byte")
        str(folder).encode()
        nearest = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
        if nearest.is_dir() and not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"{folder}: cannot be written to: '{nearest}' is not a folder that this user can write")
        if nearest != folder and not nearest.is_dir():
            raise UserError(f"{folder}: cannot be written to: '{nearest}' is no folder")
        if not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir())):
            _check_lock(folder / LOCK)
            return
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{shown(str(folder))}: not a folder's name: {error}") from error
    continued = f", or continue it with --resume {folder}" if goes_on else ""
    raise UserError(f"{folder} exists and is not an empty folder; name another one{continued}")


def _check_lock(path: Path) -> None:
    """Raise `UserError` where a lock is no file of its own: through a link, something else would be overwritten."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        what = "a link" if stat.S_ISLNK(kind) else "a folder" if stat.S_ISDIR(kind) else "not a regular file"
        raise UserError(f"{path}: {what}; allowed: the lock of a tiergym command, or nothing")


def _ourselves() -> dict[str, object]:
    command = " ".join(["tiergym", *sys.argv[1:]])[:200]
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": command,
        "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }


def _holder(path: Path) -> str:
    """Who holds a lock, as far as its file says."""
    try:
        holder = files.read_json(path)
        return (
            f"process {int(holder['pid'])} on {shown(str(holder['host']))}, {shown(str(holder['command']))} "
            f"since {shown(str(holder['since']))},"
        )
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return "another process"
