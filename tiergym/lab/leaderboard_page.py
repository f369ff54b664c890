"""The leaderboard's tables, in the terminal and as a page, and the picture of its performance profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.table import Table

from tiergym.extras import require
from tiergym.lab.leaderboard import Board
from tiergym.lab.markdown import put_into, table
from tiergym.lab.plots import VARIANT_STYLES, write_figure
from tiergym.lab.statistics import Interval, performance_profile
from tiergym.lab.suite_rows import Row
from tiergym.terminal import new_table

COLUMNS = ("policy", "saved", "improves", "worst tenth", "kills per hour", "gap", "us per decision")
COSTS = ("policy", "bytes", "decisions of training", "time of training")
MOST_LINES = len(VARIANT_STYLES)
"""Policies in the picture: those that save most, with the one compared against."""
SHOWN = np.linspace(-1.0, 1.0, 201)


def terminal_table(board: Board, suite: str) -> Table:
    """One suite, the policies that save most first."""
    out = new_table(
        f"{suite}: {board.episodes} episodes per scenario, seed {board.seed}",
        f"improves: over {board.against}; ± is half of the stratified 95 % bootstrap interval",
    )
    for column in COLUMNS:
        out.add_column(column, justify="left" if column == COLUMNS[0] else "right", no_wrap=True)
    for name in board.ranking(suite):
        out.add_row(name, *_cells(board.rows[suite][name], lambda value: f"{value.mean:.3f}±{_half(value):.3f}"))
    return out


def page_tables(board: Board) -> str:
    """Markdown: what each policy costs, and a table for each suite."""
    parts = ["### What they cost\n\n" + table(COSTS, _costs(board))]
    for suite in board.rows:
        rows = [
            [f"`{name}`", *_cells(board.rows[suite][name], lambda v: f"{v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]")]
            for name in board.ranking(suite)
        ]
        parts.append(f"### {suite}\n\nSuite `{board.suites[suite]['digest']}`.\n\n{table(COLUMNS, rows)}")
    return "\n\n".join(parts)


def _costs(board: Board) -> list[list[str]]:
    """Of every policy whose file is known, the mean over its runs."""
    rows = []
    for name, costs in board.costs.items():
        sizes, decisions, seconds = (
            [value for cost in costs if (value := getattr(cost, field)) is not None]
            for field in ("bytes", "decisions", "seconds")
        )
        if sizes:
            trained = [f"{np.mean(decisions):,.0f}", f"{np.mean(seconds) / 60:.0f} min"] if seconds else ["", ""]
            rows.append([f"`{name}`", f"{np.mean(sizes):,.0f}", *trained])
    return rows


def write_page(path: Path, board: Board) -> None:
    """Put the tables between the page's marks. Raises `UserError` where it has none."""
    put_into(path, page_tables(board) + "\n", "leaderboard")


def write_profile_png(path: Path, board: Board) -> None:
    """Performance profiles: of all episodes of a suite, the share in which a policy saves more than x."""
    figure_module = require("matplotlib.figure")
    suites, shown = list(board.scores), _shown(board)
    columns = min(4, len(suites))
    lines = -(-len(suites) // columns)
    figure = figure_module.Figure(figsize=(3.6 * columns, 0.7 + 2.9 * lines), dpi=130, layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axis, suite in zip(axes.flat, suites, strict=False):
        for name, (colour, _) in zip(shown, VARIANT_STYLES, strict=False):
            share = performance_profile(board.scores[suite][name], SHOWN)
            axis.plot(SHOWN, share, label=name, linewidth=1.6, color=colour)
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set_title(suite, fontsize=10)
    for axis in axes.flat[len(suites) :]:
        axis.set_visible(False)
    figure.supxlabel("saved of what stock Linux loses", fontsize=10)
    figure.supylabel("share of episodes above", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(shown), frameon=False, fontsize=9)
    write_figure(path, figure)


def _shown(board: Board) -> list[str]:
    """The policies with the best mean over suites of what they save, and the one compared against."""
    names = next(iter(board.rows.values()))
    mean = {name: float(np.mean([rows[name].saved.mean for rows in board.rows.values()])) for name in names}
    best = sorted(names, key=lambda name: -mean[name])
    first = [name for name in best if name != board.against][: MOST_LINES - 1]
    return [name for name in best if name in (*first, board.against)]


def _half(value: Interval) -> float:
    return (value.high - value.low) / 2


def _cells(row: Row, shown: Callable[[Interval], str]) -> list[str]:
    intervals = (row.saved, row.improves, row.worst_tenth, row.kills_per_hour)
    gap = "" if row.gap is None else f"{row.gap:+.3f}"
    return [*map(shown, intervals), gap, f"{row.decision_us:.2f}"]
