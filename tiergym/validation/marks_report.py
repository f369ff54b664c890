"""Are these marks the kernel's formula? A posted /proc/zoneinfo or kernel log, held against the model's watermarks.

Every zone's marks follow from its managed pages and from vm.min_free_kbytes, which Linux computes or a person writes.
What a report shows besides is taken apart: boosts that stand, and pages that boot freed after it had set the marks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiergym.lab.results import SCHEMA
from tiergym.recordings.zone_reports import ZoneMarks
from tiergym.sim import names as n
from tiergym.sim.layout import new_machines
from tiergym.sim.units import PAGE_KIB, PAGEBLOCK_PAGES
from tiergym.sim.watermarks import PAGEBLOCKS_PER_ZONE, calculate_min_free_kbytes, set_watermarks

MOST_LATE = 0.15
"""Of a machine's pages: more are not freed after boot has set the marks (initrd, its own code, struct pages)."""
THP_SHARE, NEAR = 20, 0.02
"""Khugepaged keeps at most this part of lowmem free; how near to it the setting of a small machine is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What explains a report's marks.

    min_free_kib: vm.min_free_kbytes; `origin`: "computed", "huge pages" (khugepaged's) or "by hand". boosts: pages of
    boost of each zone. at_the_time: managed pages of each zone when its marks were set; the rest, up to what is there
    now, was freed later. marks: (min, low, high) of each zone by the model's formula. equal: whether all are, to the
    page, those printed without their boost.
    """

    min_free_kib: int
    origin: str
    boosts: Sequence[int]
    at_the_time: Sequence[int]
    marks: Sequence[tuple[int, int, int]]
    equal: bool

    def late(self, zones: Sequence[ZoneMarks]) -> int:
        """Pages freed after the marks were set."""
        return sum(zone.managed for zone in zones) - sum(self.at_the_time)


def formula(pages: Mapping[int, int], min_free_kib: int, scale: float) -> np.ndarray:
    """(min, low, high) of every zone of the model with so many managed pages, int array (3, zones)."""
    record = new_machines(1, 16).view(np.recarray)[0]
    record["watermark_scale_factor"] = scale
    for zone, managed in pages.items():
        record["managed_pages"][zone] = managed
    record["min_free_kbytes"] = min_free_kib
    if min_free_kib == 0:
        calculate_min_free_kbytes(record)
    set_watermarks(record)
    return np.vstack([record["wmark_pages"][: n.WMARK_PROMO], [record["min_free_kbytes"]] * n.N_ZONES])


def marks_of(zone: ZoneMarks, managed: int, lowmem: int, min_free_kib: int, scale: float) -> tuple[int, int, int]:
    """Marks of one zone, beside one that stands for all other kernel zones: the model has fewer than servers have."""
    here = n.SLOW_MOVABLE if zone.movable else n.NORMAL
    others = lowmem if zone.movable else lowmem - managed
    low, middle, high = (int(mark) for mark in formula({here: managed, n.DMA32: others}, min_free_kib, scale)[:3, here])
    return low, middle, high


def judge(zones: Sequence[ZoneMarks], scale: float = 10.0) -> Verdict:
    """The simplest explanation of a report: by the formula, with boosts, with pages freed later, with a setting."""
    kernel = [zone for zone in zones if not zone.movable]
    lowmem = sum(zone.managed for zone in kernel)
    computed = int(formula({n.NORMAL: lowmem}, 0, scale)[-1, 0])
    huge = PAGEBLOCK_PAGES * PAGEBLOCKS_PER_ZONE * len(kernel) * PAGE_KIB
    for origin, kib in (("computed", computed), ("huge pages", max(computed, huge))):
        verdict = _explain(zones, kib, origin, scale)
        if verdict is not None and verdict.equal:
            return verdict
    found = [_explain(zones, kib, "by hand", scale) for kib in _written(kernel)]
    fitting = [verdict for verdict in found if verdict is not None and verdict.equal]
    best = min(fitting, key=lambda v: (v.late(zones), -_roundness(v.min_free_kib)), default=None)
    if best is not None:
        capped = sum(best.at_the_time) * PAGE_KIB / THP_SHARE
        small = huge > capped and abs(best.min_free_kib / capped - 1.0) < NEAR
        return replace(best, origin="huge pages") if small else best
    wrong = _marks(zones, [zone.managed for zone in zones], computed, scale)
    return Verdict(computed, "computed", [zone.boost or 0 for zone in zones], [z.managed for z in zones], wrong, False)


def _written(kernel: Sequence[ZoneMarks]) -> list[int]:
    """Settings that the printed shares add up to; each share is rounded down."""
    total = sum(zone.min - (zone.boost or 0) for zone in kernel)
    return [pages * PAGE_KIB for pages in range(total, total + len(kernel))]


def _roundness(kib: int) -> int:
    """Trailing zeros: what people write."""
    return len(str(kib)) - len(str(kib).rstrip("0"))


