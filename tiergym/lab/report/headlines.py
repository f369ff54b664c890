"""What a source says, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiergym.lab.compare import REFERENCE
from tiergym.lab.report import charts
from tiergym.lab.report.parts import Networks, Part, SuitePart
from tiergym.lab.report.replayed import best_two
from tiergym.lab.rungs import Rung


def headline(part: Part) -> list[str]:
    """What the source says, in a sentence per suite, or two at most."""
    if part.ladders:
        return [_of_ladder(name, rungs) for name, rungs in part.ladders.items()]
    if part.networks:
        return [_of_networks(name, networks) for name, networks in part.networks.items()]
    if part.suites:
        return [_of_suite(suite) for suite in part.suites]
    if not part.entries:
        return ["A training run that was not measured."]
    best, *others = best_two(part)
    if len(part.entries) > 1:
        first = [max(entry.policies, key=lambda name: entry.mean(name, "return")) for entry in part.entries]
        return [f"{best} has the best mean return, on {first.count(best)} of {len(first)} scenarios."]
    (entry,) = part.entries
    said = f"{best} does best: return {charts.text(entry.policies[best]['return'], 2)}"
    for other in others:
        said += f", against {charts.text(entry.policies[other]['return'], 2)} of {other}"
        if other == REFERENCE and entry.mean(other, "return") < 0:
            saves = 1 - entry.mean(best, "return") / entry.mean(other, "return")
            said += f"; of what stock Linux loses it saves {100 * saves:.0f} %"
    return [f"{said}."]


def _of_suite(suite: SuitePart) -> str:
    saved = {name: row.intervals["saved"] for name, row in suite.rows.items()}
    first = suite.ranking()[0]
    best, *others = [name for name in suite.ranking() if name != REFERENCE] or [REFERENCE]
    if first == REFERENCE and best != REFERENCE:
        said = f"{suite.name}: no policy saves anything of what stock Linux loses; the best, {best},"
        return f"{said} {charts.text(saved[best], 3)}."
    said = f"{suite.name}: {best} saves {charts.text(saved[best], 3)} of what stock Linux loses"
    if (kills := suite.rows[best].intervals["kills_per_hour"].mean) > 0:
        said += f", with {kills:.3g} premature kills an hour"
    for other in others[:1]:
        said += f"; the next, {other}, {charts.text(saved[other], 3)}"
        said += "; their intervals overlap" if saved[other].high >= saved[best].low else ""
    return f"{said}."


def _of_networks(name: str, networks: Networks) -> str:
    *_, last = networks.saved
    middle = next(iter(networks.saved))
    return (
        f"{name}: of {networks.count} random networks the median saves {networks.saved[middle]:.2f} of what stock "
        f"Linux loses, the best, chosen in hindsight, {networks.saved[last]:.2f}."
    )


def _of_ladder(name: str, rungs: Sequence[Rung]) -> str:
    deciding = [rung for rung in rungs if rung.decides]
    said = f"{name}: {len(deciding)} of {len(rungs)} families decide between policies"
    if not deciding:
        return f"{said}."
    captured = [float(np.median([shares_of(rung)[each] for rung in deciding])) for each in ("One", "S", "H", "Ci")]
    return (
        f"{said}; of what a clairvoyant plan wins there, medians: One {captured[0]:.2f}, S {captured[1]:.2f}, "
        f"H {captured[2]:.2f}, the best constant of each family {captured[3]:.2f}."
    )


def shares_of(rung: Rung) -> dict[str, float]:
    """Of what the plan wins over stock Linux, what each rung wins, by the names of `tiergym.lab.ladder`."""
    found = {"One": rung.one, "S": rung.rules[rung.selected], "H": rung.rules[rung.rule], "Ci": rung.constant}
    found |= {} if rung.learned is None else {"A": rung.learned}
    return {label: rung.share(returns) for label, returns in {**found, "P": rung.plan}.items()}
