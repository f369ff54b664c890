"""Keeping room in DRAM, as the policy asks for it: proactive demotion, beside kswapd and in its time."""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.kswapd import forget_failures, wake_demotion_target
from tiergym.sim.pages import node_free, node_managed
from tiergym.sim.reclaim import demotion_room, reclaim_node

HEADROOM_SHARE = (0.0, 0.005, 0.02, 0.05)


@jit
def wants_headroom(m):
    """Whether the policy asks for more than kswapd keeps."""
    return m.action[n.A_HEADROOM] != n.HEADROOM_OFF


@jit
def keep_headroom(m):
    """Proactive demotion keeps a share of DRAM free above high (TPP's decoupled watermark [W-tpp]); it never swaps."""
    goal = int(node_managed(m, n.FAST) * HEADROOM_SHARE[m.action[n.A_HEADROOM]])
    for z in range(n.FIRST_SLOW_ZONE):
        goal += m.wmark_pages[n.WMARK_HIGH, z] if m.managed_pages[z] > 0 else 0
    want = min(goal - node_free(m, n.FAST), int(m.kswapd_budget[n.FAST]))
    want = min(want, demotion_room(m))
    if want <= 0:
        return
    freed, demoted, seconds = reclaim_node(m, n.FAST, want, False)
    wake_demotion_target(m)
    if freed > 0:
        forget_failures(m, n.FAST)
    m.kswapd_budget[n.FAST] -= freed
    m.counters[n.C_PGDEMOTE_PROACTIVE] += demoted
    m.owed_s[n.LOST_MIGRATION] += seconds * min(1.0, m.workers / m.cpus)
