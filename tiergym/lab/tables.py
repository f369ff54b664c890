"""Comparisons and matrices as tables in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tiergym.lab.bound import Bound
from tiergym.lab.compare import REFERENCE, Comparison, by_base, ranking
from tiergym.lab.ladder import Rung
from tiergym.lab.metrics import METRICS
from tiergym.lab.statistics import Interval, stratified_iqm
from tiergym.policy.plan import modes_of
from tiergym.sim import names as n
from tiergym.specs import assignments_text, common_changes
from tiergym.terminal import new_table, number


def interval(value: Interval) -> str:
    """Mean and half the width of the 95 % interval, to two digits of the latter (at most four decimals)."""
    half = (value.high - value.low) / 2
    if half < 5e-5:
        return number(value.mean)
    decimals = min(4, max(0, 1 - math.floor(math.log10(half))))
    return f"{value.mean:.{decimals}f} ± {half:.{decimals}f}"


def summary_table(comparison: Comparison) -> Table:
    """One row per policy, best return first: the table of the main job."""
    table = new_table(
        f"{comparison.title}: {comparison.episodes} episodes, seed {comparison.seed}",
        "± is half of the 95 % bootstrap interval over episodes (and training runs, where a policy has several); "
        f"differences from {comparison.reference} are paired by episode",
    )
    table.add_column("policy", overflow="fold")
    columns = (
        "return",
        f"minus {comparison.reference}",
        "throughput",
        "p99 tick\nslowdown",
        "OOM kills\n(premat.)",
        "premature\npages",
        "direct\nreclaims",
        "migrated\npages",
        "kernel\non slow",
        "us per\ndecision",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for rank, policy in enumerate(comparison.ranking()):
        i = comparison.intervals[policy]
        table.add_row(
            escape(policy),
            interval(i["return"]),
            "reference" if policy == comparison.reference else interval(comparison.difference(policy)),
            interval(i["throughput"]),
            number(i["p99_tick_slowdown"].mean),
            f"{number(i['oom_kills'].mean)} ({number(i['oom_kills_premature'].mean)})",
            *(
                number(i[metric].mean)
                for metric in ("premature_reclaim_pages", "direct_reclaims", "migrated_pages", "slow_kernel_pages")
            ),
            f"{comparison.decision_us[policy]:.2g}",
            style="bold green" if rank == 0 else "",
        )
    return table


def attribution_table(comparison: Comparison) -> Table:
    """Where the time goes: percent of an ideal machine's time, per cause and per reward term."""
    table = new_table("lost time by cause, %", "the causes add up to 100 % minus throughput")
    table.add_column("policy", overflow="fold")
    for cause in (*n.CAUSES, "sum"):
        table.add_column(cause.replace("_", "\n"), justify="right")
    for policy in comparison.ranking():
        lost = [comparison.intervals[policy][f"lost_{cause}"].mean for cause in n.CAUSES]
        table.add_row(escape(policy), *(_percent(share) for share in (*lost, sum(lost))))
    return table


def pages_table(comparison: Comparison) -> Table:
    """Reward terms, data pages moved, and kernel pages on the slow tier per class."""
    table = new_table(
        "reward terms, % · data pages moved per episode · kernel pages on slow, mean over ticks",
        "terms are shares of time before weights; M and k are millions and thousands of 4 KiB pages",
    )
    table.add_column("policy", overflow="fold")
    classes = n.CLASSES[n.FIRST_KERNEL_CLASS :]
    for column in (*n.TERMS, "demoted", "promoted", "swapped", *(f"slow_{name}" for name in classes)):
        table.add_column(column.replace("_", "\n"), justify="right")
    for policy in comparison.ranking():
        i = comparison.intervals[policy]
        table.add_row(
            escape(policy),
            *(_percent(i[f"term_{term}"].mean) for term in n.TERMS),
            *(number(i[f"{moved}_pages"].mean) for moved in ("demoted", "promoted", "swapped")),
            *(number(i[f"slow_{name}_pages"].mean) for name in classes),
        )
    return table


def metrics_table(comparison: Comparison, policy: str) -> Table:
    """Every metric of one policy, with its interval and unit."""
    table = new_table(f"{policy} on {comparison.title}: {comparison.episodes} episodes, seed {comparison.seed}")
    table.add_column("metric", no_wrap=True)
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit")
    for metric in METRICS:
        value = comparison.intervals[policy][metric.name]
        table.add_row(metric.name, number(value.mean), f"{number(value.low)} to {number(value.high)}", metric.unit)
    return table


def comparison_report(comparison: Comparison) -> RenderableType:
    """All tables of one comparison."""
    return Group(summary_table(comparison), attribution_table(comparison), pages_table(comparison))


