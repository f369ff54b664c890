"""The scenario sheet and the ladder's tables as pages, from what `tiergym ladder SUITE... --json rungs.json` wrote:

    python -m tiergym.lab.ladder_page rungs.json docs/families.md docs/ladder.md

puts the sheet (what each level of each axis stands for, and each family's rungs) into the first, between the marks
`families`, and a summary of the suites into the second, between the marks `ladder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tiergym import files
from tiergym.lab.markdown import put_into, table
from tiergym.lab.rungs import LEAST_HEADROOM, Rung
from tiergym.specs.families import AXES, catalogue

RUNGS = ("online", "P", "One", "S", "by", "H", "Ci", "headroom", "decides")
SUMMARY = (
    "suite",
    "families",
    "decide",
    "One",
    "S",
    "H",
    "best rule in hindsight",
    "Ci",
    "configuration",
    "adaptivity",
)


def read_rungs(path: Path) -> dict[str, list[Rung]]:
    """Rungs by suite, from a file of the ladder's."""
    document: Mapping[str, Any] = files.read_json(path)
    return {suite: [Rung(**rung) for rung in rungs] for suite, rungs in document["suites"].items()}


def axes_tables() -> str:
    """What every level of every axis stands for."""
    parts = []
    for axis in AXES:
        rows = [[f"`{level}`", str(entry["text"])] for level, entry in catalogue()[axis].items()]
        parts.append(f"### {axis}\n\n" + "\n".join(["| level | stands for |", "|---|---|", *map(_row, rows)]))
    return "\n\n".join(parts)


def suite_tables(climbed: Mapping[str, Sequence[Rung]]) -> str:
    """Per suite, every family with its rungs, as shares of what the plan wins over `online`."""
    parts = []
    for suite, rungs in climbed.items():
        rows = [[f"`{rung.scenario}`", *_cells(rung)] for rung in rungs]
        parts.append(f"### {suite}\n\n{table(('family', *RUNGS), rows)}")
    return "\n\n".join(parts)


def summary_table(climbed: Mapping[str, Sequence[Rung]]) -> str:
    """Per suite, how many families decide, and medians of shares over these."""
    rows = []
    for suite, rungs in climbed.items():
        deciding = [rung for rung in rungs if rung.decides]
        shares = [
            [
                rung.share(rung.one),
                rung.share(rung.rules[rung.selected]),
                rung.share(rung.rules[rung.rule]),
                rung.share(rung.rules[rung.best_rule]),
                rung.share(rung.constant),
                rung.configuration_value,
                rung.adaptivity_value,
            ]
            for rung in deciding
        ]
        means = [f"{np.median(column):.2f}" for column in zip(*shares, strict=True)] if shares else [""] * 7
        rows.append([suite, str(len(rungs)), str(len(deciding)), *means])
    total = [rung for rungs in climbed.values() for rung in rungs]
    in_hindsight = sum(1 for r in total if r.decides and 1 - r.share(r.rules[r.best_rule]) >= LEAST_HEADROOM)
    rules = {rung.rule for rung in total}
    text = f"H is `{'`, `'.join(sorted(rules))}`. Shares are medians over the families that decide. Measured against "
    text += f"the best of all rules in hindsight, family by family, {in_hindsight} of these "
    text += f"{sum(rung.decides for rung in total)} would still have headroom."
    return f"{table(SUMMARY, rows)}\n\n{text}"


def _cells(rung: Rung) -> list[str]:
    shares = [f"{rung.share(rung.one):.2f}", f"{rung.share(rung.rules[rung.selected]):.2f}", f"`{rung.selected}`"]
    shares += [f"{rung.share(rung.rules[rung.rule]):.2f}", f"{rung.share(rung.constant):.2f}", f"{rung.headroom:.2f}"]
    returns = [f"{rung.online:.2f}", f"{rung.online + rung.gain:.2f}"]
    if rung.gain < 1e-6 * rung.ticks:  # shares of nothing
        return [*returns, "", "", "", "", "", "", "no"]
    return [*returns, *shares, "yes" if rung.decides else "no"]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(
    rungs: Annotated[Path, typer.Argument(metavar="RUNGS.json", help="What `tiergym ladder --json` wrote.")],
    sheet: Annotated[Path, typer.Argument(metavar="FAMILIES.md", help="The scenario sheet.")],
    ladder: Annotated[Path, typer.Argument(metavar="LADDER.md", help="The ladder's page.")],
) -> None:
    """Put the tables into the pages."""
    climbed = read_rungs(rungs)
    put_into(sheet, f"## Axes\n\n{axes_tables()}\n\n## Suites\n\n{suite_tables(climbed)}\n", "families")
    put_into(ladder, f"{summary_table(climbed)}\n", "ladder")


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
