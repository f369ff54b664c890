"""What a whole recorded machine holds and asks for at each sample, over all nodes: never where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings import page_cache
from tiergym.recordings.format import Recording
from tiergym.recordings.kernel_release import Version, parse_version
from tiergym.recordings.page_cache import CacheAsked, CacheCounts, Counter
from tiergym.sim.demand import XARRAY_BYTES_PER_PAGE
from tiergym.sim.units import PAGE_BYTES, PAGE_KIB

LARGE_FOLIOS_SINCE: Version = (6, 16)
"""ext4 (fs/ext4/inode.c: ext4_set_inode_mapping_order)."""
Series = NDArray[np.float64]
TABLE_ENTRY_BYTES = 8
STACK_KB = 16.0
PROCESS_TREE_COLUMN = "w.file_rss_pages"
"""Recordings have it whose `w.*` come from /proc/<pid>, as `tiergym record` makes them; a workload that reports its own
requests has not."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Pages of 4 KiB, float64 of shape (samples,).

    anon: anonymous, swapped pages included. shmem: shared memory and tmpfs, likewise. files: page cache asked for, of
    which `mapped` are in use through mappings; `cached`: of files in memory; `dropped`: by
    reclaim until then, again and again. tables: page tables. threads: kernel
    stacks, one per thread.
    slab_unreclaim, slab_reclaim: slab.
    """

    anon: Series
    shmem: Series
    files: Series
    mapped: Series
    cached: Series
    dropped: Series
    tables: Series
    threads: Series
    slab_unreclaim: Series
    slab_reclaim: Series


def from_process_tree(recording: Recording) -> bool:
    """Whether the `w.*` columns are a process tree's."""
    return PROCESS_TREE_COLUMN in recording.columns


def totals_of(recording: Recording) -> Totals:
    """The totals of a recording; pages that are larger than 4 KiB count as what they hold."""
    factor = float(recording.meta.get("page_size", PAGE_BYTES)) / PAGE_BYTES

    def nodes(counter: str) -> Series:
        columns = [_column(recording, f"n{node}.{counter}") for node in recording.nodes]
        return factor * np.sum(columns, axis=0)

    anon, shmem = nodes("nr_anon_pages"), nodes("nr_shmem")
    swapped_anon, swapped_shmem = _swapped(recording, anon, shmem)
    anon, tables = anon + swapped_anon, nodes("nr_page_table_pages")
    slab = nodes("nr_slab_reclaimable")
    files, mapped, cached, dropped = _files(recording, anon, tables, slab, factor)
    return Totals(
        anon,
        shmem + swapped_shmem,
        files,
        mapped,
        cached,
        dropped,
        tables,
        nodes("nr_kernel_stack") / factor / STACK_KB,
        nodes("nr_slab_unreclaimable"),
        slab,
    )


def _column(recording: Recording, name: str) -> Series:
    """A column; a node or counter that is not there has 0."""
    return np.nan_to_num(recording.column(name).astype(np.float64))


def _swapped(recording: Recording, anon: Series, shmem: Series) -> tuple[Series, Series]:
    """Swapped pages of anonymous and of shared memory.

    Swap's own counter does not tell them apart. Shared memory has lost at most what it had before, so anonymous memory
    has at least the rest; of what is left, it has as much as its processes' memory, which is counted with swap, has
    grown beyond what is resident.
    """
    used = _column(recording, "mi.SwapTotal") - _column(recording, "mi.SwapFree") - _column(recording, "mi.SwapCached")
    used = np.maximum(used, 0.0) / PAGE_KIB
    if not used.any():
        return used, used
    lost = np.maximum.accumulate(shmem) - shmem
    of_processes = _column(recording, "w.anon_touched_pages")
    grown = (of_processes - of_processes[0]) - (anon - anon[0])
    of_anon = np.clip(grown, np.maximum(used - lost, 0.0), used)
    return of_anon, used - of_anon


def _files(
    recording: Recording, anon: Series, tables: Series, slab: Series, factor: float
) -> tuple[Series, Series, Series, Series]:
    """Page cache of files asked for, of it what is mapped or was and is only out of memory, what is in memory, and what
    reclaim has dropped."""
    rss, procs = _mapped_now(recording, factor), _column(recording, "w.procs")
    nodes = [_Counters(recording, f"n{node}.", factor) for node in recording.nodes]
    table_pages = int(PAGE_BYTES * factor) // TABLE_ENTRY_BYTES
    vmstat, asked = _Counters(recording, "vm.", factor), CacheAsked(table_pages)
    files, mapped, cached, dropped = (np.zeros(len(rss)) for _ in range(4))
    version = parse_version(str(recording.meta["kernel_release"]))
    # Large folios need hardly any nodes, and no counter shows how large they are.
    single = version is not None and version < LARGE_FOLIOS_SINCE
    room = (slab - slab[0]) * PAGE_BYTES / XARRAY_BYTES_PER_PAGE if single else np.full(len(slab), np.inf)
    for k in range(len(rss)):
        there = page_cache.file_pages([node.at(k) for node in nodes])
        now = CacheCounts(
            there,
            page_cache.dropped_files(vmstat.at(k)),
            page_cache.refaulted_files(vmstat.at(k)),
            min(float(rss[k]), there),
            page_cache.tables_of_files(tables[k] - tables[0], anon[k] - anon[0], procs[k], table_pages),
            float(room[k]),
        )
        files[k], cached[k], dropped[k] = asked.add(now), there, now.dropped
        mapped[k] = now.mapped + (files[k] - there) * now.mapped / max(there, 1.0)
    return files, mapped, cached, dropped


class _Counters:
    """Columns behind a prefix in pages of 4 KiB, each read once."""

    def __init__(self, recording: Recording, prefix: str, factor: float) -> None:
        self._recording, self._prefix, self._factor = recording, prefix, factor
        self._read: dict[str, Series] = {}

    def at(self, sample: int) -> Counter:
        """The counters of one sample."""

        def counter(name: str) -> float:
            if name not in self._read:
                self._read[name] = self._factor * _column(self._recording, self._prefix + name)
            return float(self._read[name][sample])

        return counter


def _mapped_now(recording: Recording, factor: float) -> Series:
    """Distinct pages of files that the workload maps and that are in memory.

    A sum over processes counts what they share several times; `Mapped` counts every page once, shared memory included.
    What the machine maps in files beyond the first sample bounds the sum, unless the largest process maps more.
    """
    rss = factor * _column(recording, PROCESS_TREE_COLUMN)
    mapped = _column(recording, "mi.Mapped") / PAGE_KIB
    shmem = _column(recording, "mi.Shmem") / PAGE_KIB
    grown = np.maximum(mapped - mapped[0], 0.0) - np.maximum(shmem - shmem[0], 0.0)
    mean = rss / np.maximum(_column(recording, "w.procs"), 1.0)
    return np.minimum(rss, np.maximum(grown, mean))
