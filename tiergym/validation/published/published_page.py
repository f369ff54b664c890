"""Verdicts for people and programs: a table in the terminal, JSON, and the page docs/validation-published.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from tiergym.lab.citations import linked
from tiergym.lab.markdown import table
from tiergym.lab.results import SCHEMA
from tiergym.terminal import new_table
from tiergym.validation.published.measures import MEASURES
from tiergym.validation.published.published_table import Experiment
from tiergym.validation.published.verdicts import FITTED, MET, MISSED, Result

Verdicts = Mapping[Experiment, Sequence[Result]]

COLUMNS = ("", "published", "simulated", "tolerance", "verdict")


def count(verdicts: Verdicts, verdict: str) -> int:
    """How many lines of all tests have a verdict."""
    return sum(result.verdict == verdict for results in verdicts.values() for result in results)


def cells(result: Result) -> tuple[str, ...]:
    """One line as `COLUMNS` show it."""
    published = f"{result.low:g}" if result.low == result.high else f"{result.low:g} to {result.high:g}"
    return result.name, published, f"{result.simulated:.5g}", result.tolerance, result.verdict


def summary(verdicts: Verdicts) -> str:
    """The last line: how many of the judged lines are met."""
    met, missed = count(verdicts, MET), count(verdicts, MISSED)
    return f"{met} of {met + missed} judged lines within tolerance, {missed} missed"


def report(verdicts: Verdicts) -> RenderableType:
    """A table per test: what was measured, by whom, what was fitted, every line and its verdict."""
    styles = {MET: "green", MISSED: "bold red", FITTED: "dim"}
    tables = []
    for experiment, results in verdicts.items():
        shown = new_table(f"{experiment.id}: {experiment.title}", f"{experiment.source}. Fitted: {experiment.fitted}")
        for column in COLUMNS:
            shown.add_column(column, justify="left" if column in ("", "tolerance", "verdict") else "right")
        for result in results:
            shown.add_row(*map(escape, cells(result)), style=styles.get(result.verdict, ""))
        tables.append(shown)
    return Group(*tables, summary(verdicts))


def document(verdicts: Verdicts) -> dict[str, Any]:
    """Schema 1: every line with its numbers, by test."""
    return {
        "schema": SCHEMA,
        "met": count(verdicts, MET),
        "missed": count(verdicts, MISSED),
        "tests": [
            {
                "id": experiment.id,
                "title": experiment.title,
                "fitted": experiment.fitted,
                "lines": [
                    {
                        "name": result.name,
                        "measure": result.measure,
                        "published": [result.low, result.high],
                        "simulated": result.simulated,
                        "tolerance": result.tolerance,
                        "verdict": result.verdict,
                        "source": experiment.source,
                    }
                    for result in results
                ],
            }
            for experiment, results in verdicts.items()
        ],
    }


_HEAD = """\
# The model against published numbers

Made by `tiergym validate published` and `python -m tiergym.validation.published docs/validation-published.md`.
{summary}.

Each test is a folder of `experiments/evidence/published`: `table.toml` holds the published numbers with their source,
the tolerance, and what each line changes in the scenario beside it. Every simulated number is read off runs of the
simulator.

- **met**, **MISSED**: judged against the tolerance. A miss stays here; [model.md](model.md), section 16, names what is
  missing in the model.
- **fitted**: a parameter was chosen so that this line comes out; never judged.
- **shown**: published beside the others without a tolerance, or part of a summary line.

Ids in brackets lead to [sources.md](sources.md). Letters say how sure we are: [R] read in the primary source, [R2] in a
summary, [D] computed from [R] data, [A] abstract, [M] from memory, [O] measured on a guest.
"""


def page(verdicts: Verdicts) -> str:
    """The Markdown page."""
    parts = [_HEAD.format(summary=summary(verdicts))]
    for experiment, results in verdicts.items():
        lines = table(COLUMNS, [cells(result) for result in results])
        parts.append(
            f"## {experiment.id}: {experiment.title}\n\nSource: {experiment.source}.\n\n"
            f"Fitted: {experiment.fitted}\n\n{lines}\n"
        )
    used = sorted({result.measure for results in verdicts.values() for result in results} & set(MEASURES))
    meanings = table(("measure", "meaning"), [(f"`{name}`", MEASURES[name].doc) for name in used])
    text = "\n".join([*parts, "## What is measured\n", meanings.replace("---:|", "---|"), ""])
    return linked(text, "sources.md")
