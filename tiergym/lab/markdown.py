"""Results as a page: `python -m tiergym.lab.markdown results.json matrix.json > docs/results.md`.

Reads the JSON files of `tiergym run`, `compare` and `matrix`, and prints one Markdown table for each; the tables.md of
an experiment that says what is shown of it is taken as it is. With
`--into PAGE.md` before them the tables replace what stands between the page's lines `<!-- results -->` and
`<!-- /results -->`.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab.compare import base_name
from tiergym.sim.names import CAUSES
from tiergym.specs import assignments_text, common_changes

COLUMNS = (
    ("return", "return", 2),
    ("throughput", "throughput", 4),
    ("p99_tick_slowdown", "p99 tick slowdown", 3),
    ("oom_kills", "OOM kills", 2),
    ("demoted_pages", "pages demoted", 0),
    ("migrated_pages", "kernel pages migrated", 0),
)
"""Metric, heading, decimals of a comparison's columns."""
MOST_COLUMNS = 7
"""Variants side by side in a table."""


def estimate(value: Mapping[str, float], decimals: int) -> str:
    """Mean with its 95 % interval; the mean alone where nothing varies."""
    mean, low, high = value["mean"], value["low"], value["high"]
    text = f"{mean:,.{decimals}f}"
    return text if low == high else f"{text} [{low:,.{decimals}f}, {high:,.{decimals}f}]"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def comparison_table(document: Mapping[str, Any]) -> str:
    """Policies of one scenario, best mean return first."""
    policies = sorted(document["policies"].items(), key=lambda item: -item[1]["return"]["mean"])
    rows = [
        [name, *(estimate(values[metric], decimals) for metric, _, decimals in COLUMNS)] for name, values in policies
    ]
    return table(["policy", *(heading for _, heading, _ in COLUMNS)], rows)


def matrix_table(document: Mapping[str, Any]) -> str:
    """Mean throughput of every policy on every scenario; the best of a row in bold."""
    scenarios = document["scenarios"]
    names = list(next(iter(scenarios.values()))["policies"])
    rows = []
    for scenario, entry in scenarios.items():
        means = [entry["policies"][name]["throughput"]["mean"] for name in names]
        best = max(means)
        rows.append([scenario, *(f"**{mean:.4f}**" if mean > best - 5e-5 else f"{mean:.4f}" for mean in means)])
    return table(["scenario", *names], rows)


def variants_table(document: Mapping[str, Any]) -> str:
    """Mean throughput of every scenario and policy in every variant; policies of a scenario best first.

    `=` is the value on its left, to the last bit; the mean's interval stands where it has one. More than
    `MOST_COLUMNS` variants are rows, with a column per policy.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for scenario, entry in document["scenarios"].items():
        groups.setdefault(base_name(scenario, entry["variant"]), []).append(entry)
    rows = []
    if len(next(iter(groups.values()))) > MOST_COLUMNS:
        for base, entries in groups.items():
            for entry in entries:
                means = [estimate(of["throughput"], 4) for of in entry["policies"].values()]
                rows.append([base, entry["variant"], *means])
        return table(["scenario", "variant", *next(iter(groups.values()))[0]["policies"]], rows)
    for base, entries in groups.items():
        values = {
            policy: [entry["policies"][policy]["throughput"] for entry in entries] for policy in entries[0]["policies"]
        }
        for policy, variants in sorted(values.items(), key=lambda item: -sum(value["mean"] for value in item[1])):
            cells = [estimate(variants[0], 4)] + ["=" if b == a else estimate(b, 4) for a, b in pairwise(variants)]
            rows.append([base, policy, *cells])
    return table(["scenario", "policy", *(entry["variant"] for entry in next(iter(groups.values())))], rows)


def causes_table(document: Mapping[str, Any]) -> str:
    """Lost time by cause, in percent, of every scenario, variant and policy, but for causes below 0.005 % in all."""
    rows = [(name, policy, of) for name, e in document["scenarios"].items() for policy, of in e["policies"].items()]
    causes = [cause for cause in CAUSES if any(of[f"lost_{cause}"]["mean"] >= 5e-5 for _, _, of in rows)]
    percent = [
        [name, policy, *(estimate({k: 100 * v for k, v in of[f"lost_{cause}"].items()}, 2) for cause in causes)]
        for name, policy, of in rows
    ]
    return table(["scenario", "policy", *(cause.replace("_", " ") for cause in causes)], percent)


def page(documents: Sequence[Mapping[str, Any]], causes: bool = False) -> str:
    """Every result under a line that says what it was measured on, with `causes` what time was lost to, too."""
    parts = []
    for document in documents:
        entries = document["scenarios"].values() if "scenarios" in document else [document]
        changes = common_changes([entry.get("changes", {}) for entry in entries])
        changed = f" with {assignments_text(changes)}" if changes else ""
        of = f"{document['episodes']} episodes per"
        if "scenarios" in document and all(entry.get("variant") for entry in entries):
            title = f"Mean throughput{changed}, {of} scenario, policy and variant, seed {document['seed']}"
            parts.append(f"## {title}\n\n{variants_table(document)}")
            if causes:
                parts.append(f"Lost time by cause, percent of all time\n\n{causes_table(document)}")
        elif "scenarios" in document:
            title = f"Mean throughput{changed}, {of} scenario and policy, seed {document['seed']}"
            parts.append(f"## {title}\n\n{matrix_table(document)}")
        else:
            title = f"{document['scenario']}{changed}, {of} policy, seed {document['seed']}"
            parts.append(f"## {title}\n\n{comparison_table(document)}")
    return "\n\n".join(parts) + "\n"


def put_into(path: Path, text: str, mark: str = "results") -> None:
    """Replace what stands between the marks of the page. Raises `UserError` where it does not have them once each."""
    start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(f"(?s){start}.*?{end}", lambda _: start + text + end, before)
    if count != 1:
        raise UserError(f"{path}: {count} parts between {start.strip()} and {end.strip()}; allowed: 1")
    files.write_text(path, after)


def main(
    results: Annotated[
        list[Path], typer.Argument(help="Files of tiergym run, compare and matrix: JSON, or tables.md.")
    ],
    into: Annotated[Path | None, typer.Option(help="A page whose part between its marks is replaced.")] = None,
    causes: Annotated[bool, typer.Option("--causes", help="Of variants, lost time by cause as well.")] = False,
) -> None:
    """Print results as Markdown, or put them into a page."""
    if all(path.suffix == ".md" for path in results):
        made = "\n".join(path.read_text(encoding="utf-8") for path in results)
    else:
        made = page([files.read_json(path) for path in results], causes)
    if into is None:
        sys.stdout.write(made)
    else:
        put_into(into, made)


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
