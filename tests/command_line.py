"""The command line called as the installed command calls it; the fixture `cli` is in conftest.py."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    code: Any = 0
    try:
        __main__.main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return Done(code or 0, captured.out, captured.err)
