"""The picture that an experiment asks for (`tiergym.lab.views`), as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiergym import files
from tiergym.extras import require
from tiergym.lab.metrics import METRICS
from tiergym.lab.plots import PANELS_PER_ROW, VARIANT_STYLES, stack_lost_time
from tiergym.lab.statistics import Interval
from tiergym.lab.view_tables import Cell, best_of_groups, columns_of, lead, selected, unit, value
from tiergym.lab.views import Axes, View
from tiergym.sim import names as n

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel

STYLES = (*VARIANT_STYLES, ("#882255", "<"), ("#44AA99", ">"), ("#999933", "*"), ("#AA4499", "p"), ("#661100", "h"))
"""Colour and mark of each policy; Okabe and Ito's, then Tol's."""
GROUP_COLOURS = ("#DDDDDD", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442")
DOCS = {metric.name: metric.name.removesuffix("_pages").replace("_", " ") for metric in METRICS}


def write_png(path: Path, view: View, cells: Sequence[Cell], axes: Axes) -> None:
    """Draw the view: a panel per scenario and value of the axes that it does not draw along.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure")
    panels = _panels(view, selected(view, cells), axes)
    columns = min(PANELS_PER_ROW, len(panels))
    lines = -(-len(panels) // columns)
    width, height = _size(view, axes)
    figure = figure_module.Figure(figsize=(1.5 + width * columns, 1.1 + height * lines), dpi=130, layout="constrained")
    drawn = figure.subplots(lines, columns, squeeze=False, sharey=view.kind in ("causes", "map")).ravel()
    draw = {"lines": _lines, "causes": _causes, "scatter": _scatter, "map": _map}[view.kind or "lines"]
    for panel, (title, members) in zip(drawn, panels.items(), strict=False):
        draw(panel, view, members, axes)
        panel.set_title(title, fontsize=10)
    for panel in drawn[len(panels) :]:
        panel.set_visible(False)
    handles: dict[str, Any] = {}
    for panel in drawn[: len(panels)]:
        handles |= {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    causes = [cause.replace("_", " ") for cause in n.CAUSES]
    if view.kind == "causes":  # as they lie on each other, whichever panel has them first
        handles = {cause: handles[cause] for cause in causes if cause in handles}
    if handles:
        entries = min(len(handles), max(2, 2 * columns + 1))
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=entries, frameon=False, fontsize=9
        )
    if view.title:
        figure.suptitle(view.title, fontsize=12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_bytes(path, buffer.getvalue())


def _panels(view: View, cells: Sequence[Cell], axes: Axes) -> dict[str, list[Cell]]:
    """Cells by panel, under the panel's title."""
    along = {view.columns, view.rows} if view.kind in ("lines", "map") else set()
    varying = [axis for axis in axes if axis not in along and len({cell.at[axis] for cell in cells}) > 1]
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(", ".join(cell.at[axis] for axis in varying), []).append(cell)
    return found


def _size(view: View, axes: Axes) -> tuple[float, float]:
    """Inches of one panel."""
    if view.kind == "causes":
        return 3.6, 0.9 + 0.27 * len(view.policies)
    if view.kind == "map":
        return 0.6 + 1.15 * len(axes[view.columns]), 0.7 + 0.5 * len(axes[view.rows])
    return 3.8, 3.2


def _lines(panel: Panel, view: View, cells: Sequence[Cell], axes: Axes) -> None:
    """A line per policy along the view's columns."""
    columns = columns_of(view, cells, axes)
    by_column = {cell.at[view.columns]: cell.comparison for cell in cells}
    metric = view.metrics[0]
    for index, policy in enumerate(policy for policy in view.policies if policy != view.against):
        colour, mark = STYLES[index % len(STYLES)]
        values = [value(view, by_column[column], policy, metric) for column in columns]
        panel.errorbar(
            range(len(columns)),
            [v.mean for v in values],
            yerr=_errors(values),
            color=colour,
            marker=mark,
            markersize=5,
            linewidth=1.3,
            label=policy,
        )
    if view.shown == "per_mib":
        panel.set_yscale("log")
    elif view.against:
        panel.axhline(0, color="0.5", linewidth=0.8, linestyle="--")
    panel.set_xticks(range(len(columns)), columns, fontsize=9)
    panel.set_xlabel(view.columns)
    panel.set_ylabel(_label(view, metric), fontsize=9)
    _clean(panel)


def _causes(panel: Panel, view: View, cells: Sequence[Cell], _: Axes) -> None:
    """Lost time of one cell by cause, a bar per policy; the first one on top."""
    comparison = cells[0].comparison
    rows = list(view.policies)
    at = range(len(rows))[::-1]
    left = stack_lost_time(panel, comparison, rows, at)
    panel.set_yticks(at, rows, fontsize=9)
    panel.set_xlim(0, max(1e-6, 1.15 * max(left)))
    panel.set_xlabel("lost time, %", fontsize=9)
    _clean(panel)


def _scatter(panel: Panel, view: View, cells: Sequence[Cell], _: Axes) -> None:
    """The second metric over the first, a mark per policy."""
    comparison = cells[0].comparison
    for index, policy in enumerate(view.policies):
        colour, mark = STYLES[index % len(STYLES)]
        x, y = (value(view, comparison, policy, metric) for metric in view.metrics)
        panel.errorbar(
            x.mean,
            y.mean,
            xerr=_errors([x]),
            yerr=_errors([y]),
            color=colour,
            marker=mark,
            markersize=max(4.0, 13 - 0.9 * index),  # what lies under others shows around them
            linestyle="none",
            label=policy,
        )
    panel.set_xlabel(_label(view, view.metrics[0]), fontsize=9)
    panel.set_ylabel(_label(view, view.metrics[1]), fontsize=9)
    _clean(panel)


def _map(panel: Panel, view: View, cells: Sequence[Cell], axes: Axes) -> None:
    """The winning group of every cell in its colour, with the policy and its lead on the next group."""
    columns = columns_of(view, cells, axes)
    present = {cell.at[view.rows] for cell in cells}
    rows = [row for row in axes[view.rows] if row in present]
    colours = dict(zip(view.winner, GROUP_COLOURS, strict=False))
    for cell in cells:
        x, y = columns.index(cell.at[view.columns]), len(rows) - 1 - rows.index(cell.at[view.rows])
        (group, policy), *_ = best_of_groups(view, cell.comparison)
        ahead = lead(view, cell.comparison)
        panel.bar(
            x, 1, 1, bottom=y - 0.5, color=colours[group], alpha=1.0 if ahead else 0.45, edgecolor="white", linewidth=2
        )
        gain = "" if policy == view.against else f"{value(view, cell.comparison, policy, view.metrics[0]).mean:+.1f}"
        by = f"by {ahead:.2g}" if ahead else "even"
        panel.text(x, y, f"{policy}\n{gain} ({by})", ha="center", va="center", fontsize=7.5)
    for group, colour in colours.items():
        panel.bar(0, 0, color=colour, label=group)
    panel.set_xticks(range(len(columns)), columns, fontsize=9)
    panel.set_yticks(range(len(rows))[::-1], rows, fontsize=9)
    panel.set_xlim(-0.5, len(columns) - 0.5)
    panel.set_ylim(-0.5, len(rows) - 0.5)
    panel.set_xlabel(view.columns)


def _errors(values: Sequence[Interval]) -> list[list[float]]:
    """Distances below and above; rounding may leave a bound of zero width a hair on the wrong side."""
    return [[max(0.0, v.mean - v.low) for v in values], [max(0.0, v.high - v.mean) for v in values]]


def _label(view: View, metric: str) -> str:
    if view.shown == "per_mib":
        return unit(view, metric)
    if view.shown == "runtime":
        return f"change of the run time from {view.against}'s, %"
    less = f" less {view.against}'s" if view.against else ""
    of = unit(view, metric)
    return f"{DOCS[metric]}{less}" if of in DOCS[metric] else f"{DOCS[metric]}{less}, {of}"


def _clean(panel: Panel) -> None:
    panel.grid(color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
