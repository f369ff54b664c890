"""In which folios a recording's page cache came: what the release, the disk's readahead and the reader make of it.

Large folios are what decides whether a mapped file needs page tables and xarray nodes [K-large-folios]. No counter
shows them, but page cache that comes in folios grows in multiples of them.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings.format import Recording
from tiergym.recordings.machine_totals import LARGE_FOLIOS_SINCE, from_process_tree
from tiergym.sim.demand import XARRAY_BYTES_PER_PAGE, XARRAY_BYTES_PER_PAGE_OF_FOLIOS
from tiergym.sim.regions import XARRAY_SLOTS
from tiergym.sim.releases import Version
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGE_KIB

WIDE_SINCE: Version = (6, 17)
"""A rotational disk without an optimum of its own gets twice its largest request, and virtio-blk says it rotates
(block/blk-settings.c: blk_apply_bdi_limits)."""
NARROW_KIB, WIDE_KIB = 128, 8192
AS_NVME = r"(?m)^as_nvme$"
"""The kernel lab's helper that makes a disk's readahead narrow (experiments/kernel-lab/guest/helpers)."""
STEP_PAGES = 1000
"""Growth from one sample to the next that many folios make, beside which stray pages are few."""
FEW_STEPS = 8
OFTEN = 0.8
"""Of the steps that are multiples of eight pages, so many are multiples of the folio, and half as many of twice it."""
SMALL_FOLIO_PAGES = 8


def readahead_kib(recording: Recording, at: Version) -> float:
    """The disk's readahead window: as meta.json says (`read_ahead_kib`), as its scripts set it, or the kernel's."""
    stated = recording.meta.get("read_ahead_kib")
    if isinstance(stated, int | float):
        return float(stated)
    scripts = "\n".join(str(recording.meta.get(key, "")) for key in ("pre_script", "guest_script"))
    written = re.findall(r"echo ([0-9]{1,15}) > /sys/block/\w+/queue/read_ahead_kb", scripts)
    if written:
        return float(written[-1])
    if re.search(AS_NVME, scripts):
        return NARROW_KIB
    emulated = "qemu" in str(recording.meta.get("accel", ""))
    return WIDE_KIB if emulated and at >= WIDE_SINCE else NARROW_KIB


def folio_pages(recording: Recording, at: Version) -> int:
    """Pages per folio of the page cache of disk files, under a kernel of this version: as it has grown, or else a
    readahead window, up to 2 MiB.

    A reader may double its window (FADV_SEQUENTIAL), which no file tells. It shows only where it saves what the window
    alone would cost: xarray nodes. No folio is larger than its file, and a program reads many small ones.
    """
    if at < LARGE_FOLIOS_SINCE:
        return 1
    steps = _steps(recording)
    if len(steps) >= FEW_STEPS:
        return _common_multiple(steps)
    pages = int(min(readahead_kib(recording, at) / PAGE_KIB, _pages_per_file(recording)))
    pages = min(1 << max(pages, 1).bit_length() - 1, LEAF_SPAN_PAGES)
    return 2 * pages if 2 * pages == XARRAY_SLOTS and _nodes_are_missing(recording) else pages


def node_bytes_per_page(folio: int) -> float:
    """Bytes of xarray nodes per cached page of files whose folios have so many pages, as the model has them."""
    return XARRAY_BYTES_PER_PAGE_OF_FOLIOS if folio >= XARRAY_SLOTS else XARRAY_BYTES_PER_PAGE


def written_share(recording: Recording, pages: float) -> float:
    """Of `pages` of page cache, those that the workload wrote, by what it dirtied; pages written again count again."""
    dirtied = np.nan_to_num(recording.column("vm.nr_dirtied").astype(np.float64))
    return min(1.0, max(0.0, float(dirtied[-1] - dirtied[0])) / pages) if pages > 0 else 0.0


def _growth(recording: Recording, counter: str) -> float:
    """The most that the nodes have beyond the first sample."""
    total = np.sum([np.nan_to_num(recording.column(f"n{node}.{counter}")) for node in recording.nodes], axis=0)
    return float(total.max() - total[0])


def _steps(recording: Recording) -> NDArray[np.float64]:
    """Large growth of the page cache from one sample to the next, over all nodes."""
    cached = np.sum([np.nan_to_num(recording.column(f"n{node}.nr_file_pages")) for node in recording.nodes], axis=0)
    grown = np.diff(cached)
    return grown[grown > STEP_PAGES]


def _common_multiple(steps: NDArray[np.float64]) -> int:
    """The largest power of two up to 2 MiB that the steps are multiples of, but for stray pages beside them."""
    at_least = (steps % SMALL_FOLIO_PAGES == 0).mean()
    if at_least < 0.5:  # one in eight by chance
        return 1
    folio = LEAF_SPAN_PAGES
    while (steps % folio == 0).mean() < OFTEN * at_least:
        folio //= 2
    return folio


def _pages_per_file(recording: Recording) -> float:
    """Of the files that a process tree has opened, the mean; nothing is known of a workload that reports itself."""
    if not from_process_tree(recording):
        return math.inf
    opened = float(np.nanmax(recording.column("w.files")))
    return _growth(recording, "nr_file_pages") / opened if opened > 0 else math.inf


def _nodes_are_missing(recording: Recording) -> bool:
    """Whether reclaimable slab grew by less than half of what the cached pages' xarray nodes would take."""
    nodes = _growth(recording, "nr_file_pages") * XARRAY_BYTES_PER_PAGE / PAGE_BYTES
    return _growth(recording, "nr_slab_reclaimable") < nodes / 2
