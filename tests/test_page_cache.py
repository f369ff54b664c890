"""Page cache asked for, from counters: dropped pages once, demoted ones never, deleted files no more."""

from collections.abc import Mapping

import pytest

from tiergym.recordings.page_cache import CacheAsked, CacheCounts, Counter, dropped_files, refaulted_files
from tiergym.sim.units import LEAF_SPAN_PAGES


def counter(values: Mapping[str, float]) -> Counter:
    return lambda name: values.get(name, 0.0)


@pytest.mark.parametrize(
    ("counters", "dropped"),
    [
        ({"pgsteal_file": 500}, 500),
        ({"pgsteal_file": 500, "pgdemote_kswapd": 300, "pgdemote_direct": 50}, 150),
        ({"pgsteal_file": 500, "pgsteal_anon": 200, "pgdemote_kswapd": 700}, 0),  # all went to the other node
        ({"pgsteal_file": 500, "pgsteal_anon": 200, "pswpout": 200}, 500),
        ({"pgsteal_file": 500, "pgsteal_anon": 200, "pswpout": 60}, 500),  # clean in the swap cache: not written again
        ({"pgsteal_kswapd": 400, "pgsteal_proactive": 100, "pgdemote_proactive": 20}, 480),  # no count by kind
    ],
)
def test_dropped_pages_are_those_that_left_memory(counters: dict[str, float], dropped: float):
    assert dropped_files(counter(counters)) == dropped


def test_refaults_have_had_two_names():
    assert refaulted_files(counter({"workingset_refault": 7})) == 7
    assert refaulted_files(counter({"workingset_refault_file": 9, "workingset_refault_anon": 4})) == 9


def asked(*samples: tuple[float, ...]) -> list[float]:
    """What is asked for beyond the first sample, of (there, dropped, refaults, mapped, tables) at each."""
    cache = CacheAsked(LEAF_SPAN_PAGES)
    totals = [cache.add(CacheCounts(*sample)) for sample in samples]
    return [round(total - cache.at_start) for total in totals]


def test_a_page_counts_once_however_often_it_is_read():
    """Read by read(), dropped, read again."""
    assert asked((100, 0, 0, 0, 0), (1100, 0, 0, 0, 0), (600, 500, 0, 0, 0), (1100, 500, 500, 0, 0)) == [
        0, 1000, 1000, 1000,
    ]  # fmt: skip


def test_a_deleted_file_takes_its_dropped_pages_with_it():
    """Half of 1,000 pages were dropped; then the file is deleted, and another is written."""
    written = [(0, 0, 0, 0, 0), (1000, 0, 0, 0, 0), (500, 500, 0, 0, 0)]
    assert asked(*written, (0, 500, 0, 0, 0), (300, 500, 0, 0, 0)) == [0, 1000, 1000, 0, 300]
    assert asked(*written, (250, 500, 0, 0, 0))[-1] == 500


def test_refaults_that_nobody_counted_show_in_the_tables():
    """A mapping of 20,480 pages, 40 tables, is read twice; what comes back lands on another node and is not counted."""
    first = [(0, 0, 0, 0, 0), (10240, 0, 0, 10240, 30), (10240, 10240, 0, 10240, 50)]
    twice = (20480, 20480, 0, 20480, 50)
    assert asked(*first, twice) == [0, 10240, 20480, 20480]


def test_pages_in_cache_before_they_are_mapped_count_when_their_tables_come():
    """Readahead fills the cache, and reclaim drops some of it, before a mapping has touched it."""
    ahead = [(0, 0, 0, 0, 0), (5120, 0, 0, 5120, 10), (10240, 2000, 0, 5120, 10)]
    assert asked(*ahead, (10240, 2000, 0, 10240, 30))[-1] == 12240


def test_larger_entries_need_no_table_and_bound_nothing():
    """Folios of 2 MiB, mapped whole: 20,480 pages under one table."""
    assert asked((0, 0, 0, 0, 0), (10240, 0, 0, 10240, 1), (15360, 5120, 0, 15360, 1))[-1] == 20480


def test_what_tables_said_is_final_when_the_process_ends():
    """As above, twice read through a mapping; then the process gives up its pages, and then their tables."""
    first = [(0, 0, 0, 0, 0), (10240, 0, 0, 10240, 30), (10240, 10240, 0, 10240, 50), (20480, 20480, 0, 20480, 50)]
    assert asked(*first, (20480, 20480, 0, 100, 50), (20480, 20480, 0, 0, 0))[-2:] == [20480, 20480]


def test_refaults_that_nobody_counted_show_in_the_nodes():
    """A file of 20,000 pages is read by read() twice over; what comes back lands on another node and is not counted.
    The nodes of the first time serve the second."""
    first = [(0, 0, 0, 0, 0, 0), (10000, 0, 0, 0, 0, 12000), (10000, 10000, 0, 0, 0, 22000)]
    assert asked(*first, (20000, 20000, 0, 0, 0, 22000))[-1] == 20000
    assert asked(*first, (20000, 20000, 0, 0, 0, 32000))[-1] == 30000
