"""Every constant of `tiergym.sim.names` is spelled like the name that it indexes, and none is left over; letters of
the model's loops mean one thing each."""

import ast
import re

import pytest

from tests.places import ROOT
from tiergym.env.actions import ENTRIES
from tiergym.sim import names as n

FAMILIES = (
    ("", n.SWITCH),
    ("", n.TIERS),
    ("", n.ZONES),
    ("WMARK_", n.WMARKS),
    ("", n.CLASSES),
    ("", n.PLACEMENT_MODES),
    ("KIND_", n.KINDS),
    ("MPOL_", n.MEMPOLICIES),
    ("NUMA_BALANCING_", n.NUMA_BALANCING),
    ("KNOB_", n.KNOBS),
    ("DISK_", n.DISKS),
    ("SWAP_", n.SWAPS),
    ("READS_", n.READS),
    ("RELEASED_BY_", n.RELEASED_BY),
    ("HOPELESS_", n.HOPELESS_RESETS),
    ("SLOW_CURVE_", n.SLOW_CURVES),
    ("A_", n.ACTIONS),
    ("MIGRATE_TABLES_", n.TABLE_MIGRATIONS),
    ("MIGRATE_OBJECTS_", n.OBJECT_MIGRATIONS),
    ("BUDGET_", n.MIGRATION_BUDGETS),
    ("ROOM_", n.MIGRATION_ROOMS),
    ("RESERVE_", n.TABLE_RESERVES),
    ("LIMIT_", n.KERNEL_LIMITS),
    ("EMPTY_TABLES_", n.EMPTY_TABLES),
    ("HEADROOM_", n.HEADROOMS),
    ("ZONE_", n.ONLINE_ZONES),
    ("MEMMAP_", n.MEMMAPS),
    ("BLOCK_", n.BLOCK_STATES),
    ("DRAW_", n.DISTRIBUTIONS),
    ("POOL_", n.POOLS),
    ("DEATHS_", n.DEATHS),
    ("SLAB_POOL_", n.SLAB_POOLS),
    ("EVENT_", n.EVENTS),
    ("LOST_", n.CAUSES),
    ("TERM_", n.TERMS),
    ("C_", n.COUNTERS),
)
"""Prefix of the constants, and the names that they index. Without a prefix, the names alone tell them apart."""
FIRSTS = {"FIRST_SLOW_ZONE": n.SLOW_NORMAL, "FIRST_KERNEL_CLASS": n.PT_LEAF}
NO_CONSTANTS = {"DRAM_CURVES", "PLAUSIBILITIES"}
"""Names that code only counts through, or compares by their order."""
MODES = {
    **{name: n.PLACEMENT_MODES for name in n.ACTIONS if name.startswith("place.")},
    "migrate.pt_leaf": n.TABLE_MIGRATIONS,
    "migrate.slab": n.OBJECT_MIGRATIONS,
    "migrate.kstack": n.OBJECT_MIGRATIONS,
    "migrate.budget": n.MIGRATION_BUDGETS,
    "migrate.room": n.MIGRATION_ROOMS,
    "reserve.pt": n.TABLE_RESERVES,
    "limit.kernel": n.KERNEL_LIMITS,
    "reclaim.pt_empty": n.EMPTY_TABLES,
    "headroom": n.HEADROOMS,
    "zone": n.ONLINE_ZONES,
    "memmap": n.MEMMAPS,
}


def integers():
    return {name: value for name, value in vars(n).items() if name.isupper() and isinstance(value, int)}


def tuples_of_names():
    public = {name: value for name, value in vars(n).items() if name.isupper() and isinstance(value, tuple)}
    return {name: value for name, value in public.items() if isinstance(value[0], str)}


def spelled(prefix, name):
    return prefix + re.sub(r"\W", "_", name).upper()


@pytest.mark.parametrize(("prefix", "names"), FAMILIES, ids=[prefix or names[0] for prefix, names in FAMILIES])
def test_constants_are_spelled_like_the_names_they_index(prefix, names):
    assert len(set(names)) == len(names)
    assert [getattr(n, spelled(prefix, name)) for name in names] == list(range(len(names)))


def test_every_integer_belongs_to_a_family_or_counts_one():
    constants = [spelled(prefix, name) for prefix, names in FAMILIES for name in names]
    assert len(set(constants)) == len(constants)
    counts = {name: len(values) for family, values in tuples_of_names().items() if (name := f"N_{family}") in vars(n)}
    counts["N_PLACEMENTS"] = sum(name.startswith("place.") for name in n.ACTIONS)
    assert {name: value for name, value in integers().items() if name not in constants} == counts | FIRSTS


def test_every_tuple_of_names_is_a_family():
    """By identity: two families may have the same names."""
    known = [id(names) for _, names in FAMILIES]
    assert {name for name, value in tuples_of_names().items() if id(value) not in known} == NO_CONSTANTS


def test_zones_belong_to_the_tier_that_their_names_say():
    by_tier = [[zone for zone in n.ZONES if zone.startswith("slow_") == (tier == "slow")] for tier in n.TIERS]
    assert [list(n.ZONES[zones]) for zones in n.TIER_ZONES] == by_tier
    assert n.FIRST_ZONE[n.SLOW] == n.FIRST_SLOW_ZONE


def test_actions_are_the_entries_and_their_modes():
    assert n.ACTIONS == tuple(entry.name for entry in ENTRIES)
    assert MODES == {entry.name: entry.modes for entry in ENTRIES}


def test_placements_are_the_first_entries_and_each_kernel_class_has_one_but_the_memmap():
    """That one has an entry of its own, which chooses among other modes."""
    placed = {cls: n.ACTIONS[entry] for cls, entry in zip(n.CLASSES, n.PLACEMENT_ENTRIES, strict=True) if entry >= 0}
    assert placed == {cls: f"place.{cls}" for cls in n.CLASSES[n.FIRST_KERNEL_CLASS :] if cls != "memmap"}
    assert tuple(placed.values()) == n.ACTIONS[: n.N_PLACEMENTS]


def test_counters_of_both_tiers_stand_beside_each_other():
    """Compiled code adds the tier to the index of the fast one."""
    fast = [i for i, name in enumerate(n.COUNTERS) if name.endswith("_fast")]
    assert [n.COUNTERS[i + n.SLOW] for i in fast] == [f"{n.COUNTERS[i].removesuffix('_fast')}_slow" for i in fast]


@pytest.mark.parametrize(
    ("letter", "over"),
    [
        ("r", r"m\.regions|asked\.touched_\w+"),
        ("q", r"m\.processes"),
        ("z", r"\w*ZONE\w*|NORMAL|MOVABLE"),
        ("b", r"m\.blocks"),
        ("e", r"m\.events|m\.event_kind"),
        ("c", r"N_CAUSES"),
        ("k", r"N_POOLS|rounds"),
    ],
)
def test_a_letter_runs_over_one_thing(letter, over):
    """As the package's docstring says."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "tiergym" / "sim").glob("*.py"))]
    loops = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.For)]
    seen = [ast.unparse(loop.iter) for loop in loops if isinstance(loop.target, ast.Name) and loop.target.id == letter]
    assert seen and all(re.search(over, text) for text in seen)
