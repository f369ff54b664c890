"""Whole public reports of servers, x86 and arm64: every zone's marks by the model's formula, and what explains them."""

import json

import pytest

from tests.places import EVIDENCE
from tiergym.recordings.zone_reports import ZoneMarks, read_zones
from tiergym.validation.marks_report import Verdict, judge, marks_of

Zones = dict[str, tuple[int, ...]]
RECORDED = json.loads((EVIDENCE / "watermarks.json").read_text())["machines"]
REPORTS: dict[str, Zones] = {
    "arm64-kunpeng-512g": {
        "0 DMA": (399671, 83, 472, 861, 0),
        "0 Normal": (31456534, 6778, 38234, 69690, 0),
        "1 Normal": (33029401, 7117, 40146, 73175, 0),
        "2 Normal": (33029400, 116879, 149908, 182937, 109762),
        "3 Normal": (32766134, 115950, 148716, 181482, 108889),
    },
    "arm64-phytium-8g": {"0 DMA": (363140, 2154, 2692, 3230), "0 Normal": (1534890, 9109, 11386, 13663)},
    "arm64-thunderx2-kdump": {"0 DMA32": (64000, 102, 166, 230), "0 Normal": (1488278, 2388, 3876, 5364)},
    "x86-four-sockets-128g": {
        "0 DMA": (3976, 4, 7, 10),
        "0 DMA32": (470212, 545, 1008, 1471),
        "0 Normal": (3487852, 4101, 7587, 11073),
        "1 Normal": (8256788, 9713, 17969, 26225),
        "2 Normal": (8256789, 11249, 19505, 27761),
        "3 Normal": (8256662, 9713, 17969, 26225),
    },
    "x86-guest-64g": {
        "0 DMA": (3840, 3, 6, 9, 0),
        "0 DMA32": (765920, 786, 1551, 2316, 0),
        "0 Normal": (15684436, 16617, 32301, 47985, 512),
    },
    "x86-guest-four-nodes-16g": {
        "0 DMA": (3840, 31, 38, 45, 0),
        "0 DMA32": (746592, 6186, 7732, 9278, 0),
        "0 Normal": (1277689, 10603, 13253, 15903, 0),
        "1 Normal": (1548028, 12846, 16057, 19268, 0),
        "2 Normal": (257788, 2139, 2673, 3207, 0),
        "3 Normal": (239150, 1984, 2480, 2976, 0),
    },
    "x86-guest-two-nodes-16g": {
        "0 DMA": (3840, 21, 26, 31, 0),
        "0 DMA32": (496486, 2687, 3358, 4029, 0),
        "0 Normal": (1552266, 8473, 10591, 12709, 0),
        "1 Normal": (2086594, 11345, 14181, 17017, 0),
    },
    "x86-coreos-8g": {
        "0 DMA": (3977, 33, 41, 49),
        "0 DMA32": (995127, 8178, 10222, 12266),
        "0 Normal": (1042033, 8684, 10855, 13026),
    },
    "x86-telephony-5g": {
        "0 DMA": (3840, 49, 61, 73),
        "0 DMA32": (765904, 9742, 12177, 14612),
        "0 Normal": (555433, 7104, 8880, 10656),
    },
    "x86-before-3.9-8g": {
        "0 DMA": (3900, 32, 40, 48),
        "0 DMA32": (828852, 6829, 8536, 10243),
        "0 Normal": (1217664, 10033, 12541, 15049),
    },
    "x86-cloud-1g": {"0 DMA": (3840, 190, 237, 284, 0), "0 DMA32": (193648, 8446, 10557, 12668, 0)},
    "x86-chromeos-guest": {
        "0 DMA": (3976, 137, 171, 205),
        "0 DMA32": (469149, 16270, 20337, 24404),
        "0 Normal": (501235, 17383, 21728, 26073),
    },
    "x86-desktop-8g": {
        "0 DMA": (3956, 33, 41, 49),
        "0 DMA32": (742806, 19510, 21059, 22608),
        "0 Normal": (1268711, 11176, 13842, 16508),
    },
}
"""managed, min, low, high of every zone as printed, and boost where that is printed [K-public-marks]."""

EXPLAINED: dict[str, tuple[int, str, dict[str, int], dict[str, int]]] = {
    "arm64-kunpeng-512g": (112640, "huge pages", {"2 Normal": 109762, "3 Normal": 108889}, {"0 DMA": 9885}),
    "arm64-phytium-8g": (45056, "huge pages", {}, {"0 DMA": 17}),
    "arm64-thunderx2-kdump": (9967, "computed", {}, {}),
    "x86-four-sockets-128g": (135168, "huge pages", {"2 Normal": 1536}, {"0 DMA32": 6213, "0 Normal": 916}),
    "x86-guest-64g": (67584, "huge pages", {"0 Normal": 512}, {}),
    "x86-guest-four-nodes-16g": (135168, "huge pages", {}, {"0 DMA32": 1064}),
    "x86-guest-two-nodes-16g": (90112, "huge pages", {}, {"0 DMA32": 4967, "0 Normal": 2916, "1 Normal": 11898}),
    "x86-coreos-8g": (67584, "huge pages", {}, {"0 DMA32": 13709}),
    "x86-telephony-5g": (67584, "huge pages", {}, {"0 DMA32": 4148}),
    "x86-before-3.9-8g": (67584, "huge pages", {}, {}),
    "x86-cloud-1g": (34548, "huge pages", {}, {"0 DMA32": 22930}),
    "x86-chromeos-guest": (135168, "by hand", {}, {}),
    "x86-desktop-8g": (67584, "huge pages", {"0 DMA32": 26 * 512, "0 Normal": 512}, {"0 DMA32": 5333}),
}
"""vm.min_free_kbytes, where it is from, boosts, and pages freed after the marks were set."""


