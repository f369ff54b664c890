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
from tiergym.bench.batch_curves import SERVERS, Point, points
from tiergym.bench.learner_share import LearnerShare, learner_share
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

    `ratio` is how many times better than the reference: above 1 is faster, or less, as the unit says. `note` says what
    of several was measured, or why nothing was.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What to measure: `build` prepares it and returns the work; `build_reference` the same of the reference.

    `once`: too long for repetitions. `note`: given the work when it is done, what of several it measured.
    """

    name: str
    unit: str
    higher_is_better: bool = True
    target: str = ""
    build: Callable[[], Rate]
    reference: str
    build_reference: Callable[[], Rate]
    once: bool = False
    note: Callable[[Any], str] = lambda work: ""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything of one run; `curves`, `bounds` and `learner` are missing in a quick one."""

    repetitions: int
    rows: list[Row]
    curves: list[Point]
    bounds: Roofline | None
    learner: LearnerShare | None


_TICKS = "machine-ticks/s"
_STOCK = f"engine, {BATCH} machines, stock Linux"

PLAN: tuple[Measurement, ...] = (
    Measurement(
        name=_STOCK,
        unit=_TICKS,
        target="at least 1,500,000; ratio at least 15",
        build=steps.engine,
        reference=f"CartPole-v1, SyncVectorEnv of {BATCH}",
        build_reference=peers.cartpole_sync,
    ),
    Measurement(
        name="the same, the rule `adaptive`",
        unit=_TICKS,
        build=lambda: steps.engine(steps.by_rule("adaptive")),
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name="the same, random actions",
        unit=_TICKS,
        target="at least 500,000",
        build=partial(steps.engine, steps.at_random),
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name="the same, two threads",
        unit=_TICKS,
        target="ratio at least 1.6",
        build=partial(steps.engine, threads=2),
        reference="one thread",
        build_reference=partial(steps.engine, threads=1),
    ),
    Measurement(
        name=f"the same, {REGIONS} regions in use",
        unit=_TICKS,
        target="at least 1,500,000",
        build=partial(batch_curves.split_regions, REGIONS),
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name="the same, 16,384 machines",
        unit=_TICKS,
        target="at least 1,500,000",
        build=partial(steps.engine, batch=16384, ticks=60),
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name=f"the same, 16,384 machines, {REGIONS} regions in use",
        unit=_TICKS,
        target="at least 1,500,000",
        build=partial(batch_curves.split_regions, REGIONS, batch=16384, ticks=60),
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name="every shipped scenario in one batch",
        unit=_TICKS,
        target="ratio at least 0.90",
        build=steps.mixed,
        reference="each in a batch of its own",
        build_reference=steps.one_by_one,
    ),
    Measurement(
        name=f"{SERVERS} servers of 1 TiB and 8 TiB of CXL",
        unit=_TICKS,
        target="ratio at least 0.91",
        build=partial(batch_curves.servers, 1024, 8192),
        reference="as many of 16 GiB and 128 GiB, as full",
        build_reference=partial(batch_curves.servers, 16, 128),
    ),
    Measurement(
        name=f"gymnasium.make_vec, {BATCH} machines",
        unit="steps/s",
        build=steps.vector_env,
        reference="CartPole-v1's own vector environment",
        build_reference=peers.cartpole_native,
    ),
    Measurement(
        name="gymnasium.make, 1 machine",
        unit="us/step",
        target="at most 10",
        higher_is_better=False,
        build=steps.single_env,
        reference="CartPole-v1",
        build_reference=peers.cartpole,
    ),
    Measurement(
        name="reset",
        unit="us/machine",
        higher_is_better=False,
        build=steps.reset,
        reference="snapshot and restore",
        build_reference=steps.snapshot,
    ),
    Measurement(
        name=_STOCK,
        unit=_TICKS,
        target="ratio above 1",
        build=steps.engine,
        reference=f"EnvPool, CartPole-v1, {BATCH}",
        build_reference=peers.envpool_cartpole,
    ),
    Measurement(
        name="CartPole-v1, AsyncVectorEnv of 64",
        unit="steps/s",
        build=peers.cartpole_async,
        reference=_STOCK,
        build_reference=steps.engine,
    ),
    Measurement(
        name="engine, 1 machine",
        unit=_TICKS,
        build=partial(steps.engine, batch=1),
        reference="the same model, not compiled",
        build_reference=peers.uncompiled,
    ),
    Measurement(
        name="import tiergym",
        unit="s",
        target="at most 0.3",
        higher_is_better=False,
        build=start_up.import_tiergym,
        reference="import numpy",
        build_reference=start_up.import_numpy,
    ),
    Measurement(
        name="--help of the slowest command",
        unit="s",
        target="at most 1",
        higher_is_better=False,
        build=start_up.SlowestHelp,
        reference="process with import typer",
        build_reference=start_up.import_typer,
        note=start_up.SlowestHelp.slowest,
    ),
    Measurement(
        name="process with one tick, nothing compiled",
        unit="s",
        target="at most 15",
        higher_is_better=False,
        build=start_up.cold_start,
        reference="compiled code in its cache (at most 0.8)",
        build_reference=start_up.warm_start,
    ),
    Measurement(
        name="SB3 PPO's recipe, a tick per decision, with the environment",
        unit="steps/s",
        target="ratio at least 0.95",
        build=learning.placement,
        reference="the same PPO, constant arrays",
        build_reference=learning.constant,
    ),
    Measurement(
        name=f"the same, {BATCH} machines",
        unit="steps/s",
        target="ratio at least 0.90",
        build=partial(learning.placement, BATCH),
        reference="the same PPO, constant arrays",
        build_reference=partial(learning.constant, BATCH),
    ),
    Measurement(
        name="the same, as shipped: a choice holds for 8 ticks",
        unit="decisions/s",
        build=partial(learning.placement, hold_ticks=8),
        reference="the same PPO, constant arrays",
        build_reference=learning.constant,
    ),
    Measurement(
        name="SB3's own PPO, its defaults, 8 machines",
        unit="steps/s",
        target="ratio at least 0.95",
        build=partial(learning.stock, False),
        reference="the same PPO, constant arrays",
        build_reference=partial(learning.stock, True),
    ),
    Measurement(
        name="PPO, fused policy, 1024 environments",
        unit="steps/s",
        target="ratio at least 1.7",
        build=partial(learning.tuned, "fused", 1024),
        reference="MlpPolicy",
        build_reference=partial(learning.tuned, "MlpPolicy", 1024),
    ),
    Measurement(
        name="PPO, fused policy, 8 environments",
        unit="steps/s",
        target="ratio at least 3",
        build=partial(learning.tuned, "fused", 8),
        reference="MlpPolicy",
        build_reference=partial(learning.tuned, "MlpPolicy", 8),
    ),
    Measurement(
        name="12 policies on 16 scenarios, 64 episodes",
        unit="s",
        target="at most 120",
        higher_is_better=False,
        build=evaluation.matrix,
        reference="the policy `online` alone",
        build_reference=evaluation.reference,
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
        return Results(repetitions, rows, [], None, None)
    threads = len(os.sched_getaffinity(0))
    curves = list(points(repetitions, threads, on_row))
    on_row("where the time of a training goes")
    share = learner_share(repetitions)
    on_row("bounds")
    return Results(repetitions, rows, curves, roofline(threads), share)


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
        f"{row.name} ({row.note})" if row.note else row.name,
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
    return {"schema": 3, "machine": machine(), **asdict(results)}


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
    spread = (value, min(values), max(values))
    return Row(plan.name, plan.unit, *spread, plan.reference, base, ratio, plan.target, plan.note(work))
