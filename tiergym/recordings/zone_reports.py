"""Watermarks of a machine as people post them: /proc/zoneinfo, or the kernel's log of short memory (show_mem)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiergym.errors import UserError
from tiergym.files import read_bytes
from tiergym.recordings import proc_files
from tiergym.recordings.process_tree import PAGE_KB

_LOGGED = re.compile(
    r"(?:Node (?P<node>[0-9]{1,4}) )?(?P<zone>DMA32|DMA|Normal|HighMem|Movable) free:[0-9]{1,15}kB"
    r"(?: boost:(?P<boost>[0-9]{1,15})kB)?\s+"
    r"min:(?P<min>[0-9]{1,15})kB\s+low:(?P<low>[0-9]{1,15})kB\s+high:(?P<high>[0-9]{1,15})kB"
    r"(?:(?!free:).)*?\bmanaged:(?P<managed>[0-9]{1,15})kB",
    re.DOTALL,
)
"""A zone of show_free_areas; mail readers break its lines."""
MAX_BYTES = 16 << 20
"""Of a report; a kernel log has a hundred thousand lines in it."""
MAX_ZONES = 128
"""Every explanation of the marks looks at all zones, and there are as many explanations: eight seconds."""
MAX_PAGES = 1 << 40
"""Of a zone: 4 PiB."""
_NAMES = ("managed", "min", "low", "high")


@dataclass(frozen=True, slots=True)
class ZoneMarks:
    """One zone with memory, in pages of 4 KiB: marks as printed, which contain the boost; `boost` is None where the
    kernel does not print it."""

    node: int
    zone: str
    managed: int
    low: int
    high: int
    min: int
    boost: int | None

    @property
    def movable(self) -> bool:
        return self.zone == "Movable"


def read_report(path: Path) -> list[ZoneMarks]:
    """The zones of the report in a file. Raises `UserError` where it has none, or such as no machine has."""
    zones = read_zones(read_bytes(path, MAX_BYTES).decode(errors="replace"))
    if all(zone.movable for zone in zones):
        raise UserError(
            f"{path}: no zone with managed pages, min, low and high; allowed: /proc/zoneinfo, or a kernel log with "
            "lines as 'Node 0 Normal free:8kB min:4kB low:5kB high:6kB ... managed:1024kB'"
        )
    if len(zones) > MAX_ZONES:
        raise UserError(f"{path}: {len(zones)} zones with managed pages; allowed: at most {MAX_ZONES}")
    for zone in zones:
        for name in (*_NAMES, "boost"):
            if (getattr(zone, name) or 0) > MAX_PAGES:
                raise UserError(
                    f"{path}: node {zone.node} {zone.zone}: {name} is {getattr(zone, name)} pages; "
                    f"allowed: at most {MAX_PAGES}"
                )
    return zones


def read_zones(text: str) -> list[ZoneMarks]:
    """All zones with memory of a report, the last one where a log has several; empty where the text is none."""
    values = proc_files.zoneinfo(text)
    found = {name.rsplit(".", 1)[0] for name in values if name.endswith(".managed")}
    zones = [_of_zoneinfo(values, prefix) for prefix in sorted(found)]
    logged = {(match["node"], match["zone"]): match for match in _LOGGED.finditer(text)}
    zones += [_of_log(match) for match in logged.values()]
    return [zone for zone in zones if zone.managed > 0]


def _of_zoneinfo(values: Mapping[str, int], prefix: str) -> ZoneMarks:
    node, zone = prefix.removeprefix("z").split(".")
    here = {name: values.get(f"{prefix}.{name}", 0) for name in _NAMES}
    return ZoneMarks(int(node), zone, boost=values.get(f"{prefix}.boost"), **here)


def _of_log(match: re.Match[str]) -> ZoneMarks:
    here = {name: int(match[name]) // PAGE_KB for name in _NAMES}
    boost = None if match["boost"] is None else int(match["boost"]) // PAGE_KB
    return ZoneMarks(int(match["node"] or 0), match["zone"], boost=boost, **here)
