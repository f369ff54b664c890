"""How the model's functions are compiled: strict floating point, each once, cached on disk.

`jit` compiles a function for one machine or for a range of them. It releases the GIL and divides as NumPy does
(x / 0 is inf, not an exception). Floating point is not reordered, so results are bit-identical everywhere.

numba by itself optimises every function together with all that it calls, makes machine code of it, and does so once
per level of the call tree and per constant among the arguments: a minute for this model. Here a function that another
compiled one calls is a *part*: code that is only linked. What Python calls is an *entry*: all its parts, optimised as
a whole, once, and kept in the cache (`tiergym.sim.compile_cache`).
"""

import functools
import itertools
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.core.bytecode import FunctionIdentity
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.targetconfig import TargetConfig
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode
from numba.extending import models, register_model

from tiergym.sim.compile_cache import cache_dir, numba_cache_at

F = TypeVar("F", bound=Callable[..., Any])

# numba tells functions and records in the names of compiled code by numbers that every process counts from 1. Code that
# two processes have put into the cache could bear one name for two sizes of machine, and a third process would run the
# one for the other. Counted from a number of the process's own, functions never share a name.
FunctionIdentity._unique_ids = itertools.count(secrets.randbits(48))

# numba describes the arguments before each pass over each function. A machine's record takes 10 kB to describe.
_record_type: Any = types.Record
_record_type.__repr__ = functools.cache(types.Record.__repr__)

# It also looks functions up by the compiler's options, and lists all of them at every comparison and for every hash,
# which is of their names alone.
_options_type: Any = TargetConfig
_equal_options = _options_type.__eq__
_hash_options: Any = functools.cache(lambda kind: hash(tuple(sorted(kind.options))))
_options_type.__eq__ = lambda self, other: (
    (type(self) is type(other) and self._values == other._values) or _equal_options(self, other)
)
_options_type.__hash__ = lambda self: _hash_options(type(self))

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


class _PartLibrary(JITCodeLibrary):
    """LLVM code of one function that is only ever linked into others: neither optimised nor made machine code."""

    class _NoAddresses:
        def set_env(self, name: str, env: Any) -> None:
            """There is no machine code in which the environment's address would have to be set."""

    codegen = _NoAddresses()

    def finalize(self) -> None:
        """Nothing to do: the entry that links this optimises it."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No machine code, so no address."""
        return 0

    def _get_module_for_linking(self) -> Any:
        """This function's code and that of all it calls."""
        if self._shared_module is None:
            for library in dict.fromkeys(self._linking_libraries):
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
            super()._get_module_for_linking()
        return self._shared_module


_PART_PASSES = (
    (TranslateByteCode, "analyzing bytecode"),
    (FixupArgs, "fix up args"),
    (IRProcessing, "processing IR"),
    (ReconstructSSA, "ssa"),
    (NopythonTypeInference, "nopython frontend"),
    (PreLowerStripPhis, "remove phis nodes"),
    (IRLegalization, "ensure IR is legal prior to lowering"),
    (NativeLowering, "native lowering"),
    (NoPythonBackend, "nopython mode backend"),
)
"""Those of numba's passes that plain functions over numbers and arrays need: no closures, generators, array
expressions or context managers. The other eighteen and the descriptions above took a sixth of the compilation."""


class _PartCompiler(CompilerBase):
    """The short pipeline, into a `_PartLibrary`."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile `func`."""
        self.state.library = _PartLibrary(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)

    def define_pipelines(self) -> list[Any]:
        """One: `_PART_PASSES`."""
        passes = PassManager("part")
        for kind, description in _PART_PASSES:
            passes.add_pass(kind, description)
        passes.finalize()
        return [passes]


def _widened(kind: Any) -> Any:
    """A count of the record is like any other whole number once it is read."""
    return types.int64 if kind == types.int32 else kind


class _PartType(types.Dispatcher):
    """How a part looks to the functions that call it: one version for all constants, where numba would make
    one for each literal argument (fourteen of the allocator alone)."""

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature for `args`, which are types."""
        return super().get_call_type(context, tuple(_widened(types.unliteral(arg)) for arg in args), kws)


register_model(_PartType)(models.OpaqueModel)


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
        only_linked: dict[str, Any] = {
            "no_cpython_wrapper": True,
            "no_cfunc_wrapper": True,
            "pipeline_class": _PartCompiler,
        }
        return numba.njit(**_OPTIONS, **only_linked, forceinline=self._inline)(self.py_func)

    @functools.cached_property
    def _numba_type_(self) -> types.Dispatcher:
        """What a compiled function that names this one sees (numba asks for this attribute)."""
        return _PartType(self.part)


def jit(function: F) -> F:
    """Compile a function. The uncompiled one stays reachable as `.py_func`, the reference in tests."""
    return cast(F, Compiled(function))


def jit_inline(function: F) -> F:
    """As `jit`, for functions that fill arrays: always inlined, since numba counts references to an array argument
    atomically at every call that remains."""
    return cast(F, Compiled(function, inline=True))
