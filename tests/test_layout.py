"""The record of a machine: parameters are drawn to where their names say, and what ticks use lies at its head."""

import re

import numpy as np
import pytest

from tiergym.sim import names as n
from tiergym.sim.draw import draw_parameters
from tiergym.sim.layout import (
    BLOCK_SIZES,
    MOST_COUNTED_MIB,
    REGION,
    REGION_SIZES,
    SELDOM,
    SELDOM_STATE,
    draw_numbers,
    machine_dtype,
    new_machines,
    parameter_names,
    parameter_words,
    tick_bytes,
)
from tiergym.sim.parameters import REPEATED_SECTIONS, ROW, SCALAR_SECTIONS
from tiergym.sim.units import PAGES_PER_MIB


@pytest.mark.parametrize("regions", REGION_SIZES)
def test_parameters_are_drawn_to_where_their_names_say(regions: int) -> None:
    names = parameter_names(regions)
    table = np.zeros((len(names), ROW))
    table[:, 0], table[:, 1] = n.DRAW_FIXED, np.arange(len(names)) + 0.75
    whole = np.arange(len(names)) % 2
    machines = new_machines(1, regions)
    words = machines.view(np.float64).reshape(-1)
    draw_parameters(
        words, np.stack([parameter_words(regions), whole, draw_numbers(regions)], axis=1), table, np.uint64(1)
    )
    for i, name in enumerate(names):
        field, _, index = name.partition("[")
        inner = re.fullmatch(r"(region|process)_(\w+)", field)
        record = machines[0][inner[1] + ("_seldom" if field in SELDOM else "")] if inner else machines[0]
        value = record[inner[2] if inner else field]
        assert (value[int(index[:-1])] if index else value) == (i + 1 if whole[i] else i + 0.75), name
    assert (words != 0).sum() == len(names)


@pytest.mark.parametrize("regions", REGION_SIZES)
def test_every_parameter_has_a_draw_of_its_own_in_batches_of_any_size(regions: int) -> None:
    numbers = dict(zip(parameter_names(regions), draw_numbers(regions).tolist(), strict=True))
    assert len(set(numbers.values())) == len(numbers)
    smallest = dict(zip(parameter_names(REGION_SIZES[0]), draw_numbers(REGION_SIZES[0]).tolist(), strict=True))
    assert smallest.items() <= numbers.items()


def test_what_every_tick_uses_lies_at_the_head() -> None:
    dtype = machine_dtype(16)
    fields = dtype.fields
    assert fields is not None
    head = tick_bytes(16, 16)
    behind = {name for name, (_, offset, *_) in fields.items() if offset >= head}
    apart = ("region_seldom", "process_seldom")
    state = {f"region_{field}" for field, _ in SELDOM_STATE}
    inner = {name.replace("seldom", field) for name in apart for field in dtype[name].base.names or ()} - state
    assert behind - {*apart, "block_state", "block_own_memmap", "block_unmovable"} | inner == SELDOM
    assert tick_bytes(16, 4) == fields["region"][1] + 4 * REGION.itemsize == head - 12 * REGION.itemsize


def test_the_largest_machine_s_pages_fit_into_a_count() -> None:
    sizes = [f.high for _, fields in (*SCALAR_SECTIONS, *((s, f) for s, _, f in REPEATED_SECTIONS)) for f in fields
             if f.name in ("dram_mib", "slow_mib", "swap_mib", "mib")]  # fmt: skip
    assert len(sizes) == 5
    small, middle, large = (np.iinfo(machine_dtype(16, blocks)["free_pages"].base).max for blocks in BLOCK_SIZES)
    assert small == middle
    assert MOST_COUNTED_MIB * PAGES_PER_MIB <= small < max(sizes) * PAGES_PER_MIB <= large


def test_no_field_hides_behind_an_attribute_of_numpy_s_records() -> None:
    """The uncompiled model reads fields as attributes, and would see NumPy's own first."""
    dtype = machine_dtype(16)
    inner = [dtype[f"{record}{suffix}"].base for record in ("region", "process") for suffix in ("", "_seldom")]
    records = (dtype, *inner)
    assert [name for dtype in records for name in dtype.names or () if hasattr(np.record, name)] == []
