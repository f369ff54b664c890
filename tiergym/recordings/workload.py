"""A recording becomes a workload in TOML that any scenario can use: regions, threads, files, heat."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.errors import UserError
from tiergym.recordings.format import Recording
from tiergym.recordings.heat import Heat, HeatClass, heat_of
from tiergym.recordings.piecewise import Trapezoid, decompose, simplify
from tiergym.recordings.request_curves import RequestCurves, requests_of
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB
from tiergym.specs.feasibility import check
from tiergym.specs.reading import MAX_REGIONS, complete_sections
from tiergym.specs.writing import value_toml

TOLERANCE = 0.01
"""Of a curve's peak: how far its straight lines may be from a sample. Doubled until the regions are few enough."""
LEAST_PAGES = 16
"""Regions below 64 KiB are left out."""
MAX_STALLS = 0.5
"""Of the time, on DRAM: heat that comes to more is scaled down, for a workload must be able to run at full speed."""
DRAM_LATENCY_S, MLP, WALK_MISS = 114e-9, 4.0, 0.5
MACHINE = "spr_cxl_asic"
"""The shipped machine that the workload is checked on before it is written."""

KINDS = {
    "anon": ("anon", "touched densely"),
    "sparse": ("anon", "one page per leaf table"),
    "kv": ("anon", "the hot region that the workload reports apart"),
    "shmem": ("anon", "shared memory: it can be swapped, not dropped, so it is anonymous here"),
    "mapped": ("file_ro", "files touched through a mapping, taken for read-only"),
    "cache": ("cache", "files that were read or written: page cache without page tables"),
}
"""Curves of `RequestCurves` that become regions: their kind, and a comment."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One trapezoid for a population of objects, all that a pool can be, and the most that it is off, in objects."""

    shape: Trapezoid
    low_share: float
    off: float


