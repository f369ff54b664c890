"""One sample of a running machine: everything in /proc and /sys that a recording has columns for."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tiergym.errors import UserError
from tiergym.files import read_bytes
from tiergym.recordings import page_cache, proc_files, process_tree
from tiergym.recordings.page_cache import CacheAsked, CacheCounts
from tiergym.recordings.proc_files import Values, number
from tiergym.recordings.tiers import Fold, folded

NODES = "sys/devices/system/node"
LOOKS = (1, 2, 4)
"""Ages of accessed bits at which they are read: few pages again and again, or others every time?"""
REQUIRED = ("proc/vmstat", "proc/meminfo", "proc/zoneinfo")
MAX_BYTES = 16 << 20
"""Of a file: a thousand processors' /proc/zoneinfo has a megabyte."""


@dataclass
class Machine:
    """The machine whose /proc and /sys lie under `root`. `notes`: what could not be read, and why. `fold`: which of its
    nodes are which tier."""

    root: Path = Path("/")
    notes: dict[str, str] = field(default_factory=dict)
    fold: Fold | None = None

    def read(self, path: str) -> str:
        """The text of a file; "" and a note where it cannot be read. Raises `UserError` if it is one of `REQUIRED`."""
        try:
            return read_bytes(self.root / path, MAX_BYTES).decode(errors="replace")
        except UserError as error:  # a copy of another machine's files may hold anything under their names
            if path in REQUIRED:
                raise UserError(f"{error}; recording needs a Linux kernel with it") from error
            self.notes[f"/{path}"] = f"left out: {str(error).removeprefix(f'{self.root / path}: ')}"
            return ""

    def numbered(self, folder: str, stem: str) -> list[str]:
        """Names in a folder that are `stem` and a number, by that number."""
        names = (path.name for path in (self.root / folder).glob(f"{stem}[0-9]*"))
        found = (name for name in names if re.fullmatch(r"[0-9]{1,9}", name.removeprefix(stem)))
        return sorted(found, key=lambda name: int(name.removeprefix(stem)))

    def nodes(self) -> list[int]:
        """Memory nodes that are there now; none on a kernel without NUMA."""
        return [int(name.removeprefix("node")) for name in self.numbered(NODES, "node")]

    def values(self, fold: bool = True) -> Values:
        """The counters of the machine now, by column; a file that is not readable has none. Without `fold`, as they
        are of each node."""
        values = proc_files.zoneinfo(self.read("proc/zoneinfo"))
        for node in self.nodes():
            values |= proc_files.counters(self.read(f"{NODES}/node{node}/vmstat"), f"n{node}.")
            values |= proc_files.meminfo(self.read(f"{NODES}/node{node}/meminfo"), f"m{node}.")
        vmstat, meminfo = self.read("proc/vmstat"), self.read("proc/meminfo")
        values |= proc_files.counters(vmstat, "vm.") | proc_files.meminfo(meminfo, "mi.")
        if "n0.nr_free_pages" not in values:  # without NUMA the machine is one node, and these are its counters
            values |= proc_files.counters(vmstat, "n0.") | proc_files.meminfo(meminfo, "m0.")
        values |= proc_files.buddyinfo(self.read("proc/buddyinfo"))
        values = folded(values, self.fold if fold else None)
        for resource in ("cpu", "io", "memory"):
            values |= proc_files.pressure(self.read(f"proc/pressure/{resource}"), f"psi.{resource}.")
        return values | proc_files.slabinfo(self.read("proc/slabinfo"))

    def objects(self) -> Values:
        """Inodes and negative dentries that the kernel holds, which any user may read."""
        found = {
            "inodes": number(self.read("proc/sys/fs/inode-nr").split()),
            "negative_dentries": number(self.read("proc/sys/fs/dentry-state").split(), 4),
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass
class Sampler:
    """Takes samples of a machine and of the processes below `parent` (None: of all but this one).

    `referenced_s` > 0: the accessed bits of those processes are read at 1, 2 and 4 times this age, then cleared.
    """

    machine: Machine
    parent: int | None
    referenced_s: float = 0.0
    first: Values = field(default_factory=dict)
    files_kb: dict[int, int] = field(default_factory=dict)
    cache: CacheAsked = field(default_factory=lambda: CacheAsked(process_tree.TABLE_PAGES))
    cleared_s: float | None = None
    look: int = 0
    referenced: int = 0
    age_s: float = 0.0

    def sample(self, t_s: float) -> Values:
        """All columns but t_s, at `t_s` seconds since the start."""
        values = self.machine.values()
        found = process_tree.read_processes(self.machine.root / "proc")
        if self.parent is None:
            tree = [process for process in found.values() if process.pid != os.getpid()]
        else:
            tree = process_tree.descendants(found, self.parent)
        self.files_kb = {p.pid: max(p.file_kb, self.files_kb.get(p.pid, 0)) for p in tree}
        values |= process_tree.requests(tree, values, self.files_kb)
        state = self.machine.objects() | _totals(values)
        self.first = self.first or state
        grown = {name: max(0, state[name] - self.first[name]) for name in state.keys() & self.first.keys()}
        values["w.file_touched_pages"] = self._files(values, grown)
        values["w.shmem_touched_pages"] = max(values["w.shmem_touched_pages"], grown["shmem"])
        for column, name in (("w.files", "inodes"), ("w.neg_lookups", "negative_dentries")):
            if name in grown:
                values[column] = grown[name]
        if self.referenced_s > 0:
            self._look_at_accessed_bits(t_s, tree)
            values |= {"w.referenced_pages": self.referenced, "w.referenced_age_ms": round(self.age_s * 1e3)}
        return values

    def _files(self, values: Values, grown: Values) -> int:
        """Page cache of files that the workload, or anything else on the machine, has read, written or mapped since the
        first sample, in pages: each once, however often reclaim drops it."""

        def under(prefix: str) -> page_cache.Counter:
            return lambda name: float(values.get(prefix + name, 0))

        tables = page_cache.tables_of_files(grown["tables"], grown["anon"], values["w.procs"], process_tree.TABLE_PAGES)
        asked = self.cache.add(
            CacheCounts(
                page_cache.file_pages([under(node) for node in _nodes(values)]),
                page_cache.dropped_files(under("vm.")),
                page_cache.refaulted_files(under("vm.")),
                float(values["w.file_rss_pages"]),
                tables,
            )
        )
        return max(values["w.file_rss_pages"], round(asked - self.cache.at_start))

    def _look_at_accessed_bits(self, t_s: float, tree: list[process_tree.Process]) -> None:
        """Look at the ages 1, 2 and 4 times `referenced_s` after the bits were cleared, and clear them at the last."""
        due_s = -math.inf if self.cleared_s is None else self.cleared_s + LOOKS[self.look] * self.referenced_s
        if not tree or t_s < due_s:
            return
        last = self.cleared_s is None or self.look == len(LOOKS) - 1
        pages = process_tree.referenced_pages(self.machine.root / "proc", tree, clear=last)
        if pages is None:
            self.machine.notes["w.referenced_pages"] = "zero: accessed bits of the processes cannot be read and cleared"
        elif self.cleared_s is not None:
            self.referenced, self.age_s = pages, t_s - self.cleared_s
        self.look = 0 if last else self.look + 1
        self.cleared_s = t_s if last else self.cleared_s


def _totals(values: Values) -> Values:
    """Pages over all nodes: page tables, anonymous and shared memory."""
    counters = {"tables": "nr_page_table_pages", "anon": "nr_anon_pages", "shmem": "nr_shmem"}
    prefixes = _nodes(values)
    return {name: sum(values.get(node + of, 0) for node in prefixes) for name, of in counters.items()}


def _nodes(values: Values) -> list[str]:
    return sorted({match[1] for name in values if (match := re.match(r"(n\d+\.)nr_file_pages$", name))})
