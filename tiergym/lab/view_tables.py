"""The tables that an experiment asks for (`tiergym.lab.views`), for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.markup import escape
from rich.table import Table

from tiergym.lab.compare import Comparison
from tiergym.lab.metrics import METRICS, NAMES
from tiergym.lab.statistics import Interval
from tiergym.lab.views import POLICY, SCENARIO, Axes, View
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.terminal import new_table

UNITS = {metric.name: metric.unit for metric in METRICS}
NOTHING = "-"
LEAST_LEAD = 0.05
"""A smaller lead, in the unit that is shown, is none: the model is not as good."""
LEAST_HALF = 1e-12
"""Rounding leaves intervals of equal values a hair of width."""
SCALES = {"share of ideal": (100.0, "%"), "s/s": (100.0, "%"), "pages": (1 / PAGES_PER_MIB, "MiB")}
"""Factor and unit by which values of a unit are shown."""
Made = tuple[tuple[str, ...], list[tuple[str, ...]], int]
"""Headings, rows, and how many columns say what a row is of."""
PER_MIB = "us lost per second and MiB"


@dataclass(frozen=True, slots=True)
class Cell:
    """A comparison and where it stands: its value on every axis."""

    at: Mapping[str, str]
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class MadeTable:
    """Texts of a table; the first `keys` columns say what a row is of."""

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int

    def markdown(self) -> str:
        """As Markdown, with its title above and its note below."""
        sides = ["---"] * self.keys + ["---:"] * (len(self.headings) - self.keys)
        lines = ["| " + " | ".join(line) + " |" for line in (self.headings, sides, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, "", self.note]) + "\n"

    def rich(self) -> Table:
        """For the terminal; what a row shares with the one above is left out."""
        table = new_table(self.title, self.note)
        for i, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if i < self.keys else "right", overflow="fold")
        above: tuple[str, ...] = ("",) * self.keys
        for row in self.rows:
            same = next((i for i in range(self.keys) if row[i] != above[i]), self.keys)
            table.add_row(*(escape("" if i < same else text) for i, text in enumerate(row)))
            above = row[: self.keys]
        return table


def make_table(view: View, cells: Sequence[Cell], axes: Axes) -> MadeTable:
    """The table of a view."""
    chosen = selected(view, cells)
    varying = [axis for axis in axes if axis != view.columns and len({cell.at[axis] for cell in chosen}) > 1]
    if view.winner:
        headings, rows, keys = _winners(view, chosen, varying, axes)
    elif not view.columns:
        headings, rows, keys = _by_metric(view, chosen, varying)
    else:
        headings, rows, keys = _by_column(view, chosen, varying, axes)
    alike = keys if view.columns else keys - 1  # by metric they share a row for what they did, not as it reads
    for column in reversed(range(alike)):
        rows = rows if headings[column] == SCENARIO else _merged(rows, column)
    return MadeTable(view.title, _note(view, chosen[0].comparison), headings, tuple(rows), keys)


def _merged(rows: Sequence[tuple[str, ...]], column: int) -> list[tuple[str, ...]]:
    """Rows that differ in one column alone, as one row with both values there."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [(*rest[:column], ", ".join(values), *rest[column:]) for rest, values in found.items()]


