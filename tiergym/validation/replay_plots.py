"""One page per run: every class on both nodes over time, measured and simulated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym import files
from tiergym.extras import require
from tiergym.validation.outcomes import Outcome
from tiergym.validation.replay import CLASSES
from tiergym.validation.score import measured_pages, scored_samples
from tiergym.validation.tasks import kill_samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NODE_COLOURS = ("#0077BB", "#EE7733")
"""DRAM blue, CXL orange (Paul Tol's "bright"), measured and simulated alike."""
NODE_NAMES = ("DRAM", "CXL")


def draw_class(axes: Axes, outcome: Outcome, name: str) -> None:
    """One class: measured as a wide pale line, simulated as a thin one on top, samples that do not count shaded."""
    assert outcome.replay is not None
    recording, c = outcome.recording, CLASSES.index(name)
    t_s, measured = recording.t_s, measured_pages(recording)[:, c]
    for node in (0, 1):
        label = NODE_NAMES[node]
        axes.plot(t_s, measured[:, node], color=NODE_COLOURS[node], lw=4, alpha=0.35, label=f"{label}, measured")
        axes.plot(t_s, outcome.replay.pages[:, c, node], color=NODE_COLOURS[node], lw=1.2, label=f"{label}, simulated")
    left_out = ~scored_samples(recording)
    axes.fill_between(t_s, 0, 1, where=left_out, transform=axes.get_xaxis_transform(), color="0.85", lw=0, zorder=-1)
    for sample in kill_samples(recording):
        axes.axvline(t_s[sample], color="k", lw=0.8, ls=":")
    errors = outcome.score.errors[name]
    axes.set_title(f"{name.replace('_', ' ')}: {errors[0]:.1%} and {errors[1]:.1%}", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def run_png(outcome: Outcome) -> bytes:
    """A page of six panels as PNG. Raises `UserError` if matplotlib is not installed."""
    figure_module = require("matplotlib.figure")
    figure = figure_module.Figure(figsize=(12, 7), dpi=110, layout="constrained")
    panels = figure.subplots(2, 3, sharex=True).ravel()
    for axes, name in zip(panels, CLASSES, strict=True):
        draw_class(axes, outcome, name)
    _finish(figure, panels, outcome.recording.name)
    return _png(figure)


def plate_png(outcomes: Sequence[Outcome], panels: Sequence[tuple[str, str]]) -> bytes:
    """A plate of (run, class) panels as PNG."""
    figure_module = require("matplotlib.figure")
    columns = 3
    rows = -(-len(panels) // columns)
    figure = figure_module.Figure(figsize=(12, 2.9 * rows), dpi=110, layout="constrained")
    by_name = {outcome.recording.name: outcome for outcome in outcomes}
    grid = figure.subplots(rows, columns).ravel()
    for axes, (run, name) in zip(grid, panels, strict=False):
        draw_class(axes, by_name[run], name)
        axes.set_title(f"{run}: {name.replace('_', ' ')}", fontsize=9)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _finish(figure, grid, "Measured on a real kernel (wide) and simulated (thin), pages over seconds")
    return _png(figure)


def write_plots(folder: Path, outcomes: Sequence[Outcome]) -> int:
    """Write `<folder>/<run>.png` of every run that was simulated; returns how many."""
    drawn = [outcome for outcome in outcomes if outcome.replay is not None]
    for outcome in drawn:
        files.write_bytes(folder / f"{outcome.recording.name}.png", run_png(outcome))
    return len(drawn)


def _finish(figure: Any, panels: Any, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    for axes in np.ravel(panels):
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
