"""The benchmark's JSON as a page:
`python -m tiergym.bench.performance_page bench.json times.json ... > docs/performance.md`.

The first file is of `tiergym bench`, the others, if any, are of `python -m tiergym.bench.time_to_score`.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from tiergym import files
from tiergym.bench import benchmark
from tiergym.bench.batch_curves import Point
from tiergym.bench.learner_share import LearnerShare
from tiergym.env.actions import NVEC
from tiergym.lab.markdown import table
from tiergym.terminal import number

INTRODUCTION = """# Performance

Made by `tiergym bench --json bench.json` and `python -m tiergym.bench.performance_page bench.json`. Measured on
{processor}, {cores} cores, Python {python}; medians of {repetitions} repetitions. A ratio says how many times better
than the reference, which was measured in turns with it. PufferLib's environments are not among the peers: it comes as
source and fetches more of it while it builds, which a machine without that network cannot. For a GPU, see
[the design note](gpu.md).

What is done in a second depends on the machine, and on what else it does; ratios are what to compare with.
"""
CURVES = """## Curves

Nanoseconds per machine-tick under stock Linux. The fixed cost of a call spreads over the first machines; then the
cost is nearly flat. Where what ticks use of all machines leaves the last of the caches it rises by a tenth to a
quarter, not more, since the next record is fetched in parts between the phases of a machine's tick. Threads share the
work from 256 machines on. More regions cost in proportion, and more again where the state leaves the cache; blocks
cost nothing until they are used. Starting an episode costs the same for any number of machines; saving state is
a copy, which costs more where the system hands out fresh memory for it.
"""
BY_MACHINES = {"machines": "tick", "reset": "reset", "snapshot": "snapshot and restore"}
"""Curves over the number of machines, by their headings."""
BOUNDS = """## How far from the machine's bounds

A tick moves {bytes:,} bytes (the head of the record, which is what nearly all ticks use, once each way; the action;
the results). A large copy moves {gbps:.1f} GB/s here, which bounds batches that no cache holds to {bound}
machine-ticks per second; {large} were measured at {machines:,} machines, {share:.0%} of that. Batches that fit into
the caches are bound by instructions.
{instructions}
"""
SHARES = """## Where the time of a training goes

Of a rollout of {decisions:,} decisions of the recipe `{recipe}`, each held for its ticks, and the update after it,
{total:.2f} s on one thread of torch: the environment takes {env:.0%}, choosing actions {acting:.0%}, the update
{update:.0%}. The matrix products of an update are {gflop:.2f} GFLOP; two large matrices are multiplied at {roof:.0f}
GFLOP/s here, so at the roof it would take {bound:.0f} ms. It takes {update_ms:.0f} ms: {share:.0%} of the roof.
The rest is what is not a product of matrices: activations, the distribution of {entries} choices, Adam, Python around
small tensors.
"""
COUNTED = """callgrind counts {untouched:,.0f} of them per tick under stock Linux and {at_random:,.0f} under random
actions, in code for any x86-64."""


LEARNING = """## Time to a score