def matrix_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Scenario x policy, mean of `metric`; a row's best values are starred."""
    policies = list(comparisons[0].values)
    common = common_changes([comparison.changes for comparison in comparisons])
    changed = f" with {assignments_text(common)}" if common else ""
    table = new_table(
        f"mean {metric}{changed}: {comparisons[0].episodes} episodes per scenario, seed {comparisons[0].seed}",
        "* best of its row, or within 1e-3 of the best's size",
    )
    table.add_column("scenario", no_wrap=True)
    for policy in policies:
        table.add_column(escape(policy.replace("_", "\n")), justify="right", overflow="fold")
    for comparison in comparisons:
        means = [float(comparison.values[policy][metric].mean()) for policy in policies]
        best = max(means)
        table.add_row(escape(comparison.scenario), *(_starred(mean, best) for mean in means))
    return table


def variants_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Scenario and policy x variant, mean of `metric` with its interval; policies of a scenario best first."""
    groups = by_base(comparisons)
    table = new_table(
        f"{metric}: {comparisons[0].episodes} episodes per scenario and policy, seed {comparisons[0].seed}",
        "± is half of the 95 % bootstrap interval over episodes; = is the value on its left, to the last bit",
    )
    table.add_column("scenario", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for comparison in next(iter(groups.values())):
        table.add_column(escape(comparison.variant), justify="right")
    for base, variants in groups.items():
        for rank, policy in enumerate(ranking(variants, metric)):
            values = [variant.intervals[policy][metric] for variant in variants]
            cells = [interval(values[0])]
            cells += ["=" if b == a else interval(b) for a, b in pairwise(values)]
            table.add_row("" if rank else escape(base), escape(policy), *cells)
        table.add_section()
    return table


def overall_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Interquartile mean of `metric` over all scenarios' episodes, resampled within scenarios."""
    table = new_table(
        f"{metric} over {len(comparisons)} scenarios", "± is half of the stratified 95 % bootstrap interval"
    )
    table.add_column("policy", overflow="fold")
    table.add_column("interquartile mean", justify="right")
    rows = [
        (policy, stratified_iqm([np.asarray(c.values[policy][metric]) for c in comparisons], comparisons[0].seed))
        for policy in comparisons[0].values
    ]
    for policy, iqm in sorted(rows, key=lambda row: -row[1].mean):
        table.add_row(escape(policy), interval(iqm))
    return table


def bound_table(bound: Bound) -> Table:
    """Mean returns on the searched episodes, best first, and what each wins of what the plan wins over `online`."""
    out = new_table(title=f"{bound.scenario}: bounds by search, {bound.episodes} episodes, seed {bound.seed}")
    for heading in ("", "return", "share of the plan's gain", "modes"):
        out.add_column(heading, justify="left" if heading in ("", "modes") else "right")
    gain = bound.plan_return - bound.statics[REFERENCE]
    rows = [(name, value, "") for name, value in bound.statics.items()]
    rows.append(("best constant", bound.constant_return, _modes(bound.constant)))
    rows.append((f"plan of {len(bound.plan.ticks)} pieces", bound.plan_return, ""))
    for name, value, modes in sorted(rows, key=lambda row: -row[1]):
        share = (value - bound.statics[REFERENCE]) / gain if gain > 0 else 0.0
        out.add_row(name, f"{value:.3f}", f"{share:.2f}", escape(modes))
    return out


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """Per scenario: returns of `online` and of the plan, and the share of the gain between them that each rung wins."""
    learned = any(rung.learned is not None for rung in rungs)
    out = new_table(title="shares of what a clairvoyant plan wins over online")
    for heading in (
        "scenario",
        "online",
        "P",
        "One",
        "H",
        "",
        "Ci",
        *(("A", "captured") if learned else ()),
        "headroom",
    ):
        out.add_column(heading, justify="left" if heading in ("scenario", "") else "right")
    for rung in rungs:
        rule = rung.best_rule
        shares = [rung.share(rung.c0), rung.share(rung.rules[rule])]
        cells = [f"{rung.rules[REFERENCE]:.2f}", f"{rung.plan:.2f}", *(f"{share:.2f}" for share in shares), rule]
        cells.append(f"{rung.share(rung.ci):.2f}")
        if learned:
            captured = rung.captured
            cells += ["" if rung.learned is None else f"{rung.share(rung.learned):.2f}"]
            cells += ["" if captured is None else f"{captured:.2f}"]
        out.add_row(rung.scenario, *cells, f"{rung.headroom:.2f}")
    return out


def _modes(action: NDArray[np.int64]) -> str:
    return ", ".join(f"{entry}={mode}" for entry, mode in modes_of(action).items()) or "Linux's defaults"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share else "·"


def _starred(mean: float, best: float) -> str:
    close = best - mean <= 1e-3 * max(abs(best), 1e-9)
    return f"[bold]{number(mean)}*[/bold]" if close else number(mean)
