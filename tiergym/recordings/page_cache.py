"""How much page cache was ever asked for, from the machine's counters: what is there and what reclaim has taken.

Dropped pages that came back (refaults) count once, demoted pages were never gone, and a deleted file takes its dropped
pages with it. Step by step, so that the recorder and the reader of a recording count alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

UPPER_TABLES = 4
"""Of one process, not counted as leaf tables: two PUD and two PMD pages, for the heap and for mmap and stack."""
REFAULTS = ("workingset_refault_file", "workingset_refault")
RECLAIMERS = ("kswapd", "direct", "khugepaged", "proactive")

Counter = Callable[[str], float]
"""A counter's value by name, 0 where the kernel has none of it."""


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """Pages of files: `there` now; `dropped` by reclaim and `refaults` since boot; `mapped` by processes, of those
    there. `tables`: page tables since the start, beyond upper levels and what anonymous memory fills. `nodes`: pages
    that reclaimable slab since the start has xarray nodes for, infinite where nothing is known."""

    there: float
    dropped: float
    refaults: float
    mapped: float
    tables: float
    nodes: float = math.inf


def file_pages(nodes: Iterable[Counter]) -> float:
    """Page cache of files, from the nodes' vmstat: nr_file_pages holds shared memory and the swap cache too."""
    pages = sum(node("nr_file_pages") - node("nr_shmem") - node("nr_swapcached") for node in nodes)
    return max(0.0, pages)


def dropped_files(vmstat: Counter) -> float:
    """Pages of files that reclaim has dropped since boot.

    pgsteal counts demoted and swapped pages as reclaimed too. What was swapped is in pswpout; pages that leave the swap
    cache clean are not, so pgsteal_file bounds the rest.
    """
    stolen_files, stolen_anon = vmstat("pgsteal_file"), vmstat("pgsteal_anon")
    stolen = stolen_files + stolen_anon or sum(vmstat(f"pgsteal_{who}") for who in RECLAIMERS)
    demoted = sum(vmstat(f"pgdemote_{who}") for who in RECLAIMERS)
    dropped = max(0.0, stolen - demoted - vmstat("pswpout"))
    return min(dropped, stolen_files) if stolen_files + stolen_anon > 0 else dropped


def refaulted_files(vmstat: Counter) -> float:
    """Dropped pages of files that came back since boot. The multi-generational LRU counts only those that come back on
    the node that they left (mm/workingset.c: lru_gen_refault), so there may have been more."""
    return next((count for name in REFAULTS if (count := vmstat(name)) > 0), 0.0)


def tables_of_files(tables: float, anon: float, processes: float, table_pages: int) -> float:
    """Page tables, given those and the anonymous pages since the start, that can be leaf tables of mapped files."""
    return tables - UPPER_TABLES * processes - math.ceil(max(anon, 0.0) / table_pages)


class CacheAsked:
    """Adds up what was asked for, sample by sample; `asked` begins as what is there in the first.

    Where not all refaults are counted, the leaf tables say how much is mapped: they stay when reclaim drops a page.
    So do the nodes of the page cache, with an entry for each page that was dropped, mapped or not (mm/workingset.c).
    Beside those that pages fill there is some slack, known from the time when nothing had been dropped.
    `table_pages`: pages that a leaf table maps, 8 bytes each.
    """

    def __init__(self, table_pages: int) -> None:
        self.at_start = 0.0
        self.asked = 0.0
        self._table_pages = table_pages
        self._out = 0.0  # by the counters
        self._before: CacheCounts | None = None
        self._mapped = 0.0
        self._most_slack = -math.inf
        self._last_slack = -math.inf
        self._most_nodes = 0.0
        self._slack_nodes = 0.0
        self._dropped_any = False

    def add(self, now: CacheCounts) -> float:
        """What was asked for by now, in pages."""
        before, self._before = self._before, now
        if before is None:
            self.at_start = self.asked = now.there
            return self.asked
        dropped = max(0.0, now.dropped - before.dropped)
        came_back = max(0.0, now.refaults - before.refaults)
        deleted = max(0.0, before.there - now.there - dropped + came_back)
        # A process that ends gives up its pages before their tables. What tables said is final when they go.
        held = min(1.0, max(now.tables, 0.0) / max(before.tables, 1.0))
        self._mapped = max(now.mapped, self._mapped * held - dropped)
        self._out -= (1.0 - held) * (before.there + self._out - self.asked)
        stays = 1.0 - min(1.0, deleted / max(before.there, 1.0))
        self._out = max(0.0, self._out * stays + dropped - came_back)
        self._dropped_any |= dropped > 0
        counted = now.there + self._out
        self._most_nodes = max(self._most_nodes, now.nodes)
        if not self._dropped_any:
            self._last_slack = now.tables - now.mapped / self._table_pages
            self._most_slack = max(self._most_slack, self._last_slack)
            self._slack_nodes = now.nodes - (now.there - self.at_start)
            self.asked = counted
        else:
            kept = before.there - deleted + (self.asked - before.there) * stays
            most = min(self._most(now), self._most_with_nodes())
            self.asked = max(min(counted, most), min(counted, kept), now.there)
        return self.asked

    def _most_with_nodes(self) -> float:
        """The most that can have been asked for, given the nodes; other slab that has come meanwhile makes it more.

        Fewer nodes than pages: there are large folios (as XFS has since 5.18), and nodes are no bound.
        """
        if math.isinf(self._most_nodes) or self._slack_nodes < 0:
            return math.inf
        return self.at_start + self._most_nodes - self._slack_nodes

    def _most(self, now: CacheCounts) -> float:
        """The most that can have been asked for: what tables can map, and files that nobody maps.

        Slack that shrank as files were mapped is no bound: its tables filled up, or, below zero, pages are mapped by
        larger entries, which need no leaf table.
        """
        if self._last_slack < 0:
            return math.inf
        slack = self._most_slack if 2 * self._last_slack >= self._most_slack else self._last_slack
        unmapped = max(0.0, now.there - self._mapped)
        share = unmapped / max(now.there, 1.0)
        return max(self._mapped, self._table_pages * (now.tables - slack)) + unmapped + self._out * share
