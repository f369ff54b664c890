"""The relaxed bound: what no policy can exceed, since it gives everybody more than any machine has.

Kernel pages cost nothing and take no room; DRAM holds the data that would cost most elsewhere, the densest first
(a fractional knapsack), and takes it in without reclaim, migration or faults; latency is that of idle memory. A page of
data that DRAM has no room for costs the least of what the model could charge for it:

- on the slow tier, the longer latency of its misses (`sim.cost.add_accesses`);
- evicted, the wait for those that are read back (`sim.faults.charge_refaults`, `sim.storage.await_disk`);
- never served, the share of its process that stands still (`sim.faults.handle_faults`).

A kill can pay too, where it takes data away that costs more than the kill. So every set of processes is tried as the
set of those killed so far: their data is gone for good and for nothing from then on, and each of them has cost its
restart and the work thrown away. The best times of the kills are found by dynamic programming over ticks and sets.

From loss to return: throughput x <= (1 - overhead) / (1 + stall), so what is lost in a tick is at least
stall / (1 + stall), and what waiting adds to it is at least the wait over 1 + the largest stall, whenever it is paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.cost import MAX_OVERHEAD, add_accesses
from tiergym.sim.demand import region_target, update_heat
from tiergym.sim.faults import MAX_ROUNDS
from tiergym.sim.regions import folio_pages, swap_backed, tables_alone
from tiergym.sim.storage import workers_can_read
from tiergym.specs import Scenario

Array = NDArray[np.float64]

LOOSE_PAGES = 4
"""Pages per region and tick by which whole numbers of pages may be asked for less than their share."""
PAGES, SLOW_COST, REREAD, N_DEMAND = range(4)
"""What is known of a region in a tick: pages that it wants, the stall of one on the slow tier per second of work, and
the share of its evicted pages that is touched."""
WAIT_S, HELD_S, MOST_READ, UNIT, TURNOVER, EVICTABLE, N_REGION = range(7)
"""What holds of a region in all ticks: the least wait for an evicted page, the least for one that the disk has no time
for, pages that its readers get back in a tick, pages of a folio, turnover, and whether reclaim may take its pages."""


@jit
def survey(machines: Any, ticks: int, demand: Array, fixed: Array) -> None:
    """What every machine's workload asks for when nothing is killed, into `demand` (N, ticks, regions, N_DEMAND), and
    what evicted pages cost, into `fixed` (N, regions, N_REGION).

    The machines must have just been reset; their records are of no other use afterwards.
    """
    for i in range(machines.shape[0]):
        m = machines[i]
        for r in range(m.regions):
            survey_region(m, r, fixed[i, r])
        for t in range(ticks):
            m.tick = t
            now = (t + 1) * m.dt_s
            for r in range(m.regions):
                if tables_alone(m, r):
                    continue
                update_heat(m, r, now)
                region = m.region[r]
                m.stall[n.LOST_DATA_ON_SLOW] = 0.0
                add_accesses(m, n.SLOW, n.LOST_DATA_ON_SLOW, region.misses, region.mlp, region.write_share)
                demand[i, t, r, PAGES] = region_target(m, r, now)
                demand[i, t, r, SLOW_COST] = max(m.stall[n.LOST_DATA_ON_SLOW], 0.0)
                demand[i, t, r, REREAD] = region.reread


@jit
def survey_region(m: Any, r: int, fixed: Array) -> None:
    """One region's part of `fixed`."""
    region, seldom = m.region[r], m.region_seldom[r]
    ahead = seldom.window_pages > 1.0 and seldom.reads == n.READS_STREAM and not swap_backed(m, r)
    read_us = 0.0 if ahead else seldom.read_us / seldom.window_pages  # a stream may hide its reads behind its work
    fixed[WAIT_S] = (read_us + m.fault_us) * 1e-6
    fixed[HELD_S] = m.dt_s / seldom.window_pages
    fixed[MOST_READ] = workers_can_read(m, r)
    fixed[UNIT] = folio_pages(m, r)
    fixed[TURNOVER] = region.turnover
    swap = m.swap_mib > 0.0
    for e in range(m.events):
        if m.event_kind[e] == n.EVENT_SYSCTL and m.event_knob[e] == n.KNOB_SWAP_MIB and m.event_value[e] > 0.0:
            swap = True
    fixed[EVICTABLE] = 1.0 if region.mlocked == n.OFF and (swap or not swap_backed(m, r)) else 0.0


def relaxed(scenario: Scenario, episodes: int, seed: int) -> Array:
    """An upper bound of the return of every policy, float64 (episodes,), on the evaluation's machines of `seed`."""
    return relaxed_on(scenario, evaluation_seeds(seed, episodes))


def relaxed_on(scenario: Scenario, seeds: NDArray[np.uint64]) -> Array:
    """The same on the machines of `seeds`, uint64 (N,): float64 (N,)."""
    machines = Machines([scenario], len(seeds))
    machines.reset(seeds)
    records = machines.records
    ticks, regions = int(records["ticks"].max()), records["region"].shape[1]
    demand = np.zeros((len(seeds), ticks, regions, N_DEMAND))
    fixed = np.zeros((len(seeds), regions, N_REGION))
    ahead = records.copy()  # the survey leaves its marks
    survey(ahead, ticks, demand, fixed)
    prices = _prices(records, demand, fixed)
    running = np.arange(ticks) < records["ticks"][:, None]
    weight = np.min([records[f"weight_{term}"] for term in n.TERMS], axis=0)
    return -weight * _least_loss(records, prices, demand[..., PAGES], running)


