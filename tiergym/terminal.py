"""Text for people in a terminal: the consoles, tables that fit any width, and numbers of a readable length."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

PIPE_WIDTH = 180
"""Columns when the output is no terminal and COLUMNS does not say how many: hardly a table is split."""
LEAST_PROSE = 28
"""Columns that sentences get before a table is split."""
LEAST_WIDTH = 20
"""Columns below which COLUMNS is not believed."""
_LEAST_CLAUSE = 16
_UNLIMITED = 10_000


@dataclass
class Manner:
    """How this run of the command line talks; options of every command set it."""

    quiet: bool = False
    """No progress and no remarks on stderr; errors and warnings stay."""
    json_on_stdout: bool = False
    """Stdout is for a program: no tables there."""

    def reset(self) -> None:
        """As a command line begins."""
        self.quiet = self.json_on_stdout = False


manner = Manner()


_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")}, "?")


class _PlainConsole(Console):
    """Shows what would be an order to the terminal, in a text that may be a stranger's, as a question mark."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=segment.text.translate(_CONTROLS))


def console(*, stderr: bool = False) -> Console:
    """A console for people: stdout for results, stderr for progress and remarks, each silent where `manner` says so.

    Into a pipe or file it writes plain text, as wide as COLUMNS says or `PIPE_WIDTH`.
    """
    silent = manner.quiet if stderr else manner.json_on_stdout
    plain = _PlainConsole(stderr=stderr, quiet=silent)
    columns = os.environ.get("COLUMNS", "")
    if plain.is_terminal or (columns.isdigit() and int(columns) >= LEAST_WIDTH):
        return plain
    return _PlainConsole(stderr=stderr, quiet=silent, width=PIPE_WIDTH)


def say(text: str) -> None:
    """Text on stdout as it is, unless JSON goes there."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """One line on stderr that --quiet leaves."""
    print(f"warning: {text}", file=sys.stderr)


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


class FittedTable(Table):
    """A table of which nothing is cut, and no word broken that is shorter than the console is wide.

    Where the console is too narrow for all columns, several tables stand below each other, each with the first `keys`
    columns. Columns that are aligned to the right hold numbers and do not wrap; others wrap between words unless they
    are `no_wrap`.
    """

    keys: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text.assemble(self.title, style="italic")
        limits = [self._limits(console, options, column) for column in self.columns]
        for indices in self._blocks([least for least, _ in limits], options.max_width):
            yield self._part(indices, limits, options.max_width)
        if self.caption:
            yield Text.assemble(self.caption, style="dim", end="\n\n")

    def _limits(self, console: Console, options: ConsoleOptions, column: Column) -> tuple[int, int]:
        """The least width of a column at which no word breaks, and the width at which nothing wraps."""
        unlimited = options.update(width=_UNLIMITED)
        cells = [Measurement.get(console, unlimited, cell) for cell in column.cells]
        header = Measurement.get(console, unlimited, column.header)
        words = max((cell.minimum for cell in cells), default=0)
        lines = max((cell.maximum for cell in cells), default=0)
        if column.no_wrap or column.justify == "right":
            least = max(lines, header.minimum)
            return least, max(least, header.maximum)
        most = min(max(lines, header.maximum), column.max_width or _UNLIMITED)
        # A path longer than half a line is folded: no other table would hold it either.
        least = min(max(words, header.minimum, min(most, LEAST_PROSE)), options.max_width // 2)
        return least, max(least, most)

    def _blocks(self, least: Sequence[int], width: int) -> list[list[int]]:
        """Which columns stand beside each other: as many as fit, at least one beside the keys."""
        keys = list(range(min(self.keys, len(least))))
        blocks: list[list[int]] = []
        for index in range(len(keys), len(least)):
            if blocks and self._width([least[i] for i in (*blocks[-1], index)]) <= width:
                blocks[-1].append(index)
            else:
                blocks.append([*keys, index])
        return blocks or [keys]

    def _part(self, indices: Sequence[int], limits: Sequence[tuple[int, int]], width: int) -> Table:
        """These columns as a table; what is left of the width goes to those that can use it, the first ones first."""
        widths = [limits[i][0] for i in indices]
        left = width - self._width(widths)
        for place, index in enumerate(indices):
            more = max(0, min(left, limits[index][1] - widths[place]))
            widths[place] += more
            left -= more
        longest = max(range(len(widths)), key=widths.__getitem__)
        widths[longest] = max(1, widths[longest] + min(0, left))  # a name wider than the console is folded
        part = Table(box=self.box, padding=self.padding)
        part.columns = [
            replace(self.columns[i], _index=place, width=widths[place], no_wrap=False, overflow="fold", max_width=None)
            for place, i in enumerate(indices)
        ]
        part.rows = self.rows
        return part

    def _width(self, widths: Sequence[int]) -> int:
        """Of a table whose columns have these widths: an edge on both sides, a blank and a divider between columns."""
        return sum(widths) + 2 * len(widths) + 1


def new_table(title: str, caption: str = "", keys: int = 1) -> FittedTable:
    """An empty table of the look that all have; `keys` columns are repeated where it is split."""
    table = FittedTable(
        title=Text(title), caption=Text(caption) if caption else None, box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.keys = keys
    return table


def listing(title: str, rows: Mapping[str, str], *, wide: bool = True) -> Table:
    """Names with the first paragraph of their descriptions, or its first clause alone."""
    table = new_table(title)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", max_width=110)
    for name, text in rows.items():
        paragraph = " ".join(text.partition("\n\n")[0].split())
        table.add_row(escape(name), escape(paragraph if wide else first_clause(paragraph)))
    return table


def first_clause(text: str) -> str:
    """A description up to the first full stop, colon or semicolon that is not in brackets and not too near its start.

    >>> first_clause("Policy gradient (Schulman et al. 2017; with masks): one choice per entry. Fast.")
    'Policy gradient (Schulman et al. 2017; with masks)'
    """
    for found in re.finditer(r"[.:;] ", text):
        head = text[: found.start()]
        if len(head) >= _LEAST_CLAUSE and head.count("(") == head.count(")"):
            return head
    return text.removesuffix(".")
