"""The benchmark's JSON as a page: `python -m tiergym.lab.performance bench.json > docs/performance.md`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiergym.lab import bench
from tiergym.lab.bench_curves import Point
from tiergym.lab.markdown import table
from tiergym.lab.terminal import number

INTRODUCTION = """# Performance

Made by `tiergym bench --json bench.json` and `python -m tiergym.lab.performance bench.json`. Measured on
{processor}, {cores} cores, Python {python}; medians of {repetitions} repetitions. A ratio says how many times better
than the reference, which was measured in turns with it.
"""
BOUNDS = """## How far from the machine's bounds

A tick reads and writes {bytes:,} bytes at most (the state once each way, and the outputs). A large copy moves
{gbps:.1f} GB/s here, so memory allows {bound} machine-ticks per second; {engine} were measured under stock Linux.
{instructions}
"""
COUNTED = """callgrind counts {untouched:,.0f} instructions per tick under stock Linux and {at_random:,.0f} under
random actions: {dominates} dominate."""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [INTRODUCTION.format(**document["machine"], repetitions=document["repetitions"]), rows(document["rows"])]
    if document["curves"]:
        parts += ["## Curves\n\nNanoseconds per machine-tick under stock Linux.", *curves(document["curves"])]
    if document["bounds"]:
        parts.append(bounds(document))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def rows(entries: Sequence[Mapping[str, Any]]) -> str:
    """Every measurement beside its reference."""
    headings = ("what", "median", "lowest to highest", "unit", "reference", "its median", "ratio", "target")
    return table(headings, [bench.cells(bench.Row(**entry)) for entry in entries])


def curves(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One table per curve."""
    found = [Point(**entry) for entry in entries]
    machines = sorted({p.x for p in found if p.curve == "machines"})
    threads = sorted({p.threads for p in found if p.curve == "machines"})
    by_machines = {(p.x, p.threads): p for p in found if p.curve == "machines"}
    out = [
        table(
            ("machines", *(f"{count} thread{'s' if count > 1 else ''}" for count in threads), "state"),
            [
                [
                    f"{x:,}",
                    *(f"{by_machines[x, count].ns_per_tick:,.0f}" for count in threads),
                    f"{number(x * by_machines[x, threads[0]].bytes_per_machine)}B",
                ]
                for x in machines
            ],
        )
    ]
    for curve in ("regions", "blocks"):
        chosen = [p for p in found if p.curve == curve]
        out.append(
            table(
                (curve, "1 thread", "bytes per machine"),
                [[str(p.x), f"{p.ns_per_tick:,.0f}", f"{p.bytes_per_machine:,}"] for p in chosen],
            )
        )
    return out


def bounds(document: Mapping[str, Any]) -> str:
    """The roofline in words."""
    measured, engine = document["bounds"], document["rows"][0]["value"]
    counted = measured["instructions"]
    text = measured["missing"]
    if counted:
        share = engine / measured["bound_ticks_per_s"]
        text = COUNTED.format(
            **counted, dominates="instructions, not memory," if share < 0.7 else "memory and instructions"
        )
    return BOUNDS.format(
        bytes=measured["bytes_per_tick"],
        gbps=measured["copy_gbps"],
        bound=number(measured["bound_ticks_per_s"]),
        engine=number(engine),
        instructions=text,
    )


if __name__ == "__main__":
    sys.stdout.write(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
