"""Recordings made for one test: the machine of a real one, which does nothing but what the test says."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.places import FITTED
from tiergym.recordings.format import REQUESTS, Event, Recording, read_recording, write_recording

Array = NDArray[Any]
TEMPLATE = "e_phases_on"


def made(folder: Path, columns: dict[str, Array], events: list[Event] | None = None, **meta: Any) -> Recording:
    """A recording in `folder`/made whose columns are the first sample of a real one, but for those given.

    A name without a dot is a request: `threads` is `w.threads`. A phase of the real run's script is left out.
    """
    template = read_recording(FITTED / TEMPLATE)
    samples = len(columns["t_s"])
    machine: dict[str, Array] = {
        name: np.resize(column[:1], samples) for name, column in template.columns.items() if name[:2] != "w."
    }
    requests: dict[str, Array] = {f"w.{name}": np.zeros(samples, np.int64) for name in REQUESTS}
    given = {name if name == "t_s" or "." in name else f"w.{name}": column for name, column in columns.items()}
    whole = {**template.meta, "guest_script": "", **meta}
    write_recording(folder / "made", whole, {**machine, **requests, **given}, events or [])
    return read_recording(folder / "made")


def grown(name: str, by: Array, scale: int = 1) -> Array:
    """A column of the machine's, `by` so much beyond its first sample; `scale`: units per page."""
    first = read_recording(FITTED / TEMPLATE).column(name)[0]
    return np.asarray(first + by * scale)


def program(folder: Path, t_s: Array, meta: dict[str, Any] | None = None, **pages: Array) -> Recording:
    """A run of a program as the recorder sees it: `anon`, `mapped` and `cached` files and `tables`, pages beyond the
    first sample that all lie in DRAM, and any columns by name with `__` for the dot."""
    zero = np.zeros(len(t_s), np.int64)
    anon, mapped, cached, tables = (pages.pop(name, zero) for name in ("anon", "mapped", "cached", "tables"))
    columns = {
        "t_s": t_s,
        "anon_touched_pages": anon,
        "file_rss_pages": mapped,
        "procs": zero + 1,
        "n0.nr_anon_pages": grown("n0.nr_anon_pages", anon),
        "n0.nr_file_pages": grown("n0.nr_file_pages", mapped + cached),
        "n0.nr_page_table_pages": grown("n0.nr_page_table_pages", tables),
        "mi.AnonPages": grown("mi.AnonPages", anon, 4),
        "mi.Mapped": grown("mi.Mapped", mapped, 4),
    }
    columns |= {name.replace("__", "."): column for name, column in pages.items()}
    return made(folder, columns, **(meta or {}))
