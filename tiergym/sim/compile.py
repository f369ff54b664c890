"""How the model's functions are compiled: strict floating point, each once, cached on disk.

`jit` compiles a function for one machine or for a range of them. It releases the GIL and divides as NumPy does
(x / 0 is inf, not an exception). Floating point is not reordered, so results are bit-identical everywhere.

numba by itself optimises every function together with all that it calls, makes machine code of it, and does so once
per level of the call tree and per constant among the arguments: a minute for this model. Here a function that another
compiled one calls is a *part*: code that is only linked (`tiergym.sim.numba_changes`). What Python calls is an *entry*:
all its parts, optimised as a whole, once, and kept in the cache (`tiergym.sim.compile_cache`).

With `TIERGYM_PLAIN_NUMBA=1` in the environment every function is numba's own, with the same results. Nothing is cached
then, since code that several processes have cached may be mistaken (`numba_changes.number_functions_apart`).
"""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from tiergym.sim.compile_cache import cache_dir, numba_cache_at

PLAIN = os.environ.get("TIERGYM_PLAIN_NUMBA") == "1"
if not PLAIN:
    from tiergym.sim.numba_changes import PartType, part

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


class Compiled:
    """A compiled function: an entry when Python calls it, a part when another compiled function does."""

    def __init__(self, function: Callable[..., Any], inline: bool = False) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self._inline = inline

    def __call__(self, *args: Any) -> Any:
        """Compile for the types of `args`, or load from the cache, and call."""
        return self.entry(*args)

    @functools.cached_property
    def entry(self) -> Any:
        """numba's dispatcher of the function with all its parts."""
        folder = cache_dir()
        if folder is None:
            return numba.njit(**_OPTIONS)(self.py_func)
        with numba_cache_at(folder):
            return numba.njit(cache=True, **_OPTIONS)(self.py_func)

    @functools.cached_property
    def part(self) -> Any:
        """numba's dispatcher of the function's own code."""
        return part(self.py_func, **_OPTIONS, forceinline=self._inline)

    @functools.cached_property
    def _numba_type_(self) -> Any:
        """What a compiled function that names this one sees (numba asks for this attribute)."""
        return PartType(self.part)


def jit(function: F) -> F:
    """Compile a function. The uncompiled one stays reachable as `.py_func`, the reference in tests."""
    return cast(F, numba.njit(**_OPTIONS)(function) if PLAIN else Compiled(function))


def jit_inline(function: F) -> F:
    """As `jit`, and always inlined: for functions that fill arrays, since numba counts references to an array argument
    atomically at every call that remains, and for the steps of one that runs in every tick."""
    return cast(F, numba.njit(**_OPTIONS)(function) if PLAIN else Compiled(function, inline=True))
