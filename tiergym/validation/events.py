"""What happened in a run, measured against simulated: marks, fallback, reclaim, OOM kills, blocks taken offline."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tiergym.recordings.format import Recording
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.validation.recorded_machine import (
    action_modes,
    first_sample,
    sections,
    there_at_boot,
)
from tiergym.validation.replay import CLASSES, Replay
from tiergym.validation.requests import is_program
from tiergym.validation.score import Row, measured_pages
from tiergym.validation.tasks import details, kill_samples, number, offline_tests

TOUCHED_BY_SCRIPT = ("anon_touched_pages", "kv_touched_pages", "file_touched_pages", "sparse_leaf_tables", "threads")
"""What counts as touched at a kill, of a lab's script, whose counters keep their last value."""
TOUCHED_TOLERANCE = 0.10
DEMOTED_FACTOR = 1.5
DEMAND_PAGES = 1000
"""Demotion below this is noise of a few batches."""
BLOCKS_TOLERANCE = 1
WITH_KILL_S = 0.5
FALLBACK_PAGES = 64
"""Pages on node 1 that make a fallback: more than a stray page of a kernel thread."""


def event_rows(recording: Recording, replay: Replay) -> list[Row]:
    """All rows of one run."""
    rows = [*_machine_rows(recording, replay), *_fallback_rows(recording, replay), *_oom_rows(recording, replay)]
    return [*rows, *_reclaim_rows(recording, replay), *_offline_rows(recording, replay)]


def _same(name: str, measured: object, simulated: object, required: bool = True) -> Row:
    return Row(name, str(measured), str(simulated), "equal", measured == simulated, required)


