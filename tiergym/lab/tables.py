"""Comparisons and matrices as tables in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tiergym.env import actions as act
from tiergym.lab.bound import Bound
from tiergym.lab.compare import REFERENCE, Comparison, by_base, ranking
from tiergym.lab.metrics import METRICS
from tiergym.lab.mode_use import percent, phrases
from tiergym.lab.random_networks import QUANTILES, Guesses, saved_by_network
from tiergym.lab.rank_stability import AS_IT_IS, Stability
from tiergym.lab.rungs import Rung
from tiergym.lab.statistics import Interval, stratified_iqm
from tiergym.lab.suite_comparison import SuiteComparison
from tiergym.policy.plan import modes_of
from tiergym.sim import names as n
from tiergym.specs import assignments_text, common_changes
from tiergym.terminal import new_table, number

HEADLINES = (
    *("return", "throughput", "p99_tick_slowdown", "oom_kills", "oom_kills_premature", "direct_reclaims"),
    *("premature_reclaim_pages", "migrated_pages", "slow_kernel_pages"),
)
"""Metrics of a short table."""
MOST_DEEDS = 4
"""Different combinations of modes that a line of a comparison names."""


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
    table.add_column("policy", no_wrap=True)
    for column in ("return", f"minus {comparison.reference}", "throughput", "OOM kills"):
        table.add_column(column, justify="right")
    for rank, policy in enumerate(comparison.ranking()):
        i = comparison.intervals[policy]
        table.add_row(
            escape(policy),
            interval(i["return"]),
            "reference" if policy == comparison.reference else interval(comparison.difference(policy)),
            number(i["throughput"].mean),
            number(i["oom_kills"].mean),
            style="bold green" if rank == 0 else "",
        )
    return table


def details_table(comparison: Comparison) -> Table:
    """One row per policy, best return first: what else is asked of each."""
    table = new_table(
        "in detail, means over episodes",
        "worst tenth: of the returns; premature: while the other tier had room; kernel on slow: pages, mean over ticks",
    )
    table.add_column("policy", no_wrap=True)
    metrics = {
        "p99 tick slowdown": "p99_tick_slowdown",
        "premature OOM kills": "oom_kills_premature",
        "premature pages": "premature_reclaim_pages",
        "direct reclaims": "direct_reclaims",
        "migrated pages": "migrated_pages",
        "kernel on slow": "slow_kernel_pages",
    }
    for column in ("worst tenth", "throughput", *metrics, "us per decision"):
        table.add_column(column, justify="right")
    for policy in comparison.ranking():
        i = comparison.intervals[policy]
        table.add_row(
            escape(policy),
            number(comparison.worst_tenth(policy).mean),
            interval(i["throughput"]),
            *(number(i[metric].mean) for metric in metrics.values()),
            f"{comparison.decision_us[policy]:.2g}",
        )
    return table


def attribution_table(comparison: Comparison) -> Table:
    """Where the time goes: percent of an ideal machine's time, per cause and per reward term."""
    table = new_table("lost time by cause, %", "the causes add up to 100 % minus throughput")
    table.add_column("policy", no_wrap=True)
    for cause in (*n.CAUSES, "sum"):
        table.add_column(cause.replace("_", " "), justify="right")
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
    table.add_column("policy", no_wrap=True)
    classes = n.CLASSES[n.FIRST_KERNEL_CLASS :]
    for column in (*n.TERMS, "demoted", "promoted", "swapped", *(f"slow_{name}" for name in classes)):
        table.add_column(column.replace("_", " "), justify="right")
    for policy in comparison.ranking():
        i = comparison.intervals[policy]
        table.add_row(
            escape(policy),
            *(_percent(i[f"term_{term}"].mean) for term in n.TERMS),
            *(number(i[f"{moved}_pages"].mean) for moved in ("demoted", "promoted", "swapped")),
            *(number(i[f"slow_{name}_pages"].mean) for name in classes),
        )
    return table


