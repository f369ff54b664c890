"""Watermarks as /proc/zoneinfo prints them, and the boost that is in them."""

from __future__ import annotations

from collections.abc import Mapping

from tiergym.sim.units import PAGEBLOCK_PAGES

MARKS = ("min", "low", "high", "promo")
"""All of them contain the boost (include/linux/mmzone.h: wmark_pages)."""


def boost_in(marks: Mapping[str, int], managed: int, watermark_scale_factor: float) -> int:
    """Pages of boost in a zone's marks: what `boost` says, or, of kernels that do not print it (before 5.10), what min
    is above four gaps, in pageblocks.

    The gap is a quarter of min, unless the scale factor makes it wider: then min alone does not tell, and no boost is
    taken off.
    """
    if "boost" in marks:
        return marks["boost"]
    gap = marks["low"] - marks["min"]
    if gap <= int(managed * watermark_scale_factor / 10000):
        return 0
    return max(0, marks["min"] - 4 * gap) // PAGEBLOCK_PAGES * PAGEBLOCK_PAGES


def without_boost(marks: Mapping[str, int], managed: int, watermark_scale_factor: float) -> dict[str, int]:
    """The marks as setup_per_zone_wmarks made them."""
    boost = boost_in(marks, managed, watermark_scale_factor)
    return {name: marks[name] - boost for name in MARKS if name in marks}
