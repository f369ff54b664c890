"""How fast is it? Ratios against references measured in the same run, medians of repetitions with their spread.

Absolute times depend on the machine and on what else it does; a ratio of two things measured in turns
travels better. Nothing here is a test.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table

from tiergym.lab import bench_learning, bench_start, bench_steps
from tiergym.lab.bench_steps import BATCH
from tiergym.lab.terminal import new_table, number
from tiergym.sim.layout import machine_dtype

REGIONS = 16
"""Size class of the state that is reported, and of the benchmark's scenario."""

Rate = Callable[[], float]
"""Does the work once and returns what was measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: the median of its repetitions, their lowest and highest, and the same of a reference.

    `ratio` is how many times better than the reference: above 1 is faster, or less, as the unit says.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure: `build` prepares it and returns the work; `build_reference` the same of the reference."""

    name: str
    unit: str
    target: str
    higher_is_better: bool
    build: Callable[[], Rate]
    reference: str
    build_reference: Callable[[], Rate]


PLAN: tuple[Measurement, ...] = (
    Measurement(
        f"engine, {BATCH} machines, {REGIONS} regions",
        "machine-ticks/s",
        "at least 500,000",
        True,
        bench_steps.engine,
        f"CartPole-v1, SyncVectorEnv of {BATCH}",
        bench_steps.cartpole_sync,
    ),
    Measurement(
        f"gymnasium.make_vec, {BATCH} machines",
        "steps/s",
        "",
        True,
        bench_steps.vector_env,
        f"CartPole-v1, SyncVectorEnv of {BATCH}",
        bench_steps.cartpole_sync,
    ),
    Measurement(
        "gymnasium.make, 1 machine",
        "us/step",
        "at most 25",
        False,
        bench_steps.single_env,
        "CartPole-v1",
        bench_steps.cartpole,
    ),
    Measurement(
        "SB3 PPO",
        "steps/s",
        "ratio at least 0.90",
        True,
        bench_learning.placement,
        "the same PPO, constant arrays",
        bench_learning.constant,
    ),
    Measurement(
        "import tiergym",
        "s",
        "below 0.5",
        False,
        bench_start.import_tiergym,
        "import numpy",
        bench_start.import_numpy,
    ),
    Measurement(
        "process with one tick, nothing compiled",
        "s",
        "below 60",
        False,
        bench_start.cold_start,
        "compiled code in its cache",
        bench_start.warm_start,
    ),
)


def bench(repetitions: int = 5, on_row: Callable[[str], None] = lambda name: None) -> list[Row]:
    """Measure everything; `on_row` is told what comes next. Some minutes for five repetitions on 2 cores."""
    rows = []
    for measurement in PLAN:
        on_row(measurement.name)
        rows.append(_measure(measurement, repetitions))
    size = float(machine_dtype(REGIONS).itemsize)
    rows.append(Row(f"state of one machine, {REGIONS} regions", "bytes", size, size, size, target="at most 16384"))
    return rows


def report(rows: Sequence[Row], repetitions: int) -> Table:
    """The rows as a table."""
    table = new_table(
        f"speed: medians of {repetitions} repetitions",
        "ratio: how many times better than the reference, which is measured in turns with it",
    )
    for column in ("what", "median", "lowest to highest", "unit", "reference", "its median", "ratio", "target"):
        table.add_column(column, justify="right" if "median" in column or column in ("ratio", "unit") else "left")
    for row in rows:
        table.add_row(
            row.name,
            number(row.value),
            f"{number(row.low)} to {number(row.high)}",
            row.unit,
            row.reference,
            "" if row.reference_value is None else number(row.reference_value),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
        )
    return table


def document(rows: Sequence[Row], repetitions: int) -> dict[str, Any]:
    """The rows as JSON, with the machine they were measured on."""
    machine = {"python": platform.python_version(), "architecture": platform.machine(), "cores": os.cpu_count()}
    return {"schema": 1, "repetitions": repetitions, "machine": machine, "rows": [asdict(row) for row in rows]}


def _measure(plan: Measurement, repetitions: int) -> Row:
    work, reference = plan.build(), plan.build_reference()
    values, references = [], []
    for _ in range(repetitions):
        # In turns, so that a change of the machine's load falls on both.
        values.append(work())
        references.append(reference())
    value, base = median(values), median(references)
    ratio = value / base if plan.higher_is_better else base / value
    return Row(plan.name, plan.unit, value, min(values), max(values), plan.reference, base, ratio, plan.target)