def metrics_table(comparison: Comparison, policy: str, *, every: bool = True) -> Table:
    """The metrics of one policy, with interval and unit: every one, or those of `HEADLINES`."""
    table = new_table(f"{policy} on {comparison.title}: {comparison.episodes} episodes, seed {comparison.seed}")
    table.add_column("metric", no_wrap=True)
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit")
    for metric in METRICS:
        if not every and metric.name not in HEADLINES:
            continue
        value = comparison.intervals[policy][metric.name]
        table.add_row(metric.name, number(value.mean), f"{number(value.low)} to {number(value.high)}", metric.unit)
    return table


def modes_table(comparison: Comparison, policy: str, *, every: bool = True) -> Table:
    """What one policy did: for every action entry, or those that leave Linux's default, the modes in force, changes of
    mind, impossible choices."""
    table = new_table(
        "modes in force, % of ticks",
        "changes: ticks whose choice differs from the one before, per episode; overruled: impossible choices, where "
        "mode 0 holds",
    )
    table.add_column("entry", no_wrap=True)
    table.add_column("modes")
    for column in ("changes", "overruled"):
        table.add_column(column, justify="right")
    use = comparison.modes[policy].document()
    words = phrases(use)
    if not every and not words:
        table.add_row("Linux's defaults", "all entries, throughout", "0", "·")
    for entry in act.ENTRIES:
        if not every and entry.name not in words:
            continue
        row = use[entry.name]
        mode = words.get(entry.name, f"{entry.modes[entry.default]} 100 %")
        overruled = percent(row["overruled"]) if row["overruled"] else "·"
        table.add_row(entry.name, mode, number(row["changes"]), overruled, style="" if entry.name in words else "dim")
    return table


def deeds_table(comparison: Comparison) -> Table:
    """One row per policy: its changes of mind per episode, and the modes in force that are not Linux's defaults."""
    table = new_table(
        "what each did: modes in force, % of ticks",
        "entries that are not named stayed at mode 0; changes: choices that differ from those of the tick before, per "
        "episode, over all entries; overruled: impossible ones",
    )
    table.add_column("policy", no_wrap=True)
    for column in ("changes", "overruled"):
        table.add_column(column, justify="right")
    table.add_column("modes")
    for policy in comparison.ranking():
        use = comparison.modes[policy]
        overruled = float(use.overruled.mean())
        table.add_row(
            escape(policy),
            number(float(use.changes.sum(axis=-1).mean())),
            percent(overruled) if overruled else "·",
            _deeds(phrases(use.document())),
        )
    return table


def _deeds(words: dict[str, str]) -> str:
    """Entries with the same modes in force together; whoever uses many modes at once is only summed up."""
    entries: dict[str, list[str]] = {}
    for entry, phrase in words.items():
        entries.setdefault(phrase, []).append(entry)
    if len(entries) > MOST_DEEDS:
        return f"mixed: {len(words)} entries leave mode 0 (tiergym evaluate lists them)"
    return "; ".join(f"{phrase}: {', '.join(named)}" for phrase, named in entries.items()) or "Linux's defaults"


def comparison_report(comparison: Comparison, *, wide: bool = True) -> RenderableType:
    """The tables of one comparison: all of them, or the summary and what each policy did."""
    more = (details_table, attribution_table, pages_table) if wide else ()
    return Group(*(table(comparison) for table in (summary_table, *more, deeds_table)))


def best_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Per scenario: `metric` of the reference and of the best policy, and what the best gains; a matrix in short."""
    first = comparisons[0]
    common = common_changes([comparison.changes for comparison in comparisons])
    changed = f" with {assignments_text(common)}" if common else ""
    table = new_table(
        f"mean {metric}{changed}: {first.episodes} episodes per scenario, seed {first.seed}",
        f"best of {len(first.values)} policies; ± is half of the 95 % bootstrap interval, paired by episode",
    )
    table.add_column("scenario", no_wrap=True)
    for column in (first.reference, "best", "gain"):
        table.add_column(escape(column), justify="right")
    table.add_column("by", no_wrap=True)
    for comparison in comparisons:
        means = {policy: float(values[metric].mean()) for policy, values in comparison.values.items()}
        best = max(means, key=lambda policy: means[policy])
        gain = "" if best == first.reference else interval(comparison.difference(best, metric))
        cells = (number(means[first.reference]), number(means[best]), gain, escape(best))
        table.add_row(escape(comparison.scenario), *cells)
    return table


def matrix_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Scenario x policy, mean of `metric`; a row's best values are starred."""
    policies = list(comparisons[0].values)
    common = common_changes([comparison.changes for comparison in comparisons])
    changed = f" with {assignments_text(common)}" if common else ""
    title = f"mean {metric}{changed}: {comparisons[0].episodes} episodes per scenario, seed {comparisons[0].seed}"
    return _best_starred(
        title,
        {
            comparison.scenario: {policy: float(comparison.values[policy][metric].mean()) for policy in policies}
            for comparison in comparisons
        },
    )


