"""A recorded workload on the simulated machine, tick by tick at the recorded times."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import from_modes
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.recordings.format import Recording
from tiergym.sim import demand
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGES_PER_MIB
from tiergym.sim.watermarks import PCPTYPES, init_per_zone_wmark_min
from tiergym.specs import Scenario
from tiergym.specs.reading import complete_sections
from tiergym.specs.table import build_table
from tiergym.validation.recorded_machine import Start, action_modes, first_sample, sections, thp_came_late
from tiergym.validation.requests import SLEEPING_TEXT, SYSTEM, Requests, between_samples, read_requests

CLASSES = ("page_tables", "kernel_stacks", "slab_unreclaim", "slab_reclaim", "anon", "file")
"""Classes that are scored, as the kernel counts them per node."""
MEMBERS = {
    "page_tables": (n.PT_LEAF, n.PT_UPPER),
    "kernel_stacks": (n.KSTACK,),
    "slab_unreclaim": (n.SLAB_UNRECLAIM,),
    "slab_reclaim": (n.SLAB_RECLAIM,),
    "anon": (n.ANON,),
    "file": (n.FILE,),
}
NODE_ZONES = (slice(0, n.FIRST_SLOW_ZONE), slice(n.FIRST_SLOW_ZONE, n.N_ZONES))
LONG = 1_000_000_000
WAIT_FOR_KILL_S = 0.5
RCU_CACHED_PAGES_PER_CPU = 5
"""What kvfree_rcu() keeps ready (kernel/rcu/tree.c: rcu_min_cached_objs): in recordings of two CPUs the first run of
kswapd that scans frees ten pages, the others none."""
STEPS = 4
"""Ticks from one sample to the next: a workload in a hurry touches a quarter of DRAM between two samples."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One OOM kill: sample, class and constraint of the failed request, pages and tables touched by then."""

    sample: int
    request: str
    constraint: str
    touched: int


@dataclass(slots=True)
class Replay:
    """A simulated run at the recorded times.

    pages: int64 (samples, classes of `CLASSES`, 2 nodes). free, pcp: int64 (samples, 2). counters: int64
    (samples, N_COUNTERS), since the start. marks: zone -> (managed, min, low, high) after the blocks came online.
    refill: pages that a per-CPU list of DRAM takes at once.
    """

    pages: NDArray[np.int64]
    free: NDArray[np.int64]
    pcp: NDArray[np.int64]
    counters: NDArray[np.int64]
    marks: dict[int, tuple[int, ...]]
    blocks: int
    memmap: int
    refill: int
    kills: list[Kill] = field(default_factory=list)
    offline: dict[str, tuple[int, int]] = field(default_factory=dict)


def scenario_of(recording: Recording, requests: Requests) -> Scenario:
    """The machine and the workload's regions as a scenario; sizes are set at every tick of the replay."""
    if len(requests.processes) > p.N_PROCESSES:
        raise UserError(f"{recording.path}: {len(requests.processes)} processes; the model has {p.N_PROCESSES}")
    if len(requests.regions) > max(REGION_SIZES):
        raise UserError(f"{recording.path}: {len(requests.regions)} regions; the model has {max(REGION_SIZES)}")
    always = {"start_s": 0, "grow_s": 0, "hold_s": 1e6, "low_share": 1}
    document: dict[str, Any] = sections(recording) | {
        "workload": {
            "workers": int(recording.meta["smp"]),
            "processes": [
                {"name": name, "vmas": 1, "restart_s": 3600, "lost_s": 0} | values
                for name, values in requests.processes.items()
            ],
            "regions": [
                {
                    "name": f"r{i}",
                    "process": region.process,
                    "kind": region.kind,
                    "mib": 0,
                    "density": region.density,
                    "mempolicy": region.mempolicy,
                    "mlocked": "on" if region.mlocked else "off",
                    "access_hz": 0,
                    "thp_share": 1,
                }
                | always
                for i, region in enumerate(requests.regions)
            ],
            # Whole populations leave: threads that were started last, files that were made first.
            "pools": {
                pool: {"count": 1, "deaths": deaths, "lookup_hz": 0} | always
                for pool, deaths in (("threads", "newest_first"), ("files", "oldest_first"))
            },
        }
    }
    complete = complete_sections(document, str(recording.path), Path())
    size = next(size for size in REGION_SIZES if size >= len(requests.regions))
    counts = (len(requests.regions), len(requests.processes))
    return Scenario(recording.name, "", complete, size, build_table(complete, size), counts, 0)


