"""An explanation for people: text of 80 columns, JSON, a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.env.model_hash import model_hash
from tiergym.extras import require
from tiergym.lab import explain_tree
from tiergym.lab.explain import EVERYTHING, Explained, Regime
from tiergym.lab.explain_tree import Tree, together
from tiergym.lab.mode_use import percent
from tiergym.lab.plots import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = 1
WIDTH = 80
SELDOM = 0.05
"""Of a regime's time: modes that are in force for less are not told in words."""
MOST_CHANGES = 6


def text(found: Explained, tree: Tree) -> str:
    """All of it, no line longer than 80 columns."""
    where = f"{found.episodes} episodes on each of {len(found.scenarios)} scenarios, seed {found.seed}"
    out = [f"{found.policy}: saves {found.score:.4f} of what stock Linux loses ({where})", ""]
    out += [*_importance_lines(found), "", "What it does", ""]
    for regime in found.regimes:
        out.append(f"{regime.configuration}, {regime.pressure} ({percent(regime.share)} of time):")
        out += [f"  {line}" for line in regime_deeds(regime)]
    total = sum(found.changes.values())
    most = sorted(((rate, name) for name, rate in found.changes.items() if rate > 0), key=lambda each: -each[0])
    out += ["", f"It changes its mind {total:.2f} times in 100 ticks of a machine, all entries together."]
    if most:
        out.append(", ".join(f"{name} {rate:.2f}" for rate, name in most[:MOST_CHANGES]))
    kept = f", of {found.score:.4f}" if found.score else ""
    out += [
        "",
        f"In words: a tree that agrees in {percent(tree.agreement)} of choices on other machines and saves "
        f"{tree.score:.4f}{kept}. In brackets, the share of decisions.",
        "",
    ]
    out += ["  " * depth + line for depth, line in explain_tree.sentences(tree.root)]
    return "\n".join(line for each in out for line in _wrapped(each))


def regime_deeds(regime: Regime) -> list[str]:
    """Modes that leave Linux's default often enough, with the entries that do so alike."""
    entries: dict[str, list[str]] = {}
    for entry, first in zip(act.ENTRIES, act.OFFSETS.tolist(), strict=True):
        shares = zip(entry.modes, regime.modes[first:].tolist(), strict=False)
        told = sorted((-share, mode) for mode, share in list(shares)[1:] if share >= SELDOM)
        if told:
            phrase = ", ".join(f"{mode} {percent(-share)}" for share, mode in told)
            entries.setdefault(phrase, []).append(entry.name)
    return [f"{phrase}: {together(named)}" for phrase, named in entries.items()] or ["Linux's defaults"]


