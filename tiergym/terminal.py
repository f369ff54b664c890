"""Text for people in a terminal: the console, tables of one look, and numbers of a readable length."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 180
"""Columns when the output is no terminal: wide enough that no cell is cut."""


def console(*, stderr: bool = False) -> Console:
    """A console for people; into a pipe or file it writes plain text without wrapping at 80 columns."""
    plain = Console(stderr=stderr)
    return plain if plain.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def number(value: float) -> str:
    """Four significant digits; from ten thousand three, as 12.3k, 1.06M or 2.5G."""
    size = abs(value)
    if size >= 1e4:
        # 999,600 rounds to 1M, not to 1000k.
        for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size >= 0.9995 * unit:
                return f"{value / unit:.0f}{suffix}" if size >= 99.95 * unit else f"{value / unit:.3g}{suffix}"
    if value == int(value):
        return f"{value:.0f}"
    if size < 5e-4:
        return f"{value:.1e}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(size)))}f}" if size >= 1 else f"{value:.4f}"


def new_table(title: str, caption: str = "") -> Table:
    """An empty table of the look that all have."""
    return Table(
        title=Text(title),
        caption=Text(caption) if caption else None,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )


def listing(title: str, rows: Mapping[str, str]) -> Table:
    """Names with the first paragraph of their descriptions."""
    table = new_table(title)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", max_width=110)
    for name, text in rows.items():
        table.add_row(escape(name), escape(text.partition("\n\n")[0]))
    return table
