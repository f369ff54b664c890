"""What a recorded program asks for, whatever it is: its process tree's `w.*` columns and the machine's totals.

Totals over all nodes are requests wherever reclaim cannot change them: who touches a page, forks, starts a thread or
maps a file asks for it, on whichever node it lands. Of what reclaim takes, counters say how much was asked for. Where
anything was put is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tiergym.recordings.format import Recording
from tiergym.recordings.heat import HeatClass, heat_of
from tiergym.recordings.machine_totals import Totals, totals_of
from tiergym.recordings.request_curves import requests_of
from tiergym.sim import demand
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, PAGE_KIB
from tiergym.validation.recorded_cache import folio_pages, node_bytes_per_page, written_share
from tiergym.validation.recorded_machine import COUNTERS, first_sample, kernel_version
from tiergym.validation.request_series import (
    FILES_AT_START,
    SYSTEM,
    RegionRequest,
    Requests,
    Series,
    start_regions,
)
from tiergym.validation.script_requests import NEGATIVE_DENTRY_BYTES
from tiergym.validation.task_progress import AFTER_KILL_S, SLOPE_S
from tiergym.validation.tasks import Task, block_requests, kill_samples

PROGRAM = "p0"
UNUSED = ("page tables", "mapped once", "files")
"""Regions that are no memory of processes in use: tables are no pages, and a file that was read or written is not read
again by itself."""
IN_USE = 0.5
"""Of the most that is mapped at a time: a mapping that has less is about to end."""
FREED_SHARE = 0.02
"""Of the machine's page tables: processes that come and go have fewer."""
LEAST_DROPPED = 500
"""Pages: from fewer nothing is concluded."""
SELDOM_HZ = 1e-3
"""Less often is never, in a recording of minutes."""
LAG_SAMPLES = 2
UNUSED_S = 30.0
"""Who touches a page so seldom does not use it; of a run that is shorter, half of it."""


def program_requests(recording: Recording) -> Requests:
    """The requests of a run of any program, at its sample times: growth beyond the first sample.

    One process holds what the tree has touched; where the kernel killed one, what that one had. Memory that processes
    hold is as warm as the recording says, else as warm as a scenario's regions are by default.
    """
    t_s, start, totals = recording.t_s, first_sample(recording), totals_of(recording)
    kills = kill_samples(recording)
    anon, others = _anonymous(recording, totals, kills)
    regions = start_regions(t_s, start)
    regions[0].target = regions[0].target + np.minimum(others, 0.0)
    others = np.maximum(others, 0.0)
    mapped, once, unmapped = _files(t_s, totals, regions)
    # Pages that were deleted and made anew are written anew.
    unmapped.written_share = written_share(recording, float(np.diff(unmapped.target).clip(min=0).sum()))
    tables, filled = _tables(totals, anon, others)
    heat = heat_of(recording, requests_of(recording)).classes
    if unmapped.target.max() > mapped.target.max():  # else what comes back is mostly mapped
        unmapped.access_hz = np.full(len(t_s), _reread_hz(t_s, totals, once.target))
    for region in (
        RegionRequest("anon", PROGRAM, anon, left=filled),
        RegionRequest("anon of others", SYSTEM, others),
        RegionRequest("page tables", PROGRAM, tables, kind="zero", density=1 / LEAF_SPAN_PAGES),
        RegionRequest("shmem", SYSTEM, _growth(totals.shmem), kind="shmem"),
        once,
        mapped,
        unmapped,
    ):
        regions += [region] if region.name in UNUSED else _by_heat(region, heat)
    threads = totals.threads
    unreclaim = (totals.slab_unreclaim - totals.slab_unreclaim[0]) * PAGE_BYTES
    requests = Requests(
        t_s,
        [Task("program", {}, False, 0.0, 0, exit_s=float(t_s[k]), killed=True) for k in kills[:1]],
        {SYSTEM: {"oom_score_adj": -1000}, PROGRAM: {"work_share": 0}},
        regions,
        {SYSTEM: threads},
        unreclaim - (threads - threads[0]) * demand.THREAD_SLAB_BYTES,
        *_reclaimable_slab(recording, totals, unmapped),
        block_requests(recording),
        killed=frozenset([PROGRAM] if kills else []),
        dirty=_dirty(recording),
        buffers=_buffers(recording),
    )
    if kills:
        for region in regions:
            if region.process == PROGRAM:
                region.target = _gone_on(t_s, region.target, kills[0])
    return requests


def _dirty(recording: Recording) -> Series | None:
    """Pages that are dirty or on their way to the disk (mm/page-writeback.c: node_dirty_ok); None without counters."""
    names = [f"n{node}.{counter}" for node in recording.nodes for counter in ("nr_dirty", "nr_writeback")]
    if not any(name in recording.columns for name in names):
        return None
    return np.sum([np.nan_to_num(recording.column(name).astype(np.float64)) for name in names], axis=0)


