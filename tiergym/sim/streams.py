"""Streams of random numbers: what draws which, so that no two uses of one machine's tick share a number.

A random number is a function of key, tick and stream (`tiergym.sim.random_bits`). Every use has a range of streams of
its own here, and a test that no two of one tick overlap.
"""

import numpy as np

from tiergym.sim import names as n

RESET_TICK = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The tick number under which an episode's parameters are drawn, two streams each; no machine comes to it."""
PARAMETER_STREAMS = 2

PMU_STREAMS = 3
"""Noisy counts of the observation per tier: misses, walks and load."""
STREAM_PMU = 100
STREAM_BOOST = 900
THROTTLE_STREAMS = 8
"""Per direct reclaim: how many sleeps, and the length of each while they are few."""
STREAM_THROTTLE = 1000

RANGES = {
    "PMU": range(STREAM_PMU, STREAM_PMU + PMU_STREAMS * n.N_TIERS),
    "BOOST": range(STREAM_BOOST, STREAM_BOOST + 1),
    "THROTTLE": range(STREAM_THROTTLE, 2**63),
}
"""Streams of a machine's tick by use; direct reclaims are counted on."""
