"""One tick of one machine: the phases in Linux's order of cause and effect (docs/model.md section 2)."""

from tiergym.sim import names as n
from tiergym.sim.account import account
from tiergym.sim.compile import jit
from tiergym.sim.demand import demand
from tiergym.sim.empty_tables import reclaim_empty_tables
from tiergym.sim.faults import serve_demand
from tiergym.sim.hotplug import boot
from tiergym.sim.migrate import migrate_kernel_pages
from tiergym.sim.prefetch import fetch
from tiergym.sim.reserve import keep_reserve
from tiergym.sim.timeline import run_events


@jit
def clear_tick(m):
    """Counters, stalls and moved bytes are per tick."""
    for i in range(n.N_COUNTERS):
        m.counters[i] = 0
    for cls in range(n.N_CLASSES):
        m.premature_by_class[cls] = 0
        m.stall_s[cls] = 0.0
    for tier in range(n.N_TIERS):
        m.moved_bytes[tier] = 0.0


@jit
def tick(m, ahead):
    """Advance one machine by dt_s under `m.action` (already free of impossible modes).

    Between the phases, the record of the machine that comes next is fetched in parts; `ahead` is what is left of it.
    """
    clear_tick(m)
    if m.tick == 0:
        boot(m)  # memhp_default_state decides the zone of what is there
    ahead = fetch(ahead)
    demand(m)
    keep_reserve(m)
    ahead = fetch(ahead)
    serve_demand(m)
    ahead = fetch(ahead)
    reclaim_empty_tables(m)
    migrate_kernel_pages(m)
    run_events(m)
    ahead = fetch(ahead)
    account(m)
    fetch(ahead)
    m.tick += 1
