"""Phase 7: what happens to the machine at its time: blocks arrive, leave, go offline or come back, settings change."""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.hotplug import event_blocks, hot_add, online_arrived, take_offline
from tiergym.sim.settings import write_setting


@jit
def happen(m, e):
    """Event e of the scenario happens."""
    kind = m.event_kind[e]
    if kind == n.EVENT_NONE:
        return
    if kind == n.EVENT_HOT_ADD:
        hot_add(m, event_blocks(m, e))
    elif kind == n.EVENT_ONLINE:
        online_arrived(m)
    elif kind == n.EVENT_SYSCTL:
        write_setting(m, int(m.event_knob[e]), m.event_value[e])
    else:
        take_offline(m, event_blocks(m, e), kind == n.EVENT_HOT_REMOVE)


@jit
def run_events(m):
    """Events that fall due in this tick, each once."""
    for e in range(m.events):
        if m.events_done & (1 << e) or m.event_at_s[e] >= (m.tick + 1) * m.dt_s:
            continue
        m.events_done |= 1 << e
        happen(m, e)
