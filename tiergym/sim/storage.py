"""Storage: what an evicted page costs that is read back, and what a disk gives to all who share it.

A read waits for the disk once, whatever it brings: a stream's readahead brings a window, a random read one page. The
disk's time is shared by reads and writes of files and swap. Compressed swap is memory: it costs the time of whoever
stores or loads, and part of the pages that it saves.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.regions import resident_pages, swap_backed
from tiergym.sim.units import PAGE_BYTES, PAGE_KIB

SLOTS_PER_TABLE = 512  # SWAPFILE_CLUSTER


@dataclass(frozen=True, slots=True)
class Disk:
    """A drive: one random read of 4 KiB alone, bandwidth of reads and of writes (1e6 bytes/s), random reads/s, and the
    fact of docs/sources.md that says so."""

    latency_us: float
    read_mb_per_s: float
    write_mb_per_s: float
    reads_per_s: float
    fact: str


@dataclass(frozen=True, slots=True)
class Compressor:
    """Of zswap: time to load and to store a page, how many pages fit into one, and the fact that says so."""

    load_us: float
    store_us: float
    ratio: float
    fact: str


DRIVES = {
    "nvme": Disk(85, 7000, 4300, 1e6, "[H-nvme]"),
    "nvme_pcie3": Disk(85, 3200, 1050, 490e3, "[H-nvme]"),
    "sata": Disk(83, 560, 530, 94e3, "[H-sata]"),
}
COMPRESSORS = {
    "zswap_lz4": Compressor(1.3, 6.6, 2.1, "[H-compressors]"),
    "zswap_zstd": Compressor(4.4, 12.4, 2.9, "[H-compressors]"),
}
"""Presets: what a scenario's fields of [storage] are where it leaves them 0."""

_DRIVES = np.array(
    [[d.latency_us, d.read_mb_per_s, d.write_mb_per_s, d.reads_per_s] for d in map(DRIVES.__getitem__, n.DISKS)]
)
_COMPRESSORS = np.array(
    [[0.0] * 3, *([c.load_us, c.store_us, c.ratio] for c in map(COMPRESSORS.__getitem__, n.SWAPS[1:]))]
)
"""By index of `names.DISKS` and `names.SWAPS`; swap on the disk is not compressed."""


@jit_inline
def stated(value, preset):
    """A field of [storage]: its own value, or the preset's where that is 0."""
    return value if value > 0.0 else preset


@jit
def page_read_us(m):
    """Time of the disk for a page of a long read."""
    return PAGE_BYTES / m.disk_read_mb_per_s


@jit
def page_write_us(m):
    """Time of the disk to write a page."""
    return PAGE_BYTES / m.disk_write_mb_per_s


@jit
def swap_on_disk(m):
    """Whether swapped pages are on the disk, and not compressed in memory."""
    return m.swap == n.SWAP_DISK