def workload_toml(recording: Recording) -> str:
    """TOML of the workload, checked on a shipped machine. Raises `UserError` if the recording asks for nothing."""
    requests = requests_of(recording)
    heat = heat_of(recording, requests)
    parts, tolerance = _regions(recording, requests, MAX_REGIONS // len(heat.classes))
    pools = {name: pool for name in ("threads", "files") if (pool := _pool(recording, getattr(requests, name)))}
    if not parts and not pools:
        raise UserError(f"{recording.path}: no workload in it: every w.* column is zero")
    text = _toml(recording, heat, parts, pools, tolerance, requests.empty_tables)
    _check(text, f"workload of {recording.path}")
    return text


def _regions(recording: Recording, requests: RequestCurves, most: int) -> tuple[dict[str, list[Trapezoid]], float]:
    """Trapezoids by curve, at most so many, and the tolerance that it took."""
    curves = {name: getattr(requests, name) for name in KINDS}
    tolerance = TOLERANCE
    while True:
        parts = {name: _trapezoids(recording.t_s, pages, tolerance) for name, pages in curves.items()}
        if sum(map(len, parts.values())) <= most:
            return {name: found for name, found in parts.items() if found}, tolerance
        tolerance *= 2


def _trapezoids(t_s: NDArray[np.float64], pages: NDArray[np.float64], tolerance: float) -> list[Trapezoid]:
    curve = simplify(t_s - t_s[0], pages, tolerance * float(pages.max()))
    return [part for part in decompose(curve) if part.size >= LEAST_PAGES]


def _pool(recording: Recording, count: NDArray[np.float64]) -> Pool | None:
    """The trapezoid around the time at the peak whose corners, of those that the simplified curve has, fit best."""
    peak = float(count.max())
    if peak < 1:
        return None
    t_s = recording.t_s - recording.t_s[0]
    full = np.flatnonzero(count >= 0.98 * peak)
    first, last = t_s[full[0]], t_s[full[-1]]
    corners = simplify(t_s, count, TOLERANCE * peak)
    rise, fall = t_s <= first, t_s >= last
    starts = {float(t): _missed(t_s, count, rise, (t, 0.0), (first, peak)) for t, _ in corners if t < first}
    start_s = min(starts, key=lambda t: starts[t], default=float(first))
    ends = {(t, n): _missed(t_s, count, fall, (last, peak), (t, n)) for t, n in corners if t > last}
    gone_s, left = min(ends, key=lambda end: ends[end], default=(float(last), peak))
    shape = Trapezoid(peak, start_s, float(first), float(last), gone_s)
    between = float(peak - count[full[0] : full[-1] + 1].min())
    return Pool(shape, left / peak, max(starts.get(start_s, 0.0), ends.get((gone_s, left), 0.0), between))


def _missed(
    t_s: NDArray[np.float64],
    count: NDArray[np.float64],
    where: NDArray[np.bool_],
    one: tuple[float, float],
    other: tuple[float, float],
) -> float:
    """How far a line through two points, level outside them, is from the samples."""
    line = np.interp(t_s[where], [one[0], other[0]], [one[1], other[1]])
    return float(np.abs(count[where] - line).max())


def _toml(
    recording: Recording,
    heat: Heat,
    parts: dict[str, list[Trapezoid]],
    pools: dict[str, Pool],
    tolerance: float,
    empty_tables: bool,
) -> str:
    meta, duration_s = recording.meta, float(recording.t_s[-1] - recording.t_s[0])
    workers = int(min(max(meta["smp"], 1), 4096))
    scale, scaled = _scale(heat, parts, workers)
    out = [
        f"# Made from the recording '{_one_line(recording.name)}' by `tiergym workload from-recording`: what the",
        "# workload asked for, not where the kernel put it.",
        f"# Sizes over time: straight lines, at most {tolerance:.1%} of each curve's peak from any sample. One region",
        "# per rise; what left is what grew as one, else what grew last.",
        f"# Heat: {heat.source}.{scaled}",
        "# The recording does not say: mempolicies, which pages are hot or dirty, sockets, buffers, and how often",
        "# kernel objects are touched. These are the defaults of the fields.",
        f"description = {value_toml(_description(recording, duration_s))}",
        "",
        f"workers = {workers}  # CPUs of the recorded machine. {duration_s:.0f} s were recorded: see horizon_s",
        "",
        "[[processes]]",
        'name = "recorded"',
    ]
    for name, found in parts.items():
        kind, comment = KINDS[name]
        if name == "sparse" and empty_tables:
            comment += "; as recorded these tables mapped the zero page, here each has a page of data"
        tables = [
            [f'name = "{"-".join(filter(None, (name, str(number), of.name)))}"', *_region(name, kind, part, of, scale)]
            for number, part in enumerate(found, start=1)
            for of in heat.classes
        ]
        for number, lines in enumerate(tables):
            out += ["", "[[regions]]" if number else f"[[regions]]  # {comment}", *lines]
    for name, pool in pools.items():
        out += ["", f"[pools.{name}]  # a pool grows once: at most {pool.off:.0f} objects from the recording"]
        out += [f"count = {round(pool.shape.size)}", *_times(pool.shape)]
        out += [f"low_share = {_number(pool.low_share)}"]
    return "\n".join(out) + "\n"


def _description(recording: Recording, duration_s: float) -> str:
    return (
        f"Recorded: '{_one_line(recording.name)}', {duration_s:.0f} s on {_one_line(recording.meta['kernel_release'])} "
        f"with {recording.meta['dram_mib']:g} MiB of DRAM and {recording.meta['cxl_mib']:g} MiB on node 1."
    )


def _one_line(text: str) -> str:
    """A stranger's text in a comment: printable characters only."""
    return "".join(character for character in text if character.isprintable())


def _region(name: str, kind: str, part: Trapezoid, heat: HeatClass, scale: float) -> list[str]:
    lines = ['process = "recorded"', f'kind = "{kind}"', f"mib = {_number(part.size * heat.share / PAGES_PER_MIB)}"]
    if name == "sparse":
        lines.append(f"density = {1 / LEAF_SPAN_PAGES!r}  # one page per 2 MiB")
    lines += [*_times(part), f"access_hz = {_number(heat.access_hz)}"]
    lines.append(f"misses_per_page_s = {_number(heat.misses_per_page_s * scale)}")
    if kind != "cache":
        lines.append(f"tlb_misses_per_page_s = {_number(heat.tlb_misses_per_page_s * scale)}")
    return lines


def _times(part: Trapezoid) -> list[str]:
    lines = [f"start_s = {_number(part.start_s)}", f"grow_s = {_number(part.full_s - part.start_s)}"]
    if part.leave_s is not None and part.gone_s is not None:
        lines += [
            f"hold_s = {_number(part.leave_s - part.full_s)}",
            f"shrink_s = {_number(part.gone_s - part.leave_s)}",
        ]
    return lines


def _number(value: float) -> str:
    """Six significant digits: a page in 2 GiB, a millisecond in a quarter of an hour."""
    text = f"{max(value, 0.0):.6g}"
    return repr(float(text)) if "e" in text or "." in text else text


def _scale(heat: Heat, parts: dict[str, list[Trapezoid]], workers: int) -> tuple[float, str]:
    """Factor on all misses, below 1 where all regions at once would stall for more than `MAX_STALLS`; and a comment."""
    pages = sum(part.size for found in parts.values() for part in found)
    per_page = sum(
        of.share * (of.misses_per_page_s / MLP + of.tlb_misses_per_page_s * WALK_MISS) for of in heat.classes
    )
    stalls = pages * per_page * DRAM_LATENCY_S / workers
    if stalls <= MAX_STALLS:
        return 1.0, ""
    scale = MAX_STALLS / stalls
    return scale, f"\n# Misses are scaled by {scale:.2g}, to {MAX_STALLS:.0%} of the time on DRAM."


def _check(text: str, file: str) -> None:
    workload: dict[str, Any] = tomllib.loads(text)
    del workload["description"]
    check(complete_sections({"machine": MACHINE, "workload": workload}, file, Path()), file)
