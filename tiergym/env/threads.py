"""Compiled work over ranges of machines, shared among threads.

The compiled functions release the GIL, so Python's own threads run them side by side. numba's `prange` would do the
same, at 13 s more of compilation (it builds the whole model three times over) and with a threading layer that kills
or blocks forked children; its fixed cost of 0.1 ms per call is that of these threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

RANGES_PER_THREAD = 4


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tiergym")


# A forked child has none of its parent's threads: it starts its own on first use.
os.register_at_fork(after_in_child=_pool.cache_clear)


def over_ranges(work: Callable[[int, int], object], count: int, threads: int) -> None:
    """Call `work(first, last)` for ranges that make up `count`, on the caller's thread and on others.

    Whoever is free takes the next range: a thread that wakes late, or is kept from its core, holds nobody up.
    """
    ranges = threads * RANGES_PER_THREAD
    bounds = [count * k // ranges for k in range(ranges + 1)]
    left = iter(range(ranges))  # each number goes to one thread: the interpreter lock makes `next` atomic

    def take() -> None:
        for k in left:
            work(bounds[k], bounds[k + 1])

    others = [_pool(threads - 1).submit(take) for _ in range(threads - 1)]
    take()
    for other in others:
        other.result()
