"""What tuning found, in the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from tiergym.lab.tuning_run import Budget, Tuned
from tiergym.policy.load import WITH
from tiergym.terminal import new_table, number

SHORT_NAME, SHORT_VALUE = 28, 16
"""Characters: an entry's name with its table's, a rule's name."""
MOST_OPTIONS = 3
"""Options of a choice that are named; of more only their number is told."""


def budget_text(budget: Budget) -> str:
    """What the search will cost."""
    each = f"{budget.episodes} episodes on each of {budget.scenarios} scenarios"
    return f"{budget.trials} trials of {each}, {budget.steps:,} simulator steps"


def table(tuned: Tuned) -> Table:
    """Every parameter with what it may be, what it was and what it became; unchanged choices are left out."""
    parameters = tuned.parameters
    shown = [
        name
        for name, each in parameters.items()
        if not each.options or tuned.best.values[name] != tuned.untuned.values[name]
    ]
    left = len(parameters) - len(shown)
    out = new_table(f"{tuned.target}, tuned on {tuned.suite}", f"{left} choices are as they were" if left else "")
    # A terminal of 80 columns has room for short names whole; long ones are folded, as what is allowed is.
    out.add_column("parameter", overflow="fold", no_wrap=all(len(name) <= SHORT_NAME for name in shown))
    out.add_column("allowed", overflow="fold")
    for title, trial in (("untuned", tuned.untuned), ("tuned", tuned.best)):
        short = all(len(_value(trial.values[name])) <= SHORT_VALUE for name in shown)
        out.add_column(title, justify="right", overflow="fold", no_wrap=short)
    for name in shown:
        each = parameters[name]
        allowed = f"{each.low:g} to {each.high:g} {each.unit}".rstrip()
        if each.options:
            few = len(each.options) <= MOST_OPTIONS
            allowed = ", ".join(each.options) if few else f"{len(each.options)} choices"
        values = (tuned.untuned.values[name], tuned.best.values[name])
        out.add_row(escape(name), escape(allowed), *(escape(_value(value)) for value in values))
    return out


def lines(tuned: Tuned, pair: str = "") -> list[str]:
    """Scores, cost and file, a sentence each; `pair` is a rule that the file must be named with."""
    spent = sum(trial.steps for trial in tuned.trials)
    stopped = sum(trial.score is None for trial in tuned.trials)
    early = f", {stopped} of them stopped early" if stopped else ""
    out = [
        f"saved of stock Linux's lost time: {tuned.best.score:.4f}, untuned {tuned.untuned.score:.4f}",
        f"{len(tuned.trials)} trials{early}, {spent:,} simulator steps",
    ]
    if tuned.gain is not None and tuned.checked is not None:
        gain, (found, untuned) = tuned.gain, tuned.checked
        out.insert(1, f"on fresh draws: {found:.4f}, untuned {untuned:.4f}")
        out.insert(2, f"difference {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] (95 %)")
    if tuned.gain is None:
        return [*out, f"train it: tiergym train --agent {tuned.file} --suite {tuned.suite}"]
    spelled = f"{pair}{WITH}{tuned.file}" if pair else str(tuned.file)
    return [*out, f"compare it: tiergym compare --policies online,{spelled}"]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else number(value)