def document(found: Explained, tree: Tree) -> dict[str, Any]:
    """As JSON."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "policy": found.policy,
        "scenarios": list(found.scenarios),
        "episodes": found.episodes,
        "seed": found.seed,
        "saved": found.score,
        "observations": {each.observation: {"changed": each.changed, "lost": each.lost} for each in found.importances},
        "regimes": [
            {
                "configuration": regime.configuration,
                "pressure": regime.pressure,
                "share": regime.share,
                "in_force": dict(zip(act.MASK_NAMES, regime.modes.tolist(), strict=True)),
            }
            for regime in found.regimes
        ],
        "changes_per_100_ticks": found.changes,
        "tree": {"agreement": tree.agreement, "saved": tree.score, "root": explain_tree.document(tree.root)},
    }


def write_png(path: Path, found: Explained) -> None:
    """Importance at the left, at the right the modes in force by regime. Raises `UserError` without matplotlib."""
    figure_module = require("matplotlib.figure")
    bars = [each for each in found.importances if each.lost is not None]
    entries = _used(found.regimes)
    height = 2.2 + 0.3 * max(len(bars), len(entries), 4)
    figure = figure_module.Figure(figsize=(13, height), dpi=130, layout="constrained")
    changed, lost, modes = figure.subplots(1, 3, width_ratios=(1, 1, 1.9))
    names = [each.observation for each in bars][::-1]
    changed.barh(names, [100 * each.changed for each in bars][::-1], color="#0072B2")
    changed.set_xlabel("decisions that change, %")
    lost.barh(names, [100 * (each.lost or 0.0) for each in bars][::-1], color="#D55E00")
    lost.set_xlabel("saved less, points of\nstock Linux's lost time")
    lost.axvline(0, color="black", linewidth=0.8)
    lost.set_yticklabels([])
    for panel in (changed, lost):
        panel.grid(axis="x", alpha=0.3)
        if not bars:
            panel.set_axis_off()
    _draw_modes(modes, found.regimes, entries)
    if not bars:
        changed.text(0.5, 0.5, "No observation changes a decision", ha="center", transform=changed.transAxes)
    figure.suptitle(
        f"{found.policy}: what matters to it, shown what other machines saw at other moments, and what it does\n"
        f"({len(found.scenarios)} scenarios, {found.episodes} episodes each)",
        fontsize=12,
    )
    write_figure(path, figure)


def _draw_modes(panel: Axes, regimes: Sequence[Regime], entries: Sequence[int]) -> None:
    """Per entry and regime the time outside of Linux's default, with the mode that is most often in force."""
    if not entries:
        panel.set_axis_off()
        panel.text(0.5, 0.5, "Linux's defaults everywhere", ha="center", transform=panel.transAxes)
        return
    shares = np.array([[1.0 - regime.modes[act.OFFSETS[entry]] for regime in regimes] for entry in entries])
    image = panel.imshow(100 * shares, aspect="auto", cmap="Blues", vmin=0, vmax=100)
    panel.set_yticks(range(len(entries)), [act.NAMES[entry] for entry in entries])
    titles = [f"{regime.configuration}\n{_short(regime.pressure)}\n{percent(regime.share)}" for regime in regimes]
    panel.set_xticks(range(len(regimes)), titles, fontsize=8)
    for row, entry in enumerate(entries):
        for column, regime in enumerate(regimes):
            first = int(act.OFFSETS[entry])
            mode = int(regime.modes[first : first + len(act.ENTRIES[entry].modes)].argmax())
            colour = "white" if shares[row, column] > 0.6 else "black"
            panel.text(column, row, act.ENTRIES[entry].modes[mode], ha="center", va="center", fontsize=8, color=colour)
    panel.figure.colorbar(image, ax=panel, label="time outside of Linux's default, %", shrink=0.8)


def _used(regimes: Sequence[Regime]) -> list[int]:
    """Entries that leave Linux's default in some regime."""
    return [
        entry
        for entry in range(len(act.ENTRIES))
        if any(regime.modes[act.OFFSETS[entry]] < 1.0 - SELDOM / 10 for regime in regimes)
    ]


def _short(pressure: str) -> str:
    return pressure.removeprefix("DRAM ").replace(" above", "\nabove").replace(" or ", " or\n")


def _importance_lines(found: Explained) -> list[str]:
    if not found.importances:
        return ["What it looks at: nothing. No observation changes a decision."]
    out = [
        "What it looks at: where one observation is that of another machine and moment,",
        "the share of its decisions that change, and how much less it saves.",
        "",
        f"  {'observation':<27}{'changed':>9}{'saved less':>12}  what it is",
    ]
    for each in found.importances:
        if each.lost is None:
            continue
        doc = "all of them at once"
        if each.observation != EVERYTHING:
            doc = observations.ENTRIES[observations.NAMES.index(each.observation)].doc
        line = f"  {each.observation:<27}{percent(each.changed):>9}{each.lost:>12.4f}  "
        out.append(
            textwrap.shorten(line.rstrip(), WIDTH) if len(line) > WIDTH else line + _fitting(doc, WIDTH - len(line))
        )
    rest = [each.observation for each in found.importances if each.lost is None]
    if rest:
        most = found.importances[len(found.importances) - len(rest)].changed
        out.append(f"  and {len(rest)} more that change {percent(most)} or less")
    return out


def _fitting(words: str, width: int) -> str:
    return words if len(words) <= width else words[: max(0, width - 3)] + "..."


def _wrapped(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, WIDTH, initial_indent="", subsequent_indent=f"{indent}    ", break_on_hyphens=False)
