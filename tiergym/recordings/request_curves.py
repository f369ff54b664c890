"""What a recorded workload asked for, as curves of pages and objects: independent of where the kernel put it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings.format import Recording
from tiergym.recordings.machine_totals import from_process_tree, totals_of
from tiergym.sim.units import PAGE_BYTES

Sizes = NDArray[np.float64]
DENTRY_SHARE = 192 / 1320
"""A negative dentry (192 B) has no inode: as part of a file's dentry and ext4 inode [K-object-sizes]."""


@dataclass(frozen=True, slots=True)
class RequestCurves:
    """Curves over the samples, float64 of shape (samples,). Pages are of 4 KiB, whatever the machine has.

    anon: touched densely; sparse: one page per leaf table; kv: the hot region that the workload reports apart;
    mapped, cache: of files, by mmap and by read or write. shmem: shared memory.
    threads and files count objects.
    empty_tables: the sparse tables had no data pages (mode=read maps the zero page).
    """

    anon: Sizes
    sparse: Sizes
    kv: Sizes
    shmem: Sizes
    mapped: Sizes
    cache: Sizes
    threads: Sizes
    files: Sizes
    empty_tables: bool


def requests_of(recording: Recording) -> RequestCurves:
    """Curves from `w.*`; of a process tree, files and shared memory from the machine's totals, which count every page
    once.

    A workload that reports its sparse touches as events (`phase:sparse_grow ... mode=write` or `read`) counts their
    pages apart from `anon_touched_pages`. The recorder of processes cannot: there they are part of it.
    """

    def w(name: str) -> Sizes:
        return np.nan_to_num(recording.column(f"w.{name}").astype(np.float64)).clip(min=0)

    def pages(name: str) -> Sizes:
        return w(f"{name}_pages") * recording.meta.get("page_size", PAGE_BYTES) / PAGE_BYTES

    anon, sparse = pages("anon_touched"), w("sparse_leaf_tables")
    modes = {
        match[1]
        for event in recording.events
        if event.event == "phase:sparse_grow" and (match := re.search(r"\bmode=(\w+)", event.detail))
    }
    if not modes:
        sparse = np.minimum(sparse, anon)
        anon = anon - sparse
    if from_process_tree(recording):
        totals = totals_of(recording)
        touched = np.maximum(totals.mapped, totals.files - totals.files[0])
        # Page cache outlives its mapping; the same pages are not asked for again.
        mapped = np.minimum(np.maximum.accumulate(totals.mapped), touched)
        shmem = np.maximum(pages("shmem_touched"), totals.shmem - totals.shmem[0])
    else:
        touched = pages("file_touched")
        mapped = np.minimum(touched, pages("file_mapped"))
        shmem = pages("shmem_touched")
    return RequestCurves(
        anon=anon,
        sparse=sparse,
        kv=pages("kv_touched"),
        shmem=shmem,
        mapped=mapped,
        cache=touched - mapped,
        threads=w("threads") + w("procs"),
        files=w("files") + w("neg_lookups") * DENTRY_SHARE,
        empty_tables="read" in modes,
    )
