"""Parts as one HTML page: no network, and no script but its own (a content policy forbids both); narrow screens too.

Whatever names come from files are escaped by the template engine.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import __version__, files
from tiergym.env import actions as act
from tiergym.env.palette import MODE_COLOURS
from tiergym.extras import require
from tiergym.lab.compare import REFERENCE
from tiergym.lab.episode_html import SCRIPT, episode_sections, style
from tiergym.lab.metrics import METRICS
from tiergym.lab.mode_use import percent
from tiergym.lab.plots import VARIANT_STYLES
from tiergym.lab.report import charts
from tiergym.lab.report.headlines import headline, shares_of
from tiergym.lab.report.parts import Entry, Part, SuitePart
from tiergym.lab.report.replayed import Replay, replay
from tiergym.lab.rungs import Rung
from tiergym.lab.statistics import Interval
from tiergym.sim.names import CAUSES
from tiergym.specs import assignments_text
from tiergym.terminal import number

TEMPLATE = "page.html"
SHOWN = (
    "throughput",
    "p99_tick_slowdown",
    "oom_kills",
    "oom_kills_premature",
    "premature_reclaim_pages",
    "migrated_pages",
    "demoted_pages",
    "slow_kernel_pages",
)
"""Metrics of the table of a scenario, beside the return."""
UNITS = {metric.name: metric.unit for metric in METRICS}
LOWEST_SAVED = -1.0
"""Where the axis of what is saved begins: a policy that loses more than twice what stock Linux does is cut there."""
RUNGS = ("One", "S", "H", "Ci", "A", "P")
FULL_TABLES = 12
"""Scenarios up to which each has its intervals and table open; of more they are folded."""


def write_report(path: Path, parts: Sequence[Part], with_replay: bool = True) -> None:
    """Write the page; `with_replay`: run an episode of the first part that can be. Raises `UserError` where jinja2 is
    not installed."""
    files.write_text(path, render(parts, with_replay))


def render(parts: Sequence[Part], with_replay: bool = True) -> str:
    """The page's text: the same for the same parts, whenever it is made."""
    jinja2 = require("jinja2")
    loader = jinja2.DictLoader({TEMPLATE: (resources.files("tiergym.lab.report") / TEMPLATE).read_text("utf-8")})
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "percent": percent}
    shown: list[dict[str, Any]] = []
    for part in parts:
        again = with_replay and not any(each["replay"] for each in shown)
        shown.append(_part(part, again))
    script_hash = base64.b64encode(sha256(SCRIPT.encode()).digest()).decode()
    text: str = environment.get_template(TEMPLATE).render(
        title=" and ".join(part.source for part in parts),
        parts=shown,
        script=SCRIPT if any(each["replay"] for each in shown) else "",
        script_hash=script_hash,
        mode_colours=MODE_COLOURS,
        style=style(),
        version=__version__,
    )
    return text.encode(errors="replace").decode()  # JSON may have halves of characters


def _part(part: Part, again: bool) -> dict[str, Any]:
    found = replay(part) if again and (part.entries or part.suites) else None
    lost = _lost_over_all(part) if part.entries else None
    return {
        "part": part,
        "headline": headline(part),
        "suites": [_suite(part, suite) for suite in part.suites],
        "ladders": [_ladder(name, rungs) for name, rungs in part.ladders.items()],
        "matrix": _matrix(part) if len(part.entries) > 1 else None,
        "lost": lost,
        "entries": [_entry(entry) for entry in part.entries],
        "folded": len(part.entries) > FULL_TABLES,
        "modes": _modes(part, lost["bars"]) if lost else [],
        "curves": [charts.curve(name, values) for name, values in part.training.curves.items()]
        if part.training
        else [],
        "replay": _replayed(found) if isinstance(found, Replay) else None,
        "not_replayed": found if isinstance(found, str) else "",
        "facts": _facts(part),
    }


def _suite(part: Part, suite: SuitePart) -> dict[str, Any]:
    ranked = suite.ranking()
    saved = {name: suite.rows[name].intervals["saved"] for name in ranked}
    against = part.against or REFERENCE
    first = [name for name in ranked if name in suite.profile]
    kept = [name for name in first if name != against][: charts.MOST_LINES - (against in first)]
    drawn = {name: suite.profile[name] for name in first if name in (*kept, against)}
    return {
        "suite": suite,
        "ranked": ranked,
        "against": against,
        "track": charts.track(saved, 3, LOWEST_SAVED),
        "profile": charts.profiles(part.above, drawn) if drawn and len(part.above) > 1 else None,
        "left_out": len(first) - len(drawn),
        "gaps": any(row.gap is not None for row in suite.rows.values()),
        "times": any(row.decision_us is not None for row in suite.rows.values()),
        "text": charts.text,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    ranked = sorted(entry.policies, key=lambda name: -entry.mean(name, "return"))
    lost = _lost(entry.policies)
    shown = [name for name in SHOWN if all(name in metrics for metrics in entry.policies.values())]
    return {
        "entry": entry,
        "changes": assignments_text(entry.changes),
        "ranked": ranked,
        "track": charts.track({name: entry.policies[name]["return"] for name in ranked}, 2),
        "shown": [(name, UNITS[name]) for name in shown],
        "lost": _bars({name: lost[name] for name in ranked}),
    }


def _lost(policies: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, float]]:
    """By policy, the share of time that each cause takes."""
    return {
        name: {cause: max(metrics[f"lost_{cause}"].mean, 0.0) for cause in CAUSES if f"lost_{cause}" in metrics}
        for name, metrics in policies.items()
    }