def selected(view: View, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that a view shows."""
    return [cell for cell in cells if all(cell.at[axis] in values for axis, values in view.only.items())]


def value(view: View, comparison: Comparison, policy: str, metric: str) -> Interval:
    """What a view shows of a policy, scaled; of the policy that it is compared with, the value itself."""
    if view.shown == "per_mib":
        return _per_mib(view, comparison, policy)
    if view.shown == "runtime" and policy != view.against:
        return _runtime(view, comparison, policy)
    factor, _ = SCALES.get(UNITS[metric], (1.0, ""))
    if view.against and policy != view.against:
        return scaled(comparison.difference(policy, metric, view.against), factor)
    return scaled(comparison.intervals[policy][metric], factor)


def scaled(interval: Interval, factor: float) -> Interval:
    """The interval in another unit."""
    bounds = sorted((interval.low * factor, interval.high * factor))
    return Interval(interval.mean * factor, *bounds)


def unit(view: View, metric: str) -> str:
    """The unit in which a view shows a metric."""
    return PER_MIB if view.shown == "per_mib" else SCALES.get(UNITS[metric], (1.0, UNITS[metric]))[1]


def best_of_groups(view: View, comparison: Comparison) -> list[tuple[str, str]]:
    """Each group with its best policy by the view's metric, best group first; of even ones the one named first."""
    factor, _ = SCALES.get(UNITS[view.metrics[0]], (1.0, ""))
    means = {policy: factor * float(each[view.metrics[0]].mean()) for policy, each in comparison.values.items()}

    def first_of_even(policies: Sequence[str]) -> str:
        most = max(means[policy] for policy in policies)
        return next(policy for policy in policies if means[policy] > most - LEAST_LEAD)

    chosen = {first_of_even(policies): group for group, policies in view.winner.items()}
    first = first_of_even(list(chosen))
    others = sorted((policy for policy in chosen if policy != first), key=lambda policy: -means[policy])
    return [(chosen[policy], policy) for policy in (first, *others)]


def lead(view: View, comparison: Comparison) -> float:
    """How far the best group's policy is ahead of the next group's, scaled; 0 where they are even."""
    (_, first), (_, second), *_ = [*best_of_groups(view, comparison), ("", view.against)]
    factor, _ = SCALES.get(UNITS[view.metrics[0]], (1.0, ""))
    ahead = scaled(comparison.difference(first, view.metrics[0], second), factor)
    return ahead.mean if ahead.low > 0 and ahead.mean >= LEAST_LEAD else 0.0


def text(interval: Interval, unit: str, *, signed: bool = False) -> str:
    """A mean as a table shows it, with half of its interval where that does not round to zero; 0 is zero exactly."""
    mean, half = interval.mean, (interval.high - interval.low) / 2
    if mean == 0 and half < LEAST_HALF:
        return "0"
    size = max(abs(mean), half)
    decimals = {"%": 2, "MiB": 0 if size >= 10 else 2}.get(unit, max(0, 2 - math.floor(math.log10(size))))
    shown = f"{mean:{'+' if signed else ''},.{decimals}f}"
    if not any(digit in shown for digit in "123456789"):
        shown = shown.lstrip("+-")
    margin = f"{half:,.{decimals}f}"
    return f"{shown} ± {margin}" if any(digit in margin for digit in "123456789") else shown


def _by_metric(view: View, cells: Sequence[Cell], varying: Sequence[str]) -> Made:
    """A row per cell and policy; policies that do the same, in every metric of every episode, share one."""
    headings = (*varying, POLICY, *(_heading(view, metric) for metric in view.metrics))
    rows = []
    for cell in cells:
        for alike in alike_policies(view, cell.comparison):
            shown = [_text(view, cell.comparison, alike[0], metric) for metric in view.metrics]
            everybody = len(alike) == len(view.policies) > 2
            name = f"all {len(alike)}" if everybody else ", ".join(f"`{policy}`" for policy in alike)
            rows.append((*(cell.at[axis] for axis in varying), name, *shown))
    return headings, rows, len(varying) + 1


def alike_policies(view: View, comparison: Comparison) -> list[list[str]]:
    """The view's policies, in groups of those that are the same in every metric of every episode."""
    groups: list[list[str]] = []
    for policy in view.policies:
        values = comparison.values[policy]
        for group in groups:
            if all(np.array_equal(values[metric], comparison.values[group[0]][metric]) for metric in NAMES):
                group.append(policy)
                break
        else:
            groups.append([policy])
    return groups


def _by_column(view: View, cells: Sequence[Cell], varying: Sequence[str], axes: Axes) -> Made:
    """One metric, its values along an axis or of all policies side by side."""
    metric = view.metrics[0]
    if view.columns == POLICY:
        rows = [
            (
                *(cell.at[axis] for axis in varying),
                *(_text(view, cell.comparison, policy, metric) for policy in view.policies),
            )
            for cell in cells
        ]
        return (*varying, *(f"`{policy}`" for policy in view.policies)), rows, len(varying)
    columns = columns_of(view, cells, axes)
    policies = [policy for policy in view.policies if not (view.shown == "per_mib" and policy == view.against)]
    rows = []
    for at, found in _grouped(view, cells, varying):
        for policy in policies:
            shown = [_text(view, found[column], policy, metric) for column in columns]
            if set(shown) != {NOTHING}:
                rows.append((*at, f"`{policy}`", *shown))
    return (*varying, POLICY, *columns), rows, len(varying) + 1


def _winners(view: View, cells: Sequence[Cell], varying: Sequence[str], axes: Axes) -> Made:
    """The best policy of the best group, its gain, and its lead on the next group."""
    columns = columns_of(view, cells, axes)
    rows = [
        (*at, *(_winner_text(view, found[column]) for column in columns))
        for at, found in _grouped(view, cells, varying)
    ]
    return (*varying, *columns), rows, len(varying)


def _winner_text(view: View, comparison: Comparison) -> str:
    (_, policy), *_ = best_of_groups(view, comparison)
    ahead = lead(view, comparison)
    by = f"{ahead:.2f}" if ahead else "even"
    if policy == view.against:
        return f"`{policy}` ({by})"
    return f"`{policy}` {value(view, comparison, policy, view.metrics[0]).mean:+.2f} ({by})"


def _grouped(
    view: View, cells: Sequence[Cell], varying: Sequence[str]
) -> list[tuple[tuple[str, ...], dict[str, Comparison]]]:
    """Rows: where they stand, and their comparisons by column."""
    found: dict[tuple[str, ...], dict[str, Comparison]] = {}
    for cell in cells:
        at = tuple(cell.at[axis] for axis in varying)
        found.setdefault(at, {})[cell.at[view.columns]] = cell.comparison
    return list(found.items())


def columns_of(view: View, cells: Sequence[Cell], axes: Axes) -> list[str]:
    present = {cell.at[view.columns] for cell in cells}
    return [column for column in axes[view.columns] if column in present]


def _per_mib(view: View, comparison: Comparison, policy: str) -> Interval:
    """Time lost, in us of every second, per MiB of kernel pages that the policy has more on the slow tier."""
    mib = float(comparison.difference(policy, "slow_kernel_pages", view.against).mean) / PAGES_PER_MIB
    if mib <= 0:
        return Interval(math.nan, math.nan, math.nan)
    return scaled(comparison.difference(policy, "throughput", view.against), -1e6 / mib)


def _runtime(view: View, comparison: Comparison, policy: str) -> Interval:
    """Change of the time that the same work takes, in percent of what it takes under the view's `against`."""
    after = float(comparison.values[policy]["throughput"].mean())
    change = comparison.difference(policy, "throughput", view.against)
    return scaled(change, -100.0 / max(after, 1e-9))


def _text(view: View, comparison: Comparison, policy: str, metric: str) -> str:
    shown = value(view, comparison, policy, metric)
    if math.isnan(shown.mean):
        return NOTHING
    signed = bool(view.against) and policy != view.against and view.shown != "per_mib"
    return text(shown, unit(view, metric), signed=signed)


def _heading(view: View, metric: str) -> str:
    name = metric.removesuffix("_pages").replace("_", " ")
    return f"{name}, {unit(view, metric)}" if unit(view, metric) in ("%", "MiB") else name


def _note(view: View, comparison: Comparison) -> str:
    """What a reader must know of the numbers."""
    parts = [f"{comparison.episodes} episodes each, seed {comparison.seed}."]
    shown = _heading(view, view.metrics[0])
    if view.winner:
        parts.append(
            f"The best policy, what it gains over `{view.against}` ({shown}), and in brackets its lead on the best of "
            f"the other groups; even: below {LEAST_LEAD:g}, or its 95 % interval has zero in it, and the group named "
            "first stands there. Groups:"
        )
        groups = (f"{group}: {', '.join(f'`{each}`' for each in policies)}" for group, policies in view.winner.items())
        return " ".join([*parts, "; ".join(groups) + "."])
    parts.append("± is half of a 95 % interval, left out where it rounds to zero.")
    if view.shown == "runtime":
        parts.append(f"Shown: throughput of `{view.against}`, %; of the others the change of the run time, %.")
        return " ".join(parts)
    if view.shown == "per_mib":
        parts.append(f"Unit: {PER_MIB} of kernel memory that lies on CXL and not under `{view.against}`.")
        return " ".join(parts)
    if view.columns:
        parts.append(f"Shown: {shown}.")
    if view.against:
        parts.append(f"`{view.against}` has its own values, the others their differences from it, paired by episode.")
    return " ".join(parts)
