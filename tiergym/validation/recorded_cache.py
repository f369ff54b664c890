"""In which folios a recording's page cache came: what the release, the disk's readahead and the reader make of it.

Large folios are what decides whether a mapped file needs page tables and xarray nodes [K-large-folios], and no counter
shows them.
"""

from __future__ import annotations

import re

import numpy as np

from tiergym.recordings.format import Recording
from tiergym.sim.demand import XARRAY_BYTES_PER_PAGE
from tiergym.sim.regions import XARRAY_SLOTS
from tiergym.sim.releases import Version
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGE_KIB

LARGE_FOLIOS_SINCE: Version = (6, 16)
"""ext4 (fs/ext4/inode.c: ext4_set_inode_mapping_order)."""
WIDE_SINCE: Version = (6, 17)
"""A rotational disk without an optimum of its own gets twice its largest request, and virtio-blk says it rotates
(block/blk-settings.c: blk_apply_bdi_limits)."""
NARROW_KIB, WIDE_KIB = 128, 8192


def readahead_kib(recording: Recording, at: Version) -> float:
    """The disk's readahead window: as meta.json says (`read_ahead_kib`), as its scripts set it, or the kernel's."""
    stated = recording.meta.get("read_ahead_kib")
    if isinstance(stated, int | float):
        return float(stated)
    scripts = "\n".join(str(recording.meta.get(key, "")) for key in ("pre_script", "guest_script"))
    written = re.findall(r"echo (\d+) > /sys/block/\w+/queue/read_ahead_kb", scripts)
    if written:
        return float(written[-1])
    emulated = "qemu" in str(recording.meta.get("accel", ""))
    return WIDE_KIB if emulated and at >= WIDE_SINCE else NARROW_KIB


def folio_pages(recording: Recording, at: Version) -> int:
    """Pages per folio of the page cache of disk files, under a kernel of this version: a readahead window, up to 2 MiB.

    A reader may double its window (FADV_SEQUENTIAL), which no file tells. It shows only where it saves what the window
    alone would cost: xarray nodes.
    """
    if at < LARGE_FOLIOS_SINCE:
        return 1
    pages = int(readahead_kib(recording, at) / PAGE_KIB)
    pages = min(1 << max(pages, 1).bit_length() - 1, LEAF_SPAN_PAGES)
    return 2 * pages if 2 * pages == XARRAY_SLOTS and _nodes_are_missing(recording) else pages


def _nodes_are_missing(recording: Recording) -> bool:
    """Whether reclaimable slab grew by less than half of what the cached pages' xarray nodes would take."""

    def growth(counter: str) -> float:
        total = np.sum([np.nan_to_num(recording.column(f"n{node}.{counter}")) for node in recording.nodes], axis=0)
        return float(total.max() - total[0])

    nodes = growth("nr_file_pages") * XARRAY_BYTES_PER_PAGE / PAGE_BYTES
    return growth("nr_slab_reclaimable") < nodes / 2
