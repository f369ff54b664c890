"""What each class of kernel pages may have in DRAM, as the policy limits it (`limit.kernel`).

After the limits of memory cgroups that a proposal scales to tiers, which are for data [K-tier-limits]: DRAM's part of
what a class has is DRAM's share of all memory. Here it bounds where new pages go; what lies in DRAM already stays.
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import node_managed, on_tier


@jit
def is_limited(m, mode, mempolicy):
    """Whether a kernel request is limited: none is that may use DRAM alone, or whose task or placement names a node."""
    if m.action[n.A_LIMIT_KERNEL] == n.LIMIT_OFF or m.managed_pages[n.SLOW_NORMAL] == 0:
        return False
    return mode == n.PREFER_FAST or (mode == n.FALLBACK and mempolicy == n.MPOL_DEFAULT)


@jit
def pages_beyond_limit(m, cls, want):
    """Of `want` more pages of a class, those with which it would have more of DRAM than its part, rounded up."""
    fast = node_managed(m, n.FAST)
    has = on_tier(m.used_pages[cls], n.FAST)
    total = has + on_tier(m.used_pages[cls], n.SLOW) + want
    most = math.ceil(total * (fast / (fast + node_managed(m, n.SLOW))))
    return min(want, max(0, has + want - most))
