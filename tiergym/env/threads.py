"""Compiled work over ranges of machines, shared among threads.

The compiled functions release the GIL, so Python's own threads run them side by side. numba's `prange` would do the
same, at 13 s more of compilation (it builds the whole model three times over) and with a threading layer that kills
or blocks forked children; its fixed cost of 0.1 ms per call is that of these threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tiergym")


# A forked child has none of its parent's threads: it starts its own on first use.
os.register_at_fork(after_in_child=_pool.cache_clear)


def over_ranges(work: Callable[[int, int], object], count: int, threads: int) -> None:
    """Call `work(first, last)` for `threads` ranges that make up `count`, one of them on the caller's thread."""
    bounds = [count * k // threads for k in range(threads + 1)]
    others = [_pool(threads - 1).submit(work, *bounds[k : k + 2]) for k in range(1, threads)]
    work(0, bounds[1])
    for other in others:
        other.result()