def _buffers(recording: Recording) -> Series:
    """Kernel pages of no class that is counted, beyond the first sample's, over all nodes: sockets' buffers above all.

    Counters are read one after the other and lag behind per CPU, so for a sample or two a page is in none or in two of
    them: what is there all the time counts.
    """
    pages = np.zeros(len(recording.t_s))
    for node in recording.nodes:
        for zone in recording.zones(node):
            for of, sign in (("managed", 1.0), ("free", -1.0), ("pcp_count", -1.0)):
                pages += sign * np.nan_to_num(recording.column(f"z{node}.{zone}.{of}").astype(np.float64))
        for counter, pages_per_unit in COUNTERS.values():
            pages -= pages_per_unit * np.nan_to_num(recording.column(f"n{node}.{counter}").astype(np.float64))
    around = np.pad(pages - pages[0], LAG_SAMPLES, mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(around, 2 * LAG_SAMPLES + 1).min(axis=1)
    return np.maximum(least, 0.0)


def _growth(series: Series) -> Series:
    """What was added since the first sample."""
    return np.maximum(series - series[0], 0.0)


def _anonymous(recording: Recording, totals: Totals, kills: list[int]) -> tuple[Series, Series]:
    """Anonymous pages of the program's processes, and of the rest of the machine beyond the first sample (negative:
    below it).

    A sum over processes counts pages that they share after fork several times, so the machine's own growth bounds it.
    """
    touched = np.zeros(len(recording.t_s))
    for name in ("anon_touched_pages", "kv_touched_pages"):
        touched += np.nan_to_num(recording.column(f"w.{name}").astype(np.float64))
    grown = totals.anon - totals.anon[0]
    tree = np.clip(touched - touched[0], 0.0, np.maximum(grown, 0.0))
    if kills:
        tree = tree * _share_of_victim(recording, float(tree[max(kills[0] - 1, 0)]))
    return tree, grown - tree


def _share_of_victim(recording: Recording, pages: float) -> float:
    """Share of the tree's anonymous `pages` that the first process killed had, by the kernel's log; 1 if it is mute."""
    for line in recording.meta.get("dmesg", []):
        if match := re.search(r"Killed process \d+ .*anon-rss:([0-9]{1,15})kB", str(line)):
            return min(1.0, int(match[1]) / PAGE_KIB / max(pages, 1.0))
    return 1.0


def _tables(totals: Totals, anon: Series, others: Series) -> tuple[Series, Series]:
    """Leaf tables beyond those that anonymous memory takes in the model, and how densely the program's lies in its own.

    A heap that grows fills up tables that it has. So a table that later maps anonymous pages, without being freed in
    between, is anonymous memory's from the beginning, which lies the less densely in it.
    """
    rest = _growth(totals.tables)
    for pages in (anon, others):
        leaf = np.ceil(pages / LEAF_SPAN_PAGES)
        rest = rest - leaf - _upper(leaf)
    rest = np.maximum(rest - _upper(rest), 0.0)
    leaf = np.ceil(anon / LEAF_SPAN_PAGES)
    lasting = np.maximum(_until_freed(totals.tables, rest), rest + leaf - anon)
    return lasting, anon / np.maximum((leaf + rest - lasting) * LEAF_SPAN_PAGES, 1.0)


def _until_freed(tables: Series, rest: Series) -> Series:
    """The least that `rest` comes to before a process frees tables, of which the machine then has fewer."""
    freed = tables * (1 - FREED_SHARE)
    ends = (int(np.argmax(tables[k:] < freed[k])) or len(tables) - k for k in range(len(tables)))
    return np.array([rest[k : k + length].min() for k, length in enumerate(ends)])


def _upper(leaf: Series) -> Series:
    """Tables above the leaves of one region (tiergym.sim.regions.upper_tables_needed)."""
    return np.where(leaf > 0, np.ceil(leaf / LEAF_SPAN_PAGES) + 2, 0.0)


def _files(
    t_s: Series, totals: Totals, regions: list[RegionRequest]
) -> tuple[RegionRequest, RegionRequest, RegionRequest]:
    """Page cache beyond the first sample's: what is or was mapped, in use as far as it is, what of that is used once
    only, and what is only read or written. Less than in the first sample: files of then were deleted."""
    grown = totals.files - totals.files[0]
    for region in regions:
        if region.name == FILES_AT_START:
            region.target = np.maximum(region.target + np.minimum(grown, 0.0), 0.0)
    grown = np.maximum(grown, 0.0)
    kept = np.minimum(np.maximum.accumulate(totals.mapped), grown)
    in_use = np.minimum(totals.mapped / np.maximum(kept, 1.0), 1.0)
    once = kept * _used_once(t_s, totals, kept)
    return (
        RegionRequest("mapped files", SYSTEM, kept - once, kind="cache", access_hz=in_use),
        RegionRequest("mapped once", SYSTEM, once, kind="cache"),
        RegionRequest("files", SYSTEM, grown - kept, kind="cache"),
    )


def _used_once(t_s: Series, totals: Totals, kept: Series) -> float:
    """Share of the pages that were mapped which nobody touches again: of those that reclaim took, the ones that stay
    away until the last of the mappings is about to end. It may be more, for what reclaim leaves cannot show it.

    Nobody counts which page comes back. Those that do may all be others than were away before.
    """
    first = int(np.argmax(totals.mapped >= IN_USE * totals.mapped.max()))
    last = _last_in_use(totals)
    before = int(np.searchsorted(t_s, t_s[last] - min(UNUSED_S, (t_s[last] - t_s[first]) / 2)))
    out = totals.files - totals.cached
    back = totals.dropped[last] - totals.dropped[before] - (out[last] - out[before])
    away = (min(out[before], out[last]) - max(back, 0.0)) * totals.mapped[last] / max(totals.files[last], 1.0)
    return float(np.clip(away / max(kept[last], 1.0), 0.0, 1.0))


def _reread_hz(t_s: Series, totals: Totals, once: Series) -> float:
    """How often a page of a file that reclaim has dropped is asked for again, per second, while files are in use: what
    a program that reads them by pread() asks of the page cache. 0 where hardly any was dropped.

    Pages that are deleted while they are out of memory do not come back.
    """
    last = _last_in_use(totals) + 1
    out = np.maximum(totals.files - totals.cached, 0.0)[:last]
    dropped = np.diff(totals.dropped[:last])
    if dropped.sum() < LEAST_DROPPED:
        return 0.0
    deleted = np.maximum(-np.diff(totals.files[:last]), 0.0) * out[:-1] / np.maximum(totals.files[: last - 1], 1.0)
    back = np.maximum(dropped - np.diff(out) - deleted, 0.0).sum()
    waited = (np.maximum(out - once[:last], 0.0)[:-1] * np.diff(t_s[:last])).sum()
    hz = float(np.clip(back / max(waited, 1.0), 0.0, 1.0))
    return hz if hz >= SELDOM_HZ else 0.0


def _last_in_use(totals: Totals) -> int:
    """The sample when the last of the mappings is about to end; programs that only read files map themselves."""
    return int(np.flatnonzero(totals.mapped >= IN_USE * totals.mapped.max())[-1])


def _by_heat(region: RegionRequest, classes: Sequence[HeatClass]) -> list[RegionRequest]:
    """A region that is in use, or the share of it that `access_hz` gives, as one region per class of heat."""
    return [
        _as_often(
            replace(region, name=f"{region.name} {of.name}".strip(), target=region.target * of.share), of.access_hz
        )
        for of in classes
    ]


def _as_often(region: RegionRequest, hz: float) -> RegionRequest:
    """A region that is in use, or the share of it that `access_hz` gives, referenced so often per page and second."""
    used = np.ones(len(region.target)) if region.access_hz is None else region.access_hz
    return replace(region, access_hz=used * hz)


def _reclaimable_slab(recording: Recording, totals: Totals, unmapped: RegionRequest) -> tuple[Series, Series]:
    """Bytes of slab that shrinkers can free, and that they cannot; nodes and buffer heads of cached pages are the
    model's own.

    What shrinkers took was asked for, too: slab that leaves while they scan counts on. Buffer heads leave with their
    pages.
    """
    scanned = np.nan_to_num(recording.column("vm.slabs_scanned").astype(np.float64))
    here = totals.cached * unmapped.target / np.maximum(totals.files, 1.0)
    slab = totals.slab_reclaim - here * unmapped.written_share * demand.BUFFER_HEAD_BYTES / PAGE_BYTES
    change = np.diff(slab, prepend=slab[0])
    shrunk = np.where(np.diff(scanned, prepend=scanned[0]) > 0, np.minimum(change, 0.0), 0.0)
    asked = (slab - slab[0] - np.cumsum(shrunk)) * PAGE_BYTES
    files = np.nan_to_num(recording.column("w.files").astype(np.float64)) * demand.FILE_SLAB_BYTES
    files += np.nan_to_num(recording.column("w.neg_lookups").astype(np.float64)) * NEGATIVE_DENTRY_BYTES
    of_files = node_bytes_per_page(folio_pages(recording, kernel_version(recording)))
    nodes = (totals.files - totals.files[0]) * of_files
    nodes += (totals.shmem - totals.shmem[0]) * demand.XARRAY_BYTES_PER_PAGE
    shrinkable = np.clip(files - files[0], 0.0, np.maximum(asked, 0.0))
    return shrinkable, asked - nodes - shrinkable


def _gone_on(t_s: Series, target: Series, kill: int) -> Series:
    """A request that would have gone on at its last pace, had its process not been killed at sample `kill`."""
    last = max(kill - 1, 0)
    first = min(int(np.searchsorted(t_s, t_s[last] - SLOPE_S)), max(last - 1, 0))
    pace = max(0.0, float((target[last] - target[first]) / max(t_s[last] - t_s[first], 1e-3)))
    after = (t_s > t_s[last]) & (t_s < t_s[kill] + AFTER_KILL_S)
    return np.where(after, target[last] + pace * (t_s - t_s[last]), target)
