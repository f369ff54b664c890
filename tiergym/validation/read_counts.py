"""How a recorded machine read pages back, counted, beside what the model has: pages that a read brings, pages that came
back.

Times of the recordings are an emulator's, so prices cannot be compared. What a price is made of can: one read's wait is
shared by the pages that it brings (`sim.storage`), and is paid for every page that comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tiergym.env.machines import Machines
from tiergym.recordings.format import Recording
from tiergym.recordings.machine_totals import from_process_tree
from tiergym.recordings.page_cache import Counter, dropped_files, file_pages, refaulted_files
from tiergym.sim import names as n
from tiergym.sim.storage import window_pages
from tiergym.sim.units import PAGE_KIB
from tiergym.validation.outcomes import Outcome
from tiergym.validation.recorded_cache import readahead_kib
from tiergym.validation.recorded_machine import kernel_version
from tiergym.validation.replay import scenario_of
from tiergym.validation.request_series import Requests
from tiergym.validation.requests import read_requests
from tiergym.validation.score import Row

FEW_PAGES = 256
"""Fewer swapped pages, or pages that came back, are those of programs that slept."""
SWEPT_TOLERANCE = 0.1
FACTOR = 1.5
NOISE_PAGES = 1000
"""As of other events: a difference below this is noise."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Pages that a machine read from its first sample to its last.

    read: of files, from the disk. first: of these, for the first time; back: dropped before. refaults: of `back`, what
    the kernel counts (workingset_refault_file). dropped: of files, by reclaim. swapped_in, of which `swap_ahead` were
    read ahead. major_faults: how often somebody waited for a read through a mapping.
    """

    read: int
    first: int
    back: int
    refaults: int
    dropped: int
    swapped_in: int
    swap_ahead: int
    major_faults: int


@dataclass(frozen=True, slots=True)
class Windows:
    """Pages that one read brings in the model: of a file with the recorded readahead, of swapped memory that is swept,
    and of swapped memory that is not."""

    file: int
    swept: int
    single: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One recording: what was counted, what the replay counts, and the model's windows. `swept`: its workload goes over
    its memory from front to back, again and again."""

    run: str
    release: str
    readahead_kib: int
    measured: Counts
    replayed: Counts
    windows: Windows
    swept: bool


def grown(recording: Recording, counter: str) -> int:
    """Growth of a counter over the recording, up to its largest value: the lab's scripts take theirs back."""
    column = recording.column(counter).astype(np.float64)
    return int(np.nanmax(column, initial=0.0) - np.nan_to_num(column[0]))


def reads_something(recording: Recording) -> bool:
    """Whether anybody waited for a page of a file or of swap."""
    return grown(recording, "vm.pgmajfault") > 0


def first_reads(recording: Recording, requests: Requests) -> int:
    """Pages of files that the workload reads for the first time, as the replay is asked for them."""
    if not from_process_tree(recording):
        return grown(recording, "w.file_touched_pages")
    kinds = ("file_ro", "file_rw", "cache")
    return int(
        sum(
            np.diff(region.target).clip(0).sum() * (1.0 - region.written_share)
            for region in requests.regions
            if region.kind in kinds
        )
    )


def measured_counts(recording: Recording, first: int) -> Counts:
    """What the kernel counted. Scripts of the lab read a file of holes, which no disk is asked for: what came back is
    what page cache has more than was read for the first time and not dropped. Programs read from a disk (pgpgin)."""

    def at(sample: int, prefix: str) -> Counter:
        return lambda name: float(np.nan_to_num(recording.column(f"{prefix}.{name}")[sample]))

    refaults = int(refaulted_files(at(-1, "vm")) - refaulted_files(at(0, "vm")))
    dropped = dropped_files(at(-1, "vm")) - dropped_files(at(0, "vm"))
    if from_process_tree(recording):
        read = grown(recording, "vm.pgpgin") / PAGE_KIB
        back = read - first
    else:
        there = [file_pages(at(sample, f"n{node}") for node in recording.nodes) for sample in (0, -1)]
        back = there[1] - there[0] + dropped - first
        read = first + back
    back = min(back, dropped)
    return Counts(
        int(read),
        first,
        max(int(back), refaults),
        refaults,
        int(dropped),
        grown(recording, "vm.pswpin"),
        grown(recording, "vm.swap_ra"),
        grown(recording, "vm.pgmajfault"),
    )


