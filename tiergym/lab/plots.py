"""comparison.png: the return of every policy with its interval, and beside it where the time goes.

variants.png: the throughput of every policy on every scenario, one mark per variant.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiergym import files
from tiergym.env.palette import CAUSE_COLOURS
from tiergym.extras import require
from tiergym.lab.compare import Comparison, by_base
from tiergym.lab.statistics import Interval
from tiergym.sim import names as n
from tiergym.specs import common_changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Hatches keep neighbours apart in grey print too.
_HATCHES = {"premature_reclaim": "//", "migration": "..", "refault": "\\\\"}
CAUSE_STYLES: dict[str, tuple[str, str]] = {
    cause: (colour, _HATCHES.get(cause, "")) for cause, colour in CAUSE_COLOURS.items()
}
# Okabe and Ito's colours, each with a mark of its own.
VARIANT_STYLES = (
    ("#56B4E9", "o"),
    ("#0072B2", "s"),
    ("#E69F00", "^"),
    ("#D55E00", "D"),
    ("#009E73", "v"),
    ("#CC79A7", "P"),
    ("#000000", "X"),
)
PANELS_PER_ROW = 3
VISIBLE_SHARE = 5e-4
"""A cause below 0.05 % of time under every policy has no entry in the legend."""

LOG_FROM_RATIO = 30.0
"""Above this ratio of the worst to the best loss, a linear axis would hide the differences among the good."""


def write_comparison_png(path: Path, comparison: Comparison, highlight: Collection[str] = ()) -> None:
    """Draw `comparison` to a PNG file; the policies in `highlight` (the trained ones) are marked.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure")
    policies = comparison.ranking()[::-1]  # the best one on top
    height = 1.9 + 0.34 * len(policies)
    figure = figure_module.Figure(figsize=(12, height), dpi=150, layout="constrained")
    returns, lost = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.35))
    _draw_returns(returns, comparison, policies, highlight)
    _draw_lost_time(lost, comparison, policies)
    figure.suptitle(f"{comparison.title}: {comparison.episodes} episodes on the same seeds", fontsize=13)
    handles, labels = lost.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=_columns(len(handles)), frameon=False, fontsize=9
        )
    write_figure(path, figure)


