"""Phase 5, promotion: all engines that move hot pages to DRAM, each by its own rules, as far as they are on."""

from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.damon import damon_promote, damon_promotes
from tiergym.sim.numa_balancing import numa_promote, numa_promotes


@jit
def anybody_promotes(m):
    """Whether promotion may take DRAM in any tick."""
    return numa_promotes(m) or damon_promotes(m)


@jit_inline
def promote_all(m, share):
    """All promotion during `share` of a tick, by the engines that are on."""
    if numa_promotes(m):
        numa_promote(m, share)
    if damon_promotes(m):
        damon_promote(m, share)