def replay(recording: Recording) -> Replay:
    """Simulate a recording. Raises `UserError` for a machine or a workload that the model does not have."""
    recorded, start = read_requests(recording), first_sample(recording)
    requests = between_samples(recorded, STEPS)
    machines = Machines([scenario_of(recording, requests)], 1, threads=1, noiseless=True)
    machines.reset(np.zeros(1, np.uint64))
    record, action = machines.records[0], from_modes(action_modes(recording))[None]
    record["ticks"] = LONG
    record["pool_count"][:] = 0
    thp = float(record["thp"])
    if thp_came_late(recording):
        record["thp"] = 0.0
    machines.step(action)  # the blocks come online
    if record["thp"] != thp:
        record["thp"] = thp
        init_per_zone_wmark_min(record)  # khugepaged starts (set_recommended_min_free_kbytes)
    marks = {
        zone: tuple(int(record[f"{name}_pages"][zone]) for name in ("managed", "min", "low", "high"))
        for zone in range(n.N_ZONES)
    }
    install(record, start, requests)
    samples = len(recorded.t_s)
    out = Replay(
        np.zeros((samples, len(CLASSES), 2), np.int64),
        np.zeros((samples, 2), np.int64),
        np.zeros((samples, 2), np.int64),
        np.zeros((samples, n.N_COUNTERS), np.int64),
        marks,
        int((record["block_state"] >= n.BLOCK_NORMAL).sum()),
        int(record["used_pages"][n.MEMMAP].sum() + record["block_memmap"].sum()),
        int(record["pcp_refill_pages"][: n.FIRST_SLOW_ZONE].max()),
    )
    _note(out, 0, record, np.zeros(n.N_COUNTERS, np.int64))
    for step in range(1, len(requests.t_s)):
        before = record.copy()
        record["dt_s"] = requests.t_s[step] - requests.t_s[step - 1]
        others = _others_at(requests, len(out.kills), step)
        _ask(record, start, requests, step, others)
        machines.step(action)
        sample = -(-step // STEPS)
        _note(out, sample, record, machines.counters[0], first=step % STEPS == 1 or STEPS == 1)
        if machines.counters[0][n.C_OOM_KILL]:
            out.kills.append(_kill(sample, step, others, before, record, requests))
        for tag in {tag for when, what, tag in requests.blocks if when == step and what == "offline"}:
            so_far = out.offline.get(tag, (0, 0))
            here = [int(machines.counters[0][c]) for c in (n.C_BLOCKS_OFFLINED, n.C_BLOCKS_FAILED)]
            out.offline[tag] = (so_far[0] + here[0], so_far[1] + here[1])
    return out


def install(record: Any, start: Start, requests: Requests) -> None:
    """The first sample's pages become the state of the machine, whose blocks have just come online."""
    for z in range(n.N_ZONES):
        record["free_pages"][z], record["pcp_pages"][z] = start.free[z], start.pcp[z]
        # Some kernels compute their marks before the last boot memory is freed.
        for mark, pages in start.marks[z].items():
            record[f"{mark}_pages"][z] = pages
        # Every CPU holds its part, per migrate type; a workload uses one CPU's lists at a time.
        listed = start.pcp[z] // (int(record["cpus"]) * PCPTYPES)
        record["pcp_idle_pages"][z], record["pcp_kernel_pages"][z] = start.pcp[z] - listed, listed
    record["pcp_by_type"] = 1
    used = record["used_pages"]
    memmap = used[n.MEMMAP].copy()
    used[:] = 0
    used[n.MEMMAP] = memmap
    left = [start.managed[z] - start.free[z] - start.pcp[z] - int(memmap[z]) for z in range(n.N_ZONES)]

    def put(cls: int, node: int, pages: int) -> list[tuple[int, int]]:
        """Pages of a class into the highest zones of a node that have room for them."""
        placed = []
        zones = range(n.NORMAL, -1, -1) if node == 0 else range(n.FIRST_SLOW_ZONE, n.N_ZONES)
        for z in zones:
            took = max(0, min(pages, left[z]))
            used[cls, z] += took
            left[z] -= took
            pages -= took
            placed.append((z, took))
        return placed

    for node in (0, 1):
        for r, cls, pages in _regions_at_start(requests, start, node):
            for z, took in put(cls, node, pages):
                record["region"]["pages"][r, z] += took
        tables = start.tables[node]
        upper = min(2, tables) if node == 0 else 0
        for z, took in put(n.PT_UPPER, node, upper):
            record["region"]["upper"][0, z] += took
        for z, took in put(n.PT_LEAF, node, tables - upper):
            record["region"]["leaf"][0, z] += took
        put(n.KSTACK, node, start.stacks[node])
        for pool, cls, slab in ((0, n.SLAB_UNRECLAIM, start.slab_unreclaim), (1, n.SLAB_RECLAIM, start.slab_reclaim)):
            put(cls, node, slab[node])
            record["slab_objects"][pool, node] = slab[node] * float(record["slab_objects_per_page"])
            record["slab_reference"][pool, node] = slab[node]
    for z in range(n.N_ZONES):
        if z == n.SLOW_MOVABLE:
            record["free_pages"][z] += left[z]
        else:
            used[n.KERNEL_OTHER, z] += left[z]
    cached = min(RCU_CACHED_PAGES_PER_CPU * int(record["cpus"]), int(used[n.KERNEL_OTHER, : n.FIRST_SLOW_ZONE].max()))
    record["rcu_cached_pages"] = cached
    record["boot_kernel_mib"] = (int(used[n.KERNEL_OTHER].sum()) - cached) / PAGES_PER_MIB


def _regions_at_start(requests: Requests, start: Start, node: int) -> list[tuple[int, int, int]]:
    """(region, class, pages) of what the first sample holds on a node; locked and mapped files count as DRAM's."""
    found, left = [], start.file[node]
    for r, region in enumerate(requests.regions):
        if region.name == "system":
            found.append((r, n.ANON, start.anon[node]))
        elif region.process == SYSTEM and region.kind == "shmem":
            pages = min(int(region.target[0]), left) if node == 0 else 0
            pages = left if node == 1 and region.name == "tmpfs" else pages
            found.append((r, n.FILE, pages))
            left -= pages
    return found


def _ask(record: Any, start: Start, requests: Requests, k: int, others: int) -> None:
    """Set what the workload asks for at step k; processes that the recorded killer spared keep what they had at step
    `others`.

    What the first sample holds in slab stays, in bytes. The threads of a process that is down are gone.
    """
    names = list(requests.processes)
    for r, region in enumerate(requests.regions):
        spared = region.process != SYSTEM and not requests.is_killed(region.process)
        at = others if spared else k
        record["region"]["size_pages"][r] = int(max(region.target[at], region.target[k]) + 0.5)
        if region.name == SLEEPING_TEXT:
            # Mapped text survives one turn of the generations, since its first fault marked it accessed, and so do the
            # pages of whoever runs, behind it. Who sleeps is skipped (mm/vmscan.c: walk_mm, should_skip_mm): its pages
            # go before the text.
            record["region"]["since"][r] = record["tick"] if _somebody_sleeps(record, requests, k) else 1
        if region.left is not None:
            record["region"]["density"][r] = region.density * max(float(region.left[at]), 1 / LEAF_SPAN_PAGES)
        hz = 0.0 if region.access_hz is None else max(0.0, float(region.access_hz[at]))
        if hz != record["region_seldom"]["access_hz"][r]:
            record["region_seldom"]["access_hz"][r] = hz
            record["region"]["heat_from"][r] = -1  # the model works out what follows from it
    threads = sum(
        series[k] for name, series in requests.threads.items() if record["process"]["down_s"][names.index(name)] <= 0
    )
    record["pool_count"][n.POOL_THREADS] = threads
    at_start = sum(series[0] for series in requests.threads.values())
    unreclaim = sum(start.slab_unreclaim) * PAGE_BYTES - at_start * demand.THREAD_SLAB_BYTES
    unreclaim += requests.slab_unreclaim[k] - requests.slab_unreclaim[0]
    record["process"]["vmas"][0] = max(0.0, unreclaim / demand.VMA_SLAB_BYTES)
    reclaim = sum(start.slab_reclaim) * PAGE_BYTES - sum(start.file) * demand.XARRAY_BYTES_PER_PAGE
    shrinkable = requests.slab_reclaim[k] - requests.slab_reclaim[0]
    reclaim += shrinkable + requests.slab_pinned[k]
    record["pool_count"][n.POOL_FILES] = max(0.0, reclaim / demand.FILE_SLAB_BYTES)
    record["pool_pinned_share"][n.POOL_FILES] = 1 - shrinkable / max(reclaim, 1.0)
    record["event_kind"][:] = n.EVENT_NONE
    record["events_done"] = 0
    asked = [what for when, what, _ in requests.blocks if when == k]
    for e, what in enumerate(dict.fromkeys(asked)):
        record["event_kind"][e] = n.EVENT_OFFLINE if what == "offline" else n.EVENT_ONLINE
        record["event_mib"][e] = asked.count(what) * float(record["block_mib"])


def _somebody_sleeps(record: Any, requests: Requests, k: int) -> bool:
    """Whether a process holds pages of DRAM at sample k and has neither referenced nor touched any since the last."""
    return any(
        region.process != SYSTEM
        and record["region"]["pages"][r, : n.FIRST_SLOW_ZONE].any()
        and record["region_seldom"]["access_hz"][r] == 0.0
        and region.target[k] == region.target[max(k - STEPS, 0)]
        for r, region in enumerate(requests.regions)
    )


def _others_at(requests: Requests, kills: int, k: int) -> int:
    """The step whose requests the spared processes still have at step k: what they give back because another was killed
    waits until the model has killed too, for up to half a second. Between the samples around a kill, all that they
    give back comes after it."""
    for task in requests.tasks:
        if task.killed and requests.t_s[k] - task.exit_s <= WAIT_FOR_KILL_S:
            sample = max(int(np.searchsorted(requests.t_s, task.exit_s)) - 1, 0) // STEPS * STEPS
            if sample < k and sum(other.killed and other.exit_s <= task.exit_s for other in requests.tasks) > kills:
                return sample
    return k


def _note(out: Replay, k: int, record: Any, counters: NDArray[np.int64], first: bool = True) -> None:
    """Copy the state after a tick of sample k; `first`: its counters go on from the sample before."""
    for node, zones in enumerate(NODE_ZONES):
        for c, name in enumerate(CLASSES):
            out.pages[k, c, node] = sum(int(record["used_pages"][member, zones].sum()) for member in MEMBERS[name])
        out.pages[k, CLASSES.index("file"), node] += record["region"]["swap_cached"][:, node].sum()
        out.free[k, node] = record["free_pages"][zones].sum()
        out.pcp[k, node] = record["pcp_pages"][zones].sum()
    out.counters[k] = counters + (out.counters[k] if not first else out.counters[k - 1] if k else 0)


def _kill(sample: int, k: int, others: int, before: Any, record: Any, requests: Requests) -> Kill:
    """The kill of tick k. Touched: halfway between what was there before it and what the tick asked for."""
    request = "user" if record["oom_class"] in (n.ANON, n.FILE) else "kernel"
    nodes = 2 if record["managed_pages"][NODE_ZONES[1]].sum() > 0 else 1
    constraint = "CONSTRAINT_NONE" if record["oom_nodes"] == 3 or nodes == 1 else "CONSTRAINT_MEMORY_POLICY"
    touched = 0.0
    for r, region in enumerate(requests.regions):
        if region.process != SYSTEM:
            had = int(before["region"]["pages"][r].sum() + before["region"]["out_pages"][r])
            asked = region.target[k] if requests.is_killed(region.process) else max(region.target[[k, others]])
            touched += (had + asked) / 2
    return Kill(sample, request, constraint, int(touched))
