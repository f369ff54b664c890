"""An episode as a picture (PNG): the panels of `episode_panels`, one column per policy, time from left to right."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym import files
from tiergym.env import actions as act
from tiergym.env.palette import FAINT, INK, KILL, MODE_COLOURS, ink_on
from tiergym.extras import require
from tiergym.lab import episode_panels as ep
from tiergym.lab.episode_log import EpisodeLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, DPI = 12.8, 100
"""In inches; 1280 pixels."""
PANEL_HEIGHT, ROW_HEIGHT = 1.35, 0.17
"""Inches of a panel, and of one action entry."""
MOST_LETTERS = 130
"""Of the policies' names, side by side."""
LABELLED_SHARE = 0.09
"""A run of one mode is labelled if it is at least this share of the episode per ten letters."""


def write_episode_png(path: Path, logs: Sequence[EpisodeLog]) -> None:
    """Draw the policies of one machine to a PNG file, side by side.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure")
    panels = ep.panels(logs)
    heights = [PANEL_HEIGHT] * len(panels) + [ROW_HEIGHT * len(act.ENTRIES) + 0.25]
    figure = figure_module.Figure(figsize=(WIDTH, sum(heights) + 1.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(heights), len(logs), sharex=True, sharey="row", squeeze=False, height_ratios=heights)
    for column, log in enumerate(logs):
        name = ep.shortened(log.policy, MOST_LETTERS // len(logs))
        grid[0, column].set_title("\n".join((name, *ep.summary(log))), fontsize=9, loc="left")
        for row, panel in enumerate(panels):
            _draw_panel(grid[row, column], panel, column, log)
        _draw_modes(grid[-1, column], log)
        for row in range(len(heights)):
            _draw_happenings(grid[row, column], log, names=row == 0)
        grid[-1, column].set_xlabel("seconds")
        grid[-1, column].set_xlim(0, log.ticks * log.dt_s)
    for row, panel in enumerate(panels):
        grid[row, 0].set_ylabel(panel.unit, fontsize=8)
        _draw_legend(grid[row, -1], panel, any(log.kills for log in logs))
    _draw_mode_legend(grid[-1, -1])
    first = logs[0]
    title = f"{first.scenario}, episode {first.episode} of seed {first.seed}"
    figure.suptitle(textwrap.fill(title, MOST_LETTERS), fontsize=12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_bytes(path, buffer.getvalue())


def _draw_panel(axes: Axes, panel: ep.Panel, column: int, log: EpisodeLog) -> None:
    if panel.kind == "stack":
        values = np.stack([series.values[column] for series in panel.series])
        colours = [series.colour for series in panel.series]
        axes.stackplot(log.time_s, values, colors=colours, linewidth=0)
        if panel.series[0].name == ep.WORK:
            axes.plot(log.time_s, values[0], color=INK, linewidth=0.9)
    for series in panel.series if panel.kind == "lines" else ():
        style: Any = (0, series.dash) if series.dash else "-"
        axes.plot(log.time_s, series.values[column], color=series.colour, linestyle=style, linewidth=1.3)
    if panel.log:
        axes.set_yscale("function", functions=(np.log1p, np.expm1))
    axes.set_yticks(panel.ticks(), [ep.tick_label(tick) for tick in panel.ticks()])
    axes.set_ylim(panel.low, panel.high)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_modes(axes: Axes, log: EpisodeLog) -> None:
    """A bar per entry in the colours of the modes in force; hatched where the choice was impossible."""
    length = log.ticks * log.dt_s
    for entry, of in enumerate(act.ENTRIES):
        bars: dict[tuple[int, bool], list[tuple[float, float]]] = {}
        for run in ep.runs(log, entry):
            start, width = run.start * log.dt_s, (run.end - run.start) * log.dt_s
            bars.setdefault((run.mode, run.chosen != run.mode), []).append((start, width))
            word = of.modes[run.mode] if run.chosen == run.mode else f"{of.modes[run.mode]}, not {of.modes[run.chosen]}"
            if width / length >= LABELLED_SHARE * len(word) / 10:
                behind = MODE_COLOURS[run.mode]
                box = {"facecolor": behind, "pad": 0.8, "linewidth": 0}
                at, ink = start + length / 200, ink_on(behind)
                axes.text(at, entry, word, va="center", fontsize=7, color=ink, bbox=box, clip_on=True)
        for (mode, overruled), spans in bars.items():
            hatch = "////" if overruled else None
            style: Any = {"facecolor": MODE_COLOURS[mode], "hatch": hatch, "edgecolor": "0.55", "linewidth": 0}
            axes.broken_barh(spans, (entry - 0.42, 0.84), **style)
    axes.set_ylim(len(act.ENTRIES) - 0.5, -0.5)
    axes.set_yticks(range(len(act.ENTRIES)), act.NAMES, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_happenings(axes: Axes, log: EpisodeLog, names: bool) -> None:
    """Lines through all panels: the scenario's events, and OOM kills."""
    for at, name in log.events:
        axes.axvline(at, color=FAINT, linestyle=(0, (4, 3)), linewidth=0.9)
        if names:
            axes.annotate(
                name, (at, 1), xycoords=("data", "axes fraction"), xytext=(3, -9), textcoords="offset points",
                fontsize=7, color=INK, backgroundcolor="#FFFFFFB0",
            )  # fmt: skip
    for at in log.kills_s:
        axes.axvline(at, color=KILL, linewidth=0.8, alpha=0.8)


def _draw_legend(axes: Axes, panel: ep.Panel, kills: bool) -> None:
    lines = require("matplotlib.lines")
    patches = require("matplotlib.patches")
    handles = []
    for series in reversed(panel.series) if panel.kind == "stack" else panel.series:
        if panel.kind == "stack":
            handles.append(patches.Patch(facecolor=series.colour, edgecolor="0.6", label=series.name.replace("_", " ")))
        else:
            style: Any = (0, series.dash) if series.dash else "-"
            handles.append(lines.Line2D([], [], color=series.colour, linestyle=style, label=series.name))
    if kills and panel.unit == "pages/s":
        handles.append(lines.Line2D([], [], color=KILL, label="OOM kill"))
    axes.legend(
        handles=handles,
        title=panel.title,
        title_fontproperties={"size": 8, "weight": "bold"},
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.04),
        fontsize=7.5,
        ncols=1 if len(handles) <= 7 else 2,
        columnspacing=1,
        handlelength=1.8,
        labelspacing=0.25,
        frameon=False,
    )


def _draw_mode_legend(axes: Axes) -> None:
    patches = require("matplotlib.patches")
    handles = [patches.Patch(facecolor=MODE_COLOURS[0], edgecolor="0.6", label="0: Linux's default")]
    handles += [
        patches.Patch(facecolor=colour, edgecolor="0.6", label=textwrap.fill(f"{i}: {ep.mode_names(i)}", 38))
        for i, colour in enumerate(MODE_COLOURS[1:], start=1)
    ]
    handles.append(
        patches.Patch(facecolor=MODE_COLOURS[0], edgecolor="0.45", hatch="////", label="the choice was impossible")
    )
    axes.legend(
        handles=handles,
        title="modes in force",
        title_fontproperties={"size": 8, "weight": "bold"},
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=7.5,
        frameon=False,
    )
