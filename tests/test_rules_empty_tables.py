"""Leaf page tables that MADV_DONTNEED has left empty, and the thread that frees them (docs/model.md section 3)."""

from typing import Any

import numpy as np
import pytest

from tests.builders import Lab, assert_books_balance, scenario
from tiergym.env.actions import MASK_NAMES
from tiergym.sim import names as n
from tiergym.sim.empty_tables import FREE_US, LOOK_US, TABLES_PER_S

SCAN = {"reclaim.pt_empty": "scan"}
ARENA = {"mib": 64, "density": 1 / 64, "grow_s": 1, "hold_s": 1, "shrink_s": 1, "access_hz": 0.1}
"""2,048 leaf tables for 16,384 pages: 8 pages in each range of 2 MiB."""
TABLES = 2048


def given_back(modes: dict[str, str], by: str = "madv_dontneed", ticks: int = 16, **more: Any) -> Lab:
    """A machine whose arena has come and gone by 3 s, at 4 s."""
    region = ARENA | {"released_by": by} | more
    return Lab(scenario(regions=[region], release="6.12"), modes=modes).ticks(ticks)


def leaf_tables(lab: Lab) -> int:
    return lab.on(n.PT_LEAF, n.FAST) + lab.on(n.PT_LEAF, n.SLOW)


def test_madv_dontneed_leaves_tables_that_only_the_scan_frees() -> None:
    kept, freed = given_back({}), given_back(SCAN)
    assert leaf_tables(kept) == TABLES
    assert leaf_tables(freed) == 0
    assert freed.total("pgtable_reclaim") == TABLES and kept.total("pgtable_reclaim") == 0
    assert freed.free(n.FAST) - kept.free(n.FAST) >= TABLES
    assert_books_balance(freed.machines.records)


def test_tables_that_hold_a_page_stay() -> None:
    """A quarter of the pages stays, and with it a quarter of the tables."""
    lab = given_back(SCAN, low_share=0.25)
    assert leaf_tables(lab) == pytest.approx(TABLES / 4, abs=2)


@pytest.mark.parametrize("by", ["munmap", "madv_dontneed"])
def test_without_empty_tables_the_scan_changes_nothing(by: str) -> None:
    """munmap leaves none, and so do arenas that stay: the same to the bit."""
    stays = {"hold_s": 100} if by == "madv_dontneed" else {}
    runs = [given_back(modes, by, **stays) for modes in ({}, SCAN)]
    np.testing.assert_array_equal(runs[0].throughputs, runs[1].throughputs)
    np.testing.assert_array_equal(runs[0].m["used_pages"], runs[1].m["used_pages"])
    assert runs[1].total("pgtable_reclaim") == 0


def test_a_release_that_frees_them_itself_leaves_none_to_the_scan() -> None:
    region = ARENA | {"released_by": "madv_dontneed"}
    lab = Lab(scenario(regions=[region], release="7.2"), modes=SCAN).ticks(16)
    assert leaf_tables(lab) == 0 and lab.total("pgtable_reclaim") == 0


def many(modes: dict[str, str], **scalars: Any) -> tuple[Lab, int]:
    """300,000 tables of which 99 in 100 are empty, and their number; `modes` in the tick after."""
    big = {"mib": 2400, "density": 1 / 512, "hold_s": 1, "shrink_s": 0.25, "low_share": 0.01}
    region = ARENA | big | {"released_by": "madv_dontneed"}
    lab = Lab(scenario(regions=[region], dram_mib=8192, release="6.12", **scalars)).ticks(12)
    before = leaf_tables(lab)
    return lab.ticks(1, modes), before


def test_the_thread_looks_at_so_many_tables_a_second_and_finds_empty_ones_among_them() -> None:
    lab, before = many(SCAN)
    assert before - leaf_tables(lab) == pytest.approx(TABLES_PER_S / 4 * 0.99, rel=0.01)


def test_the_scan_takes_time_of_one_cpu_that_the_workers_use() -> None:
    """Looking at 50,000 tables and freeing 49,500 in a tick of a quarter of a second: 0.0995 s of one of 8 CPUs."""
    (kept, _), (freed, _) = (many(modes, workers=8, cpus=8) for modes in ({}, SCAN))
    lost = [float(lab.m["lost"][n.LOST_OTHER_RECLAIM]) for lab in (kept, freed)]
    seconds = (LOOK_US + 0.99 * FREE_US) * 1e-6 * TABLES_PER_S / 4
    assert lost[0] == 0.0
    assert lost[1] == pytest.approx(seconds / 0.25 / 8, rel=1e-6)


def test_a_machine_of_one_tier_is_left_as_it_is() -> None:
    """Every mode but the default is masked there."""
    lab = Lab(scenario(slow_mib=0), modes=SCAN).ticks(1)
    masks = dict(zip(MASK_NAMES, lab.machines.masks[0].tolist(), strict=True))
    assert [masks[f"reclaim.pt_empty={mode}"] for mode in n.EMPTY_TABLES] == [True, False]