Seconds of training until the deterministic policy's mean return over the scenarios reaches a rule's (`online`: passes
it), on evaluation seeds, evaluations not counted: the median over training seeds, and how many of them got there.
0 s: the untrained network already does, because its modes differ from stock Linux's.
"""


def page(document: Mapping[str, Any], times: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page."""
    parts = [INTRODUCTION.format(**document["machine"], repetitions=document["repetitions"]), rows(document["rows"])]
    if document["curves"]:
        parts += [CURVES, *curves(document["curves"])]
    if document["bounds"]:
        parts.append(bounds(document))
    if document["learner"]:
        parts.append(shares(LearnerShare(**document["learner"])))
    if times:
        parts += [LEARNING, learning(times)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def rows(entries: Sequence[Mapping[str, Any]]) -> str:
    """Every measurement beside its reference."""
    headings = ("what", "median", "lowest to highest", "unit", "reference", "its median", "ratio", "target")
    return table(headings, [benchmark.cells(benchmark.Row(**entry)) for entry in entries])


def curves(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One table per curve."""
    found = [Point(**entry) for entry in entries]
    machines = sorted({p.x for p in found if p.curve == "machines"})
    by_machines = {(p.curve, p.threads, p.x): p for p in found}
    series = sorted(
        {(p.curve, p.threads) for p in found if p.curve in BY_MACHINES},
        key=lambda one: (list(BY_MACHINES).index(one[0]), one[1]),
    )
    lines = []
    for x in machines:
        state = number(x * by_machines[(*series[0], x)].bytes_per_machine)
        lines.append([f"{x:,}", *(f"{by_machines[(*one, x)].ns:,.0f}" for one in series), f"{state}B"])
    titles = [BY_MACHINES[curve] + (f", {count} thread{'s' if count > 1 else ''}") for curve, count in series]
    out = [table(("machines", *titles, "state"), lines)]
    for curve in ("regions", "blocks"):
        chosen = [p for p in found if p.curve == curve]
        out.append(
            table(
                (curve, "1 thread", "bytes per machine"),
                [[str(p.x), f"{p.ns:,.0f}", f"{p.bytes_per_machine:,}"] for p in chosen],
            )
        )
    return out


def bounds(document: Mapping[str, Any]) -> str:
    """The roofline in words."""
    measured = document["bounds"]
    largest = min(
        (Point(**p) for p in document["curves"] if p["curve"] == "machines"), key=lambda p: (-p.x, -p.threads)
    )
    rate, counted = 1e9 / largest.ns, measured["instructions"]
    return BOUNDS.format(
        bytes=measured["bytes_per_tick"],
        gbps=measured["copy_gbps"],
        bound=number(measured["bound_ticks_per_s"]),
        large=number(rate),
        machines=largest.x,
        share=rate / measured["bound_ticks_per_s"],
        instructions=COUNTED.format(**counted) if counted else measured["missing"],
    )


def shares(measured: LearnerShare) -> str:
    """The shares of a training in words."""
    total = measured.env_s + measured.acting_s + measured.update_s
    return SHARES.format(
        recipe=measured.recipe,
        decisions=measured.decisions,
        total=total,
        env=measured.env_s / total,
        acting=measured.acting_s / total,
        update=measured.update_s / total,
        gflop=1e-9 * measured.flops,
        roof=measured.roof_gflops,
        bound=1e3 * measured.bound_s,
        update_ms=1e3 * measured.update_s,
        share=measured.bound_s / measured.update_s,
        entries=len(NVEC),
    )


def learning(entries: Sequence[Mapping[str, Any]]) -> str:
    """Time to each rule's score: recipes and scenarios down, rules across."""
    lines = []
    for entry in entries:
        names = entry["scenarios"]
        place = names[0] if len(names) == 1 else f"mixture of {len(names)} scenarios"
        for rule, seconds in entry["reached_s"].items():
            there = [s for s in seconds if s is not None]
            shown = f"{median(there):.1f} s" if there else "never"
            steps = f"{median(entry['steps_per_s']):,.0f}"
            target = f"{entry['returns'][rule]:.2f}"
            lines.append([entry["agent"], place, rule, target, shown, f"{len(there)} of {len(seconds)}", steps])
    return table(("agent", "scenarios", "rule", "its return", "reached after", "seeds", "steps/s"), lines)


def main(
    bench: Annotated[Path, typer.Argument(metavar="BENCH.json", help="What `tiergym bench --json` wrote.")],
    times: Annotated[list[Path] | None, typer.Argument(metavar="TIMES.json", help="Those of time_to_score.")] = None,
) -> None:
    """Print the page."""
    document, *times_of = map(files.read_json, (bench, *(times or [])))
    sys.stdout.write(page(document, times_of))


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
