"""A hint to the processor: which machine is stepped next.

A tick of a large batch waits for memory rather than computes, and hardware does not guess where the next record's
fields are. Asked for while the present machine is stepped, they are there in time.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from tiergym.sim.compile import jit_inline

WORDS_PER_LINE = 8
"""float64 in a cache line of 64 bytes."""

_READ, _SECOND_LEVEL, _DATA = 0, 2, 1  # arguments of LLVM's llvm.prefetch


def prefetch(words, row, column):
    """Fetch the cache line of `words[row, column]` without waiting for it; does nothing where it is not compiled."""


@intrinsic
def _prefetch(typing: Any, words: Any, row: Any, column: Any) -> Any:
    """The processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(words)(context, builder, values[0])
        item = cgutils.get_item_pointer(context, builder, words, array, values[1:], wraparound=False)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        hint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0i8"
        )
        address = builder.bitcast(item, byte)
        builder.call(hint, [address, number(_READ), number(_SECOND_LEVEL), number(_DATA)])
        return context.get_dummy_value()

    return types.void(words, types.intp, types.intp), generate


@overload(prefetch)
def _compiled_prefetch(words, row, column):
    return lambda words, row, column: _prefetch(words, row, column)


@jit_inline
def prefetch_head(words, row, count):
    """Fetch the first `count` of a row of `words`, float64 (N, W); rows behind the last one do not exist."""
    if row < words.shape[0]:
        for column in range(0, count, WORDS_PER_LINE):
            prefetch(words, row, column)
