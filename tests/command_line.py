"""The command line called as the installed command calls it; the fixture `cli` is in conftest.py."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from tiergym import __main__


@dataclass
class Done:
    """What one command did."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object) -> Done:
    """`tiergym ARGS` in this process."""
    monkeypatch.setattr(sys, "argv", ["tiergym", *map(str, args)])
    code = _exit_code()
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


def captured(*args: object) -> Done:
    """`tiergym ARGS` in this process, where there is no fixture: many times within one test."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["tiergym", *map(str, args)]), redirect_stdout(out), redirect_stderr(err):
        code = _exit_code()
    return Done(code, out.getvalue(), err.getvalue())


def _exit_code() -> int:
    code: Any = 0
    try:
        __main__.main()
    except SystemExit as stop:
        code = stop.code
    return code or 0
