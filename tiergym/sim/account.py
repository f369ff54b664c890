"""Phase 8b: the tick's books: throughput, attribution of lost time, reward terms, pressure."""

import numpy as np

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.cost import MAX_OVERHEAD, load_at, solve_throughput, sum_accesses
from tiergym.sim.curves import multiplier

CAUSE_TERMS = {
    "data_on_slow": "access_latency",
    "page_tables": "access_latency",
    "stacks": "access_latency",
    "slab": "access_latency",
    "memmap": "access_latency",
    "contention": "access_latency",
    "premature_reclaim": "premature_reclaim",
    "other_reclaim": "access_latency",
    "migration": "migration",
    "refault": "access_latency",
    "oom": "oom",
}
"""The term of the reward that each cause of lost time counts in. access_latency: slow placement and contention, and the
ordinary reclaim and refaults that no restriction caused; premature_reclaim: what the restriction caused; migration:
copying and faulting; oom: kills."""
TERM_OF_CAUSE = np.array([n.TERMS.index(CAUSE_TERMS[cause]) for cause in n.CAUSES])
"""The same by index, shape (N_CAUSES,)."""


@jit
def working_share(m):
    """Share of the machine's work that is being done: processes neither down nor growing again after a kill.

    One that was working and is killed in this tick has worked for half of it, on average.
    """
    share = 0.0
    for q in range(m.processes):
        process = m.process[q]
        if process.down_s <= 0.0 and process.warm_s <= 0.0:
            share += process.share
        elif process.killed == m.tick + 1 and process.worked == 1:
            share += 0.5 * process.share
        process.worked = 1 if process.down_s <= 0.0 and process.warm_s <= 0.0 else 0
    return min(share, 1.0)


@jit
def settle(m):
    """Throughput and its attribution: 1 - throughput = sum of `lost`, exactly up to rounding.

    What is owed by stalled workers is paid now, up to MAX_OVERHEAD of the tick; the rest waits. Processes that are
    down pay nothing: what a kill threw away is lost on top of the time until the restart.
    """
    m.owed_s[n.LOST_MIGRATION] += m.decision_us * 1e-6
    sum_accesses(m)
    owed = 0.0
    for c in range(n.N_CAUSES):
        owed += m.owed_s[c]
    overhead = owed / (m.workers * m.dt_s)
    paid = 1.0
    if overhead > MAX_OVERHEAD:
        paid = MAX_OVERHEAD / overhead
        overhead = MAX_OVERHEAD
    stall = 0.0
    for c in range(n.N_CAUSES):
        stall += m.stall[c]
    x = solve_throughput(m, stall, overhead)
    up = working_share(m)
    left = 1.0 - x * (1.0 + stall) - overhead
    for c in range(n.N_CAUSES):
        m.lost[c] = up * (x * m.stall[c] + paid * m.owed_s[c] / (m.workers * m.dt_s))
        m.owed_s[c] *= 1.0 - paid * up
    m.lost[n.LOST_CONTENTION] += up * max(left, 0.0)
    m.lost[n.LOST_OOM] += 1.0 - up
    m.throughput = up * x
    for tier in range(n.N_TIERS):
        load = load_at(m, tier, x)
        m.utilisation[tier] = min(load, 1.0)
        idle = m.dram_latency_ns if tier == n.FAST else m.slow_latency_ns
        m.latency_ns[tier] = idle * multiplier(m, tier, load)
        m.misses_per_s[tier] *= m.throughput
        m.walks_per_s[tier] *= m.throughput


@jit
def reward_terms(m):
    """The terms of the reward, which add up to the lost time (docs/model.md section 13): each the sum of its causes."""
    for term in range(n.N_TERMS):
        m.terms[term] = 0.0
    for c in range(n.N_CAUSES):
        m.terms[TERM_OF_CAUSE[c]] += m.lost[c]


@jit
def pressure(m):
    """PSI memory: share of the tick in which some task, or all at once, waited for memory."""
    waiting = m.lost[n.LOST_PREMATURE_RECLAIM] + m.lost[n.LOST_OTHER_RECLAIM] + m.lost[n.LOST_REFAULT]
    m.psi_some = min(1.0, waiting * m.workers)
    m.psi_full = min(1.0, waiting)


@jit
def account(m):
    """Close the tick."""
    settle(m)
    reward_terms(m)
    pressure(m)
    m.calm_s += m.dt_s
