"""Observations as whole numbers of 1/65536, and which of them a kernel can count for itself.

Trees and the C made of them compare whole numbers alone: exact on every machine, and no kernel code may use floating
point. An observation is a float32 in [0, 1], so its product with 65536 is exact in float64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tiergym.env.observations import ENTRIES, NAMES
from tiergym.errors import UserError, suggest

ONE: Final = 1 << 16
"""What is shown as 1."""
COUNTED: Final = re.compile(r"vmstat|zoneinfo|/proc/pressure/memory")
"""In an entry's source: what the memory manager counts itself."""
TOLD: Final = re.compile(r"/proc|/sys|node meminfo")
"""In an entry's source: any file that a kernel shows."""
INPUTS: Final = {
    "counters": tuple(entry.name for entry in ENTRIES if COUNTED.search(entry.source)),
    "files": tuple(entry.name for entry in ENTRIES if COUNTED.search(entry.source) or TOLD.search(entry.source)),
    "all": NAMES,
}
"""Sets of observations by name: vmstat, zoneinfo and PSI alone; settings and populations too; everything, hardware
counters, what firmware says of latencies and the modes in force included."""


def to_fixed(obs: NDArray[np.float32]) -> NDArray[np.int32]:
    """Observations of any shape as whole numbers of 1/65536, int32 in [0, 65536], cut off downwards."""
    return np.floor(obs.astype(np.float64) * ONE).astype(np.int32)


def inputs_of(name: str) -> tuple[str, ...]:
    """The observations of a set of `INPUTS`. Raises `UserError` where there is none of that name."""
    if name not in INPUTS:
        raise UserError(suggest(name, INPUTS, "set of inputs"))
    return INPUTS[name]


def columns_of(inputs: Sequence[str]) -> NDArray[np.int64]:
    """Columns of the observation (N, N_OBS) that `inputs` are."""
    return np.array([NAMES.index(name) for name in inputs], dtype=np.int64)
