"""What a step reports of each machine: one table over the columns of two buffers.

`engine.report` writes the columns in compiled code, `Machines` shows them under their names. Means are float64, what is
counted int64; each has a buffer of its own, (N, N_FLOATS) and (N, N_COUNTS), in the order of the table.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tiergym.sim import names as n

Buffer = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StepResult:
    """So many columns, and what they are over the ticks of a step: their mean, their sum, or the last tick's."""

    name: str
    width: int
    over: Literal["mean", "sum", "last"]

    @property
    def dtype(self) -> type[np.generic]:
        """float64 for means, int64 for what is counted."""
        return np.float64 if self.over == "mean" else np.int64


STEP_RESULTS: Final = (
    StepResult("throughput", 1, "mean"),
    StepResult("terms", n.N_TERMS, "mean"),
    StepResult("lost", n.N_CAUSES, "mean"),
    StepResult("counters", n.N_COUNTERS, "sum"),
    StepResult("kernel_slow", n.N_CLASSES, "last"),
    StepResult("premature_by_class", n.N_CLASSES, "sum"),
    StepResult("ticks", 1, "sum"),
)


def _first_columns() -> tuple[int, ...]:
    """Where each result begins in the buffer of its dtype."""
    used: dict[type[np.generic], int] = {np.float64: 0, np.int64: 0}
    out = []
    for result in STEP_RESULTS:
        out.append(used[result.dtype])
        used[result.dtype] += result.width
    return tuple(out)


_FIRST: Final = _first_columns()
THROUGHPUT, TERMS, LOST, COUNTERS, KERNEL_SLOW, PREMATURE_BY_CLASS, TICKS = _FIRST
"""First columns, for compiled code."""
N_FLOATS: Final = sum(result.width for result in STEP_RESULTS if result.dtype is np.float64)
N_COUNTS: Final = sum(result.width for result in STEP_RESULTS if result.dtype is np.int64)


def views(floats: Buffer, counts: Buffer) -> dict[str, Buffer]:
    """Each result's part of the buffers under its name: (N,) where it is one column, else (N, width)."""
    out = {}
    for result, first in zip(STEP_RESULTS, _FIRST, strict=True):
        buffer = floats if result.dtype is np.float64 else counts
        out[result.name] = buffer[:, first] if result.width == 1 else buffer[:, first : first + result.width]
    return out
