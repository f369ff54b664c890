"""Whether records that were read from a file are machines that can go on: compiled code checks no index.

Every number that a scenario sets lies in its field's range, every other one in a range that a running machine stays in,
above all what selects an entry of an array.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import NVEC, OFFSETS
from tiergym.lab.constraint import HIGHEST
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.layout import SELDOM

_MOST = 2**53
"""Of a count: beyond it NumPy's and compiled code's float64 are no whole numbers any more."""
_RECORDS = {"regions": "region", "processes": "process"}


def check_machines(records: NDArray[np.void], counts: Sequence[tuple[int, int]]) -> None:
    """Raise `ValueError`, naming the field, for records (N,) that are no machines of these scenarios.

    counts: regions and processes of each scenario.
    """
    regions, processes = (np.array(column) for column in zip(*counts, strict=True))
    _within("scenario", records["scenario"], 0, len(counts) - 1)
    blocks = records.dtype["block_state"].shape[0]
    at = records["scenario"]
    for field, low, high in (
        ("regions", regions[at], regions[at]),
        ("processes", processes[at], processes[at]),
        ("blocks", 0, blocks),
        ("events", 0, p.N_EVENTS),
        ("events_done", 0, 2**p.N_EVENTS - 1),  # a bit of each
        ("ticks", 1, np.iinfo(np.int32).max),
        ("tick", 0, records["ticks"]),
        ("kswapd_class", 0, n.N_CLASSES - 1),
        ("oom_class", 0, n.N_CLASSES - 1),
        ("action", 0, NVEC - 1),
        ("block_state", 0, n.BLOCK_MOVABLE),
    ):
        _within(field, records[field], low, high)
    for field, low, high, values in _parameters(records):
        _within(field, values, low, high)
    _within("region.heat_from", records["region"]["heat_from"], -1, regions.max() - 1)
    _within("region.process", _active(records, "regions", "region")["process"], 0, processes.max() - 1)
    for field, values in _leaves(records):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{field} of a machine is not finite")
        if values.dtype.kind == "i" and field != "region.heat_from":
            _within(field, values, 0, _MOST)


def check_episodes(state: Mapping[str, NDArray[Any]]) -> None:
    """Raise `ValueError`, naming the array, for what machines' episodes cannot have come to: a learner takes it in."""
    ticks = state["records"]["ticks"]
    for name, low, high in (
        ("obs", 0.0, 1.0),
        ("seen", 0.0, 1.0),
        ("returns", -_MOST, 0.0),
        ("lengths", 0, ticks),
        ("kill_price", 0.0, HIGHEST),
    ):
        if name in state:  # `seen` is of learners that look back
            _within(name, state[name], low, high)
    if not state["masks"][:, OFFSETS].all():
        raise ValueError("masks of a machine forbid the first mode of an entry; allowed: always")


def _within(field: str, values: NDArray[Any], low: Any, high: Any) -> None:
    """Raise `ValueError` where a value is outside; limits are numbers, one per machine, or one per entry."""
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        raise ValueError(
            f"{field} of a machine is {values[wrong].flat[0]}; allowed: {np.min(low):g} to {np.max(high):g}"
        )


def _parameters(records: NDArray[np.void]) -> Iterator[tuple[str, float, float, NDArray[Any]]]:
    """Every number that a scenario sets, where it is in use: name, least, most, values."""
    for _, fields in p.SCALAR_SECTIONS:
        for field in fields:
            yield field.name, field.low, field.high, records[field.name]
    for section, prefix, fields in p.REPEATED_SECTIONS:
        record = _RECORDS.get(section)
        for field in fields:
            if record is None:
                yield prefix + field.name, field.low, field.high, records[prefix + field.name]
            else:
                slots = f"{record}_seldom" if prefix + field.name in SELDOM else record
                yield f"{record}.{field.name}", field.low, field.high, _active(records, section, slots)[field.name]


def _active(records: NDArray[np.void], count: str, slots: str) -> NDArray[Any]:
    """The regions or processes that are in use, of all machines one behind the other; `count` says how many."""
    return records[slots][np.arange(records[slots].shape[1]) < records[count][:, None]]


def _leaves(array: NDArray[Any], prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Every plain field of a record, those of records in it by their dotted names."""
    for field in array.dtype.names or ():
        values = array[field]
        if values.dtype.names is None:
            yield prefix + field, values
        else:
            yield from _leaves(values, f"{prefix}{field}.")
