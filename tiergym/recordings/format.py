"""A recording: one run of a workload on a real kernel, as a folder of three files.

`samples.csv` or `samples.csv.gz`: one row per sample. `t_s` (seconds, increasing), then counters by name:

    w.*              what the workload had asked for by then: pages touched, tables, threads, processes, files
    n<node>.*        /sys/devices/system/node/node<node>/vmstat (pages; nr_kernel_stack in kB)
    m<node>.*        /sys/devices/system/node/node<node>/meminfo (kB)
    mi.*  vm.*       /proc/meminfo (kB), /proc/vmstat
    z<node>.<zone>.* /proc/zoneinfo; pcp_count is the sum over CPUs, prot0 ... the lowmem reserves
    b<node>.<zone>.o<order>  /proc/buddyinfo

`workload.csv`: `t_s,event,detail`: what happened when (phases, exits, memory blocks taken offline).
`meta.json`: the machine and its settings; columns that never changed stand in its `constant_values`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.errors import UserError, shown
from tiergym.files import read_json, write_bytes, write_text
from tiergym.recordings.csv_reading import read_rows, to_numbers
from tiergym.recordings.kernel_release import Version, is_known, parse_version

SAMPLES, EVENTS, META = "samples.csv", "workload.csv", "meta.json"

REQUESTS = ("anon_touched_pages", "file_touched_pages", "sparse_leaf_tables", "threads", "procs")
"""Required of `w.*`; others count as zero where they are absent."""
NODE_COUNTERS = (
    "nr_free_pages",
    "nr_anon_pages",
    "nr_file_pages",
    "nr_page_table_pages",
    "nr_kernel_stack",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
)
"""Required of `n0.*`, and of every other node that has any counter. A kernel newer than those known may lack all but
the first: what they count is then not judged."""
ZONE_COUNTERS = ("free", "min", "low", "high", "managed", "pcp_count")
"""Required of every zone that manages memory."""
MACHINE_COUNTERS = ("oom_kill", "pgsteal_kswapd", "pgsteal_direct")
"""Required of `vm.*`; counters of demotion, promotion and swap are absent where the kernel is built without."""
META_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "kernel_release": str,
    "smp": int,
    "dram_mib": (int, float),
    "cxl_mib": (int, float),
    "memhp_default_state": str,
}
"""Required of meta.json: kernel, CPUs, memory of node 0 and of node 1 (0: none), where hot-added memory goes."""
OPTIONAL_META_FIELDS: Mapping[str, type] = {"n_samples": int, "page_size": int}
"""Checked where they are there: the number of samples (fewer: the file was cut off), and bytes of a page (4096)."""
REPLAYED_META_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "accel": str,
    "cxl_attach": str,
    "kernel_cmdline": str,
    "pre_script": str,
    "guest_script": str,
    "cxl_dimms": int,
    "block_mib": int,
    "read_ahead_kib": (int, float),
    "guest_report": list,
    "dmesg": list,
}
"""Checked where they are there, null being as good as absent but for lists: what replay reads of the machine."""
LEAST: Mapping[str, int] = {"smp": 1, "page_size": 512}
"""Of a field of meta.json, where it is not 0: a machine has a CPU, and a page has bytes."""
LARGEST = 1e15
"""Of a size in meta.json: no machine has more MiB."""

LONGEST_RELEASE = 64
"""Characters of what uname prints (__NEW_UTS_LEN)."""
LATEST_S = 1e10
"""Three centuries: no clock of a machine shows more, nor as much before 0."""
MOST_COUNTED = 2**53
"""Of a counter; beyond it a float is no whole number any more."""

EVENT_DISORDER_S = 0.1
"""Two processes that report at once may write in either order; a larger step back is a broken clock."""

Column = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `t_s`: a phase, an exit, a memory block taken offline; `detail` is `key=value ...`."""

    t_s: float
    event: str
    detail: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One run. `columns`: name -> array of shape (samples,), int64 or float64 (NaN: not there at that time). `absent`:
    required columns that a kernel which is not known has not."""

    path: Path
    meta: Mapping[str, Any]
    columns: Mapping[str, Column]
    events: Sequence[Event]
    absent: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def t_s(self) -> NDArray[np.float64]:
        """Times of the samples, float64 of shape (samples,), increasing."""
        return self.columns["t_s"].astype(np.float64)

    def column(self, name: str) -> Column:
        """A column, or zeros where the recording has none of that name (a counter that this kernel lacks)."""
        return self.columns.get(name, np.zeros(len(self.columns["t_s"]), np.int64))

    @property
    def nodes(self) -> tuple[int, ...]:
        """Memory nodes with counters, ascending; node 0 is DRAM."""
        return _nodes(self.columns)

    def zones(self, node: int) -> tuple[str, ...]:
        """Zones of `node` that manage memory at some time, in the columns' order."""
        return _zones(self.columns, node)


def list_recordings(folder: Path) -> list[Path]:
    """The runs in `folder`, by name; a folder that is itself a run is its only one. Raises `UserError` if none is."""
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; expected a folder of recordings")
    try:
        runs = [folder] if _is_run(folder) else sorted(path for path in folder.iterdir() if _is_run(path))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    if not runs:
        raise UserError(f"{folder}: no recording in it; each is a folder with {META}, {SAMPLES}[.gz] and {EVENTS}")
    return runs


