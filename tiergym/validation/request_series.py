"""What a recorded workload asks of the model, as series over the samples: regions, processes, stacks, slab, blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tiergym.sim.units import LEAF_SPAN_PAGES
from tiergym.validation.recorded_machine import Start
from tiergym.validation.tasks import Task

Series = NDArray[np.float64]
SYSTEM = "system"
SLEEPING_TEXT = "tmpfs_mapped"
"""Region of the text that programs map which do not run."""
FILES_AT_START = "files_at_start"
RUNNING_TEXT_PAGES = 40  # text of the sampler and its shell, which stays however long reclaim goes on (recordings)
BALANCED_TEXT_HZ = 0.3  # of sleeping programs' text under NUMA balancing (recordings: it goes in the storm of a pass)


@dataclass(slots=True)
class RegionRequest:
    """One region: `target`, pages at each sample; `process` is a name of `Requests.processes`.

    `left`: of `density`, as it is now: pages that lie less densely for a while, in tables that fill up later, or that
    one munmap is giving back, which frees page tables last (free_pgtables).
    `written_share`: of page cache, what write(2) fills.
    """

    name: str
    process: str
    target: Series
    kind: str = "anon"
    density: float = 1.0
    mempolicy: str = "default"
    mlocked: bool = False
    access_hz: Series | None = None
    left: Series | None = None
    written_share: float = 0.0


@dataclass(slots=True)
class Requests:
    """Everything at the sample times `t_s`.

    `threads` are by process; `slab_*` are bytes beyond threads and cached pages; dentries of a tmpfs are pinned.

    `blocks` lists (sample, what, tag): one block of node 1 is to go "offline", or all are to come "online". `killed`:
    processes that the recorded OOM killer took. `dirty`: pages of the page cache, on any node, that the disk has yet to
    write: how fast it is. `freed`: pages freed all the time since the recording began. `buffers`: kernel pages of no
    class that is counted. `notes`: what was read otherwise than recorded, for people.
    """

    t_s: Series
    tasks: list[Task]
    processes: dict[str, dict[str, object]]
    regions: list[RegionRequest]
    threads: dict[str, Series]
    slab_unreclaim: Series
    slab_reclaim: Series
    slab_pinned: Series
    blocks: list[tuple[int, str, str]] = field(default_factory=list)
    killed: frozenset[str] = frozenset()
    dirty: Series | None = None
    freed: Series | None = None
    buffers: Series | None = None
    notes: list[str] = field(default_factory=list)

    def touched(self) -> Series:
        """Pages and tables that processes which can be killed have asked for."""
        theirs = [region.target for region in self.regions if region.process != SYSTEM]
        return np.sum(theirs, axis=0) if theirs else np.zeros(len(self.t_s))


def between_samples(requests: Requests, steps: int) -> Requests:
    """The requests at `steps` times from one sample to the next, in straight lines between them."""
    samples = np.arange(len(requests.t_s))
    ticks = np.arange((len(samples) - 1) * steps + 1) / steps

    def finer(series: Series) -> Series:
        return np.interp(ticks, samples, series)

    return replace(
        requests,
        t_s=finer(requests.t_s),
        regions=[
            replace(
                region,
                target=finer(region.target),
                access_hz=None if region.access_hz is None else finer(region.access_hz),
                left=None if region.left is None else finer(region.left),
            )
            for region in requests.regions
        ],
        threads={name: finer(series) for name, series in requests.threads.items()},
        slab_unreclaim=finer(requests.slab_unreclaim),
        slab_reclaim=finer(requests.slab_reclaim),
        slab_pinned=finer(requests.slab_pinned),
        dirty=None if requests.dirty is None else finer(requests.dirty),
        freed=None if requests.freed is None else finer(requests.freed),
        buffers=None if requests.buffers is None else finer(requests.buffers),
        blocks=[(sample * steps, what, tag) for sample, what, tag in requests.blocks],
    )


def start_regions(t_s: Series, start: Start) -> list[RegionRequest]:
    """What is there in the first sample, and stays."""
    zero = np.zeros(len(t_s))
    anon, shmem, files = sum(start.anon), start.shmem, sum(start.file)
    locked_anon = min(start.unevictable, anon)
    locked_files = min(start.unevictable - locked_anon, shmem)
    mapped_shmem = max(0, min(start.mapped, shmem) - locked_files)
    mapped_files = max(0, min(start.mapped - mapped_shmem - locked_files, files - shmem))
    running = min(RUNNING_TEXT_PAGES, mapped_shmem)
    # The classic LRU keeps what is on its active list, and an initramfs is; generations go by age alone.
    active_files = 0.0 if start.generations or not start.active_anon else 1.0
    # Pages that NUMA balancing has unmapped for a hint fault have no accessed bit; beside them text looks referenced.
    text_hz = BALANCED_TEXT_HZ if start.balancing else active_files
    per_table = max(anon, 1) / max(sum(start.tables) - 2, 1)
    return [
        RegionRequest(
            "system", SYSTEM, zero + anon, density=min(per_table / LEAF_SPAN_PAGES, 1.0), mlocked=2 * locked_anon > anon
        ),
        RegionRequest(
            "tmpfs", SYSTEM, zero + shmem - locked_files - mapped_shmem, kind="shmem", access_hz=zero + active_files
        ),
        # Text and libraries, which an initramfs keeps in a tmpfs: of the programs that run, and of those that sleep.
        RegionRequest("tmpfs_running", SYSTEM, zero + running, kind="shmem", access_hz=zero + 1.0),
        RegionRequest(SLEEPING_TEXT, SYSTEM, zero + mapped_shmem - running, kind="shmem", access_hz=zero + text_hz),
        RegionRequest("tmpfs_locked", SYSTEM, zero + locked_files, kind="shmem", mlocked=True),
        RegionRequest(FILES_AT_START, SYSTEM, zero + files - shmem - mapped_files, kind="cache"),
        RegionRequest("mapped_at_start", SYSTEM, zero + mapped_files, kind="cache", access_hz=zero + 1.0),
    ]
