"""Kernel pages stay where they were born (docs/model.md section 3)."""

from tests.builders import PASSING_HOG, Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.units import LEAF_SPAN_PAGES

LATE = {"kind": "anon", "mib": 600, "access_hz": 10, "start_s": 3, "grow_s": 2}
"""Comes while DRAM is full."""


def test_page_tables_split_as_the_data_did():
    """pte_alloc_one has the same zonelist as the fault that needs it: below low both spill [F-kernel-spills]."""
    lab = Lab(scenario(regions=[{"kind": "anon", "mib": 1800, "grow_s": 8}])).ticks(40)
    data = lab.region_on(0, n.SLOW) / (lab.region_on(0, n.FAST) + lab.region_on(0, n.SLOW))
    tables = lab.leaf_on(0, n.SLOW) / (lab.leaf_on(0, n.FAST) + lab.leaf_on(0, n.SLOW))
    assert abs(data - tables) < 0.005
    assert lab.leaf_on(0, n.FAST) + lab.leaf_on(0, n.SLOW) == 900


def test_one_table_per_2_mib_of_touched_range():
    """One PTE page maps 2 MiB: 1/512 of dense data, one per page of sparse data; upper levels 1/512 of that."""
    regions = [
        {"kind": "anon", "mib": 64},
        {"kind": "anon", "mib": 8, "density": 1 / LEAF_SPAN_PAGES},
        {"kind": "cache", "mib": 64},
    ]
    lab = Lab(scenario(regions=regions)).ticks(8)
    assert [lab.leaf_on(r, n.FAST) for r in range(3)] == [32, 2048, 0]
    assert lab.m["region"]["upper"].sum(axis=1)[:3].tolist() == [3, 6, 0]


def test_tables_on_cxl_stay_when_dram_frees_up():
    """No migration code for page tables: they stay to the page until unmap [F-stranded]."""
    lab = Lab(scenario(regions=[PASSING_HOG, LATE], pools={"threads": {"count": 50, "start_s": 4}})).ticks(24)
    tables, stacks = lab.leaf_on(1, n.SLOW), lab.on(n.KSTACK, n.SLOW)
    assert tables > 250 and stacks == 200
    lab.ticks(80)
    assert lab.free(n.FAST) > 200_000  # the hog has left
    assert lab.leaf_on(1, n.SLOW) == tables
    assert lab.on(n.KSTACK, n.SLOW) == stacks


def test_promotion_leaves_the_tables_behind():
    """migrate_misplaced_folio moves the page, not the table that maps it [K-page-tables]."""
    machine = scenario(regions=[PASSING_HOG, LATE], numa_balancing="tiering", scan_mib_per_s=1000)
    lab = Lab(machine).ticks(24)
    tables = lab.leaf_on(1, n.SLOW)
    assert tables > 250
    lab.ticks(80)
    assert lab.total("pgpromote_success") > 100_000
    assert lab.region_on(1, n.SLOW) == 0
    assert lab.leaf_on(1, n.SLOW) == tables

    radiant = Lab(machine, modes={"migrate.pt_leaf": "with_data", "migrate.budget": "high"}).ticks(104)
    assert radiant.leaf_on(1, n.SLOW) == 0
    assert radiant.leaf_on(1, n.FAST) == 300
    assert radiant.total("pgmigrate_pt") == tables


def test_demotion_leaves_the_tables_behind():
    """Kernel pages are on no LRU list: reclaim demotes the data alone [K-demotion]."""
    lab = Lab(
        scenario(regions=[PASSING_HOG | {"hold_s": 1000}, LATE | {"mib": 900}], demotion="on"),
        modes={"zone": "movable"},
    ).ticks(60)
    assert lab.region_on(0, n.SLOW) > 50_000
    assert lab.leaf_on(0, n.FAST) == 500
    assert lab.on(n.PT_LEAF, n.SLOW) == 0


def test_unmapping_frees_the_tables_wherever_they_are():
    """free_pgtables at munmap: nothing else frees a page table."""
    leaving = LATE | {"hold_s": 5, "shrink_s": 1}
    lab = Lab(scenario(regions=[PASSING_HOG, leaving])).ticks(30)
    assert lab.on(n.PT_LEAF, n.SLOW) > 250
    lab.ticks(30)
    assert lab.on(n.PT_LEAF, n.SLOW) == lab.on(n.PT_LEAF, n.FAST) == 0
    assert lab.on(n.PT_UPPER, n.SLOW) == lab.on(n.PT_UPPER, n.FAST) == 0


def test_idle_migration_waits_for_calm_and_room():
    """Tables move up once no request has found DRAM below low for a while and DRAM is above high."""
    lab = Lab(scenario(regions=[PASSING_HOG, LATE]), modes={"migrate.pt_leaf": "idle", "migrate.budget": "high"}).ticks(
        24
    )
    assert lab.total("pgmigrate_pt") == 0 < lab.leaf_on(1, n.SLOW)
    lab.ticks(20)
    assert lab.on(n.PT_LEAF, n.SLOW) == lab.on(n.PT_UPPER, n.SLOW) == 0
    assert lab.leaf_on(1, n.FAST) == 300


def test_the_budget_bounds_what_moves_in_a_tick():
    """migrate.budget: 2,000, 20,000 or 200,000 pages per second."""
    machine = scenario(regions=[PASSING_HOG, LATE | {"mib": 40, "density": 1 / LEAF_SPAN_PAGES}])
    for level, per_tick in (("low", 500), ("medium", 5000)):
        lab = Lab(machine, modes={"migrate.pt_leaf": "idle", "migrate.budget": level}).ticks(24)
        assert lab.leaf_on(1, n.SLOW) > 5000
        most = 0
        for _ in range(20):
            lab.ticks(1)
            most = max(most, int(lab.machines.counters[0, n.C_PGMIGRATE_PT]))
        assert most == per_tick


def test_stacks_move_only_where_the_kernel_can():
    """kernel.stack_migration: no mainline kernel moves stacks, so the mode is masked without it."""
    pools = {"threads": {"count": 50, "start_s": 4}}
    for can, left in (("off", 200), ("on", 0)):
        lab = Lab(
            scenario(regions=[PASSING_HOG], pools=pools, stack_migration=can), modes={"migrate.kstack": "idle"}
        ).ticks(60)
        assert lab.on(n.KSTACK, n.SLOW) == left
