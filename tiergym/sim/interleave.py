"""Weights of weighted interleave that nobody has written: by bandwidth, since 6.16 [K-interleave-weights]."""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit

WEIGHTINESS = 32


@jit
def interleave_weight(m, tier):
    """Weight of a node by its share of the bandwidth, out of 32, before the two are reduced (mm/mempolicy.c:
    reduce_interleave_weights). The kernel has HMAT's, here that of reads stands for it."""
    fast, slow = int(m.dram_read_gbps * 1000.0), int(m.slow_read_gbps * 1000.0)
    own = fast if tier == n.FAST else slow
    return max(WEIGHTINESS * own // (fast + slow), 1)


@jit
def set_interleave_weights(m):
    """Weights that nobody has written (0) follow from bandwidth, since 6.16 [K-interleave-weights]."""
    fast, slow = interleave_weight(m, n.FAST), interleave_weight(m, n.SLOW)
    divisor = math.gcd(fast, slow)
    if m.interleave_fast == 0.0:
        m.interleave_fast = fast // divisor
    if m.interleave_slow == 0.0:
        m.interleave_slow = slow // divisor
