"""Everything that tiergym changes about numba, in one place. `TIERGYM_PLAIN_NUMBA=1` does without all of it.

First what it changes for the whole process when this module is imported, then how it compiles functions that only
other compiled functions call. A gain is what a cold start (everything compiled, one tick; `tiergym bench`) takes longer
without that change and with all others: in processor seconds, to about one, of 15 on an EPYC. Without any it takes 70.
The folder of the cache is numba's own setting, set while we decorate (`compile_cache.numba_cache_at`).
"""

import functools
import itertools
import secrets
from collections.abc import Callable
from typing import Any

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

# --- changes for the whole process ---------------------------------------------------------------------------------


def number_functions_apart() -> None:
    """Functions never share a name in the cache.

    Reason: numba tells functions and records in the names of compiled code by numbers that every process counts from 1.
    Code that two processes have put into the cache could bear one name for two sizes of machine, and a third process
    would run the one for the other. Here a process counts from a number of its own.
    Gain: none in time; without it results are wrong (tests/test_compile.py shows how).
    Can go: when numba names what it caches by its content (numba issue 10486).
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(48))


def describe_records_once() -> None:
    """A record's description is kept.

    Reason: numba describes the arguments before each pass over each function, and a machine's record takes 10 kB.
    Gain: 1 s.
    Can go: when numba keeps it, or no longer describes what nobody listens to (numba/core/event.py).
    """
    record: Any = types.Record
    record.__repr__ = functools.cache(types.Record.__repr__)


def compare_options_that_are_set() -> None:
    """Compilers' options compare by those that are set, and hash by their names.

    Reason: numba looks functions up by the options, and lists all of them at every comparison and for every hash, which
    is of their names alone (numba/core/targetconfig.py: TargetConfig).
    Gain: 2 s.
    Can go: when numba compares `_values` first.
    """
    options: Any = TargetConfig
    equal = options.__eq__
    hash_names: Any = functools.cache(lambda kind: hash(tuple(sorted(kind.options))))
    options.__eq__ = lambda self, other: (
        (type(self) is type(other) and self._values == other._values) or equal(self, other)
    )
    options.__hash__ = lambda self: hash_names(type(self))


number_functions_apart()
describe_records_once()
compare_options_that_are_set()


# --- parts: functions that only other compiled functions call --------------------------------------------------------


class _PartLibrary(JITCodeLibrary):
    """LLVM code of one function that is only ever linked into others: neither optimised nor made machine code.

    Reason: numba optimises every function together with all that it calls and makes machine code of it, once per level
    of the call tree.
    Gain: 18 s.
    Can go: when numba compiles functions without a Python wrapper only as they are linked (as numba pull request 9566
    proposed).
    """

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
"""Nine of numba's passes.

Reason: plain functions over numbers and arrays have no closures, generators, array expressions or context managers,
which the other eighteen are for.
Gain: 2 s.
Can go: whenever those seconds do not matter; `DefaultPassBuilder.define_nopython_pipeline` is numba's own list.
"""


class _PartCompiler(CompilerBase):
    """`_PART_PASSES` into a `_PartLibrary`."""

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


def _general(kind: Any) -> Any:
    """A constant is like any other number, and so is a count of the record once it is read."""
    kind = types.unliteral(kind)
    return types.int64 if kind == types.int32 else kind


class PartType(types.Dispatcher):
    """How a part looks to the functions that call it: one version for all constants and widths of whole numbers.

    Reason: numba would make one version for each literal argument, fourteen of the allocator alone.
    Gain: 10 s, of them 1 for whole numbers.
    Can go: when numba tells constants apart only for functions that ask for it.
    """

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature for `args`, which are types."""
        return super().get_call_type(context, tuple(_general(arg) for arg in args), kws)


register_model(PartType)(models.OpaqueModel)


def part(function: Callable[..., Any], **options: Any) -> Any:
    """numba's dispatcher of a function that is only linked into others, with more `options` of `numba.njit`."""
    only_linked: dict[str, Any] = {
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "pipeline_class": _PartCompiler,
    }
    return numba.njit(**only_linked, **options)(function)