def _explain(zones: Sequence[ZoneMarks], min_free_kib: int, origin: str, scale: float) -> Verdict | None:
    """The marks by this setting, with what boost and late pages must then be; None if nothing fits."""
    if min_free_kib < PAGE_KIB:  # no page to share out
        return None
    boosts = _boosts(zones, min_free_kib)
    plain = [replace(z, min=z.min - b, low=z.low - b, high=z.high - b) for z, b in zip(zones, boosts, strict=True)]
    kernel = [zone for zone in plain if not zone.movable]
    times = _at_the_time(kernel, min_free_kib // PAGE_KIB, scale)
    if times is None:
        return None
    left = iter(times)
    at_the_time = [zone.managed if zone.movable else next(left) for zone in plain]
    marks = _marks(plain, at_the_time, min_free_kib, scale)
    equal = all(mark == (zone.min, zone.low, zone.high) for mark, zone in zip(marks, plain, strict=True))
    late = sum(zone.managed for zone in kernel) - sum(times)
    return Verdict(min_free_kib, origin, boosts, at_the_time, marks, equal and late <= MOST_LATE * sum(times))


def _marks(
    zones: Sequence[ZoneMarks], managed: Sequence[int], min_free_kib: int, scale: float
) -> list[tuple[int, int, int]]:
    lowmem = sum(pages for zone, pages in zip(zones, managed, strict=True) if not zone.movable)
    return [marks_of(zone, pages, lowmem, min_free_kib, scale) for zone, pages in zip(zones, managed, strict=True)]


def _boosts(zones: Sequence[ZoneMarks], min_free_kib: int) -> list[int]:
    """Boost of each zone: as printed, or the whole pageblocks by which min is above its share."""
    lowmem = sum(zone.managed for zone in zones if not zone.movable)
    found = []
    for zone in zones:
        share = min_free_kib // PAGE_KIB * zone.managed // lowmem
        guessed = 0 if zone.movable else max(0, round((zone.min - share) / PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES)
        found.append(guessed if zone.boost is None else zone.boost)
    return found


def _at_the_time(kernel: Sequence[ZoneMarks], pages_min: int, scale: float) -> list[int] | None:
    """Managed pages of kernel zones when the marks were set: as many as can have been there, so that every zone's min
    is its share of `pages_min` and its gap what the scale factor makes of it; None if no numbers fit."""
    total = sum(zone.managed for zone in kernel)
    for _ in range(1000):
        bounds = [_bounds(zone, pages_min, total, scale) for zone in kernel]
        most = sum(high for _, high in bounds)
        largest = min((z.managed * pages_min // z.min for z in kernel if z.min), default=total)
        if (smaller := min(most, largest, total)) == total:
            break
        total = smaller
    if any(low > high for low, high in bounds) or not sum(low for low, _ in bounds) <= total <= most:
        return None
    # What is not there yet is missing where a zone has most to spare.
    pages = [high for _, high in bounds]
    spare = most - total
    for i, (low, high) in sorted(enumerate(bounds), key=lambda entry: entry[1][0] - entry[1][1]):
        taken = min(spare, high - low)
        pages[i] -= taken
        spare -= taken
    return pages


def _bounds(zone: ZoneMarks, pages_min: int, total: int, scale: float) -> tuple[int, int]:
    """Least and most managed pages that give this zone its min and its gap, of `total` in all kernel zones."""
    low = -(-zone.min * total // pages_min)
    high = min(zone.managed, -(-(zone.min + 1) * total // pages_min) - 1)
    gap = zone.low - zone.min
    high = min(high, math.ceil((gap + 1) * 10000 / scale) - 1)
    if gap != zone.min // 4:
        low = max(low, math.ceil(gap * 10000 / scale))
    return low, high


HEADINGS = ("zone", "managed", "min low high", "boost", "freed later", "by the formula")


def zone_rows(zones: Sequence[ZoneMarks], verdict: Verdict) -> list[list[str]]:
    """A line per zone: as printed, and what explains it."""
    return [
        [
            f"node {zone.node} {zone.zone}",
            str(zone.managed),
            f"{zone.min} {zone.low} {zone.high}",
            str(boost),
            str(zone.managed - then),
            " ".join(str(mark + boost) for mark in marks),
        ]
        for zone, boost, then, marks in zip(zones, verdict.boosts, verdict.at_the_time, verdict.marks, strict=True)
    ]


def sentences(zones: Sequence[ZoneMarks], verdict: Verdict) -> list[str]:
    """What a person should know about these marks."""
    if not verdict.equal:
        return [
            "These marks are not the formula's, whatever vm.min_free_kbytes is: another vm.watermark_scale_factor (say "
            "it with --scale), pages of another size, Linux before 4.6, or zones that the report leaves out."
        ]
    said = {
        "computed": "as Linux computes it",
        "huge pages": "as khugepaged raises it, 22 MiB per zone or a twentieth of memory",
        "by hand": "set by hand: Linux would not choose it",
    }
    lines = [
        f"vm.min_free_kbytes is {verdict.min_free_kib}, {said[verdict.origin]}. All marks are the formula's, to the "
        "page."
    ]
    boosted = [f"node {zone.node} {zone.zone}" for zone, boost in zip(zones, verdict.boosts, strict=True) if boost]
    if boosted:
        lines.append(f"Boosted: {', '.join(boosted)}. A boost goes when kswapd has worked for it.")
    if (late := verdict.late(zones)) > 0:
        lines.append(f"At least {late} pages were freed after the marks were set, as the end of boot does.")
    return lines


def document(zones: Sequence[ZoneMarks], verdict: Verdict) -> dict[str, Any]:
    """Schema 1: the verdict and every zone, in pages."""
    return {
        "schema": SCHEMA,
        "equal": verdict.equal,
        "min_free_kib": verdict.min_free_kib,
        "origin": verdict.origin,
        "zones": [
            {
                "node": zone.node,
                "zone": zone.zone,
                "managed": zone.managed,
                "printed": [zone.min, zone.low, zone.high],
                "boost": boost,
                "managed_at_the_time": then,
                "formula": list(marks),
            }
            for zone, boost, then, marks in zip(zones, verdict.boosts, verdict.at_the_time, verdict.marks, strict=True)
        ],
    }
