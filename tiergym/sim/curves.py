"""Latency under load: multiples of the idle latency, piecewise linear in utilisation.

DRAM: measurements of Mess and PROFET, read in the raw data [H-dram-curves], one row for reads only and one for half
writes where both were measured. CXL: Melody [H-cxl-curves]: flat to a knee at 50 to 86 % of the device's bandwidth,
then up to its ceiling at saturation.
"""

import numpy as np

from tiergym.sim import names as n
from tiergym.sim.compile import jit

LOAD = np.array([0.0, 0.10, 0.25, 0.50, 0.60, 0.70, 0.80, 0.85, 0.90, 0.95, 0.98, 1.0])
PER_STEP = 1.0 / np.diff(LOAD)
MEASURED = {
    "spr": [  # Sapphire Rapids, 8 x DDR5-4800, all-read and all-store
        [1.0, 1.00, 1.01, 1.09, 1.12, 1.18, 1.25, 1.31, 1.39, 1.48, 1.52, 1.6],
        [1.0, 1.02, 1.04, 1.20, 1.28, 1.47, 1.74, 1.94, 2.26, 2.62, 3.10, 3.4],
    ],
    "graviton3": [  # 8 x DDR5-4800, read
        [1.0, 1.00, 1.02, 1.12, 1.18, 1.27, 1.37, 1.47, 1.64, 1.88, 2.19, 2.8],
        [1.0, 1.00, 1.02, 1.12, 1.18, 1.27, 1.37, 1.47, 1.64, 1.88, 2.19, 2.8],
    ],
    "skylake": [  # 8160 local, read
        [1.0, 1.01, 1.06, 1.14, 1.19, 1.26, 1.33, 1.38, 1.45, 1.58, 1.77, 2.4],
        [1.0, 1.01, 1.06, 1.14, 1.19, 1.26, 1.33, 1.38, 1.45, 1.58, 1.77, 2.4],
    ],
    "cascade_lake": [  # 5218 local, 100/0 and 50/50
        [1.0, 1.06, 1.13, 1.27, 1.34, 1.42, 1.53, 1.60, 1.69, 1.81, 2.03, 2.2],
        [1.0, 1.05, 1.11, 1.18, 1.26, 1.34, 1.53, 1.73, 1.93, 2.21, 2.80, 3.2],
    ],
    "skylake_remote": [  # 8160, the other socket's DRAM, read
        [1.0, 1.00, 1.02, 1.07, 1.11, 1.17, 1.25, 1.35, 1.48, 1.61, 1.95, 4.1],
        [1.0, 1.00, 1.02, 1.07, 1.11, 1.17, 1.25, 1.35, 1.48, 1.61, 1.95, 4.1],
    ],
    "cascade_lake_remote": [  # 5218, the other socket's DRAM, 100/0 and 50/50
        [1.0, 1.01, 1.04, 1.11, 1.16, 1.25, 1.37, 1.47, 1.59, 1.74, 2.13, 2.8],
        [1.0, 1.02, 1.06, 1.13, 1.17, 1.31, 1.53, 1.69, 1.88, 2.15, 2.36, 3.0],
    ],
}
"""Latency over idle, shape (reads only / half writes, LOAD)."""
DRAM_CURVES = np.array([MEASURED[name] for name in n.DRAM_CURVES])
FIRST_REMOTE_CURVE = n.SLOW_CURVE_CXL + 1
REMOTE_CURVES = np.array([MEASURED[name] for name in n.SLOW_CURVES[FIRST_REMOTE_CURVE:]])
"""Of a slow tier that is another socket's DRAM; CXL's is made of knee and ceiling."""
KNEE_RISE = 1.05
"""CXL latency at the knee, and a quarter of the way to the ceiling halfway from knee to saturation."""


@jit
def measured_piece(curves, curve, load, mix):
    """The piece of a measured curve around utilisation `load`: (where it starts, latency over idle there, slope).

    `mix`: from reads only (0) to half writes (1).
    """
    if load > 1.0:
        return 1.0, curves[curve, 0, -1] + mix * (curves[curve, 1, -1] - curves[curve, 0, -1]), 0.0
    i = 0
    while i < LOAD.shape[0] - 2 and load > LOAD[i + 1]:
        i += 1
    start = curves[curve, 0, i] + mix * (curves[curve, 1, i] - curves[curve, 0, i])
    end = curves[curve, 0, i + 1] + mix * (curves[curve, 1, i + 1] - curves[curve, 0, i + 1])
    return LOAD[i], start, (end - start) * PER_STEP[i]


@jit
def slow_piece(knee, ceiling, load):
    """The piece of CXL's curve around utilisation `load`, as `measured_piece`."""
    if load > 1.0:
        return 1.0, ceiling, 0.0
    rise = min(KNEE_RISE, ceiling)
    if load <= knee:
        return 0.0, 1.0, (rise - 1.0) / knee
    half = 0.5 * (1.0 - knee)
    at_middle = rise + 0.25 * (ceiling - rise)
    if load <= knee + half:
        return knee, rise, (at_middle - rise) / half
    return knee + half, at_middle, (ceiling - at_middle) / half


@jit
def curve_piece(m, tier, load):
    """The linear piece of a machine's tier around utilisation `load`: (where it starts, latency over idle there,
    slope)."""
    if tier == n.FAST:
        return measured_piece(DRAM_CURVES, int(m.dram_curve), load, m.write_mix[n.FAST])
    if m.slow_curve != n.SLOW_CURVE_CXL:
        return measured_piece(REMOTE_CURVES, int(m.slow_curve) - FIRST_REMOTE_CURVE, load, m.write_mix[n.SLOW])
    return slow_piece(m.slow_knee, m.slow_ceiling, load)


@jit
def multiplier(m, tier, load):
    """Latency over idle of a machine's tier at utilisation `load`."""
    start, value, slope = curve_piece(m, tier, load)
    return value + slope * (load - start)


@jit
def peak_bytes_per_s(m, tier):
    """Peak bandwidth at the tier's present mix of reads and writes."""
    if tier == n.FAST:
        return 1e9 * (m.dram_read_gbps + m.write_mix[tier] * (m.dram_mixed_gbps - m.dram_read_gbps))
    return 1e9 * (m.slow_read_gbps + m.write_mix[tier] * (m.slow_mixed_gbps - m.slow_read_gbps))
