"""Text for people in a terminal: the console, tables of one look, and numbers of a readable length."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tiergym.lab.statistics import Interval

PIPE_WIDTH = 150
"""Columns when the output is no terminal: wide enough that no cell is cut."""


def console(*, stderr: bool = False) -> Console:
    """A console for people; into a pipe or file it writes plain text without wrapping at 80 columns."""
    plain = Console(stderr=stderr)
    return plain if plain.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def number(value: float) -> str:
    """Four significant digits; 12,345 as 12.3k."""
    if value != 0 and abs(value) < 5e-4:
        return f"{value:.1e}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if suffix == "k" else size)
            return f"{scaled:.3g}{suffix}" if abs(scaled) < 1000 else f"{scaled:.0f}{suffix}"
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if abs(value) >= 1 else f"{value:.4f}"


def interval(value: Interval) -> str:
    """Mean and half the width of the 95 % interval, to two digits of the latter (at most five decimals)."""
    half = (value.high - value.low) / 2
    if half < 5e-6:
        return number(value.mean)
    decimals = min(5, max(0, 1 - math.floor(math.log10(half))))
    return f"{value.mean:.{decimals}f} ± {half:.{decimals}f}"


def new_table(title: str, caption: str = "") -> Table:
    """An empty table of the look that all have."""
    return Table(
        title=title,
        caption=caption or None,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )


def listing(title: str, rows: Mapping[str, str]) -> Table:
    """Names with their descriptions."""
    table = new_table(title)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for row in rows.items():
        table.add_row(*row)
    return table