def _machine_rows(recording: Recording, replay: Replay) -> Iterator[Row]:
    """Watermarks, blocks and memmap; marks of a kernel that computed them before all boot memory was free are shown.

    init_per_zone_wmark_min runs at boot and with every block that comes online: without one, marks are boot's.
    """
    start = first_sample(recording)
    slow = sum(start.managed[zone] for zone in (n.SLOW_NORMAL, n.SLOW_MOVABLE))
    recomputed = slow > 0 and not there_at_boot(recording)
    for zone in range(n.N_ZONES):
        if start.managed[zone]:
            marks = " ".join(str(start.marks[zone][mark]) for mark in ("min", "low", "high"))
            simulated = " ".join(str(mark) for mark in replay.marks[zone][1:])
            yield _same(f"marks of {n.ZONES[zone]}: min low high", marks, simulated, required=recomputed)
    ours = sum(replay.marks[zone][0] for zone in (n.SLOW_NORMAL, n.SLOW_MOVABLE))
    yield _same("managed pages of node 1", slow, ours, required=recomputed or slow == 0)
    listed = [line for line in recording.meta.get("guest_report", []) if line.startswith("memblocks ")]
    if listed:
        yield _same("blocks of node 1 online", len(re.findall(r":online:1:", listed[0])), replay.blocks)
    present = float(recording.meta["cxl_mib"]) * PAGES_PER_MIB
    yield _same("memmap of node 1, pages", int(present) // STRUCT_PAGES_PER_PAGE, replay.memmap)
    if sections(recording)["machine"]["slow_mib"] and not start.managed[n.SLOW_NORMAL]:
        kernel = replay.pages[:, [CLASSES.index(name) for name in CLASSES[:4]], 1].max()
        yield Row("kernel pages on node 1", "0", str(int(kernel)), "0", int(kernel) == 0)


def _fallback_rows(recording: Recording, replay: Replay) -> Iterator[Row]:
    """DRAM's free and per-CPU pages at the first fallback, and whether anything was reclaimed before it.

    Where a kill is next to the first fallback, nothing can be said about it.
    """
    slow = measured_pages(recording)[:, :, 1].sum(axis=1)
    measured = _first(slow - slow[0] >= FALLBACK_PAGES)
    ours = replay.pages[:, :, 1].sum(axis=1)
    simulated = _first(ours - ours[0] >= FALLBACK_PAGES)
    killed = [*kill_samples(recording)[:1], *(kill.sample for kill in replay.kills[:1])]
    times = recording.t_s
    with_kill = any(
        abs(times[k] - times[at]) <= WITH_KILL_S for k in killed for at in (measured, simulated) if at is not None
    )
    if measured is None or simulated is None or with_kill:
        agree = (measured is None) == (simulated is None)
        at = _at(recording, measured), _at(recording, simulated)
        yield Row("first fallback", *at, "both or neither", agree, required=not with_kill)
        return
    pcp = sum(np.nan_to_num(recording.column(f"z0.{zone}.pcp_count").astype(np.float64)) for zone in recording.zones(0))
    free = recording.column("n0.nr_free_pages").astype(np.float64) + pcp
    left = int(free[measured]), int(replay.free[simulated, 0] + replay.pcp[simulated, 0])
    refill = int(recording.meta["smp"]) * replay.refill + FALLBACK_PAGES
    close = abs(left[0] - left[1]) <= refill
    yield Row("free + per-CPU at first fallback", str(left[0]), str(left[1]), f"+-{refill}", close)
    if action_modes(recording)["zone"] == "normal":
        stolen = [
            sum(_by(recording, f"vm.pgsteal_{who}", measured) for who in ("kswapd", "direct")),
            int(replay.counters[simulated - 1, STEALS].sum()) if simulated else 0,
        ]
        yield Row("reclaimed before fallback", str(stolen[0]), str(stolen[1]), "0", stolen[1] == 0)


STEALS = [n.C_PGSTEAL_KSWAPD_FAST, n.C_PGSTEAL_KSWAPD_SLOW, n.C_PGSTEAL_DIRECT_FAST, n.C_PGSTEAL_DIRECT_SLOW]


def _by(recording: Recording, counter: str, sample: int) -> int:
    """A counter by a sample: its last value that is there."""
    return int(np.nanmax(recording.column(counter)[: sample + 1], initial=0))


def _first(condition: np.ndarray) -> int | None:
    return int(np.argmax(condition)) if condition.any() else None


def _at(recording: Recording, sample: int | None) -> str:
    return "none" if sample is None else f"{recording.t_s[sample]:.1f} s"


def _oom_rows(recording: Recording, replay: Replay) -> Iterator[Row]:
    """The first OOM kill: whether, what kind of request, under which constraint, how much was touched by then."""
    kills = kill_samples(recording)
    yield Row("OOM kill", "yes" if kills else "no", "yes" if replay.kills else "no", "equal",
              bool(kills) == bool(replay.kills))  # fmt: skip
    if not kills or not replay.kills:
        return
    log = [str(line) for line in recording.meta.get("dmesg", [])]
    requests = ["user" if "HIGHUSER" in line else "kernel" for line in log if "invoked oom-killer" in line]
    constraints = [match[1] for line in log if (match := re.search(r"oom-kill:constraint=(\w+)", line))]
    ours = replay.kills[0]
    if requests:
        yield _same("request that failed", requests[0], ours.request)
    if constraints:
        yield _same("OOM constraint", constraints[0], ours.constraint)
    touched = _touched(recording, replay, kills[0])
    close = abs(touched - ours.touched) <= TOUCHED_TOLERANCE * touched
    yield Row("touched at the kill", str(touched), str(ours.touched), f"{TOUCHED_TOLERANCE:.0%}", close)


def _touched(recording: Recording, replay: Replay, kill: int) -> int:
    """Pages touched at the first kill. A process tree loses the victim's, so the last sample before it counts."""
    if is_program(recording):
        return int(replay.touched[max(kill - 1, 0)])
    return int(sum(float(recording.column(f"w.{name}")[kill]) for name in TOUCHED_BY_SCRIPT))


def _reclaim_rows(recording: Recording, replay: Replay) -> Iterator[Row]:
    """Demoted and swapped pages; demotion is required to agree where kernel requests drive it [F-boosts]."""
    end = len(recording.t_s) - 1
    demoted = sum(_by(recording, f"vm.pgdemote_{who}", end) for who in ("kswapd", "direct"))
    simulated = int(replay.counters[-1, [n.C_PGDEMOTE_KSWAPD, n.C_PGDEMOTE_DIRECT]].sum())
    ratio = max(demoted, simulated, 1) / max(min(demoted, simulated), 1)
    close = ratio <= DEMOTED_FACTOR or max(demoted, simulated) <= DEMAND_PAGES
    driven = action_modes(recording)["zone"] == "movable"
    yield Row("pages demoted", str(demoted), str(simulated), f"factor {DEMOTED_FACTOR}", close, required=driven)
    if np.nanmax(recording.column("mi.SwapTotal"), initial=0) > 0:
        swapped = _by(recording, "vm.pswpout", end)
        ours = int(replay.counters[-1, n.C_PSWPOUT])
        close = max(swapped, ours, 1) / max(min(swapped, ours), 1) <= DEMOTED_FACTOR
        yield Row("pages swapped", str(swapped), str(ours), f"factor {DEMOTED_FACTOR}", close, required=False)


def _offline_rows(recording: Recording, replay: Replay) -> Iterator[Row]:
    """Blocks that failed to go offline, per test."""
    for tag, _, _ in offline_tests(recording):
        summary, words = next(
            (event, words)
            for event in recording.events
            if event.event == "offline_summary" and (words := details(event.detail)).get("tag") == tag
        )
        measured = tuple(int(number(recording, summary, words, key)) for key in ("ok", "fail"))
        ours = replay.offline.get(tag, (0, 0))
        close = abs(measured[1] - ours[1]) <= BLOCKS_TOLERANCE
        yield Row(f"blocks offline and failed, {tag}", f"{measured[0]} and {measured[1]}",
                  f"{ours[0]} and {ours[1]}", f"failed +-{BLOCKS_TOLERANCE}", close)  # fmt: skip
