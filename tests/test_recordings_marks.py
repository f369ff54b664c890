"""Watermarks on public reports of other machines, x86 and arm64: Linux's formulas, and the boost in what it prints."""

import numpy as np
import pytest

from tiergym.recordings.marks import boost_in, without_boost
from tiergym.sim import names as n
from tiergym.sim.layout import new_machines
from tiergym.sim.watermarks import calculate_min_free_kbytes, set_watermarks

REPORTS = {
    "thunderx2-kdump": (0, {"dma32": (64000, 102, 166, 230), "normal": (1488278, 2388, 3876, 5364)}),
    "chromeos-vm": (
        135168,
        {"dma": (3976, 137, 171, 205), "dma32": (469149, 16270, 20337, 24404), "normal": (501235, 17383, 21728, 26073)},
    ),
}
"""vm.min_free_kbytes (0: what Linux computes) and managed, min, low, high of every zone [K-public-marks]."""

ZONES = {
    "hygon, 128 GiB node": (33027391, 7058, 40085, 73112),
    "x86 node of 28 GiB": (7404622, 10136, 17540, 24944),
    "arm64 with 1 GiB of CMA": (343886, 10040, 12550, 15060),
    "arm64 with 1 GiB of CMA, DMA32": (287941, 8391, 10488, 12585),
    "x86 of a desktop, DMA": (3956, 33, 41, 49),
    "x86 guest, MOVABLE": (131072, 195, 326, 457),
    "x86 guest, node 1": (257744, 383, 640, 897),
}
"""managed, min, low, high of one zone of a report whose other zones are not known [K-public-marks]."""


def machine(min_free_kib: int, managed: dict[str, int]) -> np.void:
    record = new_machines(1, 16).view(np.recarray)[0]
    record["min_free_kbytes"], record["watermark_scale_factor"] = min_free_kib, 10
    for zone, pages in managed.items():
        record["managed_pages"][n.ZONES.index(zone)] = pages
    if min_free_kib == 0:
        calculate_min_free_kbytes(record)
    set_watermarks(record)
    return record


@pytest.mark.parametrize("report", REPORTS)
def test_marks_of_a_whole_report_are_the_formulas(report: str) -> None:
    """__setup_per_zone_wmarks; of the server without a setting calculate_min_free_kbytes too."""
    min_free_kib, zones = REPORTS[report]
    record = machine(min_free_kib, {zone: marks[0] for zone, marks in zones.items()})
    for zone, (_, *marks) in zones.items():
        assert record["wmark_pages"][:3, n.ZONES.index(zone)].tolist() == marks, zone


@pytest.mark.parametrize("report", ZONES)
def test_gaps_of_a_zone_are_the_formula(report: str) -> None:
    """A quarter of min, or the scale factor's share of the zone, whichever is more."""
    managed, least, low, high = ZONES[report]
    record = machine(4 * least + 3, {"normal": managed})
    assert record["wmark_pages"][:3, n.NORMAL].tolist() == [least, low, high]


@pytest.mark.parametrize(
    ("zone", "managed", "marks", "boost"),
    [
        ("DMA", 3956, (33, 41, 49), 0),
        ("DMA32", 742806, (19510, 21059, 22608), 26 * 512),
        ("Normal", 1268711, (11176, 13842, 16508), 512),
    ],
)
def test_a_boost_is_taken_off_where_the_kernel_does_not_print_it(
    zone: str, managed: int, marks: tuple[int, int, int], boost: int
) -> None:
    """A desktop of 8 GB: two of its zones were boosted, by whole pageblocks. Without them the shares of min are those
    of the managed pages, but for what boot freed later [K-public-marks]."""
    printed = dict(zip(("min", "low", "high"), marks, strict=True))
    assert boost_in(printed, managed, 10) == boost
    least = without_boost(printed, managed, 10)["min"]
    assert least == pytest.approx(67584 / 4 * managed / (3956 + 742806 + 1268711), rel=0.006)


def test_a_printed_boost_is_taken_at_its_word() -> None:
    printed = {"min": 1989, "low": 2142, "high": 2295, "promo": 2448, "boost": 1377}
    assert without_boost(printed, 98334, 10) == {"min": 612, "low": 765, "high": 918, "promo": 1071}


def test_a_wide_gap_hides_a_boost() -> None:
    """watermark_scale_factor's gap says nothing about min: nothing is guessed."""
    assert boost_in({"min": 40_000, "low": 60_000, "high": 80_000}, 1_000_000, 200) == 0
