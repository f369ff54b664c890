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
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.replaying import Asked, State, ask, begin, install, set_min_free_kbytes, start_khugepaged
from tiergym.sim.units import PAGE_BYTES, STRUCT_PAGES_PER_PAGE
from tiergym.specs import Scenario
from tiergym.specs.reading import complete_sections
from tiergym.specs.scenario import size_of_blocks
from tiergym.specs.table import build_table
from tiergym.validation.recorded_machine import (
    EMULATED_FILE_TOUCHES_PER_S,
    EMULATED_REFERENCES_PER_S,
    EMULATED_TOUCHES_PER_S,
    Start,
    action_modes,
    arrivals,
    first_sample,
    min_free_set_by_hand,
    sections,
    thp_came_late,
)
from tiergym.validation.request_series import SLEEPING_TEXT, SYSTEM, Requests, between_samples
from tiergym.validation.requests import read_requests

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
WAIT_FOR_KILL_S = 0.5
EARLY_KILL_S = 2.0
"""The model may kill so much earlier than the kernel did; what it kills before that comes back."""
SOON_S = 1e-6
BLOCK_EVENTS = {"offline": n.EVENT_OFFLINE, "online": n.EVENT_ONLINE}
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
    refill: pages that a per-CPU list of DRAM takes at once. touched: what processes that can be killed had asked for,
    (samples,). notes: what was asked otherwise than recorded.
    """

    pages: NDArray[np.int64]
    free: NDArray[np.int64]
    pcp: NDArray[np.int64]
    counters: NDArray[np.int64]
    marks: dict[int, tuple[int, ...]]
    blocks: int
    memmap: int
    refill: int
    touched: NDArray[np.float64]
    kills: list[Kill] = field(default_factory=list)
    offline: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def scenario_of(recording: Recording, requests: Requests) -> Scenario:
    """The machine and the workload's regions as a scenario; sizes are set at every tick of the replay."""
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
                    "written_share": region.written_share,
                    "thp_share": 1,
                }
                | always
                for i, region in enumerate(requests.regions)
            ],
            # Whole populations leave: threads that were started last, files that were made first.
            "pools": {
                pool: {"count": 1, "deaths": deaths, "lookup_hz": 0} | always
                for pool, deaths in (("threads", "newest_first"), ("files", "oldest_first"), ("buffers", "random"))
            },
        }
    }
    complete = complete_sections(document, str(recording.path), Path())
    size = next(size for size in REGION_SIZES if size >= len(requests.regions))
    counts = (len(requests.regions), len(requests.processes))
    blocks = size_of_blocks(complete)
    return Scenario(recording.name, "", complete, size, build_table(complete, size), counts, 0, blocks)