def saved_table(comparison: SuiteComparison, suite: str) -> Table:
    """Scenario x policy, mean of what is saved of stock Linux's loss; a row's best values are starred."""
    board = comparison.board
    changed = f" with {assignments_text(comparison.changes)}" if comparison.changes else ""
    title = f"{suite}{changed}: mean saved, {board.episodes} episodes per scenario, seed {board.seed}"
    return _best_starred(title, comparison.saved(suite))


def _best_starred(title: str, means: Mapping[str, Mapping[str, float]]) -> Table:
    """Scenario x policy."""
    table = new_table(title, "* best of its row, or within 1e-3 of the best's size")
    table.add_column("scenario", no_wrap=True)
    for policy in next(iter(means.values())):
        table.add_column(escape(policy), justify="right")
    for scenario, row in means.items():
        best = max(row.values())
        table.add_row(escape(scenario), *(_starred(mean, best) for mean in row.values()))
    return table


def variants_table(comparisons: Sequence[Comparison], metric: str) -> Table:
    """Scenario and policy x variant, mean of `metric` with its interval; policies of a scenario best first."""
    groups = by_base(comparisons)
    table = new_table(
        f"{metric}: {comparisons[0].episodes} episodes per scenario and policy, seed {comparisons[0].seed}",
        "± is half of the 95 % bootstrap interval over episodes; = is the value on its left, to the last bit",
        keys=2,
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
    table.add_column("policy", no_wrap=True)
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
    out = new_table(title=f"{bound.scenario}: bounds, {bound.episodes} episodes, seed {bound.seed}")
    for heading in ("", "return", "share of the plan's gain", "modes"):
        out.add_column(heading, justify="left" if heading in ("", "modes") else "right", no_wrap=heading == "")
    gain = bound.plan_return - bound.statics[REFERENCE]
    rows = [(name, value, "") for name, value in bound.statics.items()]
    rows.append(("best constant", bound.constant_return, _modes(bound.constant)))
    rows.append((f"plan of {len(bound.plan.ticks)} pieces", bound.plan_return, ""))
    rows.append(("relaxed", bound.relaxed_return, "no policy gets more"))
    for name, value, modes in sorted(rows, key=lambda row: -row[1]):
        share = (value - bound.statics[REFERENCE]) / gain if gain > 0 else 0.0
        out.add_row(name, f"{value:.3f}", f"{share:.2f}", escape(modes))
    return out


def bounds_table(bounds: Sequence[Bound], suite: str) -> Table:
    """Per scenario: mean returns of `online`, of the best constant and of the plan, and what no policy exceeds."""
    first = bounds[0]
    out = new_table(f"{suite}: bounds, {first.episodes} episodes per scenario, seed {first.seed}")
    for heading in ("scenario", REFERENCE, "best constant", "plan", "relaxed"):
        out.add_column(heading, justify="left" if heading == "scenario" else "right", no_wrap=True)
    for each in bounds:
        values = (each.statics[REFERENCE], each.constant_return, each.plan_return, each.relaxed_return)
        out.add_row(escape(each.scenario), *(f"{value:.2f}" for value in values))
    return out


def ladder_table(rungs: Sequence[Rung], suite: str, *, wide: bool = True) -> Table:
    """Per scenario: returns of `online` and of the plan, and the share of the gain between them that each rung wins.

    Without `wide` it does not say which rules S and H are.
    """
    learned = any(rung.learned is not None for rung in rungs)
    out = new_table(
        f"{suite}: shares of what a clairvoyant plan wins over online",
        "* decides: headroom of 0.05 or more, beyond the noise of episodes",
    )
    text = ("scenario", "by S", "by H")
    shown = ("A", "captured") if learned else ()
    rules = [("S", "by S"), ("H", "by H")] if wide else [("S",), ("H",)]
    for heading in ("scenario", "online", "P", "One", *chain(*rules), "Ci", *shown, "headroom"):
        out.add_column(heading.removeprefix("by "), justify="left" if heading in text else "right", no_wrap=True)
    for rung in rungs:
        cells = [f"{rung.online:.2f}", f"{rung.online + rung.gain:.2f}", f"{rung.share(rung.one):.2f}"]
        for rule in (rung.selected, rung.rule):
            cells += [f"{rung.share(rung.rules[rule]):.2f}", *([rule] if wide else [])]
        cells += [f"{rung.share(rung.constant):.2f}"]
        if learned:
            captured = rung.captured
            cells += ["" if rung.learned is None else f"{rung.share(rung.learned):.2f}"]
            cells += ["" if captured is None else f"{captured:.2f}"]
        out.add_row(rung.scenario, *cells, f"{rung.headroom:.2f}{'*' if rung.decides else ' '}")
    return out


def networks_table(guesses: Sequence[Guesses], suite: str) -> Table:
    """Per scenario: returns of `online` and of random networks at quantiles, and how many do better than `online`."""
    out = new_table(
        f"{suite}: {len(guesses[0].returns):,} random networks on one machine of each scenario",
        "better: share that does better than online; saved: of its loss, the same network on every scenario, mean",
    )
    for heading in ("scenario", REFERENCE, *(f"{100 * q:g} %" for q in QUANTILES), "better"):
        out.add_column(heading, justify="left" if heading == "scenario" else "right", no_wrap=True)
    for each in guesses:
        values = (f"{value:.2f}" for value in (each.online, *each.quantiles()))
        out.add_row(escape(each.scenario), *values, f"{100 * each.better:.1f} %")
    saved = saved_by_network(guesses)
    out.add_section()
    row = (f"{value:.2f}" for value in np.quantile(saved, QUANTILES))
    out.add_row("saved on all of them", "0.00", *row, f"{100 * (saved > 0).mean():.1f} %")
    return out


def stability_table(found: Stability) -> Table:
    """Per policy what it saves on the suite as it is, its places there and over the draws and releases."""
    kinds = {"draws": found.draws(), "releases": found.releases()}
    kept = (
        f"{kind}: " + ", ".join(f"{what} in {100 * share:.0f} %" for what, share in found.kept(variants).items())
        for kind, variants in kinds.items()
    )
    out = new_table(
        f"{found.suite}: {len(kinds['draws'])} draws of prices, {len(kinds['releases'])} releases of Linux",
        "the same as on the suite as it is, of " + "; of ".join(kept),
    )
    for heading in ("policy", "saved", "place", "draws: place", "saved, lowest to highest", "releases: place"):
        out.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for policy in found.order(AS_IT_IS):
        drawn, released = (found.places(policy, variants) for variants in (found.draws(), found.releases()))
        values = [found.saved[variant][policy] for variant in found.draws()]
        out.add_row(
            escape(policy),
            f"{found.saved[AS_IT_IS][policy]:.3f}",
            str(found.places(policy, [AS_IT_IS])[0]),
            f"{min(drawn)} to {max(drawn)}",
            f"{min(values):.3f} to {max(values):.3f}",
            f"{min(released)} to {max(released)}",
        )
    return out


def _modes(action: NDArray[np.int64]) -> str:
    return ", ".join(f"{entry}={mode}" for entry, mode in modes_of(action).items()) or "Linux's defaults"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share else "·"


def _starred(mean: float, best: float) -> str:
    close = best - mean <= 1e-3 * max(abs(best), 1e-9)
    return f"[bold]{number(mean)}*[/bold]" if close else number(mean)
