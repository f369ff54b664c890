"""How fast is it? Ratios against references measured in the same run, medians of repetitions with their spread.

Absolute times depend on the machine and on what else it does; a ratio of two things measured in turns
travels better. Nothing here is a test.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from tiergym.bench import batch_curves, evaluation, learning, peers, start_up, steps
from tiergym.bench.batch_curves import Point, points
from tiergym.bench.peers import NotInstalledError
from tiergym.bench.roofline import Roofline, roofline
from tiergym.bench.steps import BATCH
from tiergym.sim.layout import machine_dtype
from tiergym.terminal import new_table, number

REGIONS = 16
"""Size class of the state that is reported, and of the benchmark's scenario."""

Rate = Callable[[], float]
"""Does the work once and returns what was measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: the median of its repetitions, their lowest and highest, and the same of a reference.

    `ratio` is how many times better than the reference: above 1 is faster, or less, as the unit says. `note` says why
    nothing was measured.
    """

    name: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure: `build` prepares it and returns the work; `build_reference` the same of the reference.

    `once`: too long for repetitions.
    """

    name: str
    unit: str
    target: str
    higher_is_better: bool
    build: Callable[[], Rate]
    reference: str
    build_reference: Callable[[], Rate]
    once: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """Everything of one run; `curves` and `bounds` are missing in a quick one."""

    repetitions: int
    rows: list[Row]
    curves: list[Point]
    bounds: Roofline | None


_TICKS = "machine-ticks/s"
_STOCK = f"engine, {BATCH} machines, stock Linux"

PLAN: tuple[Measurement, ...] = (
    Measurement(
        _STOCK,
        _TICKS,
        "at least 1,500,000; ratio at least 15",
        True,
        steps.engine,
        f"CartPole-v1, SyncVectorEnv of {BATCH}",
        peers.cartpole_sync,
    ),
    Measurement(
        "the same, the rule `adaptive`",
        _TICKS,
        "",
        True,
        lambda: steps.engine(steps.by_rule("adaptive")),
        _STOCK,
        steps.engine,
    ),
    Measurement(
        "the same, random actions",
        _TICKS,
        "at least 500,000",
        True,
        partial(steps.engine, steps.at_random),
        _STOCK,
        steps.engine,
    ),
    Measurement(
        "the same, two threads",
        _TICKS,
        "ratio at least 1.6",
        True,
        partial(steps.engine, threads=2),
        "one thread",
        partial(steps.engine, threads=1),
    ),
    Measurement(
        f"the same, {REGIONS} regions in use",
        _TICKS,
        "at least 1,500,000",
        True,
        partial(batch_curves.split_regions, REGIONS),
        _STOCK,
        steps.engine,
    ),
    Measurement(
        "the same, 16,384 machines",
        _TICKS,
        "at least 1,500,000",
        True,
        partial(steps.engine, batch=16384, ticks=60),
        _STOCK,
        steps.engine,
    ),
    Measurement(
        f"the same, 16,384 machines, {REGIONS} regions in use",
        _TICKS,
        "at least 1,500,000",
        True,
        partial(batch_curves.split_regions, REGIONS, batch=16384, ticks=60),
        _STOCK,
        steps.engine,
    ),
    Measurement(
        "every shipped scenario in one batch",
        _TICKS,
        "ratio at least 0.90",
        True,
        steps.mixed,
        "each in a batch of its own",
        steps.one_by_one,
    ),
    Measurement(
        f"gymnasium.make_vec, {BATCH} machines",
        "steps/s",
        "",
        True,
        steps.vector_env,
        "CartPole-v1's own vector environment",
        peers.cartpole_native,
    ),
    Measurement(
        "gymnasium.make, 1 machine",
        "us/step",
        "at most 10",
        False,
        steps.single_env,
        "CartPole-v1",
        peers.cartpole,
    ),
    Measurement("reset", "us/machine", "", False, steps.reset, "snapshot and restore", steps.snapshot),
    Measurement(
        _STOCK,
        _TICKS,
        "ratio above 1",
        True,
        steps.engine,
        f"EnvPool, CartPole-v1, {BATCH}",
        peers.envpool_cartpole,
    ),
    Measurement(
        "CartPole-v1, AsyncVectorEnv of 64",
        "steps/s",
        "",
        True,
        peers.cartpole_async,
        _STOCK,
        steps.engine,
    ),
    Measurement(
        "engine, 1 machine",
        _TICKS,
        "",
        True,
        partial(steps.engine, batch=1),
        "the same model, not compiled",
        peers.uncompiled,
    ),
    Measurement(
        "import tiergym",
        "s",
        "at most 0.3",
        False,
        start_up.import_tiergym,
        "import numpy",
        start_up.import_numpy,
    ),
    Measurement(
        "process with one tick, nothing compiled",
        "s",
        "at most 15",
        False,
        start_up.cold_start,
        "compiled code in its cache (at most 0.8)",
        start_up.warm_start,
    ),
    Measurement(
        "SB3 PPO's recipe, a tick per decision, with the environment",
        "steps/s",
        "ratio at least 0.95",
        True,
        learning.placement,
        "the same PPO, constant arrays",
        learning.constant,
    ),
    Measurement(
        f"the same, {BATCH} machines",
        "steps/s",
        "ratio at least 0.90",
        True,
        partial(learning.placement, BATCH),
        "the same PPO, constant arrays",
        partial(learning.constant, BATCH),
    ),
    Measurement(
        "the same, as shipped: a choice holds for 8 ticks",
        "decisions/s",
        "",
        True,
        partial(learning.placement, hold_ticks=8),
        "the same PPO, constant arrays",
        learning.constant,
    ),
    Measurement(
        "SB3's own PPO, its defaults, 8 machines",
        "steps/s",
        "ratio at least 0.95",
        True,
        partial(learning.stock, False),
        "the same PPO, constant arrays",
        partial(learning.stock, True),
    ),
    Measurement(
        "PPO, fused policy, 1024 environments",
        "steps/s",
        "ratio at least 1.7",
        True,
        partial(learning.tuned, "fused", 1024),
        "MlpPolicy",
        partial(learning.tuned, "MlpPolicy", 1024),
    ),
    Measurement(
        "PPO, fused policy, 8 environments",
        "steps/s",
        "ratio at least 3",
        True,
        partial(learning.tuned, "fused", 8),
        "MlpPolicy",
        partial(learning.tuned, "MlpPolicy", 8),
    ),
    Measurement(
        "12 policies on 16 scenarios, 64 episodes",
        "s",
        "at most 120",
        False,
        evaluation.matrix,
        "the policy `online` alone",
        evaluation.reference,
        once=True,
    ),
)


def bench(repetitions: int = 5, quick: bool = False, on_row: Callable[[str], None] = lambda name: None) -> Results:
    """Measure everything; `on_row` is told what comes next. A quarter of an hour for five repetitions on 2 cores.

    `quick`: each row once, without curves and counted instructions.
    """
    repetitions = 1 if quick else repetitions
    rows = []
    for measurement in PLAN:
        on_row(measurement.name)
        rows.append(_measure(measurement, 1 if measurement.once else repetitions))
    size = float(machine_dtype(REGIONS).itemsize)
    rows.append(Row(f"state of one machine, {REGIONS} regions", "bytes", size, size, size, target="at most 16384"))
    if quick:
        return Results(repetitions, rows, [], None)
    threads = len(os.sched_getaffinity(0))
    curves = list(points(repetitions, threads, on_row))
    on_row("bounds")
    return Results(repetitions, rows, curves, roofline(threads))


def report(results: Results) -> Table:
    """The rows as a table."""
    table = new_table(
        f"speed: medians of {results.repetitions} repetitions",
        "ratio: how many times better than the reference, which is measured in turns with it",
    )
    for column in ("what", "median", "lowest to highest", "unit", "reference", "its median", "ratio", "target"):
        table.add_column(column, justify="right" if "median" in column or column in ("ratio", "unit") else "left")
    for row in results.rows:
        table.add_row(*cells(row))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts, one per column of `report`."""
    if row.value is None or row.low is None or row.high is None:
        return row.name, "", row.note, row.unit, row.reference, "", "", row.target
    return (
        row.name,
        number(row.value),
        f"{number(row.low)} to {number(row.high)}",
        row.unit,
        row.reference,
        "" if row.reference_value is None else number(row.reference_value),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.target,
    )


def document(results: Results) -> dict[str, Any]:
    """Everything as JSON, with the machine that it was measured on."""
    return {"schema": 2, "machine": machine(), **asdict(results)}


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return {"python": platform.python_version(), "processor": processor, "cores": cores}


def _measure(plan: Measurement, repetitions: int) -> Row:
    try:
        work, reference = plan.build(), plan.build_reference()
    except NotInstalledError as error:
        return Row(plan.name, plan.unit, None, None, None, plan.reference, target=plan.target, note=str(error))
    values, references = [], []
    for _ in range(repetitions):
        # In turns, so that a change of the machine's load falls on both.
        values.append(work())
        references.append(reference())
    value, base = median(values), median(references)
    ratio = value / base if plan.higher_is_better else base / value
    return Row(plan.name, plan.unit, value, min(values), max(values), plan.reference, base, ratio, plan.target)
