"""`tiergym` and `python -m tiergym`: the command line, with bad input and missing parts as one line and exit code 2.

So are the commands of single modules, `python -m tiergym.validation` and others.

A command that Ctrl-C ends prints one line and exits with 130; one whose reader has gone exits with 1 and says nothing.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tiergym.cli import interruption
from tiergym.errors import UserError, one_line
from tiergym.extras import absent

_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE)
"""A full disk, a limit, a folder that is read-only: no defect of ours, wherever they are met."""
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""A name that no file can have: `pathlib` answers whether there is a file of it by raising."""


def main() -> None:
    """Run the command line on `sys.argv`; bad input or a part not installed prints `error: ...` and exits with 2.

    So does a disk that is full or a folder that cannot be written to, whenever it turns out.
    """

    def run() -> None:
        from tiergym.cli.app import app

        app(prog_name="tiergym")  # however it was started: in help, and where completion is installed

    _run(run)


def run_module(command: Callable[..., Any]) -> None:
    """Run a module's own command, `python -m MODULE`, on `sys.argv`, as `main` runs those of the command line."""

    def run() -> None:
        from tiergym.cli.command import Commands

        commands = Commands(add_completion=False, pretty_exceptions_enable=False)
        commands.command()(command)
        try:
            commands()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error

    _run(run)


def _run(command: Callable[[], None]) -> None:
    interruption.heed()
    try:
        from tiergym.terminal import manner

        manner.reset()
        _print_anything()
        _have_a_home()
        command()
    except UserError as error:
        _refuse(error)
    except ModuleNotFoundError as error:
        told = absent(error)
        if told is None:
            raise
        _refuse(told)
    except KeyboardInterrupt:  # before the command runs, which has its own word on it
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in _OF_THE_NAME:
            _refuse(UserError(f"{error.filename}: {error.strerror}"))
        if error.errno not in _OF_THE_MACHINE:
            raise
        _forget_stdout()
        _refuse(UserError(f"cannot write {error.filename or 'to stdout'}: {error.strerror}"))
    finally:
        _forget_manner()
        interruption.unheed()
        _flush()


def _print_anything() -> None:
    """What the terminal's encoding lacks, such as the sign of plus or minus, becomes a question mark, and no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _have_a_home() -> None:
    """The user of a container may be in no list of users; packages that look for their home then raise."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def _forget_manner() -> None:
    """Who calls `main` more than once in a process, as tests do, gets tables again after JSON."""
    from tiergym.terminal import manner

    manner.reset()


def _flush() -> None:
    """Write what is left; where nobody reads it, or the disk is full, Python would say so again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _forget_stdout()
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        _refuse(UserError(f"cannot write to stdout: {error.strerror}"))


def _forget_stdout() -> None:
    """Let what is still to be written go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(error: UserError) -> NoReturn:
    print(f"error: {one_line(str(error))}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