def _is_run(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_dir():
        return False
    return any((path / name).exists() for name in (META, SAMPLES, f"{SAMPLES}.gz", EVENTS))


def read_recording(folder: Path) -> Recording:
    """Read and check one run. Raises `UserError` that names the file and its column, field or line."""
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; expected one recording")
    if not folder.name.isprintable():  # so with a name that a stranger's folder of recordings has in it
        raise UserError(f"{shown(str(folder))}: not a recording's name; expected printable characters")
    meta = _read_meta(folder / META)
    samples = next((path for path in (folder / SAMPLES, folder / f"{SAMPLES}.gz") if path.exists()), None)
    if samples is None:
        raise UserError(f"{folder}: neither {SAMPLES} nor {SAMPLES}.gz in it")
    header, rows = read_rows(samples)
    if not rows:
        raise UserError(f"{samples}: no samples after the header")
    if len(rows) < meta.get("n_samples", 0):
        raise UserError(f"{samples}: truncated: {len(rows)} samples, n_samples of {META} says {meta['n_samples']}")
    cells = zip(header, zip(*rows, strict=True), strict=True)
    columns = {name: to_numbers(samples, name, list(column)) for name, column in cells}
    _check_clock(samples, columns)
    for name, value in meta["constant_values"].items():
        if name not in columns:
            columns[name] = np.full(len(rows), value)
            columns[name].flags.writeable = False
    absent = _check_columns(samples, columns, parse_version(meta["kernel_release"]))
    return Recording(folder, meta, columns, _read_events(folder / EVENTS), absent)


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise UserError(f"{path}: expected an object, got {type(meta).__name__}")
    meta.setdefault("constant_values", {})
    for name in META_FIELDS:
        if name not in meta:
            raise UserError(f"{path}: field '{name}' is missing; required: {', '.join(META_FIELDS)}")
    replayed = {
        name: kind
        for name, kind in REPLAYED_META_FIELDS.items()
        if name in meta and (meta[name] is not None or kind is list)
    }
    for name, kind in {**META_FIELDS, **OPTIONAL_META_FIELDS, **replayed}.items():
        value = meta.get(name, 0 if name in OPTIONAL_META_FIELDS else None)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{path}: field '{name}' is {shown(value)}; expected {_kind_name(kind)}")
        if isinstance(value, list) and not all(isinstance(line, str) for line in value):
            raise UserError(f"{path}: field '{name}' is {shown(value)}; expected a list of texts")
        least = LEAST.get(name, 0)
        if isinstance(value, int | float) and name in meta and not least <= value < LARGEST:
            raise UserError(f"{path}: field '{name}' is {value!r}; expected a number from {least} to {LARGEST:g}")
    release = meta["kernel_release"]
    if len(release) > LONGEST_RELEASE or not release.isprintable():  # tables show it, and a terminal would obey it
        raise UserError(
            f"{path}: field 'kernel_release' is {shown(release)}; expected at most {LONGEST_RELEASE} characters, all "
            "printable"
        )
    if not isinstance(meta["constant_values"], dict):
        raise UserError(f"{path}: field 'constant_values' is {meta['constant_values']!r}; expected an object")
    for name, value in meta["constant_values"].items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not -(2.0**63) <= value < 2.0**63:
            raise UserError(f"{path}: constant_values, column '{name}': {value!r} is not a number")
    return meta


def _kind_name(kind: type | tuple[type, ...]) -> str:
    return {str: "text", int: "a whole number", list: "a list of texts"}[kind] if isinstance(kind, type) else "a number"


def _check_clock(path: Path, columns: Mapping[str, Column]) -> None:
    if "t_s" not in columns:
        raise UserError(f"{path}: column 't_s' is missing")
    t_s = columns["t_s"]
    if np.isnan(t_s).any():
        raise UserError(f"{path}: line {int(np.argmax(np.isnan(t_s))) + 2}, column 't_s': no time")
    if (far := np.abs(t_s) > LATEST_S).any():
        line = int(np.argmax(far))
        raise UserError(
            f"{path}: line {line + 2}, column 't_s': {t_s[line]}; expected seconds from {-LATEST_S:g} to {LATEST_S:g}"
        )
    if (backwards := np.flatnonzero(np.diff(t_s) <= 0)).size:
        first = int(backwards[0])
        raise UserError(
            f"{path}: line {first + 3}, column 't_s': {t_s[first + 1]} after {t_s[first]}; time must increase"
        )


def _nodes(columns: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({int(match[1]) for name in columns if (match := re.match(r"n(\d{1,4})\.", name))}))


def _zones(columns: Mapping[str, Column], node: int) -> tuple[str, ...]:
    found = dict.fromkeys(match[1] for name in columns if (match := re.match(rf"z{node}\.(\w+)\.", name)))
    managed = {zone: columns.get(f"z{node}.{zone}.managed") for zone in found}
    return tuple(zone for zone, pages in managed.items() if pages is not None and np.nanmax(pages, initial=0) > 0)


def _check_columns(path: Path, columns: Mapping[str, Column], version: Version | None) -> tuple[str, ...]:
    """Refuse counters that replay needs and this recording lacks: another format, or a kernel that renamed them.

    Returns those that a kernel which is not known does without.
    """
    expected = [f"w.{name}" for name in REQUESTS]
    dispensable = [f"vm.{name}" for name in MACHINE_COUNTERS]
    for node in sorted({0, *_nodes(columns)}):
        expected.append(f"n{node}.{NODE_COUNTERS[0]}")
        dispensable += [f"n{node}.{name}" for name in NODE_COUNTERS[1:]]
        expected += [f"z{node}.{zone}.{name}" for zone in _zones(columns, node) for name in ZONE_COUNTERS]
    if version is None or is_known(version):
        expected, dispensable = expected + dispensable, []
    missing = [name for name in expected if name not in columns]
    if missing:
        near = get_close_matches(missing[0], columns, n=1)
        raise UserError(
            f"{path}: column '{missing[0]}' is missing{f' (there is {near[0]!r})' if near else ''}; "
            f"neither here nor in constant_values of {META} are: {', '.join(missing)}. "
            "Does this kernel name its counters differently?"
        )
    if not _zones(columns, 0):
        raise UserError(f"{path}: no column 'z0.<zone>.managed' above 0 (as z0.DMA32.managed): which zones has node 0?")
    for name in [*expected, *(name for name in dispensable if name in columns)]:
        column = columns[name]
        # A zone that is not populated yet, or no longer, has no per-CPU lists: their sum is blank.
        if not name.endswith(".pcp_count") and np.isnan(column).any():
            raise UserError(f"{path}: line {int(np.argmax(np.isnan(column))) + 2}, column '{name}': no value")
        if (wrong := (column < 0) | (column > MOST_COUNTED)).any():
            line = int(np.argmax(wrong))
            raise UserError(
                f"{path}: line {line + 2}, column '{name}': {column[line]}; expected a count from 0 to {MOST_COUNTED}"
            )
    return tuple(name for name in dispensable if name not in columns)


def _read_events(path: Path) -> tuple[Event, ...]:
    header, rows = read_rows(path)
    if header != ["t_s", "event", "detail"]:
        raise UserError(f"{path}: line 1: columns {','.join(header)}; expected t_s,event,detail")
    t_s = to_numbers(path, "t_s", [row[0] for row in rows])
    latest = -math.inf
    for line, time in enumerate(t_s, start=2):
        if math.isnan(time):
            raise UserError(f"{path}: line {line}, column 't_s': no time")
        if abs(time) > LATEST_S:
            raise UserError(
                f"{path}: line {line}, column 't_s': {time}; expected seconds from {-LATEST_S:g} to {LATEST_S:g}"
            )
        if time < latest - EVENT_DISORDER_S:
            raise UserError(f"{path}: line {line}, column 't_s': {time} after {latest}; time must not go backwards")
        latest = max(latest, time)
    events = [Event(float(time), row[1], row[2]) for time, row in zip(t_s, rows, strict=True)]
    return tuple(sorted(events, key=lambda event: event.t_s))


def write_recording(
    folder: Path, meta: Mapping[str, Any], columns: Mapping[str, Column], events: Iterable[Event]
) -> None:
    """Write a run as a new folder that appears whole or not at all; samples are gzipped.

    `columns` holds "t_s" and arrays of its length; those that never change go into `constant_values`.
    Raises `UserError` if there is more in `folder` than a lock (`tiergym.lab.locking`), or it cannot be made.
    """
    n_samples = len(columns["t_s"])
    constant = {name: column[0].item() for name, column in columns.items() if _never_changes(name, column)}
    varying = ["t_s", *sorted(columns.keys() - constant.keys() - {"t_s"})]
    samples = _csv(varying, zip(*(_cells(name, columns[name]) for name in varying), strict=True))
    rows = ([f"{event.t_s:.3f}", event.event, event.detail] for event in events)
    whole = {**meta, "n_samples": n_samples, "constant_values": dict(sorted(constant.items()))}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_bytes(draft / f"{SAMPLES}.gz", gzip.compress(samples.encode(), mtime=0))
            write_text(draft / EVENTS, _csv(["t_s", "event", "detail"], rows))
            write_text(draft / META, json.dumps(whole, indent=1, allow_nan=False) + "\n")
            draft.chmod(0o755)
            for lock in folder.glob(".lock"):  # it goes along, for only an empty folder can be replaced
                lock.rename(draft / lock.name)
            draft.replace(folder)
        except BaseException:
            shutil.rmtree(draft)
            raise
    except OSError as error:
        raise UserError(f"cannot write the recording '{folder}': {error.strerror}") from error


def _never_changes(name: str, column: Column) -> bool:
    return name != "t_s" and bool((column == column[0]).all())


def _cells(name: str, column: Column) -> list[str]:
    if name == "t_s":
        return [f"{value:.3f}" for value in column]
    return ["" if math.isnan(value) else str(value) for value in column.tolist()]


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
