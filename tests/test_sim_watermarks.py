"""Watermarks and reserves: Linux's formulas against real kernels' /proc/zoneinfo and a table [K-watermarks]."""

import json

import numpy as np
import pytest

from tests.builders import Lab, scenario
from tests.places import EVIDENCE
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

RECORDED = json.loads((EVIDENCE / "watermarks.json").read_text())["machines"]
GIB = 1024


def pages(zones, name):
    return zones.get(name, [0])[0]


@pytest.mark.parametrize("name", RECORDED)
def test_marks_are_those_of_a_real_kernel_to_the_page(name):
    """mm/page_alloc.c: calculate_min_free_kbytes, __setup_per_zone_wmarks; khugepaged's raise; recomputed at every
    block that came online [F-watermarks]."""
    recorded = RECORDED[name]
    zones = recorded["zones"]
    present = recorded["dram_mib"] * PAGES_PER_MIB
    managed = sum(pages(zones, zone) for zone in ("dma", "dma32", "normal"))
    machine = scenario(
        dram_mib=recorded["dram_mib"],
        boot_reserved_share=(present - managed - 0.5) / present,
        dma_mib=pages(zones, "dma") / PAGES_PER_MIB,
        dma32_mib=pages(zones, "dma32") / PAGES_PER_MIB,
        slow_mib=recorded["slow_mib"],
        thp=recorded["thp"],
        auto_movable_numa_aware="off",
    )
    lab = Lab(machine, modes={"zone": recorded["zone"], "memmap": recorded["memmap"]}).ticks(1)
    for zone, marks in zones.items():
        index = n.ZONES.index(zone)
        got = [int(lab.m["managed_pages"][index]), *lab.m["wmark_pages"][:, index].tolist()]
        assert got[: len(marks)] == marks, zone


@pytest.mark.parametrize(
    ("dram_gib", "slow_gib", "zone", "dram_marks", "slow_marks"),
    [
        (64, 128, "movable", (63.9, 126, 188, 251), (0.5, 132, 263, 394)),
        (64, 128, "normal", (28.0, 90, 153, 215), (59, 190, 321, 452)),
        (128, 256, "movable", (65, 191, 318, 444), (0.5, 263, 525, 787)),
        (128, 256, "normal", (28.5, 155, 281, 408), (59, 321, 583, 846)),
        (512, 256, "movable", (89, 601, 1113, 1625), (0.5, 263, 525, 787)),
    ],
)
def test_marks_of_servers(dram_gib, slow_gib, zone, dram_marks, slow_marks):
    """The table of [K-watermarks]: THP on, in MiB, with DMA and DMA32 below NORMAL."""
    machine = scenario(
        dram_mib=dram_gib * GIB, dma_mib=15, dma32_mib=1900, slow_mib=slow_gib * GIB, block_mib=2048, thp="on",
        boot_reserved_share=0.0161,
    )  # fmt: skip
    m = Lab(machine, modes={"zone": zone}).ticks(1).m
    slow = n.SLOW_NORMAL if zone == "normal" else n.SLOW_MOVABLE
    for index, expected in ((n.NORMAL, dram_marks), (slow, slow_marks)):
        got = m["wmark_pages"][:, index] / PAGES_PER_MIB
        assert got == pytest.approx(expected, rel=0.02, abs=0.6)


def test_an_administrators_min_free_kbytes_is_kept_if_larger():
    """calculate_min_free_kbytes: user_min_free_kbytes wins when it is above the formula."""
    plain = Lab(scenario(slow_mib=0)).ticks(1).m["wmark_pages"][n.WMARK_MIN, n.NORMAL]
    assert Lab(scenario(slow_mib=0, min_free_kib=64)).ticks(1).m["wmark_pages"][n.WMARK_MIN, n.NORMAL] == plain
    assert Lab(scenario(slow_mib=0, min_free_kib=40000)).ticks(1).m["wmark_pages"][n.WMARK_MIN, n.NORMAL] == 10000


def test_watermark_scale_factor_widens_the_gaps():
    """gap = max(min / 4, managed x watermark_scale_factor / 10000)."""
    for factor in (10, 100, 1000):
        m = Lab(scenario(slow_mib=0, watermark_scale_factor=factor)).ticks(1).m
        gap = max(m["wmark_pages"][n.WMARK_MIN, n.NORMAL] // 4, 262144 * factor // 10000)
        assert np.diff(m["wmark_pages"][:, n.NORMAL]).tolist() == [gap, gap, gap]


@pytest.mark.parametrize(
    ("dma32", "normal", "dma_reserve", "dma32_reserve"), [(98339, 0, 384, 0), (45024, 182147, 887, 711)]
)
def test_lowmem_reserve_is_per_node(dma32, normal, dma_reserve, dma32_reserve):
    """setup_per_zone_lowmem_reserve: what /proc/zoneinfo calls protection; CXL protects nothing of DRAM."""
    machine = scenario(dram_mib=(3840 + dma32 + normal) / PAGES_PER_MIB, dma_mib=15, dma32_mib=dma32 / PAGES_PER_MIB)
    for zone in ("normal", "movable"):
        m = Lab(machine, modes={"zone": zone}).ticks(1).m
        for field in ("reserve_kernel_pages", "reserve_movable_pages"):
            assert m[field][:3].tolist() == [dma_reserve, dma32_reserve, 0]
            assert m[field][n.SLOW_MOVABLE] == 0


def test_a_node_with_both_zones_protects_its_normal():
    """ZONE_NORMAL keeps MOVABLE / 32 from movable requests of its own node."""
    machine = scenario(slow_mib=4096, auto_movable_numa_aware="off")
    m = Lab(machine, modes={"zone": "auto_movable"}).ticks(1).m
    assert m["reserve_movable_pages"][n.SLOW_NORMAL] == m["managed_pages"][n.SLOW_MOVABLE] // 32 > 0
    assert m["reserve_kernel_pages"][n.SLOW_NORMAL] == 0


def test_khugepaged_s_twentieth_is_of_lowmem_above_the_marks_without_it():
    """init_per_zone_wmark_min sets the marks by the machine's size before khugepaged raises them, at every hot-plug."""
    plain, raised = (Lab(scenario(dram_mib=300, slow_mib=128, thp=thp)).ticks(1).m for thp in ("off", "on"))
    zones = [n.NORMAL, n.SLOW_NORMAL]
    lowmem = int((plain["managed_pages"][zones] - plain["wmark_pages"][n.WMARK_HIGH, zones]).sum())
    assert lowmem // 20 < 2 * 11 * 512, "the twentieth counts, not eleven pageblocks of each zone"
    assert lowmem // 20 - 2 <= raised["wmark_pages"][n.WMARK_MIN, zones].sum() <= lowmem // 20
