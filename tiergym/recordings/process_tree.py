"""What a tree of processes asks of the kernel, from /proc/<pid>: the `w.*` columns of a recording."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiergym.recordings.page_cache import UPPER_TABLES
from tiergym.recordings.proc_files import Values

PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
"""A page of the machine that is recorded."""
TABLE_PAGES = PAGE_KB * 1024 // 8
"""Entries of a leaf table, 8 bytes each: 2 MiB of 4 KiB pages."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One process now: its memory as /proc/<pid>/status has it, in kB, and its threads."""

    pid: int
    parent: int
    anon_kb: int
    file_kb: int
    shmem_kb: int
    swap_kb: int
    data_kb: int
    tables_kb: int
    threads: int


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (prctl(2)), so that the tree loses none of them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read_processes(proc: Path) -> dict[int, Process]:
    """The processes that have memory of their own (kernel threads and zombies have none), by pid."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdecimal() and (process := _read_process(folder)) is not None:
            found[process.pid] = process
    return found


def _read_process(folder: Path) -> Process | None:
    try:
        text = (folder / "status").read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return None
    fields = {name: int(value) for name, value in re.findall(r"(?m)^(\w+):\t *(\d+)", text)}
    if "RssAnon" not in fields:
        return None
    return Process(
        pid=int(folder.name),
        parent=fields["PPid"],
        anon_kb=fields["RssAnon"],
        file_kb=fields["RssFile"],
        shmem_kb=fields["RssShmem"],
        swap_kb=fields.get("VmSwap", 0),
        data_kb=fields.get("VmData", 0) + fields.get("VmStk", 0),
        tables_kb=fields.get("VmPTE", 0),
        threads=fields.get("Threads", 1),
    )


def descendants(processes: dict[int, Process], root: int) -> list[Process]:
    """The processes below `root`, without itself."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def requests(tree: list[Process], machine: Values, touched_files_kb: Mapping[int, int]) -> Values:
    """What the tree has asked for by now, in pages, as `w.*`.

    A page that several processes map counts once per process in their RSS. The `machine`'s totals of distinct pages
    bound the sums, of /proc/meminfo, or of /proc/vmstat where that has four lines, as in containers: `AnonPages`, and
    `Mapped` less the shared memory in it, which `shmem_rss_pages` is; `shmem_touched_pages` is the most that one
    process touched. `sparse_leaf_tables` are those beyond what the touched pages would fill if they lay densely (of
    files those in `touched_files_kb`, by pid: reclaim frees no table); their pages are in `anon_touched_pages`
    already.
    """
    resident = sum(p.anon_kb for p in tree)
    anon = min(resident, _total_kb(machine, "AnonPages", "nr_anon_pages", resident)) + sum(p.swap_kb for p in tree)
    shmem = min(sum(p.shmem_kb for p in tree), _total_kb(machine, "Shmem", "nr_shmem", 0))
    most_files = max((p.file_kb for p in tree), default=0)
    mapped = min(
        sum(p.file_kb for p in tree), max(_total_kb(machine, "Mapped", "nr_mapped", most_files) - shmem, most_files)
    )
    dense = sum(_tables(p.anon_kb + p.swap_kb + touched_files_kb.get(p.pid, p.file_kb) + p.shmem_kb) for p in tree)
    tables = sum(max(0, p.tables_kb // PAGE_KB - UPPER_TABLES) for p in tree)
    return {
        "w.anon_touched_pages": anon // PAGE_KB,
        "w.anon_mapped_pages": sum(p.data_kb for p in tree) // PAGE_KB,
        "w.file_rss_pages": mapped // PAGE_KB,
        "w.shmem_rss_pages": shmem // PAGE_KB,
        "w.shmem_touched_pages": max((p.shmem_kb for p in tree), default=0) // PAGE_KB,
        "w.sparse_leaf_tables": max(0, tables - dense),
        "w.tables_kb": sum(p.tables_kb for p in tree),
        "w.threads": sum(p.threads - 1 for p in tree),
        "w.procs": len(tree),
    }


def _total_kb(machine: Values, name: str, counter: str, otherwise_kb: int) -> int:
    """A total of the machine in kB: a line of /proc/meminfo, or a counter of /proc/vmstat."""
    if f"mi.{name}" in machine:
        return machine[f"mi.{name}"]
    return PAGE_KB * machine[f"vm.{counter}"] if f"vm.{counter}" in machine else otherwise_kb


def _tables(kb: int) -> int:
    return -(-kb // (PAGE_KB * TABLE_PAGES))


def referenced_pages(proc: Path, tree: list[Process], clear: bool) -> int | None:
    """Pages of the tree that were accessed since their accessed bits were last cleared; `clear` clears them now.

    Needs the right to trace the processes (one's own, or root) and CONFIG_PROC_PAGE_MONITOR; None without it.
    Both walk all page tables, and reclaim takes pages whose bits were cleared for idle.
    """
    total = 0
    for process in tree:
        folder = proc / str(process.pid)
        try:
            match = re.search(r"(?m)^Referenced: +(\d+) kB", (folder / "smaps_rollup").read_text())
            if clear:
                (folder / "clear_refs").write_text("1")
        except (FileNotFoundError, ProcessLookupError):
            if folder.exists():
                return None
            continue  # it ended meanwhile
        except OSError:
            return None
        total += int(match[1]) if match else 0
    return total // PAGE_KB