@jit
def window_pages(m, r):
    """Pages that one read of region r brings back: readahead's window of a file read in order, or around what a mapping
    misses (mm/filemap.c: do_async_mmap_readahead, do_sync_mmap_readahead), a cluster of slots of memory swept in order
    (mm/swap_state.c: swap_vma_readahead), else one. Nothing is read ahead from zswap, whose pages come one by one."""
    if m.region_seldom[r].reads == n.READS_RANDOM:
        return 1
    if not swap_backed(m, r):
        return max(int(m.readahead_kib) // PAGE_KIB, 1)
    return 1 << int(m.page_cluster) if swap_on_disk(m) else 1


@jit
def build_storage(m):
    """Fields that a scenario leaves 0 get their preset's values; what a read of each region is."""
    drive, compressor = _DRIVES[int(m.disk)], _COMPRESSORS[int(m.swap)]
    m.disk_latency_us = stated(m.disk_latency_us, drive[0])
    m.disk_read_mb_per_s = stated(m.disk_read_mb_per_s, drive[1])
    m.disk_write_mb_per_s = stated(m.disk_write_mb_per_s, drive[2])
    m.disk_reads_per_s = stated(m.disk_reads_per_s, drive[3])
    m.swap_latency_us = stated(m.swap_latency_us, m.disk_latency_us if swap_on_disk(m) else compressor[0])
    m.swap_store_us = stated(m.swap_store_us, compressor[1])
    if swap_on_disk(m) and page_write_us(m) > 1e6 / m.kswapd_pages_per_s:
        m.swap_out_us = stated(m.swap_out_us, page_write_us(m))
    m.slot_pages = 1.0 / SLOTS_PER_TABLE if m.swap_table_pages == n.ON else 0.0
    if not swap_on_disk(m):
        m.slot_pages += 1.0 / stated(m.swap_ratio, compressor[2])
    for r in range(m.regions):
        window = window_pages(m, r)
        latency = m.swap_latency_us if swap_backed(m, r) else m.disk_latency_us
        m.region_seldom[r].window_pages = window
        m.region_seldom[r].read_us = latency + (window - 1) * page_read_us(m)


@jit
def disk_read_us(m, r, pages):
    """Time that the disk is busy with `pages` of region r: their bytes, or their number of reads where that is more."""
    reads = pages / m.region_seldom[r].window_pages
    return max(pages * page_read_us(m), reads * 1e6 / m.disk_reads_per_s)


@jit
def from_disk(m, r):
    """Whether evicted pages of region r lie on the disk."""
    return not swap_backed(m, r) or swap_on_disk(m)


@jit
def first_reads_us(m, r):
    """Time that the disk is busy with what region r reads of its file for the first time in this tick.

    That comes at the pace of the workload, and is not held up: a workload faster than its disk has its file elsewhere.
    """
    kind = m.region[r].kind
    if m.region[r].want == 0 or not (kind == n.KIND_FILE_RO or kind == n.KIND_FILE_RW or kind == n.KIND_CACHE):
        return 0.0
    return m.region[r].want * (1.0 - m.region[r].written_share) * page_read_us(m)


@jit
def note_disk_writes(m, pages):
    """`pages` are written to the disk; reads have what is left of its time."""
    if pages > 0.0:
        m.disk_busy_us += pages * page_write_us(m)


@jit
def share_of_disk(m):
    """Share of what workers read back in this tick that the disk has time for: all, or as much of each region's."""
    asked = 0.0
    for r in range(m.regions):
        asked += first_reads_us(m, r)
        if m.region[r].coming > 0 and from_disk(m, r):
            asked += disk_read_us(m, r, m.region[r].coming)
    whole = m.dt_s * 1e6
    left = max(whole - m.disk_busy_us, 0.0)
    m.disk_busy_us = max(m.disk_busy_us - whole, 0.0)
    return 1.0 if asked <= left else left / asked


@jit
def workers_can_read(m, r):
    """Pages of region r that its readers get in a tick at most, one read each at a time (mm/memory.c: do_swap_page;
    mm/filemap.c: filemap_fault)."""
    seldom = m.region_seldom[r]
    return int(m.dt_s * m.workers * 1e6 / seldom.read_us * seldom.window_pages)


@jit
def hidden_us(m, r):
    """What region r's readers do for themselves while a page is read ahead: a stream's next window is asked for when
    its reader enters the one before (mm/readahead.c: page_cache_async_ra), so their own work hides that much of it."""
    region, seldom = m.region[r], m.region_seldom[r]
    if seldom.window_pages == 1.0 or seldom.reads != n.READS_STREAM or swap_backed(m, r) or region.hz == 0.0:
        return 0.0
    touched_per_s = region.hz * (resident_pages(m, r) + region.out_pages)
    return m.workers * m.process[int(region.process)].share * 1e6 / touched_per_s


@jit
def wait_us(m, r):
    """How long a reader of region r waits for a page that was evicted, its share of the read that brings it."""
    seldom = m.region_seldom[r]
    return max(seldom.read_us / seldom.window_pages - hidden_us(m, r), 0.0)


@jit
def await_disk(m, r, share):
    """Readers of region r who get only `share` of what they ask the disk for wait for the rest of the tick: one worker
    for each read that does not come, and no more of them than the work that needs it."""
    region = m.region[r]
    missing = (1.0 - share) * region.coming
    held = min(
        missing / m.region_seldom[r].window_pages, (1.0 - share) * m.workers * m.process[int(region.process)].share
    )
    premature = region.out_premature / max(region.out_pages, 1)
    m.owed_s[n.LOST_PREMATURE_RECLAIM] += held * m.dt_s * premature
    m.owed_s[n.LOST_REFAULT] += held * m.dt_s * (1.0 - premature)


@jit
def begin_reads(m):
    """A tick begins: of the evicted pages that regions wait for, those that come back in it."""
    waiting = 0
    for r in range(m.regions):
        region = m.region[r]
        region.coming = 0
        if region.refault > 0:
            region.coming = min(region.refault, workers_can_read(m, r))
            waiting += region.coming
    if waiting == 0:
        m.disk_busy_us = max(m.disk_busy_us - m.dt_s * 1e6, 0.0)
        return
    share = share_of_disk(m)
    for r in range(m.regions):
        if share < 1.0 and m.region[r].coming > 0 and from_disk(m, r):
            await_disk(m, r, share)
            m.region[r].coming = int(m.region[r].coming * share)


@jit
def end_reads(m):
    """A tick ends: who waits for swap goes on waiting, unless it was killed, and a file is asked for anew by whoever
    touches it next."""
    for r in range(m.regions):
        region = m.region[r]
        region.refault = max(region.refault - region.coming, 0) if swap_backed(m, r) else 0
