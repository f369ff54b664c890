"""Watermarks of a machine as people post them: /proc/zoneinfo, or the kernel's log of short memory (show_mem)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tiergym.recordings import proc_files
from tiergym.recordings.process_tree import PAGE_KB

_LOGGED = re.compile(
    r"(?:Node (?P<node>\d+) )?(?P<zone>DMA32|DMA|Normal|HighMem|Movable) free:\d+kB(?: boost:(?P<boost>\d+)kB)?\s+"
    r"min:(?P<min>\d+)kB\s+low:(?P<low>\d+)kB\s+high:(?P<high>\d+)kB(?:(?!free:).)*?\bmanaged:(?P<managed>\d+)kB",
    re.DOTALL,
)
"""A zone of show_free_areas; mail readers break its lines."""
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