def _lost_over_all(part: Part) -> dict[str, Any]:
    """Means over all scenarios, of equal weight; the policy that loses least comes first."""
    each = [_lost(entry.policies) for entry in part.entries]
    means = {
        name: {cause: float(np.mean([lost[name].get(cause, 0.0) for lost in each])) for cause in CAUSES}
        for name in part.entries[0].policies
    }
    ordered = sorted(means, key=lambda name: sum(means[name].values()))
    return _bars({name: means[name] for name in ordered})


def _bars(lost: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    bars, totals = charts.lost_time(lost)
    return {"bars": bars, "totals": totals, "key": charts.causes_key(lost)}


def _matrix(part: Part) -> dict[str, Any]:
    """Mean throughput of every policy on every scenario, with the best of each row."""
    names = list(part.entries[0].policies)
    rows = [(entry, {name: entry.mean(name, "throughput") for name in names}) for entry in part.entries]
    return {"names": names, "rows": [(entry, means, max(means.values()) - 5e-5) for entry, means in rows]}


def _modes(part: Part, policies: Iterable[str]) -> list[dict[str, Any]]:
    """Of each policy, the entries that leave mode 0, with shares of modes over all scenarios; those that are used alike
    are one row."""
    out = []
    for policy in policies:
        uses = [entry.modes[policy] for entry in part.entries if policy in entry.modes]
        rows: dict[tuple[charts.Segment, ...], list[str]] = {}
        for entry, modes in uses[0].items() if uses else ():
            shares = {mode: float(np.mean([use.get(entry, {}).get(mode, 0.0) for use in uses])) for mode in modes}
            if next(iter(shares.values())) < 1:
                segments = [
                    charts.Segment(mode, 100 * share, MODE_COLOURS[i % len(MODE_COLOURS)], percent(share))
                    for i, (mode, share) in enumerate(shares.items())
                    if share > 0
                ]
                rows.setdefault(tuple(segments), []).append(entry)
        if uses:
            out.append({"policy": policy, "rows": [(", ".join(alike), segments) for segments, alike in rows.items()]})
    return out


def _ladder(name: str, rungs: Sequence[Rung]) -> dict[str, Any]:
    colours = dict(zip(RUNGS, (colour for colour, _ in VARIANT_STYLES), strict=False))
    rows = []
    for rung in rungs:
        marks = charts.flags(shares_of(rung), colours)
        rows.append({"rung": rung, "marks": marks, "lanes": 1 + max(mark.lane for mark in marks)})
    key = [(label, colour) for label, colour in colours.items() if label != "A" or any(rung.learned for rung in rungs)]
    return {"name": name, "rows": rows, "key": key}


def _replayed(found: Replay) -> dict[str, Any]:
    markup = require("markupsafe").Markup
    over_time = []
    for of in found.shares:
        moved: dict[tuple[tuple[str, ...], bytes], list[str]] = {}  # entries that are used alike are one figure
        for entry in act.ENTRIES:
            if (of.shares[entry.name][:, act.DEFAULT] < 1).any():
                moved.setdefault((entry.modes, of.shares[entry.name].tobytes()), []).append(entry.name)
        rows = [
            (", ".join(alike), modes, charts.over_time(of.shares[alike[0]], of.seconds))
            for (modes, _), alike in moved.items()
        ]
        over_time.append({"of": of, "rows": rows})
    episode = markup(episode_sections(found.logs))  # it escapes all names itself
    return {
        "found": found,
        "episode": episode,
        "over_time": over_time,
        "moves": any(each["rows"] for each in over_time),
    }


def _facts(part: Part) -> dict[str, str]:
    """Provenance: digests, versions, settings."""
    facts = {"source": part.source, "kind": part.kind}
    if part.model:
        facts["model"] = part.model
    if part.episodes:
        facts["episodes per scenario and policy"] = f"{part.episodes}, seed {part.seed}"
    facts |= part.facts
    if part.training is not None:
        facts |= part.training.facts
    for suite in part.suites:
        if suite.digest:
            facts[f"suite {suite.name}"] = suite.digest
    for entry in part.entries:
        if entry.digest:
            facts[f"scenario {entry.scenario}"] = entry.digest
    for name, digests in part.agents.items():
        if any(digests):
            facts[f"policy {name}"] = ", ".join(digests)
    return facts