def zones_of(report: Zones) -> list[ZoneMarks]:
    zones = []
    for name, (managed, least, low, high, *boost) in report.items():
        node, zone = name.split()
        zones.append(ZoneMarks(int(node), zone, managed, low, high, least, boost[0] if boost else None))
    return zones


def by_zone(report: str, pages: list[int]) -> dict[str, int]:
    return {name: count for name, count in zip(REPORTS[report], pages, strict=True) if count}


def verdict_on(report: str) -> tuple[list[ZoneMarks], Verdict]:
    zones = zones_of(REPORTS[report])
    return zones, judge(zones)


@pytest.mark.parametrize("report", REPORTS)
def test_every_zone_of_a_public_report_has_the_formula_s_marks_to_the_page(report: str) -> None:
    """calculate_min_free_kbytes, set_recommended_min_free_kbytes, __setup_per_zone_wmarks [K-watermarks]; boosts are
    taken off, and pages that boot freed later were not there yet."""
    zones, verdict = verdict_on(report)
    lowmem = sum(verdict.at_the_time)
    for zone, then, boost in zip(zones, verdict.at_the_time, verdict.boosts, strict=True):
        marks = marks_of(zone, then, lowmem, verdict.min_free_kib, 10)
        assert [mark + boost for mark in marks] == [zone.min, zone.low, zone.high], zone
    assert verdict.equal


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_explained(report: str) -> None:
    zones, verdict = verdict_on(report)
    late = [zone.managed - then for zone, then in zip(zones, verdict.at_the_time, strict=True)]
    found = (verdict.min_free_kib, verdict.origin, by_zone(report, list(verdict.boosts)), by_zone(report, late))
    assert found == EXPLAINED[report]


@pytest.mark.parametrize("machine", RECORDED)
def test_marks_of_recorded_machines_are_the_formula_s(machine: str) -> None:
    """ZONE_MOVABLE's too, whose min is no share [K-watermarks] [F-watermarks]."""
    zones = [
        ZoneMarks(
            int(name.startswith("slow")), "Movable" if "movable" in name else "Normal", managed, low, high, least, 0
        )
        for name, (managed, least, low, high, *_) in RECORDED[machine]["zones"].items()
    ]
    assert judge(zones).equal


def test_five_whole_reports_of_servers_are_among_them() -> None:
    """Of both architectures, with one node and with several."""
    servers = [name for name in REPORTS if "desktop" not in name and "chromeos" not in name]
    assert len(servers) >= 5
    assert {name.split("-")[0] for name in servers} == {"x86", "arm64"}
    assert any(len({zone.node for zone in zones_of(REPORTS[name])}) > 1 for name in servers)


@pytest.mark.parametrize("kib", [1048576, 400000])
def test_a_setting_by_hand_is_found(kib: int) -> None:
    """vm.min_free_kbytes at 1 GiB on a server of 128 GiB: all zones' shares add up to it, less what is cut off."""
    managed = {"DMA": 3976, "DMA32": 470000, "Normal": 32000000}
    lowmem = sum(managed.values())
    blank = [ZoneMarks(0, zone, pages, 0, 0, 0, 0) for zone, pages in managed.items()]
    marks = [marks_of(zone, zone.managed, lowmem, kib, 10) for zone in blank]
    zones = [
        ZoneMarks(0, zone.zone, zone.managed, low, high, least, 0)
        for zone, (least, low, high) in zip(blank, marks, strict=True)
    ]
    verdict = judge(zones)
    assert (verdict.min_free_kib, verdict.origin, verdict.equal) == (kib, "by hand", True)


def test_marks_that_no_setting_gives_are_not_called_the_formula() -> None:
    """One zone's gap is another than its min and its size make."""
    zones = zones_of(REPORTS["x86-coreos-8g"] | {"0 Normal": (1042033, 8684, 10000, 13026)})
    assert not judge(zones).equal


LOG = """\
[11204.259903] Node 0 DMA free:681676kB boost:0kB min:332kB low:1888kB high:3444kB active_anon:8192kB
 inactive_anon:304000kB present:2092864kB managed:1598684kB mlocked:0kB
[11204.289892] lowmem_reserve[]: 0 0 122877
[11204.295192] Node 1 Normal free:1941500kB boost:4096kB min:31208kB low:157032kB high:282856kB \
present:132120576kB managed:125826136kB
[11204.441696] Node 0 DMA: 2588*4kB (UMEC) = 681680kB
"""


def test_a_kernel_log_is_read_in_pages_whatever_breaks_its_lines() -> None:
    assert read_zones(LOG) == [
        ZoneMarks(0, "DMA", 399671, low=472, high=861, min=83, boost=0),
        ZoneMarks(1, "Normal", 31456534, low=39258, high=70714, min=7802, boost=1024),
    ]
