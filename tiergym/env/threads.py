"""Compiled work shared among threads: each takes the next few machines until none is left.

Compiled functions release the GIL, so Python's own threads run them side by side. numba's `prange` would do the
same, at 13 s more of compilation (it builds the whole model three times over) and with a threading layer that kills
or blocks forked children. Shares are taken inside the compiled code: threads that came back to Python for each of them
waited for the GIL, 50 us in a step of 1024 machines that takes 300.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tiergym")


# A forked child has none of its parent's threads: it starts its own on first use.
os.register_at_fork(after_in_child=_pool.cache_clear)

_one_at_a_time = threading.Lock()


def on_threads(work: Callable[[], object], threads: int) -> None:
    """Call `work` on the caller's thread and on others, `threads` in all. What it does is shared by `take`.

    A thread that wakes late, or is kept from its core, holds nobody up: the others take its share, and one that has
    not begun when the caller is done need not.
    """
    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():
            other.result()


def take(turn: NDArray[Any], size: int) -> int:
    """The first of the next `size` numbers: `turn`, int64 (1,), which moves on by that. One caller at a time."""
    with _one_at_a_time:
        first = int(turn[0])
        turn[0] += size
    return first


@intrinsic
def _fetch_and_add(typing: Any, turn: Any, size: Any) -> Any:
    """The processor's own atomic addition to `turn[0]`; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(turn)(context, builder, values[0])
        first = context.get_constant(types.intp, 0)
        item = cgutils.get_item_pointer(context, builder, turn, array, [first], wraparound=False)
        return builder.atomic_rmw("add", item, values[1], "monotonic")

    return types.int64(turn, types.int64), generate


@overload(take)
def _compiled_take(turn, size):  # type: ignore[no-untyped-def]
    return lambda turn, size: _fetch_and_add(turn, size)  # type: ignore[call-arg]