def replay(recording: Recording) -> Replay:
    """Simulate a recording. Raises `UserError` for a machine or a workload that the model does not have."""
    recorded, start = read_requests(recording), first_sample(recording)
    requests = between_samples(recorded, STEPS)
    machines = Machines([scenario_of(recording, requests)], 1, threads=1, noiseless=True)
    machines.reset(np.zeros(1, np.uint64))
    record, action = machines.records[0], from_modes(action_modes(recording))[None]
    late = thp_came_late(recording)
    begin(record, bool(record["thp"]) and not late)
    for _ in range(1 + len(arrivals(recording))):
        machines.step(action)  # the blocks come online, one DIMM after another
    if late:
        start_khugepaged(record)
    by_hand = min_free_set_by_hand(recording, int(record["min_free_kbytes"]))
    if by_hand is not None:
        set_min_free_kbytes(record, by_hand)
    marks = {
        zone: (int(record["managed_pages"][zone]), *record["wmark_pages"][: n.WMARK_PROMO, zone].tolist())
        for zone in range(n.N_ZONES)
    }
    install(record, state_of(start, requests))
    memmap = int(record["block_pages"]) // STRUCT_PAGES_PER_PAGE
    samples = len(recorded.t_s)
    out = Replay(
        np.zeros((samples, len(CLASSES), 2), np.int64),
        np.zeros((samples, 2), np.int64),
        np.zeros((samples, 2), np.int64),
        np.zeros((samples, n.N_COUNTERS), np.int64),
        marks,
        int((record["block_state"] >= n.BLOCK_NORMAL).sum()),
        int(record["used_pages"][n.MEMMAP].sum() + record["block_own_memmap"].sum() * memmap),
        int(record["pcp_refill_pages"][: n.FIRST_SLOW_ZONE].max()),
        recorded.touched(),
        notes=recorded.notes,
    )
    _note(out, 0, record, np.zeros(n.N_COUNTERS, np.int64))
    for step in range(1, len(requests.t_s)):
        before = record.copy()
        others = _others_at(requests, len(out.kills), step)
        ask(record, asked_at(record, start, requests, step, others))
        machines.step(action)
        sample = -(-step // STEPS)
        _note(out, sample, record, machines.counters[0], first=step % STEPS == 1 or STEPS == 1)
        if machines.counters[0][n.C_OOM_KILL]:
            out.kills.append(_kill(sample, step, others, before, record, requests))
            _ask_on(record, requests, step)
        for tag in {tag for when, what, tag in requests.blocks if when == step and what == "offline"}:
            so_far = out.offline.get(tag, (0, 0))
            here = [int(machines.counters[0][c]) for c in (n.C_BLOCKS_OFFLINED, n.C_BLOCKS_FAILED)]
            out.offline[tag] = (so_far[0] + here[0], so_far[1] + here[1])
    return out


def state_of(start: Start, requests: Requests) -> State:
    """The first sample as the state that the machine begins with."""
    return State(
        start.managed,
        start.free,
        start.pcp,
        start.marks,
        [
            (r, cls, node, pages)
            for node in range(n.N_TIERS)
            for r, cls, pages in _regions_at_start(requests, start, node)
        ],
        start.tables,
        start.stacks,
        (start.slab_unreclaim, start.slab_reclaim),
    )


def _regions_at_start(requests: Requests, start: Start, node: int) -> list[tuple[int, int, int]]:
    """(region, class, pages) of what the first sample holds on a node; files fill DRAM in the order of the regions."""
    found, left = [], start.file[node]
    elsewhere = start.file[n.FAST] if node == n.SLOW else 0
    for r, region in enumerate(requests.regions):
        if region.name == "system":
            found.append((r, n.ANON, start.anon[node]))
        elif region.process == SYSTEM and region.kind in ("shmem", "cache"):
            before = min(int(region.target[0]), elsewhere)
            elsewhere -= before
            pages = min(int(region.target[0]) - before, left)
            found.append((r, n.FILE, pages))
            left -= pages
    return found


def asked_at(record: Any, start: Start, requests: Requests, k: int, others: int) -> Asked:
    """What the workload asks for at step k; processes that the recorded killer spared keep what they had at step
    `others`.

    What the first sample holds in slab stays, in bytes. The threads of a process that is down are gone.
    """
    names = list(requests.processes)
    sizes, density, hz, sleeping_text = [], [], [], []
    for r, region in enumerate(requests.regions):
        spared = region.process != SYSTEM and region.process not in requests.killed
        at = others if spared else k
        sizes.append(int(max(region.target[at], region.target[k]) + 0.5))
        density.append(None if region.left is None else region.density * float(region.left[at]))
        hz.append(0.0 if region.access_hz is None else max(0.0, float(region.access_hz[at])))
        if region.name == SLEEPING_TEXT:
            sleeping_text.append(r)
    # Mapped text survives one turn of the generations, since its first fault marked it accessed, and so do the pages
    # of whoever runs, behind it. Who sleeps is skipped (mm/vmscan.c: walk_mm, should_skip_mm): its pages go first.
    sleeps = bool(sleeping_text) and _somebody_sleeps(record, requests, k)
    down = record["process"]["down_s"]
    unreclaim = sum(start.slab_unreclaim) * PAGE_BYTES
    unreclaim -= sum(series[0] for series in requests.threads.values()) * demand.THREAD_SLAB_BYTES
    unreclaim += requests.slab_unreclaim[k] - requests.slab_unreclaim[0]
    reclaim = sum(start.slab_reclaim) * PAGE_BYTES - sum(start.file) * demand.XARRAY_BYTES_PER_PAGE
    shrinkable = requests.slab_reclaim[k] - requests.slab_reclaim[0]
    reclaim += shrinkable + requests.slab_pinned[k]
    blocks = [BLOCK_EVENTS[what] for when, what, _ in requests.blocks if when == k]
    return Asked(
        float(requests.t_s[k] - requests.t_s[k - 1]),
        np.array(sizes),
        np.array(hz),
        density,
        threads=sum(series[k] for name, series in requests.threads.items() if down[names.index(name)] <= 0),
        unreclaim_bytes=unreclaim,
        reclaim_bytes=reclaim,
        pinned_share=1 - shrinkable / max(reclaim, 1.0),
        touched_last=sleeping_text if sleeps else (),
        touched_first=() if sleeps else sleeping_text,
        blocks={kind: blocks.count(kind) for kind in dict.fromkeys(blocks)},
        dirty_pages=None if requests.dirty is None else float(requests.dirty[k - 1]),
        buffers=0.0 if requests.buffers is None else float(requests.buffers[k]),
        churn_pages=0.0 if requests.freed is None else float(requests.freed[k] - requests.freed[k - 1]),
        cpu_share=[_cpu_share(requests, name, k, int(record["workers"])) for name in names],
    )


def _cpu_share(requests: Requests, process: str, k: int, threads: int) -> float:
    """CPU time per second of a process's busiest thread at step k, by its touches and its threads' references.

    Mapped file pages come several to a fault. The small pages of all processes, which are the system's here, are
    scanned while somebody touches anonymous memory: it is among their pages that a scan then meets one in use.
    """
    if process == SYSTEM:
        own = (region for region in requests.regions if region.process != SYSTEM and region.kind == "anon")
        return float(any(region.target[k] > region.target[k - 1] for region in own))
    seconds, busy_s = float(requests.t_s[k] - requests.t_s[k - 1]), 0.0
    for region in requests.regions:
        if region.process == process:
            files = region.kind == "mapping"
            touches_per_s = EMULATED_FILE_TOUCHES_PER_S if files else EMULATED_TOUCHES_PER_S
            busy_s += max(0.0, float(region.target[k] - region.target[k - 1])) / touches_per_s
            if region.access_hz is not None:
                references = float(region.access_hz[k] * region.target[k]) * seconds
                busy_s += max(0.0, references) / threads / EMULATED_REFERENCES_PER_S
    return min(1.0, busy_s / seconds)


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
    for node, zones in enumerate(n.TIER_ZONES):
        for c, name in enumerate(CLASSES):
            out.pages[k, c, node] = sum(int(record["used_pages"][member, zones].sum()) for member in MEMBERS[name])
        out.pages[k, CLASSES.index("file"), node] += record["region"]["swap_cached"][:, node].sum()
        out.free[k, node] = record["free_pages"][zones].sum()
        out.pcp[k, node] = record["pcp_pages"][zones].sum()
    out.counters[k] = counters + (out.counters[k] if not first else out.counters[k - 1] if k else 0)


def _ask_on(record: Any, requests: Requests, k: int) -> None:
    """Processes that are down at step k although the recorded killer spared them, or took them later, are back in the
    next tick: their requests are recorded, and what they would have asked for had they died is not."""
    down = record["process"]["down_s"]
    for q, name in enumerate(requests.processes):
        exits = [task.exit_s for i, task in enumerate(requests.tasks) if name == f"p{i}" and name in requests.killed]
        if down[q] > 0.0 and requests.t_s[k] + EARLY_KILL_S < min(exits, default=np.inf):
            down[q] = SOON_S


def _kill(sample: int, k: int, others: int, before: Any, record: Any, requests: Requests) -> Kill:
    """The kill of tick k. Touched: halfway between what was there before it and what the tick asked for."""
    request = "user" if record["oom_class"] in (n.ANON, n.FILE) else "kernel"
    nodes = 2 if record["managed_pages"][n.TIER_ZONES[n.SLOW]].sum() > 0 else 1
    constraint = "CONSTRAINT_NONE" if record["oom_nodes"] == 3 or nodes == 1 else "CONSTRAINT_MEMORY_POLICY"
    touched = 0.0
    for r, region in enumerate(requests.regions):
        if region.process != SYSTEM:
            had = int(before["region"]["pages"][r].sum() + before["region"]["out_pages"][r])
            asked = region.target[k] if region.process in requests.killed else max(region.target[[k, others]])
            touched += (had + asked) / 2
    return Kill(sample, request, constraint, int(touched))