def write_figure(path: Path, figure: Any) -> None:
    """A matplotlib figure as a PNG file, all or nothing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_bytes(path, buffer.getvalue())


def write_variants_png(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draw all variants of all scenarios to a PNG file: a panel per scenario, a row per policy, a mark per variant, or
    the other way round where there are more variants than marks.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure")
    groups = by_base(comparisons)
    policies = list(comparisons[0].values)
    variants = [comparison.variant for comparison in next(iter(groups.values()))]
    turned = len(variants) > len(VARIANT_STYLES)
    rows, marks = (variants, policies) if turned else (policies, variants)
    columns = min(PANELS_PER_ROW, len(groups))
    lines = -(-len(groups) // columns)
    size = (2.5 + 4.2 * max(columns, 1 + turned), 1.2 + lines * (0.9 + 0.36 * len(rows)))
    figure = figure_module.Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for panel, (base, members) in zip(panels, groups.items(), strict=False):
        means = {
            (each.variant, policy) if turned else (policy, each.variant): each.intervals[policy]["throughput"]
            for each in members
            for policy in policies
        }
        _draw_variants(panel, means, rows, marks)
        panel.set_title(base, fontsize=11)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel(
        "throughput, % of the same machine's with everything in unloaded DRAM:\n"
        f"mean and 95 % interval of {comparisons[0].episodes} episodes, on the same seeds",
        fontsize=10,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=None if turned else _varied(comparisons),
        loc="outside upper center",
        ncols=_columns(len(handles)),
        frameon=False,
        fontsize=10,
    )
    write_figure(path, figure)


def _varied(comparisons: Sequence[Comparison]) -> str:
    """The fields in which variants differ."""
    common = common_changes([comparison.changes for comparison in comparisons])
    return ", ".join(sorted({field for comparison in comparisons for field in comparison.changes} - common.keys()))


def _draw_variants(axes: Axes, means: Mapping[tuple[str, str], Interval], rows: list[str], marks: list[str]) -> None:
    """Marks with their intervals, by row from the top and in the order of `marks` within it; keys are (row, mark)."""
    step, at = 0.7 / len(marks), range(len(rows))[::-1]
    for index, mark in enumerate(marks):
        colour, symbol = VARIANT_STYLES[index % len(VARIANT_STYLES)]
        offset = ((len(marks) - 1) / 2 - index) * step  # the first one on top of its row
        intervals = [means[row, mark] for row in rows]
        axes.errorbar(
            [100 * i.mean for i in intervals],
            [row + offset for row in at],
            xerr=[
                [100 * max(0.0, i.mean - i.low) for i in intervals],
                [100 * max(0.0, i.high - i.mean) for i in intervals],
            ],
            fmt=symbol,
            color=colour,
            markersize=4,
            elinewidth=1,
            label=mark,
        )
    for row in range(1, len(rows), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(at, rows)
    _clean(axes)


def _columns(entries: int) -> int:
    """Columns of the legend: one row up to seven entries, else two."""
    return entries if entries <= 7 else (entries + 1) // 2


def _draw_returns(axes: Axes, comparison: Comparison, policies: list[str], highlight: Collection[str]) -> None:
    intervals = [comparison.intervals[policy]["return"] for policy in policies]
    for row, (policy, i) in enumerate(zip(policies, intervals, strict=True)):
        trained = policy in highlight
        axes.errorbar(
            i.mean,
            row,
            # Rounding may leave a bound of a zero-width interval a hair on the wrong side.
            xerr=[[max(0.0, i.mean - i.low)], [max(0.0, i.high - i.mean)]],
            fmt="D" if trained else "o",
            color="#D55E00" if trained else "#0072B2",
            markersize=7 if trained else 5,
            capsize=3,
        )
    reference = comparison.intervals[comparison.reference]["return"].mean
    axes.axvline(reference, color="0.5", linestyle="--", linewidth=1, zorder=0)
    axes.annotate(
        comparison.reference,
        (reference, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color="0.4",
    )
    best, worst = max(i.mean for i in intervals), min(i.mean for i in intervals)
    if best < 0 and worst / best > LOG_FROM_RATIO:
        axes.set_xscale("symlog", linthresh=-best)
    axes.set_yticks(range(len(policies)), policies)
    for label, policy in zip(axes.get_yticklabels(), policies, strict=True):
        label.set_fontweight("bold" if policy in highlight else "normal")
    axes.set_xlabel("return, mean and 95 % interval (to the right is better)")
    _clean(axes)


def stack_lost_time(axes: Axes, comparison: Comparison, policies: Sequence[str], at: Sequence[int]) -> list[float]:
    """Bars of lost time by cause, percent, one at each height of `at`, with their sums beside them; returns these."""
    left = [0.0] * len(policies)
    for cause in n.CAUSES:
        percent = [100 * comparison.intervals[policy][f"lost_{cause}"].mean for policy in policies]
        if max(percent) < 100 * VISIBLE_SHARE:
            continue
        colour, hatch = CAUSE_STYLES[cause]
        style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
        axes.barh(at, percent, left=left, height=0.72, label=cause.replace("_", " "), **style)
        left = [a + b for a, b in zip(left, percent, strict=True)]
    for row, total in zip(at, left, strict=True):
        axes.annotate(f"{total:.1f}", (total, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    return left


def _draw_lost_time(axes: Axes, comparison: Comparison, policies: list[str]) -> None:
    left = stack_lost_time(axes, comparison, policies, range(len(policies)))
    axes.set_xlabel("lost time by cause, % (to the left is better)")
    axes.set_xlim(0, max(1e-6, 1.08 * max(left)))
    _clean(axes)


def _clean(axes: Axes) -> None:
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