@dataclass(frozen=True)
class Prices:
    """What a page costs in a tick that is not in DRAM, in shares of the tick.

    each: float64 (N, ticks, regions). loose: (N,), of a tick, what whole pages may take off. most_stall: (N,), stall
    per second of work with all data on the slow tier. evictable: (N,), whether anything can be evicted.
    """

    each: Array
    loose: Array
    most_stall: Array
    evictable: NDArray[np.bool_]


def _prices(records: NDArray[np.void], demand: Array, fixed: Array) -> Prices:
    """The least price of a page outside DRAM: on the slow tier, evicted, or never served."""
    tick_s = (records["workers"] * records["dt_s"])[:, None]  # workers' time
    owner = records["region"]["process"].astype(np.int64)
    share = np.take_along_axis(records["process"]["share"], owner, axis=1)
    size = records["region"]["size_pages"].astype(np.float64)
    still = share / np.maximum(size + 3 * MAX_ROUNDS * fixed[..., UNIT], 1.0)  # per page that is not served
    wait = np.minimum(fixed[..., WAIT_S], fixed[..., HELD_S]) / tick_s
    # What is out after a tick is asked for in the next, but for what is given back at its beginning.
    pages, later = demand[..., PAGES], demand[:, 1:]
    kept = np.zeros_like(pages)
    kept[:, :-1] = np.minimum(later[..., PAGES] / np.maximum(pages[:, :-1], 1.0), 1.0 - fixed[:, None, :, TURNOVER])
    kept = np.clip(kept, 0.0, 1.0)
    reread = np.zeros_like(pages)
    reread[:, :-1] = later[..., REREAD]
    most_read = fixed[..., MOST_READ] / np.maximum(size, 1.0)
    out = kept * np.minimum(np.minimum(reread, most_read[:, None]) * wait[:, None], still[:, None])
    most_stall = (pages * demand[..., SLOW_COST]).sum(axis=2).max(axis=1)
    evictable: NDArray[np.bool_] = fixed[..., EVICTABLE] > 0
    absent = np.where(evictable[:, None], np.minimum(out, still[:, None]), still[:, None])
    each = np.minimum(demand[..., SLOW_COST], absent / (1.0 + most_stall)[:, None, None])
    loose = np.where(evictable & (size > 0), LOOSE_PAGES * wait, 0.0).sum(axis=1) / (1.0 + most_stall)
    return Prices(each, loose, most_stall, np.any(evictable, axis=1))


def _least_loss(records: NDArray[np.void], prices: Prices, pages: Array, running: NDArray[np.bool_]) -> Array:
    """The least time lost in an episode, in ticks, float64 (N,), over all sets of processes killed and their times."""
    processes = int(records["processes"].max())
    dram = records["managed_pages"][:, : n.FIRST_SLOW_ZONE].sum(axis=1, dtype=np.float64)
    order = np.argsort(-prices.each, axis=2, kind="stable")
    owner = records["region"]["process"].astype(np.int64)
    lost = []
    for killed in range(1 << processes):
        alive = pages * ((killed >> owner) & 1 == 0)[:, None]
        price = _outside(prices.each, alive, order, dram)
        price = np.maximum(price - prices.loose[:, None], 0.0)
        lost.append(np.where(running, np.minimum(price / (1.0 + price), MAX_OVERHEAD), 0.0))
    # Waits of one tick that are never paid: at a kill, and where more is owed than the episode can pay.
    edge = np.where(prices.evictable, lost[0].max(axis=1), 0.0)
    at_once, later, down = _kill_costs(records, prices.most_stall, edge, processes)
    best = np.full((1 << processes, len(dram)), np.inf)
    best[0] = 0.0
    for t in range(pages.shape[1]):
        left = np.maximum(records["ticks"] - 1 - t, 0)
        for q in range(processes):
            cost = np.maximum(at_once[:, q] + later[:, q] * np.minimum(down[:, q], left), 0.0)
            for killed in range(1 << processes):
                if killed >> q & 1:
                    best[killed] = np.minimum(best[killed], best[killed ^ (1 << q)] + cost)
        for killed, each in enumerate(lost):
            best[killed] += each[:, t]
    return np.maximum(best.min(axis=0) - edge, 0.0)


def _outside(price: Array, pages: Array, order: NDArray[np.int64], dram: Array) -> Array:
    """What the pages cost that DRAM has no room for, float64 (N, ticks): it holds those of the highest price."""
    price, pages = np.take_along_axis(price, order, axis=2), np.take_along_axis(pages, order, axis=2)
    before = pages.cumsum(axis=2) - pages
    outside = pages - np.clip(dram[:, None, None] - before, 0.0, pages)
    return (price * outside).sum(axis=2)


def _kill_costs(
    records: NDArray[np.void], most_stall: Array, edge: Array, processes: int
) -> tuple[Array, Array, Array]:
    """Of a process's kill, each float64 (N, processes): ticks lost at once, ticks lost in each tick that it is down
    after that of the kill, and how many those are (`sim.oom.kill`); it is killed in the middle of a tick."""
    process, drawn = records["process"][:, :processes], records["process_seldom"][:, :processes]
    dt_s = records["dt_s"][:, None]
    weight = process["share"] / (1.0 + most_stall)[:, None]
    down = np.floor((np.maximum(drawn["restart_s"] - 0.5 * dt_s, 0.5 * dt_s) - 1e-9) / dt_s)
    at_once = weight * (0.5 + drawn["lost_s"] / dt_s) - edge[:, None]
    never = (drawn["oom_score_adj"] <= -1000.0) | (np.arange(processes) >= records["processes"][:, None])
    return np.where(never, np.inf, at_once), weight, down
