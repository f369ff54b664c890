"""Servers as they are sold: 96 GiB with 768 GiB of CXL, 1 TiB with 8 TiB, and what was reported of them."""

from pathlib import Path

import numpy as np
import pytest

from tests.builders import Lab
from tiergym.sim import names as n
from tiergym.sim.layout import BLOCK_SIZES, MOST_COUNTED_MIB, machine_dtype, tick_bytes
from tiergym.specs import Scenario, load_scenario

GIB = 1024
MACHINE = 'machine = { base = "spr_cxl_asic", dram_mib = %d, slow_mib = %d, boot_kernel_mib = 512 }\n'
TOUCH = """
[workload]
workers = 32
[[workload.regions]]
name = "heap"
mib = %d
grow_s = %d
density = %g
access_hz = 0.01
misses_per_page_s = 0.01
"""


def load(
    tmp_path: Path, dram_gib: int, slow_gib: int, touched_gib: int, *, density: float = 1, more: str = ""
) -> Scenario:
    path = tmp_path / "server.toml"
    machine = MACHINE % (dram_gib * GIB, slow_gib * GIB)
    path.write_text(machine + more + TOUCH % (touched_gib * GIB, 50, density) + "[episode]\nhorizon_s = 75\n")
    return load_scenario(path)


def books(lab: Lab) -> None:
    """managed = free + per-CPU lists + classes, per zone."""
    m = lab.m
    held = m["free_pages"].astype(np.int64) + m["pcp_pages"] + m["used_pages"].astype(np.int64).sum(axis=0)
    assert (held == m["managed_pages"]).all()


@pytest.mark.parametrize(("dram_gib", "slow_gib", "blocks"), [(96, 768, BLOCK_SIZES[1]), (64, 512, BLOCK_SIZES[0])])
def test_a_machine_has_as_many_blocks_as_its_memory(tmp_path: Path, dram_gib: int, slow_gib: int, blocks: int) -> None:
    assert load(tmp_path, dram_gib, slow_gib, 10).blocks == blocks


def test_a_tebibyte_with_eight_of_cxl(tmp_path: Path) -> None:
    """8 TiB are 2^31 pages of 4 KiB, one more than 31 bits count."""
    machine = load(tmp_path, 1024, 8192, 6000, more='[kernel]\ndemotion = "on"\n')
    assert 8192 * GIB > MOST_COUNTED_MIB and machine.blocks == BLOCK_SIZES[-1]
    lab = Lab(machine, modes={"zone": "movable"}).ticks(240)
    books(lab)
    assert lab.m["managed_pages"].astype(np.int64)[n.SLOW_MOVABLE] == 2**31
    touched = lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW)
    assert touched == 6000 * GIB * 256 and lab.total("oom_kill") == 0


def test_state_of_a_small_machine_does_not_pay_for_large_ones() -> None:
    assert machine_dtype(16).itemsize <= 16384 < machine_dtype(16, BLOCK_SIZES[1]).itemsize
    assert tick_bytes(16, 16, BLOCK_SIZES[1]) == tick_bytes(16, 16), "but for blocks nobody uses, a tick sees the same"


def test_ticks_see_no_block_that_holds_no_kernel_page(tmp_path: Path) -> None:
    """Whatever stands in the columns of the others, machines that fill 6 TiB while page tables pin block after block
    go on alike."""
    machine = load(tmp_path, 1024, 8192, 6000)
    plain, spoiled = Lab(machine).ticks(20), Lab(machine).ticks(20)
    unseen = slice(64, None)
    spoiled.m["block_state"][unseen] = n.BLOCK_ABSENT
    spoiled.m["block_unmovable"][unseen] = 7
    spoiled.m["block_own_memmap"][unseen] = 1
    pinned = int(plain.m["blocks_pinned"])
    for _ in range(200):
        for lab in (plain, spoiled):
            lab.ticks(1)
        assert (plain.machines.obs == spoiled.machines.obs).all()
    assert pinned < plain.m["blocks_pinned"] < unseen.start
    fields = plain.machines.records.dtype.fields
    assert fields is not None
    head = fields["block_state"][1]
    assert plain.m.tobytes()[:head] == spoiled.m.tobytes()[:head]


def kills_at_gib(lab: Lab) -> float:
    """Memory touched when the first process is killed; infinite if none is."""
    for _ in range(300):
        touched = (lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW)) / 256 / GIB
        if lab.ticks(1).total("oom_kill"):
            return touched
    return float("inf")


def test_a_server_all_of_whose_cxl_is_movable_kills_while_hundreds_of_gib_are_free(tmp_path: Path) -> None:
    """96 GiB and 768 GiB, as reported (beyond about 200 GiB touched): data fills DRAM to low, tables have what lies
    between low and min, one page for 2 MiB. As ZONE_NORMAL the same load fits."""
    machine = load(tmp_path, 96, 768, 800)
    movable, normal = (Lab(machine, modes={"zone": zone}) for zone in ("movable", "normal"))
    at_gib = kills_at_gib(movable)
    dram = movable.m["wmark_pages"][:, n.NORMAL]
    tables_gib = (int(dram[n.WMARK_LOW]) - int(dram[n.WMARK_MIN])) * 2 / GIB
    dram_gib = 96 - 768 / 64  # less the struct pages of CXL
    assert at_gib == pytest.approx(dram_gib + tables_gib, rel=0.05)
    assert 96 + 768 - at_gib > 600
    assert kills_at_gib(normal) == float("inf")


def test_kswapd_of_32_gib_beside_512_gives_up_and_comes_back_with_demotion(tmp_path: Path) -> None:
    """Reported, and mended in 6.18: nothing in DRAM can be reclaimed, kernel requests prefer it, all else goes to CXL.
    After 16 runs in vain kswapd0 stays off, until demotion is switched on."""
    later = '\n[[events]]\nkind = "sysctl"\nat_s = 60\nknob = "demotion"\nvalue = "on"\n'
    threads = "[workload.pools.threads]\ncount = 200000\ngrow_s = 74\n"
    for release, revived in (("6.12", False), ("7.2", True)):
        path = tmp_path / "reported.toml"
        kernel = f'[kernel]\nrelease = "{release}"\n'
        path.write_text(MACHINE % (32 * GIB, 512 * GIB) + kernel + TOUCH % (100 * GIB, 20, 1) + threads + later
                        + "[episode]\nhorizon_s = 75\n")  # fmt: skip
        lab = Lab(load_scenario(path), modes={"place.kstack": "prefer_fast"}).ticks(230)
        assert lab.m["kswapd_failures"][n.FAST] == 16
        lab.ticks(60)
        assert (lab.total("pgdemote_kswapd") > 0) == revived, release