def windows_of(recording: Recording, requests: Requests) -> Windows:
    """`sim.storage.window_pages` on the recorded machine with the recorded readahead."""
    kib = readahead_kib(recording, kernel_version(recording))
    machines = Machines([scenario_of(recording, requests)], 1, threads=1, noiseless=True)
    machines.reset(np.zeros(1, np.uint64))
    record = machines.records[0]
    record["readahead_kib"] = kib
    kinds = [region.kind for region in requests.regions]
    file, swapped = kinds.index("cache"), kinds.index("anon")

    def window(region: int, reads: int) -> int:
        record["region_seldom"]["reads"][region] = reads
        return int(window_pages(record, region))

    return Windows(window(file, n.READS_STREAM), window(swapped, n.READS_STREAM), window(swapped, n.READS_RANDOM))


def reading_of(outcome: Outcome) -> Reading:
    """The counts of one replayed recording."""
    recording, replay = outcome.recording, outcome.replay
    assert replay is not None
    requests = read_requests(recording)
    first, counters = first_reads(recording, requests), replay.counters[-1]
    return Reading(
        recording.name,
        outcome.score.release,
        int(readahead_kib(recording, kernel_version(recording))),
        measured_counts(recording, first),
        Counts(
            first + int(counters[n.C_FILE_REFAULT]),
            first,
            int(counters[n.C_FILE_REFAULT]),
            0,
            int(counters[n.C_FILE_DROPPED]),
            int(counters[n.C_PSWPIN]),
            0,
            0,
        ),
        windows_of(recording, requests),
        grown(recording, "w.loops") > 0,
    )


def readings_of(outcomes: Iterable[Outcome]) -> list[Reading]:
    """The counts of all recordings in which somebody waited for a page."""
    return [reading_of(o) for o in outcomes if o.replay is not None and reads_something(o.recording)]


def swap_row(reading: Reading) -> Row | None:
    """Pages that a read from swap brings: a cluster where memory is swept, else one."""
    counts, windows = reading.measured, reading.windows
    reads = counts.swapped_in - counts.swap_ahead
    if reads <= 0:
        return None
    expected = windows.swept if reading.swept else windows.single
    pages = counts.swapped_in / reads
    return Row(
        "swept" if reading.swept else "page by page",
        f"{pages:.1f}",
        str(expected),
        f"{SWEPT_TOLERANCE:.0%}",
        abs(pages / expected - 1.0) <= SWEPT_TOLERANCE,
        required=counts.swapped_in >= FEW_PAGES,
    )


def file_row(reading: Reading) -> Row | None:
    """Pages that come for one wait on a mapped file: at least the window that the model shares a read's wait among."""
    counts = reading.measured
    if counts.swapped_in > 0 or counts.read < FEW_PAGES:
        return None
    pages = counts.read / counts.major_faults
    least = reading.windows.file / FACTOR
    return Row("mapped", f"{pages:.0f}", str(reading.windows.file), f"from {least:.0f}", pages >= least)


def back_row(reading: Reading) -> Row | None:
    """Pages of files and of swap that came back, in the recording and in its replay."""
    swap = max(reading.measured.swapped_in, reading.replayed.swapped_in) > 0
    ours = reading.replayed.swapped_in if swap else reading.replayed.back
    pages = reading.measured.swapped_in if swap else reading.measured.back
    if max(pages, ours) < FEW_PAGES:
        return None
    close = max(pages, ours) <= FACTOR * max(min(pages, ours), 1) or abs(pages - ours) <= NOISE_PAGES
    return Row("swap" if swap else "files", str(pages), str(ours), f"factor {FACTOR} or {NOISE_PAGES}", close)
